//! `samples build`: a source in, a sample set out.
//!
//! The result is a folder of Parquet shards with encoded features, one file a vocabulary, a few
//! requests with raw values as examples, and `manifest.json`, written last. It appears under its
//! name when it is whole.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use gatefold_features::{Encoder, FeatureColumn, RawBatch};
use gatefold_schema::{
    EncoderSet, Feature, JsonRequest, Recipe, SampleManifest, SampleSource, ShardInfo, SplitInfo,
    manifest::{SAMPLES_FORMAT, SHARD_FINGERPRINT, target_file},
};
use polars::prelude::*;

use crate::{
    Progress, SamplesError, adult, census, columns,
    encode::{Rows, labels_of},
    event_logs,
    files::write_parquet,
    folder::StagedFolder,
    prepared::{Prepared, REQUEST_ID, SPLITS, TIME_COLUMN},
    raw::RawRows,
};

/// How to build, beside what the recipe says.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Splits whose raw rows are written as `raw-<split>.parquet` as well.
    pub raw: Vec<String>,
    /// Replace an earlier sample set.
    pub overwrite: bool,
    /// Run the joins by the streaming engine, which needs less memory and more time; unless given,
    /// where the source files are larger than 1 GiB. The samples are the same either way.
    pub streaming: Option<bool>,
    /// Encoders to use as they are: nothing is fitted, and the target encodings of training rows are those
    /// of all rows. They should come from other, earlier data than the training split.
    pub encoders: Option<EncoderSet>,
}

/// Builds the sample set of `recipe` from the files in `logs` into the folder `out`.
///
/// # Errors
/// Anything wrong with the recipe, the files or the output folder; nothing is left behind then.
pub fn build(
    recipe: &Recipe,
    logs: &Path,
    out: &Path,
    options: &BuildOptions,
    progress: &mut dyn Progress,
) -> Result<SampleManifest, SamplesError> {
    check(recipe, options)?;
    let reused = options.encoders.clone().map(|encoders| encoders.reuse(&recipe.features)).transpose()?;
    let folder = StagedFolder::new(out, "manifest.json", options.overwrite)?;
    let prepared = match &recipe.samples.source {
        SampleSource::EventLogs(config) => {
            event_logs::prepare(recipe, config, logs, options.streaming, progress)?
        }
        SampleSource::Adult { train, test } => {
            adult::prepare(recipe, &logs.join(train), &logs.join(test), progress)?
        }
        SampleSource::Census { file } => census::prepare(recipe, &logs.join(file), progress)?,
    };
    check_labels(recipe, &prepared)?;

    let rows = Rows::new(recipe, &prepared.frame, prepared.splits[0].1.clone())?;
    let (set, tables) = match reused {
        Some(encoders) => (encoders, BTreeMap::new()),
        None => rows.fit(progress)?,
    };
    let encoder = Encoder::new(set)?;
    let encoded = rows.encode(&encoder, &tables, progress)?;

    let rows = prepared.frame.height() as u64;
    progress.start("writing shards", Some(rows));
    let mut writer = Writer {
        recipe,
        prepared: &prepared,
        encoded: &encoded,
        fingerprint: encoder.fingerprint(),
        folder: &folder,
        progress,
    };
    let mut splits = BTreeMap::new();
    for (name, range) in &prepared.splits {
        splits.insert((*name).to_owned(), writer.split(name, range.clone())?);
    }
    for name in &options.raw {
        writer.raw(name)?;
    }
    let set = encoder.set();
    write_encoders(&folder, set)?;
    let examples = examples(recipe, &prepared, set)?;
    write_json(&folder, "examples.json", &examples)?;
    let manifest = SampleManifest {
        format: SAMPLES_FORMAT,
        name: recipe.name.clone(),
        fingerprint: encoder.fingerprint().to_owned(),
        features: set.features.clone(),
        vocabularies: set.vocabularies.keys().cloned().collect(),
        tasks: recipe.tasks.clone(),
        derived: recipe.derived.clone(),
        labels: prepared.labels.clone(),
        negative_sampling_rate: 1.0,
        splits,
        dropped: prepared.dropped.clone(),
    };
    write_json(&folder, "manifest.json", &manifest)?;
    folder.commit()?;
    Ok(manifest)
}

/// What can be said before a file is read.
fn check(recipe: &Recipe, options: &BuildOptions) -> Result<(), SamplesError> {
    let split = &recipe.samples.split;
    let share = |name: &str, value: f64| {
        if (0.0..1.0).contains(&value) {
            return Ok(());
        }
        Err(SamplesError::config(format!(
            "[samples.split]: {name} must be at least 0 and below 1, found {value}"
        )))
    };
    share("valid", split.valid)?;
    share("test", split.test)?;
    share("valid + test", split.valid + split.test)?;
    if recipe.samples.rows_per_shard == 0 {
        return Err(SamplesError::config("[samples]: rows_per_shard must be at least 1"));
    }
    if let Some(unknown) = options.raw.iter().find(|name| !SPLITS.contains(&name.as_str())) {
        return Err(SamplesError::config(format!("--raw {unknown}: the splits are {}", SPLITS.join(", "))));
    }
    Ok(())
}

/// Every label that the tasks name must exist, and the training split must have both outcomes.
fn check_labels(recipe: &Recipe, prepared: &Prepared) -> Result<(), SamplesError> {
    let known = || prepared.labels.join(", ");
    if let Some(label) =
        prepared.labels.iter().find(|label| recipe.features.iter().any(|f| f.name == **label))
    {
        return Err(SamplesError::config(format!(
            "feature '{label}' has the name of a label column; give the feature another name and column = \"{label}\""
        )));
    }
    for task in &recipe.tasks {
        let named = [Some(&task.label), task.potential_label.as_ref(), task.oracle.as_ref()];
        if let Some(unknown) = named.into_iter().flatten().find(|label| !prepared.labels.contains(label)) {
            return Err(SamplesError::config(format!(
                "task '{}': there is no label column '{unknown}'; the source has: {}",
                task.name,
                known()
            )));
        }
        let label = labels_of(&prepared.frame, &task.label)?;
        let train = &label[prepared.splits[0].1.clone()];
        let positives = train.iter().filter(|value| **value == 1.0).count();
        if positives == 0 || positives == train.len() {
            return Err(SamplesError::config(format!(
                "task '{}': {positives} of the {} training rows are positive, so nothing can be learned; \
                 check the label '{}' and its window",
                task.name,
                train.len(),
                task.label
            )));
        }
    }
    if let Some(output) = recipe.derived.iter().find(|output| !prepared.labels.contains(&output.label)) {
        return Err(SamplesError::config(format!(
            "derived output '{}': there is no label column '{}'; the source has: {}",
            output.name,
            output.label,
            known()
        )));
    }
    Ok(())
}

/// Writes the rows of splits.
struct Writer<'a> {
    recipe: &'a Recipe,
    prepared: &'a Prepared,
    encoded: &'a [FeatureColumn],
    /// Of the encoders.
    fingerprint: &'a str,
    folder: &'a StagedFolder,
    progress: &'a mut dyn Progress,
}

impl Writer<'_> {
    /// Writes the shards of one split.
    fn split(&mut self, name: &str, rows: Range<usize>) -> Result<SplitInfo, SamplesError> {
        let part = self.prepared.frame.slice(rows.start as i64, rows.len());
        let request = dense_requests(&part)?;
        let mut info = SplitInfo {
            rows: rows.len() as u64,
            requests: request.last().map_or(0, |last| u64::from(*last) + 1),
            ..SplitInfo::default()
        };
        if let Ok(times) = part.column(TIME_COLUMN) {
            let times = times.i64().map_err(SamplesError::step("reading times"))?;
            (info.time_min, info.time_max) = (times.min(), times.max());
        }
        for label in &self.prepared.labels {
            let values = labels_of(&part, label)?;
            if values.iter().all(|value| *value == 0.0 || *value == 1.0) {
                let positives = values.iter().filter(|value| **value == 1.0).count();
                info.positives.insert(label.clone(), positives as u64);
            }
        }
        let mut start = 0;
        while start < rows.len() {
            let end = shard_end(&request, start, self.recipe.samples.rows_per_shard);
            let file = format!("{name}-{:05}.parquet", info.shards.len());
            let mut frame = self
                .shard(&part, &request, rows.start, start..end)
                .map_err(SamplesError::step("making a shard"))?;
            let notes = [(SHARD_FINGERPRINT, self.fingerprint)];
            let bytes = write_parquet(&mut frame, &self.folder.path(&file), &notes)?;
            info.shards.push(ShardInfo { file, rows: (end - start) as u64, bytes });
            self.progress.advance((end - start) as u64);
            start = end;
        }
        Ok(info)
    }

    /// One shard: rows `rows` of the split `part`, which begins at row `offset` of all.
    fn shard(
        &self,
        part: &DataFrame,
        request: &[u32],
        offset: usize,
        rows: Range<usize>,
    ) -> PolarsResult<DataFrame> {
        let part = part.slice(rows.start as i64, rows.len());
        let mut all =
            vec![Column::new("request".into(), &request[rows.clone()]), part.column(REQUEST_ID)?.clone()];
        all.extend(part.column(TIME_COLUMN).ok().cloned());
        for (feature, column) in self.recipe.features.iter().zip(self.encoded) {
            all.push(columns::encoded_column(&feature.name, column, offset + rows.start, offset + rows.end));
        }
        for label in &self.prepared.labels {
            all.push(part.column(label)?.clone());
        }
        DataFrame::new(rows.len(), all)
    }

    /// Writes the raw rows of one split, in the order of its shards.
    fn raw(&mut self, name: &str) -> Result<(), SamplesError> {
        let found = self.prepared.splits.iter().find(|(split, _)| *split == name);
        let Some((_, rows)) = found else { return Ok(()) };
        let mut part = self.prepared.frame.slice(rows.start as i64, rows.len());
        write_parquet(&mut part, &self.folder.path(&format!("raw-{name}.parquet")), &[])?;
        Ok(())
    }
}

/// Position of each row's request among the requests of the split.
fn dense_requests(part: &DataFrame) -> Result<Vec<u32>, SamplesError> {
    let requests = part.column(REQUEST_ID).map_err(SamplesError::step("numbering requests"))?;
    let series = requests.as_materialized_series().rechunk();
    let column = columns::raw_column(&series).map_err(SamplesError::step("numbering requests"))?;
    let mut request = Vec::with_capacity(part.height());
    for row in 0..part.height() {
        let before = request.last().copied();
        request.push(match before {
            None => 0,
            Some(before) => before + u32::from(!column.same(row - 1, row)),
        });
    }
    Ok(request)
}

/// Where the shard that begins at row `start` ends: after `most` rows, or earlier so that no
/// request is torn; a request longer than a shard makes a shard of its own.
fn shard_end(request: &[u32], start: usize, most: usize) -> usize {
    let end = start + most;
    if end >= request.len() {
        return request.len();
    }
    let whole = request.partition_point(|other| *other < request[end]);
    if whole > start { whole } else { request.partition_point(|other| *other <= request[end]) }
}

/// Requests of the validation split (of the training split if there is none), evenly spread.
fn examples(
    recipe: &Recipe,
    prepared: &Prepared,
    set: &EncoderSet,
) -> Result<Vec<JsonRequest>, SamplesError> {
    let filled = prepared.splits.iter().filter(|(_, rows)| !rows.is_empty());
    let chosen =
        filled.min_by_key(|(name, _)| ["valid", "train", "test"].iter().position(|other| other == name));
    let Some((_, rows)) = chosen else { return Ok(Vec::new()) };
    let part = prepared.frame.slice(rows.start as i64, rows.len());
    let request = dense_requests(&part)?;
    let requests = request.last().map_or(0, |last| *last as usize + 1);
    let wanted = recipe.samples.examples.min(requests);
    let mut examples = Vec::with_capacity(wanted);
    for index in 0..wanted {
        let number = (index * requests / wanted) as u32;
        let start = request.partition_point(|other| *other < number);
        let end = request.partition_point(|other| *other <= number);
        let features: Vec<Feature> = set.sent().cloned().collect();
        let rows = RawRows::new(part.slice(start as i64, end - start), &features)
            .map_err(SamplesError::step("choosing examples"))?;
        let batch: RawBatch<'_> = rows.batch().map_err(SamplesError::step("choosing examples"))?;
        examples.extend(batch.to_json(set, &rows.request_ids()));
    }
    Ok(examples)
}

/// Writes one file a vocabulary, and one a target encoding.
fn write_encoders(folder: &StagedFolder, set: &EncoderSet) -> Result<(), SamplesError> {
    for (table, vocabulary) in &set.vocabularies {
        write_json(folder, &format!("vocab/{table}.json"), vocabulary)?;
    }
    for (feature, means) in &set.targets {
        write_json(folder, &target_file(feature), means)?;
    }
    Ok(())
}

fn write_json<T: serde::Serialize>(folder: &StagedFolder, name: &str, value: &T) -> Result<(), SamplesError> {
    let path = folder.path(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(SamplesError::io("create", parent))?;
    }
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| SamplesError::source(&path, format!("cannot be written as JSON: {error}")))?;
    fs::write(&path, text).map_err(SamplesError::io("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_end_between_requests() {
        let request = [0, 0, 1, 1, 1, 2, 3, 3];
        let ends = |most: usize| {
            let mut ends = vec![0];
            while ends[ends.len() - 1] < request.len() {
                ends.push(shard_end(&request, ends[ends.len() - 1], most));
            }
            ends
        };
        assert_eq!(ends(3), [0, 2, 5, 8]);
        assert_eq!(ends(1), [0, 2, 5, 6, 8]);
        assert_eq!(ends(5), [0, 5, 8]);
        assert_eq!(ends(100), [0, 8]);
    }
}
