//! `samples build --dry-run`: what a build would read, do and write. Of Parquet files the metadata is read, of no
//! file a row.

use std::fs::File;
use std::path::{Path, PathBuf};

use gatefold_schema::{EventLogs, Feature, Files, Recipe, SampleSource};
use polars::prelude::*;
use serde::Serialize;

use crate::{FeatureSource, SamplesError, logs, shards, validate::validate};

/// What a build would read, do and write.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outlook {
    /// The files.
    pub files: Vec<FileOutlook>,
    /// The steps, in words.
    pub steps: Vec<String>,
    /// Where the features come from.
    pub features: Vec<FeatureSource>,
    /// Rows of samples, at most: those of the impressions, of which repeated ones and those that a condition leaves
    /// out are not written. `None` where a file does not say how many it has.
    pub rows: Option<u64>,
    /// Bytes of the shards before they are compressed, at most.
    pub bytes: Option<u64>,
}

/// A file that would be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileOutlook {
    /// Which log it is of, such as `impressions`.
    pub log: String,
    /// Its path.
    pub path: PathBuf,
    /// Its size; `None` of one that is not on this machine.
    pub bytes: Option<u64>,
    /// Its rows, where its metadata says so.
    pub rows: Option<u64>,
}

/// Finds out what a build of `recipe` from the files in `folder` would read, do and write.
///
/// # Errors
/// As [`validate`].
pub fn outlook(recipe: &Recipe, folder: &Path) -> Result<Outlook, Vec<SamplesError>> {
    let features = validate(recipe, Some(folder))?;
    let files = files(recipe, folder).map_err(|error| vec![error])?;
    let impressions = files.iter().filter(|file| file.log == IMPRESSIONS);
    let rows = impressions.map(|file| file.rows).sum::<Option<u64>>().filter(|rows| *rows > 0);
    Ok(Outlook {
        bytes: rows.map(|rows| rows * shards::row_bytes(recipe)),
        rows,
        steps: steps(recipe).map_err(|error| vec![error])?,
        features,
        files,
    })
}

const IMPRESSIONS: &str = "impressions";

fn files(recipe: &Recipe, folder: &Path) -> Result<Vec<FileOutlook>, SamplesError> {
    let config = match recipe.samples.source()? {
        SampleSource::Logs(config) => config,
        SampleSource::Adult(files) => {
            let names = [("train", &files.train), ("test", &files.test)];
            return names.into_iter().map(|(log, name)| file(log, folder.join(name))).collect();
        }
        SampleSource::Census(files) => return Ok(vec![file("all", folder.join(&files.file))?]),
    };
    let logs: [(&str, Option<&Files>); 7] = [
        (IMPRESSIONS, Some(&config.impressions.files)),
        ("clicks", Some(&config.clicks.files)),
        ("conversions", config.conversions.as_ref().map(|log| &log.files)),
        ("users", config.users.as_ref().map(|table| &table.files)),
        ("items", config.items.as_ref().map(|table| &table.files)),
        ("audit", config.audit.as_ref()),
        ("served", config.served.as_ref().map(|log| &log.files)),
    ];
    let mut found = Vec::new();
    for (log, files) in logs {
        for path in files.map_or_else(|| Ok(Vec::new()), |files| logs::paths(folder, files))? {
            found.push(file(log, path)?);
        }
    }
    Ok(found)
}

/// A file, or the files of a folder of partitions as one.
fn file(log: &str, path: PathBuf) -> Result<FileOutlook, SamplesError> {
    let is_remote = path.to_string_lossy().contains("://");
    let (mut bytes, mut rows) = (None, None);
    if !is_remote {
        let parts = if path.is_dir() { inside(&path)? } else { vec![path.clone()] };
        bytes = parts.iter().map(|part| std::fs::metadata(part).ok().map(|data| data.len())).sum();
        rows = parts.iter().map(|part| parquet_rows(part)).sum();
    }
    Ok(FileOutlook { log: log.to_owned(), path, bytes, rows })
}

/// The files in a folder and the folders inside.
fn inside(folder: &Path) -> Result<Vec<PathBuf>, SamplesError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(SamplesError::io("read", folder))? {
        let path = entry.map_err(SamplesError::io("read", folder))?.path();
        if path.is_dir() { found.extend(inside(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

/// The rows that a Parquet file says it has.
fn parquet_rows(path: &Path) -> Option<u64> {
    let is_parquet = path.extension().is_some_and(|ending| ending == "parquet" || ending == "pq");
    let file = is_parquet.then(|| File::open(path).ok())??;
    ParquetReader::new(file).num_rows().ok().map(|rows| rows as u64)
}

/// What would be done, in words.
fn steps(recipe: &Recipe) -> Result<Vec<String>, SamplesError> {
    let mut steps = Vec::new();
    if let SampleSource::Logs(config) = recipe.samples.source()? {
        steps.extend(log_steps(config));
    } else {
        steps.push("read the files".to_owned());
    }
    let split = &recipe.samples.split;
    steps.push(match (split.valid_from, split.test_from) {
        (Some(valid), Some(test)) => format!("split: valid from {valid}, test from {test}"),
        _ => {
            format!("split: the latest {} of the rows for test, {} before for valid", split.test, split.valid)
        }
    });
    let fitted = recipe.features.iter().filter(|feature| fits(feature)).count();
    steps.push(format!("fit {fitted} encoders on the training split"));
    steps.push(format!(
        "encode {} features, write shards of at most {} rows, vocabularies, {} examples, report and manifest",
        recipe.features.len(),
        shards::most_rows(recipe),
        recipe.samples.examples
    ));
    Ok(steps)
}

/// Whether an encoder learns from the training split.
fn fits(feature: &Feature) -> bool {
    use gatefold_schema::Encoder;
    matches!(
        feature.encoder,
        Encoder::Vocab { .. }
            | Encoder::Quantile { .. }
            | Encoder::Standardize
            | Encoder::MinMax
            | Encoder::Target { .. }
    )
}

fn log_steps(config: &EventLogs) -> Vec<String> {
    let mut steps = Vec::new();
    let condition = config.impressions.condition.as_ref();
    let condition = condition.map_or_else(String::new, |text| format!(" where {text}"));
    steps.push(format!("read impressions{condition}, each item of a request once"));
    steps.push(format!("give clicks at most {} after their impression", config.labels.click_window));
    if config.conversions.is_some() {
        steps.push(format!("give conversions at most {} after their click", config.labels.conversion_window));
    }
    if let Some(label) = config.late_label() {
        steps.push(format!(
            "train on each row with {label} 0, and again with {label} 1 where it came in time"
        ));
    }
    for (name, table) in [("users", &config.users), ("items", &config.items)] {
        let Some(table) = table else { continue };
        let row =
            if table.is_static { "the one row of each" } else { "the last row strictly before the request" };
        let ttl = table.ttl.map_or_else(String::new, |ttl| format!(", at most {ttl} old"));
        steps.push(format!("join {name}: {row}{ttl}"));
    }
    for aggregate in &config.aggregates {
        let windows: Vec<String> = aggregate.windows.iter().map(ToString::to_string).collect();
        steps.push(format!(
            "aggregate {}: {} by {} over {}",
            aggregate.name,
            aggregate.of.name(),
            aggregate.by.join(", "),
            windows.join(", ")
        ));
    }
    for sequence in &config.sequences {
        steps.push(format!("list {}: the last {} {}", sequence.name, sequence.last, sequence.of.name()));
    }
    steps
}
