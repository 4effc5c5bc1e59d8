//! The pipeline from event logs to samples, against small logs with known answers and against a
//! naive implementation.

mod adult;
mod census;
mod derived;
mod feedback;
mod logs;
mod outcomes;
mod parts;
mod report;
mod sampling;
mod served;
mod sources;
mod synthetic;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use gatefold_samples::{BuildOptions, SamplesError, Silent};
use gatefold_schema::SampleManifest;
use logs::{Click, Conversion, Impression, ItemProfile, Logs, START, Sample, UserProfile, recipe};
use parts::build;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn options() -> BuildOptions {
    BuildOptions { raw: vec!["train".into(), "valid".into(), "test".into()], ..BuildOptions::default() }
}

/// Builds the samples of `logs` and returns them with their split.
fn samples_of(logs: &Logs, options: &BuildOptions) -> Result<Vec<(String, Sample)>, SamplesError> {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("logs");
    logs.write(&folder);
    let out = home.path().join("samples");
    build(&recipe(), &folder, &out, options, &mut Silent)?;
    let mut all = Vec::new();
    for split in ["train", "valid", "test"] {
        let rows = logs::read_samples(&out.join(format!("raw-{split}.parquet")));
        all.extend(rows.into_iter().map(|row| (split.to_owned(), row)));
    }
    Ok(all)
}

/// Ten requests, one an hour, of one user and one item each; the even ones clicked after a minute.
fn plain_logs() -> Logs {
    let mut logs = Logs::default();
    for hour in 0..10i64 {
        let time = START + hour * 3_600_000;
        let (request, user, item) = (100 + hour, 1 + hour % 3, 50 + hour % 4);
        logs.impressions.push(Impression { id: hour, request, user, item, time, hour });
        if hour % 2 == 0 {
            logs.clicks.push(Click { request, item, time: time + 60_000 });
        }
    }
    // Users 1 and 3, in request 106 and 104, buy what they clicked.
    logs.conversions.push(Conversion { user: 1, item: 52, time: START + 6 * 3_600_000 + 120_000 });
    logs.conversions.push(Conversion { user: 2, item: 50, time: START + 4 * 3_600_000 + 600_000 });
    for user in 1..=3 {
        let country = Some(["de", "fr", "jp"][user as usize - 1].to_owned());
        logs.users.push(UserProfile { user, time: START - 1, country, likes: Some(vec!["a".into()]) });
    }
    for item in 50..54 {
        logs.items.push(ItemProfile { item, time: START - 1, price: Some(item as f64 / 10.0) });
    }
    logs
}

#[test]
fn small_logs_give_the_samples_expected() {
    let found = samples_of(&plain_logs(), &options()).unwrap();
    let expected: Vec<(String, Sample)> = (0..10i64)
        .map(|hour| {
            let user = 1 + hour % 3;
            let item = 50 + hour % 4;
            let sample = Sample {
                request: 100 + hour,
                time: START + hour * 3_600_000,
                user,
                item,
                hour: Some(hour),
                country: Some(["de", "fr", "jp"][user as usize - 1].to_owned()),
                likes: Some(vec!["a".into()]),
                price: Some(item as f64 / 10.0),
                click: f32::from(u8::from(hour % 2 == 0)),
                conversion: f32::from(u8::from(hour == 6 || hour == 4)),
            };
            // Shares of 0.2 and 0.2 of ten rows.
            let split = ["train", "valid", "test"][usize::from(hour >= 6) + usize::from(hour >= 8)];
            (split.to_owned(), sample)
        })
        .collect();
    assert_eq!(found, expected);
}

/// Nothing that is planted after the impressions changes a sample.
#[track_caller]
fn check_no_change(plant: impl Fn(&mut Logs)) {
    let before = samples_of(&plain_logs(), &options()).unwrap();
    let mut logs = plain_logs();
    plant(&mut logs);
    assert_eq!(samples_of(&logs, &options()).unwrap(), before);
}

#[test]
fn the_future_changes_nothing() {
    // A profile written at the very time of the last impression of user 1, and one after it.
    let last = START + 9 * 3_600_000;
    for time in [last, last + 1, last + 86_400_000] {
        check_no_change(|logs| {
            logs.users.push(UserProfile { user: 1, time, country: Some("xx".into()), likes: None });
            logs.items.push(ItemProfile { item: 51, time, price: Some(999.0) });
        });
    }
    // A click on an impression that was not shown yet, and one after the window of an hour.
    check_no_change(|logs| logs.clicks.push(Click { request: 101, item: 51, time: START + 3_600_000 - 1 }));
    check_no_change(|logs| {
        logs.clicks.push(Click { request: 101, item: 51, time: START + 2 * 3_600_000 + 1 })
    });
    // A click on what was not shown.
    check_no_change(|logs| logs.clicks.push(Click { request: 101, item: 53, time: START + 3_600_000 + 5 }));
    // Conversions before the click, at its very time, and after the window of a day.
    let click = START + 2 * 3_600_000 + 60_000;
    for time in [click - 1, click, click + 86_400_001] {
        check_no_change(|logs| logs.conversions.push(Conversion { user: 3, item: 52, time }));
    }
    // A conversion without a click.
    check_no_change(|logs| {
        logs.conversions.push(Conversion { user: 2, item: 51, time: START + 3_600_000 + 5 })
    });
}

#[test]
fn what_is_logged_twice_counts_once() {
    check_no_change(|logs| {
        logs.impressions.push(logs.impressions[3].clone());
        logs.impressions
            .push(Impression { time: logs.impressions[4].time + 500, ..logs.impressions[4].clone() });
        logs.clicks.push(logs.clicks[1].clone());
        logs.conversions.push(logs.conversions[0].clone());
        logs.conversions
            .push(Conversion { time: logs.conversions[1].time + 1, ..logs.conversions[1].clone() });
    });
}

#[test]
fn the_last_click_wins() {
    // The item that request 100 showed to user 1 is shown to them again and clicked again, an hour
    // and a half later; the conversion comes after both clicks and counts for the second alone.
    let mut logs = plain_logs();
    let time = START + 5_400_000;
    logs.impressions.push(Impression { id: 77, request: 177, user: 1, item: 50, time, hour: 1 });
    logs.clicks.push(Click { request: 177, item: 50, time: time + 10 });
    logs.conversions.push(Conversion { user: 1, item: 50, time: time + 1000 });
    let found = samples_of(&logs, &options()).unwrap();
    let conversion =
        |request: i64| found.iter().find(|(_, sample)| sample.request == request).unwrap().1.conversion;
    assert_eq!((conversion(100), conversion(177)), (0.0, 1.0));
}

/// The same by nested loops, straight from the definitions.
fn naive(logs: &Logs) -> Vec<Sample> {
    let mut kept: Vec<&Impression> = Vec::new();
    for (request, item) in logs.impressions.iter().map(|row| (row.request, row.item)).collect::<BTreeSet<_>>()
    {
        let same = logs.impressions.iter().filter(|row| row.request == request && row.item == item);
        kept.extend(same.min_by_key(|row| (row.time, row.id)));
    }
    let clicks_of = |row: &Impression| -> Vec<i64> {
        let own = logs.clicks.iter().filter(|click| click.request == row.request && click.item == row.item);
        own.map(|click| click.time).filter(|time| (row.time..=row.time + 3_600_000).contains(time)).collect()
    };
    let request_time = |row: &Impression| {
        kept.iter().filter(|other| other.request == row.request).map(|other| other.time).min()
    };
    let mut converted: BTreeSet<(i64, i64)> = BTreeSet::new();
    for conversion in &logs.conversions {
        // Of clicks at one time that of the later request.
        let mut last: Option<(i64, Option<i64>, i64)> = None;
        for row in kept.iter().filter(|row| row.user == conversion.user && row.item == conversion.item) {
            // A second click on one impression is no other click.
            let first = clicks_of(row).into_iter().min();
            if let Some(click) = first.filter(|click| *click < conversion.time) {
                last = last.max(Some((click, request_time(row), row.request)));
            }
        }
        if let Some((click, _, request)) = last
            && conversion.time - click <= 86_400_000
        {
            converted.insert((request, conversion.item));
        }
    }
    let mut samples: Vec<Sample> = kept
        .iter()
        .map(|row| {
            let time = request_time(row).unwrap();
            let user = logs.users.iter().filter(|user| user.user == row.user && user.time < time);
            let user = user.max_by_key(|user| user.time);
            let item = logs.items.iter().filter(|item| item.item == row.item && item.time < time);
            let item = item.max_by_key(|item| item.time);
            Sample {
                request: row.request,
                time,
                user: row.user,
                item: row.item,
                hour: Some(row.hour),
                country: user.and_then(|user| user.country.clone()),
                likes: user.and_then(|user| user.likes.clone()),
                price: item.and_then(|item| item.price),
                click: f32::from(u8::from(!clicks_of(row).is_empty())),
                conversion: f32::from(u8::from(converted.contains(&(row.request, row.item)))),
            }
        })
        .collect();
    samples.sort_by_key(|sample| (sample.time, sample.request, sample.item));
    samples
}

/// Logs on a coarse clock, so that equal times are frequent.
fn random_logs(rng: &mut impl Rng) -> Logs {
    const TICK: i64 = 900_000;
    let mut logs = Logs::default();
    let mut id = 0;
    for request in 0..40 {
        let time = START + rng.random_range(0..60) * TICK;
        let (user, hour) = (rng.random_range(0..5), rng.random_range(0..24));
        for _ in 0..rng.random_range(1..5) {
            let time = time + rng.random_range(0..2) * 1000;
            let row = Impression { id, request, user, item: rng.random_range(0..5), time, hour };
            id += 1;
            for _ in 0..rng.random_range(0..4) {
                let time = row.time + rng.random_range(-1..6) * TICK;
                logs.clicks.push(Click { request, item: row.item, time });
            }
            for _ in 0..rng.random_range(0..2) {
                let time = row.time + rng.random_range(-2..120) * TICK;
                logs.conversions.push(Conversion { user, item: row.item, time });
            }
            logs.impressions.push(row);
        }
    }
    let versions =
        |rng: &mut dyn FnMut() -> i64| -> BTreeSet<i64> { (0..4).map(|_| START + rng() * TICK).collect() };
    for user in 0..4 {
        for time in versions(&mut || rng.random_range(-3..60)) {
            let country = (rng.random::<f64>() < 0.8).then(|| format!("c{}", rng.random_range(0..4)));
            let likes = (rng.random::<f64>() < 0.8).then(|| {
                (0..rng.random_range(0..4)).map(|_| format!("l{}", rng.random_range(0..4))).collect()
            });
            logs.users.push(UserProfile { user, time, country, likes });
        }
    }
    for item in 0..4 {
        for time in versions(&mut || rng.random_range(-3..60)) {
            let price = (rng.random::<f64>() < 0.8).then(|| rng.random_range(0..100) as f64);
            logs.items.push(ItemProfile { item, time, price });
        }
    }
    logs.shuffle(rng);
    logs
}

#[test]
fn random_logs_agree_with_nested_loops() {
    for seed in 0..12 {
        let logs = random_logs(&mut ChaCha8Rng::seed_from_u64(seed));
        let expected = naive(&logs);
        let found = samples_of(&logs, &options()).unwrap();
        let samples: Vec<Sample> = found.iter().map(|(_, sample)| sample.clone()).collect();
        assert_eq!(samples, expected, "seed {seed}");
        check_splits(&found);
    }
}

/// Splits follow each other in time and tear no request.
fn check_splits(samples: &[(String, Sample)]) {
    let mut range: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    let mut split_of: BTreeMap<i64, &str> = BTreeMap::new();
    for (split, sample) in samples {
        let (first, last) = range.entry(split).or_insert((sample.time, sample.time));
        (*first, *last) = ((*first).min(sample.time), (*last).max(sample.time));
        assert_eq!(*split_of.entry(sample.request).or_insert(split), split);
    }
    assert!(range["train"].1 < range["valid"].0 && range["valid"].1 < range["test"].0, "{range:?}");
}

#[test]
fn encoders_know_the_training_split_alone() {
    let home = tempfile::tempdir().unwrap();
    plain_logs().write(&home.path().join("logs"));
    let out = home.path().join("samples");
    let manifest = build(&recipe(), &home.path().join("logs"), &out, &options(), &mut Silent).unwrap();
    // Requests 100 to 105 are for training: requests 0, 4 show item 50, 1, 5 item 51.
    let vocabulary = std::fs::read_to_string(out.join("vocab/item_id.json")).unwrap();
    let expected = r#"{"table":"item_id","values":{"int":[50,51,52,53]}}"#;
    assert_eq!(vocabulary.split_whitespace().collect::<String>(), expected);
    assert_eq!(manifest.splits["train"].rows, 6);
    assert_eq!(
        manifest.splits["train"].positives,
        BTreeMap::from([("click".into(), 3), ("conversion".into(), 1)])
    );
    // Prices of the training rows: 5.0, 5.1, 5.2, 5.3, 5.0, 5.1.
    let mean = (5.0 + 5.1 + 5.2 + 5.3 + 5.0 + 5.1) / 6.0;
    let state = &manifest.features.iter().find(|fitted| fitted.feature.name == "price").unwrap().state;
    let gatefold_schema::EncoderState::Standardize { mean: found, .. } = state else { panic!("{state:?}") };
    assert!((found - mean).abs() < 1e-12);
    check_shards(&out, &manifest);
}

/// The shards hold the codes of the raw rows.
fn check_shards(out: &Path, manifest: &SampleManifest) {
    let raw = logs::read_samples(&out.join("raw-train.parquet"));
    let (codes, likes) = logs::read_codes(&out.join(&manifest.splits["train"].shards[0].file));
    let vocabulary = [50, 51, 52, 53];
    let expected: Vec<i32> = raw
        .iter()
        .map(|row| 3 + vocabulary.iter().position(|item| *item == row.item).unwrap() as i32)
        .collect();
    assert_eq!(codes, expected);
    assert!(likes.iter().all(|list| *list == [3]), "{likes:?}");
}

/// All files of a folder by name.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            files
                .extend(contents(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
    files
}

/// Run by [`threads_change_no_byte`] in a process of its own, as polars sizes its pool once.
#[test]
fn build_into_the_folder_in_the_environment() {
    let Some(home) = std::env::var_os("GATEFOLD_TEST_BUILD") else { return };
    let home = Path::new(&home);
    random_logs(&mut ChaCha8Rng::seed_from_u64(3)).write(&home.join("logs"));
    let config = gatefold_samples::synth::SynthConfig::new(20_000, 7);
    gatefold_samples::synth::write(&home.join("synth"), &config, false, &|_, _| None, &mut Silent).unwrap();
    build(&recipe(), &home.join("logs"), &home.join("samples"), &options(), &mut Silent).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../training/recipes/synthetic.toml");
    let recipe = gatefold_schema::Recipe::parse(&std::fs::read_to_string(path).unwrap(), path).unwrap();
    build(&recipe, &home.join("synth"), &home.join("synthetic"), &options(), &mut Silent).unwrap();
}

#[test]
fn threads_change_no_byte() {
    let folders = ["1", "4"].map(|threads| {
        let home = tempfile::tempdir().unwrap();
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "build_into_the_folder_in_the_environment"])
            .env("POLARS_MAX_THREADS", threads)
            .env("GATEFOLD_TEST_BUILD", home.path())
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        home
    });
    let [one, four] = folders.each_ref().map(|home| contents(home.path()));
    assert_eq!(one.keys().collect::<Vec<_>>(), four.keys().collect::<Vec<_>>());
    let differing: Vec<&String> = one.keys().filter(|name| one[*name] != four[*name]).collect();
    assert!(differing.is_empty(), "{differing:?}");
    assert!(one.contains_key("synthetic/manifest.json") && one.contains_key("samples/examples.json"));
}

#[track_caller]
fn check_refused(change: impl Fn(&mut Logs), expected: &str) {
    let mut logs = plain_logs();
    change(&mut logs);
    let error = samples_of(&logs, &options()).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn bad_logs_are_refused() {
    check_refused(
        |logs| logs.users.push(logs.users[1].clone()),
        "users.parquet: several rows have the same 'user_id' and time (1 keys, such as 2)",
    );
    check_refused(
        |logs| logs.impressions.iter_mut().for_each(|row| row.time /= 1000),
        "impressions.parquet: column 'time': 1767571200 in milliseconds is 1970-01-21T10:59:31.200000Z; set time_unit = \"s\"",
    );
    check_refused(
        |logs| logs.clicks.clear(),
        "task 'ctr': 0 of the 6 training rows are positive, so nothing can be learned",
    );
    check_refused(|logs| logs.impressions.clear(), "impressions.parquet: there are no impressions");
}

#[test]
fn bad_files_are_named_and_nothing_is_left() {
    let check = |spoil: &dyn Fn(&Path), expected: &str| {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("logs");
        plain_logs().write(&folder);
        spoil(&folder);
        let out = home.path().join("samples");
        let error = build(&recipe(), &folder, &out, &options(), &mut Silent).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1, "something is left behind");
    };
    check(
        &|folder| std::fs::remove_file(folder.join("clicks.parquet")).unwrap(),
        "clicks.parquet: No such file",
    );
    check(
        &|folder| {
            let path = folder.join("items.parquet");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        },
        "items.parquet as Parquet",
    );
    check(
        &|folder| {
            std::fs::copy(folder.join("items.parquet"), folder.join("users.parquet")).map(drop).unwrap()
        },
        "users.parquet: there is no column 'user_id' (did you mean 'item_id'?), needed for",
    );
    check(
        &|folder| logs::rename_column(&folder.join("items.parquet"), "price", "prise"),
        "items.parquet: there is no column 'price' (did you mean 'prise'?), needed for feature 'price'",
    );
    check(
        &|folder| logs::make_text(&folder.join("items.parquet"), "price"),
        "items.parquet: column 'price' has type str, but feature 'price' needs numbers",
    );
}
