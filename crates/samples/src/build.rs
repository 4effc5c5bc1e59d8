//! `samples build`: a source in, a sample set out.
//!
//! The result is a folder of Parquet shards with encoded features, one file a vocabulary, a few
//! requests with raw values as examples, and `manifest.json`, written last. It appears under its
//! name when it is whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::{
    Progress, SamplesError, adult, census,
    encode::{self, Encoded, Fitted},
    folder::StagedFolder,
    logs,
    prepared::{Prepared, SPLITS},
    raw::RawRows,
    report::{REPORT, Tally},
    shards::Writer,
    skew::SKEW_FILE,
};
use gatefold_experiment::data::render_html;
use gatefold_features::Encoder;
use gatefold_schema::{
    EncoderSet, Feature, JsonRequest, Loss, OnBadRow, Recipe, SampleManifest, SampleSource,
    manifest::{SAMPLES_FORMAT, target_file},
};

/// How to build, beside what the recipe says.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Splits whose raw rows are written as `raw-<split>.parquet` as well.
    pub raw: Vec<String>,
    /// Replace an earlier sample set.
    pub overwrite: bool,
    /// Encoders to use as they are: nothing is fitted, and the target encodings of training rows are those
    /// of all rows. They should come from other, earlier data than the training split.
    pub encoders: Option<EncoderSet>,
    /// What becomes of rows that cannot be used; `None` leaves it to the recipe.
    pub on_bad_row: Option<OnBadRow>,
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
    recipe.samples.check()?;
    if let Some(unknown) = options.raw.iter().find(|name| !SPLITS.contains(&name.as_str())) {
        return Err(SamplesError::config(format!("--raw {unknown}: the splits are {}", SPLITS.join(", "))));
    }
    let reused = options.encoders.clone().map(|encoders| encoders.reuse(&recipe.features)).transpose()?;
    let folder = StagedFolder::new(out, "manifest.json", options.overwrite)?;
    let mut prepared = match recipe.samples.source()? {
        SampleSource::Logs(config) => {
            let policy = options.on_bad_row.unwrap_or(config.on_bad_row);
            let bad_rows = logs::BadRows { policy, quarantine: folder.path("quarantine") };
            logs::prepare(recipe, config, logs, &bad_rows, None, progress)?
        }
        SampleSource::Adult(files) => {
            adult::prepare(recipe, &logs.join(&files.train), &logs.join(&files.test), progress)?
        }
        SampleSource::Census(files) => census::prepare(recipe, &logs.join(&files.file), progress)?,
    };
    check_labels(recipe, &prepared)?;

    progress.start("fitting encoders", Some(recipe.features.len() as u64));
    let fitted = match reused {
        Some(set) => Fitted { set, tables: BTreeMap::new() },
        None => encode::fit(recipe, &prepared, progress)?,
    };
    // Encoders know all training rows, whichever of them are written.
    if let Some(kept) = prepared.kept.take() {
        prepared = prepared.only(&kept)?;
    }
    let encoder = Encoder::new(fitted.set)?;
    progress.start("encoding", Some(recipe.features.len() as u64));
    let encoded = Encoded::new(&encoder, &fitted.tables, recipe, &prepared, progress)?;

    progress.start("writing shards", Some(prepared.row_count() as u64));
    let mut writer = Writer::new(recipe, &prepared, &encoded, &folder, progress);
    let mut tally = Tally::new(recipe, encoder.set());
    let mut splits = BTreeMap::new();
    for (name, requests) in &prepared.splits {
        splits.insert((*name).to_owned(), writer.split(name, requests.clone(), &mut tally)?);
    }
    for name in &options.raw {
        writer.raw(name)?;
    }
    let set = encoder.set();
    write_encoders(&folder, set)?;
    let examples = examples(recipe, &prepared, set)?;
    write_json(&folder, "examples.json", &examples)?;
    if let Some(skew) = &prepared.skew {
        write_json(&folder, SKEW_FILE, skew)?;
    }
    let report = tally.finish(&prepared, set, encoder.fingerprint());
    write_json(&folder, REPORT, &report)?;
    let page = folder.path("report.html");
    fs::write(&page, render_html(&report)).map_err(SamplesError::io("write", &page))?;
    let manifest = SampleManifest {
        format: SAMPLES_FORMAT,
        name: recipe.name.clone(),
        fingerprint: encoder.fingerprint().to_owned(),
        features: set.features.clone(),
        vocabularies: set.vocabularies.keys().cloned().collect(),
        tasks: recipe.tasks.clone(),
        derived: recipe.derived.clone(),
        labels: prepared.label_names(),
        negative_sampling_rate: prepared.negative_sampling_rate,
        sample_weight: prepared.sample_weight(),
        splits,
        dropped: prepared.dropped.clone(),
        events: prepared.events.clone(),
    };
    write_json(&folder, "manifest.json", &manifest)?;
    folder.commit()?;
    Ok(manifest)
}

/// Every label that the tasks name must be among `labels`, and no feature may be called like one.
pub(crate) fn check_label_names(recipe: &Recipe, labels: &[String]) -> Result<(), SamplesError> {
    let known = || labels.join(", ");
    if let Some(label) = labels.iter().find(|label| recipe.features.iter().any(|f| f.name == **label)) {
        return Err(SamplesError::config(format!(
            "feature '{label}' has the name of a label column; give the feature another name and column = \"{label}\""
        )));
    }
    for task in &recipe.tasks {
        let named = [Some(&task.label), task.potential_label.as_ref(), task.oracle.as_ref()];
        if let Some(unknown) = named.into_iter().flatten().find(|label| !labels.contains(label)) {
            return Err(SamplesError::config(format!(
                "task '{}': there is no label column '{unknown}'; the source has: {}",
                task.name,
                known()
            )));
        }
    }
    if let Some(output) = recipe.derived.iter().find(|output| !labels.contains(&output.label)) {
        return Err(SamplesError::config(format!(
            "derived output '{}': there is no label column '{}'; the source has: {}",
            output.name,
            output.label,
            known()
        )));
    }
    Ok(())
}

/// The labels must exist, and the training split must have both outcomes.
fn check_labels(recipe: &Recipe, prepared: &Prepared) -> Result<(), SamplesError> {
    check_label_names(recipe, &prepared.label_names())?;
    for task in &recipe.tasks {
        if task.loss != Loss::CrossEntropy {
            continue;
        }
        let Some(label) = prepared.labels.iter().find(|label| label.name == task.label) else { continue };
        let train = &label.values[prepared.rows(&prepared.splits[0].1)];
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
    Ok(())
}

/// Requests of the validation split (of the training split if there is none), evenly spread.
fn examples(
    recipe: &Recipe,
    prepared: &Prepared,
    set: &EncoderSet,
) -> Result<Vec<JsonRequest>, SamplesError> {
    let filled = prepared.splits.iter().filter(|(_, requests)| !requests.is_empty());
    let chosen =
        filled.min_by_key(|(name, _)| ["valid", "train", "test"].iter().position(|other| other == name));
    let Some((_, requests)) = chosen else { return Ok(Vec::new()) };
    let features: Vec<Feature> = set.sent().cloned().collect();
    let wanted = recipe.samples.examples.min(requests.len());
    let mut examples = Vec::with_capacity(wanted);
    for index in 0..wanted {
        let request = requests.start + index * requests.len() / wanted;
        let frame = prepared.raw_rows(recipe, prepared.rows(&(request..request + 1)));
        let rows = frame.and_then(|frame| RawRows::new(frame, &features));
        let rows = rows.map_err(SamplesError::step("choosing examples"))?;
        let batch = rows.batch().map_err(SamplesError::step("choosing examples"))?;
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
