//! Synthetic logs: their flaws, their truth, and scoring tables made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use gatefold_features::{Encoder, FeatureColumn, RawBatch, Strictness};
use gatefold_samples::{
    BuildOptions, RawTable, ScoreFile, Silent, build,
    synth::{self, SynthConfig, SynthReport},
};
use gatefold_schema::{EncoderSet, Recipe, SampleManifest, Vocabulary};
use polars::prelude::*;

/// Area under the ROC curve by the rank sum, for scores without ties.
fn auc(scores: &[f32], labels: &[f32]) -> Option<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let ranks =
        order.iter().enumerate().filter(|(_, row)| labels[**row] == 1.0).map(|(rank, _)| rank as f64 + 1.0);
    let (positives, sum) = ranks.fold((0.0, 0.0), |(count, sum), rank| (count + 1.0, sum + rank));
    let negatives = scores.len() as f64 - positives;
    (positives > 0.0 && negatives > 0.0)
        .then(|| (sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

pub(crate) fn write_logs(folder: &Path, correlation: f64, seed: u64) -> SynthReport {
    let config = SynthConfig { correlation, ..SynthConfig::new(20_000, seed) };
    synth::write(folder, &config, false, &auc, &mut Silent).unwrap()
}

pub(crate) fn load(path: &Path) -> DataFrame {
    let mut frame = ParquetReader::new(File::open(path).unwrap()).finish().unwrap();
    frame.rechunk_mut();
    frame
}

pub(crate) fn ints(frame: &DataFrame, name: &str) -> Vec<i64> {
    frame.column(name).unwrap().i64().unwrap().iter().map(Option::unwrap).collect()
}

pub(crate) fn floats(frame: &DataFrame, name: &str) -> Vec<f64> {
    frame
        .column(name)
        .unwrap()
        .cast(&DataType::Float64)
        .unwrap()
        .f64()
        .unwrap()
        .iter()
        .map(Option::unwrap)
        .collect()
}

/// The recipe for these logs, with the true clicks as another audit column.
pub(crate) fn recipe() -> Recipe {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../training/recipes/synthetic.toml");
    let mut recipe = Recipe::parse(&std::fs::read_to_string(path).unwrap(), path).unwrap();
    let config = recipe.samples.logs.as_mut().unwrap();
    config.audit_columns.push("would_click".into());
    recipe
}

#[test]
fn logs_have_the_flaws_of_real_ones() {
    let home = tempfile::tempdir().unwrap();
    let logs = home.path().join("logs");
    let report = write_logs(&logs, 0.8, 1);
    let impressions = load(&logs.join("impressions.parquet"));
    let ids = ints(&impressions, "impression_id");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 20_000);
    assert_eq!(ids.len() as u64, report.impression_rows);
    assert!(
        (20_200..20_400).contains(&ids.len()),
        "{} rows for one and a half per cent sent twice",
        ids.len()
    );
    let per_request = report.impressions as f64 / report.requests as f64;
    assert!((14.0..16.0).contains(&per_request), "{per_request} impressions a request");

    // Users and items that the first nine days have not seen come on the last.
    let last_day = 1_767_571_200_000 + 9 * 86_400_000;
    for key in ["user_id", "item_id"] {
        let seen = |last: bool| -> BTreeSet<i64> {
            let times = ints(&impressions, "time");
            let rows = ints(&impressions, key).into_iter().zip(times);
            rows.filter(|(_, time)| (*time >= last_day) == last).map(|(id, _)| id).collect()
        };
        assert!(seen(true).difference(&seen(false)).count() > 10, "{key}");
    }
    // Events do not arrive in order, some twice; values are missing.
    let click_times = ints(&load(&logs.join("clicks.parquet")), "time");
    assert!(!click_times.is_sorted());
    let conversions = load(&logs.join("conversions.parquet"));
    let rows: Vec<(i64, i64, i64)> = (0..conversions.height())
        .map(|row| {
            let of = |name: &str| conversions.column(name).unwrap().i64().unwrap().get(row).unwrap();
            (of("user_id"), of("item_id"), of("time"))
        })
        .collect();
    assert!(rows.iter().collect::<BTreeSet<_>>().len() < rows.len());
    let users = load(&logs.join("users.parquet"));
    for column in ["age", "gender", "country", "segment", "favourites"] {
        assert!(users.column(column).unwrap().null_count() > 0, "{column}");
    }
    assert!(users.height() < 1000, "every user has a profile");
}

#[test]
fn samples_have_the_true_labels() {
    let home = tempfile::tempdir().unwrap();
    let report = write_logs(&home.path().join("logs"), 0.8, 2);
    let options = BuildOptions { raw: vec!["train".into()], ..BuildOptions::default() };
    let out = home.path().join("samples");
    let manifest = build(&recipe(), &home.path().join("logs"), &out, &options, &mut Silent).unwrap();
    assert_eq!(manifest.dropped["impressions logged again"], report.impression_rows - 20_000);
    let rows: u64 = manifest.splits.values().map(|split| split.rows).sum();
    let positives =
        |label: &str| -> u64 { manifest.splits.values().map(|split| split.positives[label]).sum() };
    assert_eq!(
        (rows, positives("click"), positives("conversion")),
        (20_000, report.clicks, report.conversions)
    );

    let train = load(&out.join("raw-train.parquet"));
    let [click, conversion, would_click, would_convert, p_click] =
        ["click", "conversion", "would_click", "would_convert", "p_click"].map(|name| floats(&train, name));
    assert_eq!(click, would_click);
    let both: Vec<f64> = click.iter().zip(&would_convert).map(|(a, b)| a * b).collect();
    assert_eq!(conversion, both);
    // The clicks agree with their probabilities: within four standard deviations.
    let spread: f64 = p_click.iter().map(|p| p * (1.0 - p)).sum::<f64>().sqrt();
    let difference = click.iter().sum::<f64>() - p_click.iter().sum::<f64>();
    assert!(difference.abs() < 4.0 * spread, "{difference} clicks more than expected, deviation {spread}");
}

#[test]
fn the_oracle_is_the_auc_of_the_truth() {
    let home = tempfile::tempdir().unwrap();
    let report = write_logs(&home.path().join("logs"), 0.8, 3);
    let truth = load(&home.path().join("logs/truth.parquet"));
    let column =
        |name: &str| -> Vec<f32> { floats(&truth, name).into_iter().map(|value| value as f32).collect() };
    assert_eq!(report.oracle.ctr, auc(&column("p_click"), &column("would_click")));
    assert_eq!(report.oracle.cvr_all, auc(&column("p_conversion"), &column("would_convert")));
    assert!(report.oracle.ctr.unwrap() > 0.75 && report.oracle.ctcvr.unwrap() > 0.8, "{report:?}");
    let written: SynthReport =
        serde_json::from_slice(&std::fs::read(home.path().join("logs/synth.json")).unwrap()).unwrap();
    assert_eq!(written, report);
}

/// Pearson's correlation of the logits of the two probabilities.
fn logit_correlation(correlation: f64) -> f64 {
    let home = tempfile::tempdir().unwrap();
    write_logs(&home.path().join("logs"), correlation, 4);
    let truth = load(&home.path().join("logs/truth.parquet"));
    let logits =
        |name: &str| -> Vec<f64> { floats(&truth, name).into_iter().map(|p| (p / (1.0 - p)).ln()).collect() };
    let (a, b) = (logits("p_click"), logits("p_conversion"));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let product = |a: &[f64], b: &[f64]| {
        let (mean_a, mean_b) = (mean(a), mean(b));
        a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum::<f64>()
    };
    product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()
}

#[test]
fn the_correlation_is_what_was_asked_for() {
    for (asked, low, high) in [(1.0, 0.95, 1.01), (0.8, 0.6, 0.95), (0.0, -0.35, 0.35), (-1.0, -1.01, -0.95)]
    {
        let found = logit_correlation(asked);
        assert!((low..=high).contains(&found), "asked for {asked}, found {found}");
    }
}

/// The mean probability of a click among clicked impressions, over that among all.
fn lift(selection: f64) -> f64 {
    let home = tempfile::tempdir().unwrap();
    let config = SynthConfig { selection, ..SynthConfig::new(20_000, 4) };
    synth::write(&home.path().join("logs"), &config, false, &auc, &mut Silent).unwrap();
    let truth = load(&home.path().join("logs/truth.parquet"));
    let (p_click, clicked) = (floats(&truth, "p_click"), floats(&truth, "would_click"));
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let of_clicked = p_click.iter().zip(&clicked).filter(|(_, clicked)| **clicked == 1.0).map(|(p, _)| *p);
    mean(of_clicked.collect()) / mean(p_click.clone())
}

#[test]
fn the_selection_sets_how_far_clicked_impressions_stand_apart() {
    // Where features decide nothing, every impression is as likely clicked as any other.
    assert!((lift(0.0) - 1.0).abs() < 1e-3, "{}", lift(0.0));
    let (usual, strong) = (lift(1.0), lift(3.0));
    assert!(usual > 1.5 && strong > usual + 1.0, "{usual}, {strong}");
}

#[test]
fn bad_settings_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let check = |config: SynthConfig, expected: &str| {
        let out = home.path().join("logs");
        let error = synth::write(&out, &config, false, &auc, &mut Silent).unwrap_err().to_string();
        assert_eq!(error, expected);
        assert!(!out.exists());
    };
    let good = SynthConfig::new(20_000, 1);
    check(
        SynthConfig { impressions: 10, ..good },
        "impressions must be between 1000 and 1000000000, found 10",
    );
    check(SynthConfig { correlation: 1.5, ..good }, "correlation must be between -1 and 1, found 1.5");
    check(SynthConfig { selection: -1.0, ..good }, "selection must be between 0 and 10, found -1");
    check(SynthConfig { items: 5, ..good }, "items must be between 100 and 100000000, found 5");
}

/// A built sample set with its test rows raw.
fn built(home: &Path) -> (SampleManifest, EncoderSet) {
    write_logs(&home.join("logs"), 0.8, 5);
    let options = BuildOptions { raw: vec!["test".into()], ..BuildOptions::default() };
    let manifest =
        build(&recipe(), &home.join("logs"), &home.join("samples"), &options, &mut Silent).unwrap();
    let vocabulary = |table: &String| -> (String, Vocabulary) {
        let path = home.join("samples/vocab").join(format!("{table}.json"));
        (table.clone(), serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    };
    let vocabularies = manifest.vocabularies.iter().map(vocabulary).collect();
    let set = EncoderSet { features: manifest.features.clone(), vocabularies, ..EncoderSet::default() };
    assert_eq!(set.fingerprint(), manifest.fingerprint);
    (manifest, set)
}

/// Codes or numbers of a shard column, row by row, without padding.
fn shard_rows(frame: &DataFrame, name: &str) -> Vec<Vec<f64>> {
    let column = frame.column(name).unwrap();
    let numbers = |series: &Series| -> Vec<f64> {
        series.cast(&DataType::Float64).unwrap().f64().unwrap().iter().map(Option::unwrap).collect()
    };
    match column.dtype() {
        DataType::List(_) => {
            let lists = column.list().unwrap();
            (0..frame.height()).map(|row| numbers(&lists.get_as_series(row).unwrap())).collect()
        }
        _ => numbers(column.as_materialized_series()).into_iter().map(|value| vec![value]).collect(),
    }
}

/// The same of an encoded column.
fn encoded_rows(column: &FeatureColumn) -> Vec<Vec<f64>> {
    match column {
        FeatureColumn::Numbers(values) => values.iter().map(|value| vec![f64::from(*value)]).collect(),
        FeatureColumn::Codes { width: 1, data } => data.iter().map(|code| vec![f64::from(*code)]).collect(),
        FeatureColumn::Codes { width, data } => {
            let valid =
                |row: &[i32]| row.iter().filter(|code| **code != 0).map(|code| f64::from(*code)).collect();
            data.chunks(*width).map(valid).collect()
        }
    }
}

#[test]
fn raw_rows_have_the_codes_of_the_shards() {
    let home = tempfile::tempdir().unwrap();
    let (manifest, set) = built(home.path());
    let shard = load(&home.path().join("samples/test-00000.parquet"));
    let encoder = Encoder::new(set.clone()).unwrap();
    for most in [1, 7, 64, 100_000] {
        let mut table = RawTable::open(&home.path().join("samples/raw-test.parquet"), &set).unwrap();
        assert_eq!(table.rows() as u64, manifest.splits["test"].rows);
        let mut found: BTreeMap<String, Vec<Vec<f64>>> = BTreeMap::new();
        let (mut last_request, mut requests) = (String::new(), 0);
        while let Some(rows) = table.next_rows(most).unwrap() {
            assert!(rows.rows() <= most);
            requests += rows.requests();
            let ids = rows.request_ids();
            // A request has 20 rows at most: larger batches never tear one.
            assert!(most < 20 || ids[0] != last_request);
            last_request.clone_from(&ids[ids.len() - 1]);
            let raw = rows.batch().unwrap();
            let batch = encoder.encode(&raw, Strictness::Lenient).unwrap();
            for (fitted, column) in set.features.iter().zip(&batch.columns) {
                let values = encoded_rows(column);
                let request_level = fitted.feature.side.level() == gatefold_schema::Level::Request;
                let row_of = |candidate: usize| {
                    if request_level { batch.request_of[candidate] as usize } else { candidate }
                };
                let rows = (0..batch.candidates).map(|candidate| values[row_of(candidate)].clone());
                found.entry(fitted.feature.name.clone()).or_default().extend(rows);
            }
            // As a client would send them, after a detour over JSON.
            let json = raw.to_json(&set, &ids);
            let again = RawBatch::from_json(&json, &set).unwrap();
            assert_eq!(encoder.encode(&again, Strictness::Refuse).unwrap(), batch);
        }
        assert!(most < 20 || requests as u64 == manifest.splits["test"].requests);
        for (name, rows) in &found {
            assert!(*rows == shard_rows(&shard, name), "feature {name}, batches of {most}");
        }
        assert_eq!(found.len(), set.features.len());
    }
}

#[test]
fn single_requests_are_found() {
    let home = tempfile::tempdir().unwrap();
    let (_, set) = built(home.path());
    let path = home.path().join("samples/raw-test.parquet");
    let open = || RawTable::open(&path, &set).unwrap();
    let ids = ints(&load(&path), "request_id");
    let row = 137;
    let by_row = open().request_of_row(row).unwrap();
    assert_eq!(by_row.request_ids(), [ids[row].to_string()]);
    assert_eq!(by_row.rows(), ids.iter().filter(|id| **id == ids[row]).count());
    let by_id = open().request_of_id(&ids[row].to_string()).unwrap();
    assert_eq!(by_id.batch().unwrap().to_json(&set, &[]), by_row.batch().unwrap().to_json(&set, &[]));
    let error = open().request_of_row(ids.len()).unwrap_err().to_string();
    assert!(error.contains(&format!("there is no row {}", ids.len())), "{error}");
    let error = open().request_of_id("nobody").unwrap_err().to_string();
    assert!(error.contains("there is no request with request_id nobody"), "{error}");
}

#[test]
fn scores_stand_beside_what_is_no_feature() {
    let home = tempfile::tempdir().unwrap();
    let (_, set) = built(home.path());
    let path = home.path().join("samples/raw-test.parquet");
    let score = |most: usize, name: &str| {
        let mut table = RawTable::open(&path, &set).unwrap();
        let out = home.path().join(name);
        let mut file = ScoreFile::create(&out, &table, &["ctr".to_owned(), "cvr".to_owned()], true).unwrap();
        let mut next = 0;
        while let Some(rows) = table.next_rows(most).unwrap() {
            let scores: Vec<f32> = (next..next + rows.rows()).map(|row| row as f32).collect();
            next += rows.rows();
            let fused = rows.numbers("time").expect("a column that is no feature");
            let prices = rows.numbers("price").expect("an item feature");
            assert!(prices.iter().all(|price| price.is_nan() || *price > 0.0));
            assert!(rows.numbers("category").is_none() && rows.numbers("nothing").is_none());
            file.write(&rows, &[scores.clone(), scores], Some(&fused)).unwrap();
        }
        assert!(!out.exists());
        file.finish().unwrap();
        std::fs::read(out).unwrap()
    };
    assert!(score(50, "a.parquet") == score(1000, "b.parquet"), "the file depends on the batches");
    let (scores, rows) = (load(&home.path().join("a.parquet")), load(&path));
    let names: Vec<&str> = scores.columns().iter().map(|column| column.name().as_str()).collect();
    let expected = [
        "request_id",
        "time",
        "click",
        "conversion",
        "p_click",
        "p_conversion",
        "would_convert",
        "would_click",
        "ctr",
        "cvr",
        "fused",
    ];
    assert_eq!(names, expected);
    assert_eq!(floats(&scores, "fused"), floats(&rows, "time"));
    assert_eq!(ints(&scores, "request_id"), ints(&rows, "request_id"));
    assert_eq!(floats(&scores, "cvr"), (0..rows.height()).map(|row| row as f64).collect::<Vec<_>>());

    let table = RawTable::open(&path, &set).unwrap();
    let out = home.path().join("c.parquet");
    drop(ScoreFile::create(&out, &table, &["ctr".to_owned()], false).unwrap());
    assert!(
        !out.exists() && std::fs::read_dir(home.path()).unwrap().count() == 4,
        "something is left behind"
    );
    let clash = ScoreFile::create(&out, &table, &["click".to_owned()], false).err().unwrap().to_string();
    assert!(clash.contains("column 'click' has the name of an output"), "{clash}");
}

#[test]
fn bad_tables_are_named() {
    let home = tempfile::tempdir().unwrap();
    let (_, set) = built(home.path());
    let path = home.path().join("samples/raw-test.parquet");
    let check = |frame: DataFrame, expected: &str| {
        let path = home.path().join("rows.parquet");
        ParquetWriter::new(File::create(&path).unwrap()).finish(&mut frame.clone()).unwrap();
        let error = RawTable::open(&path, &set).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(load(&path).drop("price").unwrap(), "there is no column 'price'");
    let mut other = load(&path);
    let text = other.column("rating").unwrap().cast(&DataType::String).unwrap();
    other.with_column(text).unwrap();
    check(other, "column 'rating' has type str, but feature 'rating' needs numbers");
    let missing = RawTable::open(&home.path().join("nothing.parquet"), &set).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read") && missing.contains("nothing.parquet"), "{missing}");
}
