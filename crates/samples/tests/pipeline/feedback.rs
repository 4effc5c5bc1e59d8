//! Training rows as a stream brings them, against the definition written out from the logs.

use std::collections::BTreeMap;
use std::path::Path;

use gatefold_samples::{BuildOptions, SamplesError, Silent, explain::explain};
use gatefold_schema::{
    Correction, FakeNegatives, LATE_COLUMN, Maturity, Recipe, SampleManifest, SamplingConfig, Span, SplitBy,
    SplitConfig,
};
use polars::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    logs::{Click, Conversion, Impression, Logs, START, recipe},
    parts::build,
    synthetic::{floats, ints, load},
};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// Of a click and the conversion after it.
const WINDOW: i64 = 25 * HOUR;
const SPLITS: [&str; 3] = ["train", "valid", "test"];

/// A request of three items every ten minutes for four days, no item twice; most are clicked, half of those bought up to
/// twenty hours later. Also when each item was bought.
fn steady_logs() -> (Logs, BTreeMap<i64, i64>) {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (mut logs, mut bought) = (Logs::default(), BTreeMap::new());
    for request in 0..576 {
        let (time, user) = (START + request * 10 * MINUTE, rng.random_range(0..25));
        for item in request * 3..request * 3 + 3 {
            logs.impressions.push(Impression { id: item, request, user, item, time, hour: request / 6 % 24 });
            if rng.random_bool(0.6) {
                let click = time + rng.random_range(1..5) * MINUTE;
                logs.clicks.push(Click { request, item, time: click });
                if rng.random_bool(0.5) {
                    let time = click + rng.random_range(HOUR..20 * HOUR);
                    logs.conversions.push(Conversion { user, item, time });
                    bought.insert(item, time);
                }
            }
        }
    }
    logs.shuffle(&mut rng);
    (logs, bought)
}

/// The recipe of samples with or without fake negatives.
fn with(maturity: Maturity, change: &dyn Fn(&mut Recipe)) -> Recipe {
    let mut recipe = recipe();
    recipe.samples.logs.as_mut().unwrap().labels.maturity = maturity;
    if maturity == Maturity::FakeNegatives {
        recipe.tasks[1].fake_negatives = Some(FakeNegatives::Weighted);
    }
    change(&mut recipe);
    recipe.check().unwrap();
    recipe
}

fn built(home: &Path, name: &str, recipe: &Recipe) -> Result<SampleManifest, SamplesError> {
    let options = BuildOptions { raw: SPLITS.map(str::to_owned).into(), ..BuildOptions::default() };
    build(recipe, &home.join("logs"), &home.join(name), &options, &mut Silent)
}

fn raw(home: &Path, name: &str, split: &str) -> DataFrame {
    load(&home.join(name).join(format!("raw-{split}.parquet")))
}

/// Request, item, time in milliseconds, click, conversion, late.
type Row = (i64, i64, i64, f64, f64, f64);

fn rows(frame: &DataFrame) -> Vec<Row> {
    let [request, item, time] = ["request_id", "item_id", "time"].map(|name| ints(frame, name));
    let [click, conversion] = ["click", "conversion"].map(|name| floats(frame, name));
    let late =
        if frame.column(LATE_COLUMN).is_ok() { floats(frame, LATE_COLUMN) } else { vec![0.0; click.len()] };
    (0..click.len())
        .map(|row| (request[row], item[row], time[row] / 1000, click[row], conversion[row], late[row]))
        .collect()
}

/// The rows that a stream from `from` to before `end` brings of rows whose items were `bought`.
fn streamed(all: &[Row], bought: &BTreeMap<i64, i64>, from: i64, end: i64) -> Vec<Row> {
    let mut found = Vec::new();
    for &(request, item, time, click, ..) in all {
        if (from..end).contains(&time) {
            found.push((request, item, time, click, 0.0, 0.0));
        }
        if bought.get(&item).is_some_and(|time| (from..end).contains(time)) {
            found.push((request, item, time, click, 1.0, 1.0));
        }
    }
    found
}

/// Builds samples with and without fake negatives, and compares; training ends at `end`, or where validation begins.
#[track_caller]
fn check(change: &dyn Fn(&mut Recipe), end: Option<i64>) {
    let (logs, bought) = steady_logs();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    logs.write(&home.join("logs"));
    let plain = built(home, "plain", &with(Maturity::Keep, change)).unwrap();
    let manifest = built(home, "late", &with(Maturity::FakeNegatives, change)).unwrap();

    let all = rows(&raw(home, "plain", "train"));
    let end = end.unwrap_or_else(|| rows(&raw(home, "plain", "valid"))[0].2);
    let from = START + WINDOW;
    let expected = streamed(&all, &bought, from, end);
    assert_eq!(rows(&raw(home, "late", "train")), expected);

    // The shards are those rows, a request together.
    let shard = load(&home.join("late").join(&manifest.splits["train"].shards[0].file));
    let numbers: Vec<u32> = shard.column("request").unwrap().u32().unwrap().iter().flatten().collect();
    assert!(numbers.is_sorted() && numbers.len() == expected.len());
    let late: Vec<f64> = expected.iter().map(|row| row.5).collect();
    assert_eq!((floats(&shard, LATE_COLUMN), floats(&shard, "conversion")), (late.clone(), late));

    // Nothing else is another.
    assert_eq!(manifest.fingerprint, plain.fingerprint);
    for split in ["valid", "test"] {
        let mut found = raw(home, "late", split);
        assert!(floats(&found, LATE_COLUMN).iter().all(|late| *late == 0.0));
        found.drop_in_place(LATE_COLUMN).unwrap();
        assert!(found.equals_missing(&raw(home, "plain", split)), "{split}");
    }

    let count = |wanted: &dyn Fn(&Row) -> bool| expected.iter().filter(|row| wanted(row)).count() as u64;
    let train = &manifest.splits["train"];
    assert_eq!(manifest.late_label.as_deref(), Some("conversion"));
    assert_eq!((plain.late_label, train.rows), (None, expected.len() as u64));
    let came = count(&|row| row.5 == 1.0);
    assert_eq!((train.positives["late"], train.positives["conversion"]), (came, came));
    assert_eq!(train.positives["click"], count(&|row| row.5 == 0.0 && row.3 == 1.0));
    let never = all.iter().filter(|row| row.2 < from && !expected.iter().any(|own| own.1 == row.1)).count();
    assert_eq!(manifest.dropped["impressions before the windows of the first had ended"], never as u64);

    // In the report a click counts once, a conversion with its negative.
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(home.join("late/report.json")).unwrap()).unwrap();
    let counts = |task: usize| {
        let task = &report["splits"][0]["tasks"][task];
        [&task["rows"], &task["positives"]].map(|count| count.as_u64().unwrap())
    };
    let shown = count(&|row| row.5 == 0.0);
    assert_eq!(counts(0), [shown, train.positives["click"]]);
    assert_eq!(counts(1), [train.positives["click"] + came, came]);
}

#[test]
fn training_has_what_a_stream_brings() {
    check(&|_| (), None);
}

#[test]
fn training_ends_a_gap_before_validation() {
    let hours = 10;
    let change = |recipe: &mut Recipe| recipe.samples.split.gap = Some(Span::parse("10h").unwrap());
    let (logs, _) = steady_logs();
    // A fifth of the requests is for validation, a fifth for the test.
    let rows = logs.impressions.len() as i64;
    let valid = (rows - 2 * (rows as f64 * 0.2).round() as i64) / 3;
    check(&change, Some(START + valid * 10 * MINUTE - hours * HOUR + 1));
}

#[test]
fn users_of_training_are_streamed_to_the_end_of_the_logs() {
    let change = |recipe: &mut Recipe| {
        recipe.samples.split =
            SplitConfig { by: SplitBy::User, valid: 0.2, test: 0.2, ..SplitConfig::default() };
    };
    check(&change, Some(i64::MAX));
}

#[test]
fn thinned_out_negatives_take_nothing_from_late_positives() {
    let change = |recipe: &mut Recipe| {
        let config =
            SamplingConfig { negatives: 0.3, correct: Correction::Weight, ..SamplingConfig::default() };
        recipe.samples.logs.as_mut().unwrap().sampling = Some(config);
        recipe.train.sample_weight = Some("weight".into());
    };
    check(&change, None);
    // The weight of a row is that of what came of it: 1, fake negative or not.
    let home = tempfile::tempdir().unwrap();
    steady_logs().0.write(&home.path().join("logs"));
    built(home.path(), "late", &with(Maturity::FakeNegatives, &change)).unwrap();
    let train = raw(home.path(), "late", "train");
    for ((.., click, conversion, late), weight) in rows(&train).into_iter().zip(floats(&train, "weight")) {
        assert_eq!(weight, if click == 1.0 { 1.0 } else { f64::from(1.0 / 0.3f32) });
        assert_eq!(conversion, late);
    }
}

#[test]
fn as_many_outcomes_come_as_the_impressions_of_the_time_lead_to() {
    let (logs, bought) = steady_logs();
    let stream = START + WINDOW..START + 70 * HOUR;
    let shown = logs.impressions.iter().filter(|row| stream.contains(&row.time));
    let lead_to = shown.filter(|row| bought.contains_key(&row.item)).count() as f64;
    let come = bought.values().filter(|time| stream.contains(time)).count() as f64;
    assert!((come - lead_to).abs() < 3.0 * lead_to.sqrt(), "{come} come of {lead_to}");
    // Those that were shown and have come are far fewer: what a training without fake negatives would see.
    let both = logs.impressions.iter().filter(|row| {
        stream.contains(&row.time) && bought.get(&row.item).is_some_and(|time| stream.contains(time))
    });
    assert!((both.count() as f64) < lead_to - 3.0 * lead_to.sqrt());
}

#[test]
fn an_impression_is_followed_into_the_stream() {
    let (logs, bought) = steady_logs();
    let home = tempfile::tempdir().unwrap();
    logs.write(&home.path().join("logs"));
    let recipe = with(Maturity::FakeNegatives, &|_| ());
    let told = |wanted: &dyn Fn(i64, Option<&i64>) -> bool| {
        let row =
            logs.impressions.iter().find(|row| wanted(row.time - START, bought.get(&row.item))).unwrap();
        let key = [row.request, row.item].map(|key| key.to_string());
        explain(&recipe, &home.path().join("logs"), None, (&key[0], &key[1]), &mut Silent).unwrap().split
    };
    let end = START + 57 * HOUR;
    let stream = START + WINDOW..end;
    let is_shown = |time: i64| (WINDOW..30 * HOUR).contains(&time);
    assert_eq!(told(&|time, bought| is_shown(time) && bought.is_none()), "train, with conversion 0");
    assert_eq!(
        told(&|time, bought| is_shown(time) && bought.is_some()),
        "train, with conversion 0, and again with conversion 1"
    );
    let text = told(&|time, bought| time < WINDOW && bought.is_some_and(|time| stream.contains(time)));
    assert!(text.starts_with("train, with conversion 1 alone, as it was shown before"), "{text}");
    let text = told(&|time, bought| time < WINDOW && bought.is_none());
    assert!(text.starts_with("none: of train, but shown before the windows"), "{text}");
    assert_eq!(told(&|time, _| time > 80 * HOUR), "test");
}

#[test]
fn logs_as_short_as_their_windows_are_refused() {
    let (logs, _) = steady_logs();
    let home = tempfile::tempdir().unwrap();
    logs.write(&home.path().join("logs"));
    let change = |recipe: &mut Recipe| {
        recipe.samples.logs.as_mut().unwrap().labels.conversion_window = Span::days(7);
    };
    let recipe = with(Maturity::FakeNegatives, &change);
    let error = built(home.path(), "late", &recipe).unwrap_err().to_string();
    assert!(
        error.contains(
            "training begins when the windows of the first impressions have ended (2026-01-12T01:00:00"
        ),
        "{error}"
    );
    assert!(error.contains("use longer logs, shorter windows or another maturity"), "{error}");
}

#[test]
fn many_shards_and_stretches_of_time() {
    let home = tempfile::tempdir().unwrap();
    steady_logs().0.write(&home.path().join("logs"));
    // `build` makes them in parts as well, and compares the bytes.
    let recipe = with(Maturity::FakeNegatives, &|recipe| recipe.samples.rows_per_shard = Some(50));
    let manifest = built(home.path(), "late", &recipe).unwrap();
    assert!(manifest.splits["train"].shards.len() > 5);
}
