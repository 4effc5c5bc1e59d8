//! `samples build`: a source in, a sample set out.
//!
//! The result is a folder of Parquet shards with encoded features, one file a vocabulary, a few
//! requests with raw values as examples, and `manifest.json`, written last. It appears under its
//! name when it is whole.

use std::collections::BTreeMap;
use std::path::Path;

use gatefold_features::Encoder;
use gatefold_schema::{EncoderSet, Loss, OnBadRow, Recipe, SampleManifest, SampleSource};
use serde::{Deserialize, Serialize};

use crate::{
    Progress, SamplesError, adult, census,
    encode::{self, Encoded, Fitted},
    folder::StagedFolder,
    logs, parts,
    prepared::{Prepared, SPLITS},
    set::SampleSet,
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
    /// Bytes that the process may have in memory: logs that need more are divided by their users, written beside the
    /// output and read part by part. `None` reads everything at once.
    pub memory: Option<u64>,
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
    check_raw(&options.raw)?;
    let reused = options.encoders.clone().map(|encoders| encoders.reuse(&recipe.features)).transpose()?;
    let folder = StagedFolder::new(out, "manifest.json", options.overwrite)?;
    if let (SampleSource::Logs(config), Some(limit)) = (recipe.samples.source()?, options.memory)
        && let Some(count) = parts::parts_within(recipe, config, logs, limit)?
    {
        return parts::build(recipe, logs, folder, count, options, progress);
    }
    let prepared = match recipe.samples.source()? {
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
    check_label_names(recipe, &prepared.label_names())?;
    let mut outcomes = Outcomes::default();
    outcomes.add(recipe, &prepared);
    outcomes.check(recipe)?;

    progress.start("fitting encoders", Some(recipe.features.len() as u64));
    let fitted = match reused {
        Some(set) => Fitted { set, tables: BTreeMap::new() },
        None => encode::fit(recipe, &prepared, progress)?,
    };
    // Encoders know all training rows, however they are written.
    let prepared = prepared.written(recipe.samples.late_label())?;
    let encoder = Encoder::new(fitted.set)?;
    progress.start("encoding", Some(recipe.features.len() as u64));
    let encoded = Encoded::new(&encoder, &fitted.tables, recipe, &prepared, progress)?;

    progress.start("writing shards", Some(prepared.row_count() as u64));
    let mut set = SampleSet::new(recipe, folder, &encoder, &options.raw, &prepared.requests_of_splits());
    for (name, requests) in &prepared.splits {
        set.add(name, &prepared, requests.clone(), &encoded, progress)?;
    }
    set.finish(prepared.label_names(), prepared.facts.clone(), prepared.skew.as_ref())
}

pub(crate) fn check_raw(splits: &[String]) -> Result<(), SamplesError> {
    match splits.iter().find(|name| !SPLITS.contains(&name.as_str())) {
        Some(unknown) => {
            Err(SamplesError::config(format!("--raw {unknown}: the splits are {}", SPLITS.join(", "))))
        }
        None => Ok(()),
    }
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

/// Training rows of each label of a task, and those of them that are positive: there must be both outcomes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcomes(BTreeMap<String, [u64; 2]>);

impl Outcomes {
    /// Counts the training rows of `prepared`; those of the label that comes late as they will be written.
    pub(crate) fn add(&mut self, recipe: &Recipe, prepared: &Prepared) {
        let train = prepared.rows(&prepared.splits[0].1);
        let late = recipe.samples.late_label();
        for label in
            prepared.labels.iter().filter(|label| recipe.tasks.iter().any(|task| task.label == label.name))
        {
            let [rows, positives] = self.0.entry(label.name.clone()).or_default();
            match &prepared.written {
                Some(written) if late == Some(&label.name) => {
                    for copy in written[train.clone()].iter().flat_map(|row| row.copies()) {
                        *rows += 1;
                        *positives += u64::from(*copy == Some(1.0));
                    }
                }
                _ => {
                    let train = &label.values[train.clone()];
                    *rows += train.len() as u64;
                    *positives += train.iter().filter(|value| **value == 1.0).count() as u64;
                }
            }
        }
    }

    /// Adds the counts of other rows.
    pub(crate) fn merge(&mut self, other: &Outcomes) {
        for (label, [rows, positives]) in &other.0 {
            let own = self.0.entry(label.clone()).or_default();
            *own = [own[0] + rows, own[1] + positives];
        }
    }

    /// # Errors
    /// A task of which all rows have one outcome.
    pub(crate) fn check(&self, recipe: &Recipe) -> Result<(), SamplesError> {
        for task in recipe.tasks.iter().filter(|task| task.loss == Loss::CrossEntropy) {
            let [rows, positives] = self.0.get(&task.label).copied().unwrap_or_default();
            if positives == 0 || positives == rows {
                return Err(SamplesError::config(format!(
                    "task '{}': {positives} of the {rows} training rows are positive, so nothing can be learned; \
                     check the label '{}' and its window",
                    task.name, task.label
                )));
            }
        }
        Ok(())
    }
}
