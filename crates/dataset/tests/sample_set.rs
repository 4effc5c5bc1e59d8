//! A small sample set, made by hand: what is read back, and what is refused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use gatefold_dataset::SampleSet;
use gatefold_features::FeatureColumn;
use gatefold_schema::{
    EncoderSet, EncoderState, Feature, FittedFeature, SampleManifest, ShardInfo, SplitInfo, Task, Vocabulary,
    VocabularyValues, manifest::SHARD_FINGERPRINT, strict::from_toml,
};
use polars::prelude::*;

const FEATURES: &str = r#"
    [[feature]]
    name = "country"
    side = "user"
    kind = "categorical"
    type = "text"
    encoder = { kind = "vocab" }
    embedding = 4
    [[feature]]
    name = "seen"
    side = "user"
    kind = "sequence"
    type = "int"
    max_len = 3
    encoder = { kind = "hash", buckets = 10 }
    embedding = 4
    [[feature]]
    name = "item"
    side = "item"
    kind = "categorical"
    type = "int"
    encoder = { kind = "hash", buckets = 10 }
    embedding = 4
    [[feature]]
    name = "price"
    side = "item"
    kind = "numeric"
    type = "float"
    encoder = { kind = "none" }
    [[task]]
    name = "ctr"
    label = "click"
    oracle = "p_click"
"#;

#[derive(serde::Deserialize)]
struct Declared {
    feature: Vec<Feature>,
    task: Vec<Task>,
}

/// Rows of a shard: request, country, seen, item, price, click, p_click.
type Row = (u32, i32, &'static [i32], i32, f32, f32, f32);

const FIRST: [Row; 3] =
    [(0, 3, &[2, 5], 4, 0.5, 1.0, 0.75), (0, 3, &[2, 5], 11, 1.5, 0.0, 0.25), (1, 2, &[], 2, 0.0, 0.0, 0.5)];
const SECOND: [Row; 2] = [(2, 4, &[1], 1, 2.5, 0.0, 0.125), (2, 4, &[1], 9, 3.5, 1.0, 0.5)];

fn frame(rows: &[Row]) -> DataFrame {
    let mut seen =
        ListPrimitiveChunkedBuilder::<Int32Type>::new("seen".into(), rows.len(), 8, DataType::Int32);
    rows.iter().for_each(|row| seen.append_slice(row.2));
    let floats = |name: &str, value: fn(&Row) -> f32| {
        Column::new(name.into(), rows.iter().map(value).collect::<Vec<f32>>())
    };
    let codes = |name: &str, value: fn(&Row) -> i32| {
        Column::new(name.into(), rows.iter().map(value).collect::<Vec<i32>>())
    };
    DataFrame::new(
        rows.len(),
        vec![
            Column::new("request".into(), rows.iter().map(|row| row.0).collect::<Vec<u32>>()),
            Column::new(
                "request_id".into(),
                rows.iter().map(|row| i64::from(row.0) + 70).collect::<Vec<i64>>(),
            ),
            Column::new("time".into(), rows.iter().map(|row| i64::from(row.0) * 1000).collect::<Vec<i64>>()),
            codes("country", |row| row.1),
            seen.finish().into_series().into_column(),
            codes("item", |row| row.3),
            floats("price", |row| row.4),
            floats("click", |row| row.5),
            floats("p_click", |row| row.6),
        ],
    )
    .unwrap()
}

fn save(path: &Path, mut frame: DataFrame, fingerprint: &str) -> ShardInfo {
    let notes = vec![(SHARD_FINGERPRINT.to_owned(), fingerprint.to_owned())];
    ParquetWriter::new(File::create(path).unwrap())
        .with_key_value_metadata(Some(KeyValueMetadata::from_static(notes)))
        .finish(&mut frame)
        .unwrap();
    ShardInfo {
        file: path.file_name().unwrap().to_str().unwrap().to_owned(),
        rows: frame.height() as u64,
        bytes: fs::metadata(path).unwrap().len(),
    }
}

/// Writes the set with these shards.
fn write(folder: &Path, first: DataFrame, second: DataFrame) {
    let declared: Declared = from_toml(FEATURES, "test").unwrap();
    let states = [
        EncoderState::Vocab { size: 2 },
        EncoderState::Stateless,
        EncoderState::Stateless,
        EncoderState::Stateless,
    ];
    let fitted = declared.feature.into_iter().zip(states);
    let features: Vec<FittedFeature> =
        fitted.map(|(feature, state)| FittedFeature { feature, state }).collect();
    let values = VocabularyValues::Text(vec!["de".into(), "fr".into()]);
    let vocabulary = Vocabulary { table: "country".into(), values };
    fs::create_dir_all(folder.join("vocab")).unwrap();
    fs::write(folder.join("vocab/country.json"), serde_json::to_vec(&vocabulary).unwrap()).unwrap();
    let set = EncoderSet {
        features: features.clone(),
        vocabularies: BTreeMap::from([("country".to_owned(), vocabulary)]),
    };
    let shards = vec![
        save(&folder.join("train-00000.parquet"), first, &set.fingerprint()),
        save(&folder.join("train-00001.parquet"), second, &set.fingerprint()),
    ];
    let train = SplitInfo {
        rows: shards.iter().map(|shard| shard.rows).sum(),
        shards,
        requests: 3,
        ..SplitInfo::default()
    };
    let manifest = SampleManifest {
        format: 1,
        name: "small".into(),
        fingerprint: set.fingerprint(),
        features,
        vocabularies: vec!["country".into()],
        tasks: declared.task,
        derived: vec![],
        labels: vec!["click".into(), "p_click".into()],
        negative_sampling_rate: 1.0,
        splits: BTreeMap::from([("train".to_owned(), train)]),
        dropped: BTreeMap::new(),
    };
    fs::write(folder.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    fs::write(folder.join("examples.json"), "[]").unwrap();
}

fn codes(width: usize, data: &[i32]) -> FeatureColumn {
    FeatureColumn::Codes { width, data: data.to_vec() }
}

#[test]
fn a_split_is_read_back() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), frame(&FIRST), frame(&SECOND));
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
    write(home.path(), frame(&FIRST), frame(&SECOND));
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
    write(home.path(), frame(&FIRST), second);
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
    write(home.path(), frame(&FIRST), frame(&SECOND));
    let error = SampleSet::open(home.path()).unwrap().load("tset").unwrap_err().to_string();
    assert_eq!(error, "there is no split 'tset'; the sample set has: train");
}
