//! Which training rows are kept, what they count, and splits by user.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::parts::build;
use gatefold_features::murmur::hash_int;
use gatefold_samples::{BuildOptions, Silent};
use gatefold_schema::{
    Correction, Instant, Maturity, SampleManifest, SamplingConfig, Span, SplitBy, SplitConfig,
};

use crate::synthetic::{floats, ints, load, recipe, write_logs};

/// A row of the raw output: request, user, item, click, conversion, weight.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    request: i64,
    user: i64,
    item: i64,
    time: i64,
    click: f64,
    weight: Option<f64>,
}

struct Built {
    folder: PathBuf,
    manifest: SampleManifest,
}

impl Built {
    fn rows(&self, split: &str) -> Vec<Row> {
        let frame = load(&self.folder.join(format!("raw-{split}.parquet")));
        let [request, user, item, time] =
            ["request_id", "user_id", "item_id", "time"].map(|name| ints(&frame, name));
        let click = floats(&frame, "click");
        let weight = frame.column("weight").is_ok().then(|| floats(&frame, "weight"));
        (0..frame.height())
            .map(|row| Row {
                request: request[row],
                user: user[row],
                item: item[row],
                time: time[row],
                click: click[row],
                weight: weight.as_ref().map(|weight| weight[row]),
            })
            .collect()
    }

    fn bytes(&self, file: &str) -> Vec<u8> {
        fs::read(self.folder.join(file)).unwrap()
    }
}

/// Logs of 20,000 impressions, and the folder that they and all outputs lie in.
fn logs() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    write_logs(&home.path().join("logs"), 0.8, 7);
    home
}

fn built(
    home: &Path,
    name: &str,
    sampling: Option<SamplingConfig>,
    change: impl FnOnce(&mut gatefold_schema::Recipe),
) -> Built {
    let mut recipe = recipe();
    recipe.samples.logs.as_mut().unwrap().sampling = sampling;
    change(&mut recipe);
    let options =
        BuildOptions { raw: ["train", "valid", "test"].map(str::to_owned).into(), ..BuildOptions::default() };
    let folder = home.join(name);
    let manifest = build(&recipe, &home.join("logs"), &folder, &options, &mut Silent).unwrap();
    Built { folder, manifest }
}

fn keeping(negatives: f64) -> SamplingConfig {
    SamplingConfig { negatives, ..SamplingConfig::default() }
}

#[test]
fn negatives_are_kept_by_the_hash_of_request_and_item() {
    let home = logs();
    let all = built(home.path(), "all", None, |_| ());
    let sampled = built(home.path(), "sampled", Some(SamplingConfig { seed: 3, ..keeping(0.2) }), |_| ());
    let limit = (0.2 * 2f64.powi(32)) as u32;
    let is_kept = |row: &Row| row.click == 1.0 || hash_int(row.item, hash_int(row.request, 3)) < limit;
    let train = all.rows("train");
    let expected: Vec<Row> = train.iter().filter(|row| is_kept(row)).cloned().collect();
    assert_eq!(sampled.rows("train"), expected);

    let negatives = train.iter().filter(|row| row.click == 0.0).count() as f64;
    let kept = expected.iter().filter(|row| row.click == 0.0).count() as f64;
    // Within four deviations of the binomial distribution.
    assert!((kept - 0.2 * negatives).abs() < 4.0 * (0.2 * 0.8 * negatives).sqrt(), "{kept} of {negatives}");
    assert_eq!(sampled.manifest.dropped["negatives sampled away from training"], (negatives - kept) as u64);
    assert_eq!(sampled.manifest.negative_sampling_rate, 0.2);
    assert_eq!(sampled.manifest.splits["train"].rows, expected.len() as u64);
    assert_eq!(
        sampled.manifest.splits["train"].positives["click"],
        all.manifest.splits["train"].positives["click"]
    );

    // Nothing but the training rows is another.
    assert_eq!(sampled.manifest.fingerprint, all.manifest.fingerprint);
    for file in ["valid-00000.parquet", "test-00000.parquet", "raw-valid.parquet", "raw-test.parquet"] {
        assert!(sampled.bytes(file) == all.bytes(file), "{file}");
    }
    // The encoded rows that are left are those of the whole set.
    let shard = |built: &Built| load(&built.folder.join("train-00000.parquet"));
    let (whole, part) = (shard(&all), shard(&sampled));
    let places: Vec<usize> = (0..train.len()).filter(|row| is_kept(&train[*row])).collect();
    for name in ["user_id", "item_id", "hour", "price_level"] {
        let codes = |frame: &polars::prelude::DataFrame| -> Vec<Option<i32>> {
            frame.column(name).unwrap().i32().unwrap().iter().collect()
        };
        let (whole, part) = (codes(&whole), codes(&part));
        assert!(places.iter().map(|row| whole[*row]).eq(part.iter().copied()), "{name}");
    }
    let again = built(home.path(), "again", Some(SamplingConfig { seed: 3, ..keeping(0.2) }), |_| ());
    assert!(again.bytes("train-00000.parquet") == sampled.bytes("train-00000.parquet"));
}

#[test]
fn kept_negatives_stand_for_the_others_by_weight_or_by_rate() {
    let home = logs();
    let config = SamplingConfig { correct: Correction::Weight, ..keeping(0.25) };
    let weighted = built(home.path(), "weighted", Some(config), |_| ());
    assert_eq!(weighted.manifest.negative_sampling_rate, 1.0);
    assert_eq!(weighted.manifest.sample_weight.as_deref(), Some("weight"));
    for row in weighted.rows("train") {
        assert_eq!(row.weight, Some(if row.click == 1.0 { 1.0 } else { 4.0 }), "{row:?}");
    }
    for split in ["valid", "test"] {
        assert!(weighted.rows(split).iter().all(|row| row.weight == Some(1.0)));
    }
    let rated = built(home.path(), "rated", Some(keeping(0.25)), |_| ());
    assert_eq!(rated.manifest.sample_weight, None);
    let keys = |built: &Built| -> Vec<(i64, i64)> {
        built.rows("train").iter().map(|row| (row.request, row.item)).collect()
    };
    assert_eq!(keys(&weighted), keys(&rated));
}

#[test]
fn the_negatives_of_a_request_stay_together_if_wanted() {
    let home = logs();
    let all = built(home.path(), "all", None, |_| ());
    let config = SamplingConfig { whole_requests: true, ..keeping(0.3) };
    let sampled = built(home.path(), "sampled", Some(config), |_| ());
    let negatives = |built: &Built| {
        let mut found: BTreeMap<i64, usize> = BTreeMap::new();
        for row in built.rows("train").iter().filter(|row| row.click == 0.0) {
            *found.entry(row.request).or_default() += 1;
        }
        found
    };
    let (before, after) = (negatives(&all), negatives(&sampled));
    assert!(after.iter().all(|(request, rows)| before[request] == *rows));
    let share = after.len() as f64 / before.len() as f64;
    assert!((share - 0.3).abs() < 4.0 * (0.21 / before.len() as f64).sqrt(), "{share}");
    let positives = |built: &Built| built.rows("train").iter().filter(|row| row.click == 1.0).count();
    assert_eq!(positives(&all), positives(&sampled));
}

#[test]
fn a_user_has_no_more_rows_than_allowed_whatever_came_of_them() {
    let home = logs();
    let all = built(home.path(), "all", None, |_| ());
    let config = |whole_requests| SamplingConfig { per_user: Some(25), whole_requests, ..keeping(1.0) };
    let sizes = |rows: &[Row], key: fn(&Row) -> i64| {
        let mut found: BTreeMap<i64, usize> = BTreeMap::new();
        rows.iter().for_each(|row| *found.entry(key(row)).or_default() += 1);
        found
    };
    let before = all.rows("train");
    for whole in [false, true] {
        let capped = built(home.path(), &format!("capped-{whole}"), Some(config(whole)), |_| ());
        let after = capped.rows("train");
        let (users, of_users) = (sizes(&before, |row| row.user), sizes(&after, |row| row.user));
        assert!(users.values().any(|rows| *rows > 100));
        for (user, rows) in &users {
            let left = of_users.get(user).copied().unwrap_or(0);
            if whole {
                assert!(left <= 25 && (*rows > 25 || left == *rows));
            } else {
                assert_eq!(left, (*rows).min(25));
            }
        }
        if whole {
            let (requests, of_requests) =
                (sizes(&before, |row| row.request), sizes(&after, |row| row.request));
            assert!(of_requests.iter().all(|(request, rows)| requests[request] == *rows));
        }
        let dropped = capped.manifest.dropped["training rows beyond per_user"];
        assert_eq!(dropped as usize, before.len() - after.len());
        if !whole {
            // Those of the lowest hash, whatever came of them.
            let mut by_user: BTreeMap<i64, Vec<(u32, i64, i64)>> = BTreeMap::new();
            for row in &before {
                let hash = hash_int(row.item, hash_int(row.request, 1));
                by_user.entry(row.user).or_default().push((hash, row.request, row.item));
            }
            by_user.values_mut().for_each(|rows| rows.sort_unstable());
            let lowest = by_user.values().flat_map(|rows| rows.iter().take(25));
            let expected: BTreeSet<(i64, i64)> = lowest.map(|(_, request, item)| (*request, *item)).collect();
            let found: BTreeSet<(i64, i64)> = after.iter().map(|row| (row.request, row.item)).collect();
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn the_young_count_less() {
    let home = logs();
    let end = 1_767_571_200_000 + 10 * 86_400_000i64;
    let built = built(home.path(), "young", None, |recipe| {
        let logs = recipe.samples.logs.as_mut().unwrap();
        logs.labels.conversion_window = Span::days(2);
        logs.labels.maturity = Maturity::Weight(0.5);
        for log in [&mut logs.clicks, logs.conversions.as_mut().unwrap()] {
            log.condition = Some(format!("time < {end}"));
        }
    });
    let times = ["clicks", "conversions", "impressions"]
        .map(|log| ints(&load(&home.path().join(format!("logs/{log}.parquet"))), "time"));
    let last = times.into_iter().flatten().filter(|time| *time < end).max().unwrap();
    // Click and conversion together can take three days.
    let (mut seen, mut young) = (BTreeSet::new(), 0);
    for row in ["train", "valid", "test"].iter().flat_map(|split| built.rows(split)) {
        let is_young = row.time > (last - 3 * 86_400_000) * 1000;
        assert_eq!(row.weight, Some(if is_young { 0.5 } else { 1.0 }), "{row:?}");
        seen.insert(is_young);
        young += u64::from(is_young);
    }
    assert_eq!(built.manifest.events["impressions whose windows had not ended"], young);
    assert_eq!(seen.len(), 2);
    assert_eq!(built.manifest.sample_weight.as_deref(), Some("weight"));
}

/// The hash that divides users, in [0, 1).
fn point(user: i64) -> f64 {
    f64::from(hash_int(user, u32::from_be_bytes(*b"user"))) / 2f64.powi(32)
}

#[test]
fn a_user_is_in_one_split() {
    let home = logs();
    let all = built(home.path(), "all", None, |_| ());
    let split = SplitConfig { by: SplitBy::User, valid: 0.2, test: 0.3, ..SplitConfig::default() };
    let by_user = built(home.path(), "by-user", None, |recipe| recipe.samples.split = split);
    let mut found = 0;
    for (name, range) in [("valid", 0.0..0.2), ("test", 0.2..0.5), ("train", 0.5..1.0)] {
        let rows = by_user.rows(name);
        assert!(rows.iter().all(|row| range.contains(&point(row.user))), "{name}");
        assert!(rows.is_sorted_by_key(|row| row.time));
        assert_eq!(by_user.manifest.splits[name].rows, rows.len() as u64);
        found += rows.len();
    }
    let total: u64 = all.manifest.splits.values().map(|split| split.rows).sum();
    assert_eq!(found as u64, total);
}

#[test]
fn other_users_at_a_later_time() {
    let home = logs();
    let day = |day: i64| Instant::from_micros((1_767_571_200 + day * 86_400) * 1_000_000);
    let split = SplitConfig {
        by: SplitBy::Both,
        users: Some(0.4),
        valid_from: Some(day(6)),
        test_from: Some(day(8)),
        ..SplitConfig::default()
    };
    let all = built(home.path(), "all", None, |_| ());
    let both = built(home.path(), "both", Some(keeping(0.5)), |recipe| recipe.samples.split = split);
    let expected = |from: i64, to: i64, held_out: bool| -> Vec<(i64, i64)> {
        let rows = ["train", "valid", "test"].iter().flat_map(|split| all.rows(split));
        let range = day(from).micros()..day(to).micros();
        let wanted = rows.filter(|row| range.contains(&row.time) && (point(row.user) < 0.4) == held_out);
        wanted.map(|row| (row.request, row.item)).collect()
    };
    let found = |split: &str| -> Vec<(i64, i64)> {
        both.rows(split).iter().map(|row| (row.request, row.item)).collect()
    };
    assert_eq!(found("valid"), expected(6, 8, true));
    assert_eq!(found("test"), expected(8, 99, true));
    // Negatives are sampled as well.
    let train: BTreeSet<(i64, i64)> = expected(0, 6, false).into_iter().collect();
    assert!(found("train").iter().all(|row| train.contains(row)) && found("train").len() < train.len());
    let total: u64 = all.manifest.splits.values().map(|split| split.rows).sum();
    let left = (train.len() + found("valid").len() + found("test").len()) as u64;
    assert_eq!(both.manifest.dropped["impressions of users of another split"], total - left);
}

#[test]
fn a_split_without_a_user_is_refused() {
    let home = tempfile::tempdir().unwrap();
    write_logs(&home.path().join("logs"), 0.8, 7);
    let mut recipe = recipe();
    recipe.samples.split = SplitConfig { by: SplitBy::User, valid: 1e-9, ..SplitConfig::default() };
    let out = home.path().join("out");
    let options = BuildOptions::default();
    let error =
        build(&recipe, &home.path().join("logs"), &out, &options, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("no user is left for valid") && !out.exists(), "{error}");
}
