//! Sample sets of a few rows, written as Parquet by hand.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

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
pub(crate) type Row = (u32, i32, &'static [i32], i32, f32, f32, f32);

/// The rows as they stand in a shard.
pub(crate) fn frame(rows: &[Row]) -> DataFrame {
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

/// Writes a shard that names these encoders.
pub(crate) fn save(path: &Path, mut frame: DataFrame, fingerprint: &str) -> ShardInfo {
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

/// The file of a shard.
pub(crate) fn shard_path(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("train-{index:05}.parquet"))
}

/// Writes a sample set whose training split has these shards.
pub(crate) fn write(folder: &Path, shards: Vec<DataFrame>) {
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
        ..EncoderSet::default()
    };
    let shards: Vec<ShardInfo> = shards
        .into_iter()
        .enumerate()
        .map(|(index, shard)| save(&shard_path(folder, index), shard, &set.fingerprint()))
        .collect();
    let train =
        SplitInfo { rows: shards.iter().map(|shard| shard.rows).sum(), shards, ..SplitInfo::default() };
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
        sample_weight: None,
        late_label: None,
        events: BTreeMap::new(),
        splits: BTreeMap::from([("train".to_owned(), train)]),
        dropped: BTreeMap::new(),
    };
    fs::write(folder.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    fs::write(folder.join("examples.json"), "[]").unwrap();
}
