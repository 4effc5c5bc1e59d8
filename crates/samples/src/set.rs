//! A sample set while it is written: shards, examples, vocabularies, report, and the manifest last.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;

use gatefold_experiment::data::render_html;
use gatefold_features::Encoder;
use gatefold_schema::{
    EncoderSet, Feature, JsonRequest, LATE_COLUMN, Recipe, SampleManifest, SampleSource, ShardInfo,
    SplitInfo, WEIGHT_COLUMN,
    manifest::{SAMPLES_FORMAT, target_file},
};

use crate::{
    Progress, SamplesError,
    encode::Encoded,
    files::{Form, ParquetFile},
    folder::StagedFolder,
    logs,
    parallel::in_order,
    prepared::{Facts, Prepared, SPLITS},
    raw::RawRows,
    report::{REPORT, Tally},
    shards,
    skew::{SKEW_FILE, Skew},
};

/// A sample set of which a part is written.
pub(crate) struct SampleSet<'a> {
    recipe: &'a Recipe,
    folder: StagedFolder,
    encoder: &'a Encoder,
    tally: Tally<'a>,
    splits: BTreeMap<String, SplitInfo>,
    /// Labels of a split with other values than 0 and 1.
    graded: BTreeSet<(String, String)>,
    /// Splits whose raw rows are written as well.
    raw: BTreeMap<String, Option<ParquetFile>>,
    /// The split that examples are taken from, and the requests of it that they are.
    chosen: (&'static str, Vec<usize>),
    examples: Vec<JsonRequest>,
}

impl<'a> SampleSet<'a> {
    /// An empty set in `folder`, which will have so many `requests` in its splits; the raw rows of the splits `raw` are
    /// written beside the shards.
    pub(crate) fn new(
        recipe: &'a Recipe,
        folder: StagedFolder,
        encoder: &'a Encoder,
        raw: &[String],
        requests: &[usize; 3],
    ) -> Self {
        // Requests of the validation split (of the training split if there is none), evenly spread.
        let chosen = [1, 0, 2].into_iter().find(|split| requests[*split] > 0).unwrap_or(0);
        let wanted = recipe.samples.examples.min(requests[chosen]);
        let places = (0..wanted).map(|index| index * requests[chosen] / wanted).collect();
        Self {
            tally: Tally::new(recipe, encoder.set()),
            splits: SPLITS.map(|name| (name.to_owned(), SplitInfo::default())).into(),
            graded: BTreeSet::new(),
            raw: raw.iter().map(|name| (name.clone(), None)).collect(),
            chosen: (SPLITS[chosen], places),
            examples: Vec::with_capacity(wanted),
            recipe,
            folder,
            encoder,
        }
    }

    /// Writes the next requests of a split. They fill their shards, but for the last ones of the split.
    pub(crate) fn add(
        &mut self,
        name: &str,
        prepared: &Prepared,
        requests: Range<usize>,
        encoded: &Encoded<'_>,
        progress: &mut dyn Progress,
    ) -> Result<(), SamplesError> {
        let info = self.splits.entry(name.to_owned()).or_default();
        let (rows, first) = (prepared.rows(&requests), info.requests as usize);
        if let Some(times) = &prepared.times {
            // Requests are in the order of time.
            let times = &times[requests.clone()];
            info.time_min = info.time_min.or(times.first().copied());
            info.time_max = times.last().copied().or(info.time_max);
        }
        let (late, late_label) = (prepared.late_marks(rows.clone()), self.recipe.samples.late_label());
        for label in prepared.labels.iter().filter(|label| label.name != WEIGHT_COLUMN) {
            let values = &label.values[rows.clone()];
            if !values.iter().all(|value| *value == 0.0 || *value == 1.0) {
                self.graded.insert((name.to_owned(), label.name.clone()));
            }
            let is_of_late = label.name == LATE_COLUMN || late_label == Some(&label.name);
            let counts = |row: usize| is_of_late || late.is_none_or(|late| late[row] == 0.0);
            let positives = (0..values.len()).filter(|row| values[*row] == 1.0 && counts(*row)).count();
            *info.positives.entry(label.name.clone()).or_default() += positives as u64;
        }
        let (folder, tally, done) = (&self.folder, &mut self.tally, info.shards.len());
        let shards = shards::divide(&prepared.starts, requests.clone(), shards::most_rows(self.recipe));
        let file = |index: usize| format!("{name}-{:05}.parquet", done + index);
        let write = |index: usize| {
            let number = (first + shards[index].start - requests.start) as u32;
            shards::write(prepared, encoded, &shards[index], number, &folder.path(&file(index)))
        };
        in_order(shards.len(), write, |index, written| {
            tally.add(name, prepared, shards[index].clone(), &written.request_of, &written.frame)?;
            let rows = written.frame.height() as u64;
            info.shards.push(ShardInfo { file: file(index), rows, bytes: written.bytes });
            progress.advance(rows);
            Ok(())
        })?;
        info.rows += rows.len() as u64;
        info.requests += requests.len() as u64;
        self.add_examples(name, prepared, first, &requests)?;
        let Some(file) = self.raw.get_mut(name) else { return Ok(()) };
        let frame =
            prepared.raw_rows(self.recipe, rows).map_err(SamplesError::step("collecting raw rows"))?;
        if file.is_none() {
            let path = self.folder.path(&raw_file(name));
            *file = Some(ParquetFile::create(&path, frame.schema(), Form::OUTPUT)?);
        }
        file.as_mut().map_or(Ok(()), |file| file.add(frame))
    }

    /// The examples among `requests`, the first of which is the request `first` of the split `name`.
    fn add_examples(
        &mut self,
        name: &str,
        prepared: &Prepared,
        first: usize,
        requests: &Range<usize>,
    ) -> Result<(), SamplesError> {
        if name != self.chosen.0 {
            return Ok(());
        }
        let set = self.encoder.set();
        let features: Vec<Feature> = set.sent().cloned().collect();
        for place in self.chosen.1.iter().filter(|place| (first..first + requests.len()).contains(*place)) {
            let request = requests.start + place - first;
            let frame = prepared.raw_rows(self.recipe, prepared.rows(&(request..request + 1)));
            let rows = frame.and_then(|frame| RawRows::new(frame, &features));
            let rows = rows.map_err(SamplesError::step("choosing examples"))?;
            let batch = rows.batch().map_err(SamplesError::step("choosing examples"))?;
            self.examples.extend(batch.to_json(set, &rows.request_ids()));
        }
        Ok(())
    }

    /// Completes the set, whose label columns are `labels`, and puts it in its place.
    pub(crate) fn finish(
        mut self,
        labels: Vec<String>,
        facts: Facts,
        skew: Option<&Skew>,
    ) -> Result<SampleManifest, SamplesError> {
        for mut file in std::mem::take(&mut self.raw).into_values().flatten() {
            file.finish()?;
        }
        for (split, label) in &self.graded {
            self.splits.entry(split.clone()).or_default().positives.remove(label);
        }
        let (folder, set) = (self.folder, self.encoder.set());
        write_encoders(&folder, set)?;
        write_json(&folder, "examples.json", &self.examples)?;
        if let Some(skew) = skew {
            write_json(&folder, SKEW_FILE, skew)?;
        }
        let report = self.tally.finish(&facts, set, self.encoder.fingerprint());
        write_json(&folder, REPORT, &report)?;
        let page = folder.path("report.html");
        fs::write(&page, render_html(&report)).map_err(SamplesError::io("write", &page))?;
        let recipe = self.recipe;
        let manifest = SampleManifest {
            format: SAMPLES_FORMAT,
            name: recipe.name.clone(),
            fingerprint: self.encoder.fingerprint().to_owned(),
            features: set.features.clone(),
            vocabularies: set.vocabularies.keys().cloned().collect(),
            tasks: recipe.tasks.clone(),
            derived: recipe.derived.clone(),
            negative_sampling_rate: match recipe.samples.source()? {
                SampleSource::Logs(config) => logs::negative_sampling_rate(config),
                _ => 1.0,
            },
            late_label: recipe.samples.late_label().map(str::to_owned),
            sample_weight: labels.iter().find(|label| *label == WEIGHT_COLUMN).cloned(),
            labels,
            splits: self.splits,
            dropped: facts.dropped,
            events: facts.events,
        };
        write_json(&folder, "manifest.json", &manifest)?;
        folder.commit()?;
        Ok(manifest)
    }
}

fn raw_file(split: &str) -> String {
    format!("raw-{split}.parquet")
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

/// Writes a file of a folder as JSON.
pub(crate) fn write_json<T: serde::Serialize>(
    folder: &StagedFolder,
    name: &str,
    value: &T,
) -> Result<(), SamplesError> {
    let path = folder.path(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(SamplesError::io("create", parent))?;
    }
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| SamplesError::source(&path, format!("cannot be written as JSON: {error}")))?;
    fs::write(&path, text).map_err(SamplesError::io("write", &path))
}
