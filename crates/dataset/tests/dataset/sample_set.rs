//! A small sample set, made by hand: what is read back, and what is refused.

use std::fs;
use std::path::Path;

use gatefold_dataset::SampleSet;
use gatefold_features::FeatureColumn;
use polars::prelude::*;

use crate::tiny::{Row, frame, save, shard_path, write};

const FIRST: [Row; 3] =
    [(0, 3, &[2, 5], 4, 0.5, 1.0, 0.75), (0, 3, &[2, 5], 11, 1.5, 0.0, 0.25), (1, 2, &[], 2, 0.0, 0.0, 0.5)];
const SECOND: [Row; 2] = [(2, 4, &[1], 1, 2.5, 0.0, 0.125), (2, 4, &[1], 9, 3.5, 1.0, 0.5)];

fn codes(width: usize, data: &[i32]) -> FeatureColumn {
    FeatureColumn::Codes { width, data: data.to_vec() }
}

#[test]
fn a_split_is_read_back() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), vec![frame(&FIRST), frame(&SECOND)]);
    let set = SampleSet::open(home.path()).unwrap();
    assert_eq!(set.examples().unwrap(), []);
    let split = set.load("train").unwrap();
    assert_eq!((split.rows, split.requests()), (5, 3));
    assert_eq!(split.request, [0, 0, 1, 2, 2]);
    assert_eq!(split.request_starts(), [0, 2, 3, 5]);
    assert_eq!(split.time, Some(vec![0, 0, 1000, 2000, 2000]));
    assert_eq!(split.columns[0], codes(1, &[3, 3, 2, 4, 4]));
    assert_eq!(split.columns[1], codes(3, &[2, 5, 0, 2, 5, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0]));
    assert_eq!(split.columns[3], FeatureColumn::Numbers(vec![0.5, 1.5, 0.0, 2.5, 3.5]));
    assert_eq!(split.labels["click"], [1.0, 0.0, 0.0, 0.0, 1.0]);
    assert_eq!(split.labels["p_click"], [0.75, 0.25, 0.5, 0.125, 0.5]);
}

#[test]
fn batches_take_rows_and_requests() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), vec![frame(&FIRST), frame(&SECOND)]);
    let split = SampleSet::open(home.path()).unwrap().load("train").unwrap();

    let batch = split.batch(&[4, 0]);
    assert_eq!((batch.requests, batch.candidates, batch.request_of), (2, 2, vec![0, 1]));
    assert_eq!(batch.columns[0], codes(1, &[4, 3]));
    assert_eq!(batch.columns[2], codes(1, &[9, 4]));

    let batch = split.request_batch(1..5);
    assert_eq!((batch.requests, batch.candidates, batch.request_of), (3, 4, vec![0, 1, 2, 2]));
    assert_eq!(batch.columns[0], codes(1, &[3, 2, 4]));
    assert_eq!(batch.columns[1], codes(3, &[2, 5, 0, 0, 0, 0, 1, 0, 0]));
    assert_eq!(batch.columns[2], codes(1, &[11, 2, 1, 9]));
    assert_eq!(batch.columns[3], FeatureColumn::Numbers(vec![1.5, 0.0, 2.5, 3.5]));
}

/// What is said of a set whose second shard is `second`, or whose files are spoilt.
#[track_caller]
fn check_refused(second: DataFrame, spoil: impl Fn(&Path), expected: &str) {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), vec![frame(&FIRST), second]);
    spoil(home.path());
    let error = SampleSet::open(home.path()).and_then(|set| set.load("train")).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

fn as_it_is(_folder: &Path) {}

#[test]
fn damaged_files_are_refused() {
    let second = || frame(&SECOND);
    let shard = "train-00001.parquet";
    check_refused(
        second(),
        |folder| fs::remove_file(folder.join("manifest.json")).unwrap(),
        "is no sample set",
    );
    check_refused(
        second(),
        |folder| fs::remove_file(folder.join(shard)).unwrap(),
        "train-00001.parquet: No such file",
    );
    check_refused(
        second(),
        |folder| {
            let bytes = fs::read(folder.join(shard)).unwrap();
            fs::write(folder.join(shard), &bytes[..bytes.len() - 7]).unwrap();
        },
        "it was cut off or changed: build the samples again",
    );
    check_refused(
        second(),
        |folder| {
            let size = fs::metadata(folder.join(shard)).unwrap().len() as usize;
            fs::write(folder.join(shard), vec![b'x'; size]).unwrap();
        },
        "train-00001.parquet as Parquet",
    );
    check_refused(
        second(),
        |folder| {
            let path = folder.join("vocab/country.json");
            let text = fs::read_to_string(&path).unwrap().replace("fr", "it");
            fs::write(path, text).unwrap();
        },
        "a vocabulary has been changed",
    );
    check_refused(
        second(),
        |folder| {
            let path = folder.join("manifest.json");
            let text = fs::read_to_string(&path).unwrap().replace("\"format\":1", "\"format\":9");
            fs::write(path, text).unwrap();
        },
        "format 9 is not known",
    );
}

#[test]
fn a_shard_of_another_sample_set_is_refused() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), vec![frame(&FIRST), frame(&SECOND)]);
    let path = shard_path(home.path(), 1);
    // The same rows and the same size, but codes that mean something else.
    let ours = SampleSet::open(home.path()).unwrap().manifest.fingerprint;
    let theirs = ours.chars().rev().collect::<String>();
    save(&path, frame(&SECOND), &theirs);
    let error = SampleSet::open(home.path()).and_then(|set| set.load("train")).unwrap_err().to_string();
    for part in ["train-00001.parquet", &ours, &theirs, "belongs to another sample set"] {
        assert!(error.contains(part), "{error}");
    }
    let mut unnamed = frame(&SECOND);
    ParquetWriter::new(fs::File::create(&path).unwrap()).finish(&mut unnamed).unwrap();
    let length = fs::metadata(&path).unwrap().len();
    let manifest = home.path().join("manifest.json");
    let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    text["splits"]["train"]["shards"][1]["bytes"] = length.into();
    fs::write(&manifest, text.to_string()).unwrap();
    let error = SampleSet::open(home.path()).and_then(|set| set.load("train")).unwrap_err().to_string();
    assert!(error.contains("does not say which encoders it comes from"), "{error}");
}

#[test]
fn a_request_in_two_shards_is_refused() {
    let mut torn = SECOND;
    torn[0].0 = 1;
    check_refused(frame(&torn), as_it_is, "train-00001.parquet begins with request 1, expected 2");
}

#[test]
fn nulls_are_refused() {
    for (column, row) in [("click", 1), ("item", 0), ("seen", 1)] {
        let mut with_null = frame(&SECOND);
        let mask: BooleanChunked = (0..2).map(|other| Some(other != row)).collect();
        let series = with_null.column(column).unwrap().as_materialized_series();
        let spoilt = series.zip_with(&mask, &Series::full_null(column.into(), 2, series.dtype())).unwrap();
        with_null.with_column(spoilt.into_column()).unwrap();
        let expected = format!("column '{column}' has 1 nulls (the first is in row {row}), expected none");
        check_refused(with_null, as_it_is, &expected);
    }
}

#[test]
fn wrong_contents_are_refused() {
    let with = |change: fn(&mut Row)| {
        let mut rows = SECOND;
        change(&mut rows[1]);
        frame(&rows)
    };
    check_refused(with(|row| row.5 = 0.5), as_it_is, "label 'click', row 1: 0.5 is not 0 or 1");
    check_refused(
        with(|row| row.6 = f32::NAN),
        as_it_is,
        "label 'p_click', row 1: NaN is not a finite number",
    );
    check_refused(
        with(|row| row.1 = 5),
        as_it_is,
        "train-00001.parquet: feature 'country', row 1: code 5 is outside its table of 5 rows",
    );
    check_refused(
        with(|row| row.1 = -1),
        as_it_is,
        "feature 'country', row 1: code -1 is outside its table of 5 rows",
    );
    check_refused(
        with(|row| row.2 = &[2, 12]),
        as_it_is,
        "feature 'seen', row 1: code 12 is outside its table of 12 rows",
    );
    check_refused(
        with(|row| row.2 = &[2, 3, 4, 5]),
        as_it_is,
        "feature 'seen', row 1: 4 codes, at most 3 fit",
    );
    for change in [|row: &mut Row| row.1 = 3, |row: &mut Row| row.2 = &[1, 1]] {
        check_refused(
            with(change),
            as_it_is,
            "row 1: differs from the row before, which is of the same request",
        );
    }
    check_refused(with(|row| row.4 = f32::INFINITY), as_it_is, "feature 'price', row 1: inf is not finite");
    check_refused(
        with(|row| row.0 = 1),
        as_it_is,
        "row 1 is of request 1 after request 2, expected requests numbered in order",
    );
    let without = frame(&SECOND).drop("item").unwrap();
    check_refused(without, as_it_is, "there is no column 'item'");
    let mut other = frame(&SECOND);
    let wide = other.column("item").unwrap().cast(&DataType::Int64).unwrap();
    other.with_column(wide).unwrap();
    check_refused(other, as_it_is, "column 'item' has type i64, expected i32");
}

#[test]
fn an_unknown_split_is_named() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), vec![frame(&FIRST), frame(&SECOND)]);
    let error = SampleSet::open(home.path()).unwrap().load("tset").unwrap_err().to_string();
    assert_eq!(error, "there is no split 'tset'; the sample set has: train");
}
