//! Samples of logs that are larger than memory, or made by several processes.
//!
//! | step | what it does | what it leaves in the folder of the plan |
//! |---|---|---|
//! | [`plan`] | divides the logs by user, finds what needs all users | `plan.json`, `logs/`, `shared/` |
//! | [`run`] | joins and labels the samples of one part | `shards/<part>/` |
//! | [`finalize`] | fits encoders to all parts, merges them in the order of time, writes the sample set | |
//!
//! Each file appears whole, and a step that is repeated writes the same again. A build within a memory limit is the
//! three in one process. The sample set is that of a build in memory, byte for byte.

mod memory;
mod pieces;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use gatefold_features::Encoder;
use gatefold_schema::{EventLogs, OnBadRow, Recipe, SampleManifest, SampleSource};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub(crate) use memory::parts_within;

use self::pieces::{PartFacts, Stretch};
use crate::{
    BuildOptions, Progress, SamplesError, Silent,
    build::{Outcomes, check_label_names},
    encode::{Encoded, Fitted, Fitting},
    folder::{StagedFolder, unlike_any_other},
    logs::{self, parts::Parts},
    parallel::for_each_index,
    prepared::{Facts, SPLITS},
    set::{SampleSet, write_json},
    shards,
};

/// Version of the layout of a plan's folder.
const FORMAT: u32 = 1;
const PLAN: &str = "plan.json";
const PART: &str = "part.json";
const QUARANTINE: &str = "quarantine";
/// Parts that logs may be divided into: as many files are written at a time.
pub const MOST_PARTS: usize = 256;

/// `plan.json`: logs that are divided into parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    format: u32,
    /// Another one for each plan, by which parts are known to be of it.
    id: u64,
    recipe: Recipe,
    parts: Parts,
}

impl Plan {
    /// Reads the plan in a folder.
    ///
    /// # Errors
    /// No plan, or one of another version.
    pub fn read(folder: &Path) -> Result<Self, SamplesError> {
        let path = folder.join(PLAN);
        if !path.is_file() {
            let text = format!("is no plan: it holds no {PLAN}; make one by gatefold samples plan");
            return Err(SamplesError::source(folder, text));
        }
        let plan: Plan = read_json(&path)?;
        if plan.format != FORMAT {
            let text =
                format!("is of version {}, and this program reads version {FORMAT}; plan again", plan.format);
            return Err(SamplesError::source(&path, text));
        }
        if !(1..=MOST_PARTS).contains(&plan.parts.count) {
            let text = format!("has {} parts, which must be 1 to {MOST_PARTS}; plan again", plan.parts.count);
            return Err(SamplesError::source(&path, text));
        }
        plan.recipe.samples.check()?;
        Ok(plan)
    }

    /// Parts that the logs are divided into.
    pub fn shards(&self) -> usize {
        self.parts.count
    }

    /// Impressions in all of them.
    pub fn rows(&self) -> u64 {
        self.parts.rows
    }

    fn config(&self) -> Result<&EventLogs, SamplesError> {
        of_logs(&self.recipe)
    }
}

fn of_logs(recipe: &Recipe) -> Result<&EventLogs, SamplesError> {
    match recipe.samples.source()? {
        SampleSource::Logs(config) => Ok(config),
        _ => Err(SamplesError::config("only samples from event logs ([samples.logs]) are made in parts")),
    }
}

/// How to plan, beside what the recipe says.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// Parts to divide the logs into, by a hash of the user; 1 to [`MOST_PARTS`].
    pub shards: usize,
    /// Replace an earlier plan.
    pub overwrite: bool,
    /// What becomes of rows that cannot be used; `None` leaves it to the recipe.
    pub on_bad_row: Option<OnBadRow>,
}

/// Divides the logs in `logs` for [`run`] and [`finalize`], into the folder `folder`.
///
/// # Errors
/// Anything wrong with the recipe, the files or the folder; nothing is left behind then.
pub fn plan(
    recipe: &Recipe,
    logs: &Path,
    folder: &Path,
    options: &PlanOptions,
    progress: &mut dyn Progress,
) -> Result<Plan, SamplesError> {
    recipe.samples.check()?;
    let config = of_logs(recipe)?;
    if !(1..=MOST_PARTS).contains(&options.shards) {
        let text = format!("--shards {}: must be from 1 to {MOST_PARTS}", options.shards);
        return Err(SamplesError::config(text));
    }
    let staged = StagedFolder::new(folder, PLAN, options.overwrite)?;
    let policy = options.on_bad_row.unwrap_or(config.on_bad_row);
    let plan = divide(recipe, logs, &staged.path(""), options.shards, policy, progress)?;
    write_json(&staged, PLAN, &plan)?;
    staged.commit()?;
    Ok(plan)
}

fn divide(
    recipe: &Recipe,
    logs: &Path,
    to: &Path,
    count: usize,
    policy: OnBadRow,
    progress: &mut dyn Progress,
) -> Result<Plan, SamplesError> {
    let bad_rows = logs::BadRows { policy, quarantine: to.join(QUARANTINE) };
    let parts = logs::parts::divide((recipe, of_logs(recipe)?), logs, to, count, &bad_rows, progress)?;
    Ok(Plan { format: FORMAT, id: unlike_any_other(), recipe: recipe.clone(), parts })
}

/// Makes the samples of part `shard` (from 0) of the plan in `folder`, which may have been made before, and returns how
/// many rows of them will be written.
///
/// # Errors
/// No such part, and anything wrong with the logs; the part is as it was then.
pub fn run(plan: &Plan, folder: &Path, shard: usize) -> Result<u64, SamplesError> {
    if shard >= plan.parts.count {
        let text = format!("there is no shard {shard}; the plan has {}, counted from 0", plan.parts.count);
        return Err(SamplesError::source(&folder.join(PLAN), text));
    }
    run_part(plan, folder, shard)
}

fn run_part(plan: &Plan, folder: &Path, part: usize) -> Result<u64, SamplesError> {
    let path = part_folder(folder, part);
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(SamplesError::io("create", parent))?;
    let staged = StagedFolder::new(&path, PART, true)?;
    let prepared = plan.parts.prepare((&plan.recipe, plan.config()?), folder, part)?;
    let facts = pieces::write(&plan.recipe, &prepared, &plan.parts.bounds, &staged)?;
    let rows = facts.rows;
    write_json(&staged, PART, &Part { plan: plan.id, shard: part, facts })?;
    match staged.commit() {
        // Another process has made the same part.
        Err(_) if Part::read(plan, folder, part).is_ok() => Ok(rows),
        result => result.map(|()| rows),
    }
}

/// `part.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Part {
    /// [`Plan::id`].
    plan: u64,
    shard: usize,
    facts: PartFacts,
}

impl Part {
    /// What is known of a part that has been made.
    fn read(plan: &Plan, folder: &Path, part: usize) -> Result<PartFacts, SamplesError> {
        let path = part_folder(folder, part).join(PART);
        let found: Part = read_json(&path)?;
        if (found.plan, found.shard) != (plan.id, part) {
            let text = format!("is of another plan or shard; run shard {part}/{} again", plan.parts.count);
            return Err(SamplesError::source(&path, text));
        }
        Ok(found.facts)
    }
}

fn part_folder(folder: &Path, part: usize) -> PathBuf {
    folder.join(format!("shards/{part:04}"))
}

/// Makes the sample set `out` of the parts of the plan in `folder`.
///
/// # Errors
/// Parts that are missing, and as [`crate::build()`].
pub fn finalize(
    folder: &Path,
    out: &Path,
    options: &BuildOptions,
    progress: &mut dyn Progress,
) -> Result<SampleManifest, SamplesError> {
    let plan = Plan::read(folder)?;
    crate::build::check_raw(&options.raw)?;
    let missing: Vec<String> = (0..plan.parts.count)
        .filter(|part| !part_folder(folder, *part).join(PART).is_file())
        .map(|part| format!("{part}/{}", plan.parts.count))
        .collect();
    if !missing.is_empty() {
        let text = format!("these shards have not been made: {}; run them first", missing.join(", "));
        return Err(SamplesError::source(folder, text));
    }
    let staged = StagedFolder::new(out, "manifest.json", options.overwrite)?;
    let quarantine = folder.join(QUARANTINE);
    if quarantine.is_dir() {
        copy_files(&quarantine, &staged.path(QUARANTINE))?;
    }
    finish(&plan, folder, staged, options, progress)
}

/// Builds the sample set in `staged` by way of `count` parts inside that folder.
pub(crate) fn build(
    recipe: &Recipe,
    logs: &Path,
    staged: StagedFolder,
    count: usize,
    options: &BuildOptions,
    progress: &mut dyn Progress,
) -> Result<SampleManifest, SamplesError> {
    let folder = staged.path("parts");
    fs::create_dir_all(&folder).map_err(SamplesError::io("create", &folder))?;
    let policy = options.on_bad_row.unwrap_or(of_logs(recipe)?.on_bad_row);
    let plan = divide(recipe, logs, &folder, count, policy, progress)?;
    progress.start("joining the parts", Some(plan.parts.count as u64));
    let parts = for_each_index(plan.parts.count, progress, |part| run_part(&plan, &folder, part));
    parts.into_iter().try_for_each(|made| made.map(drop))?;
    for made in ["logs", "shared"].map(|name| folder.join(name)).iter().filter(|made| made.is_dir()) {
        fs::remove_dir_all(made).map_err(SamplesError::io("remove", made))?;
    }
    let quarantine = folder.join(QUARANTINE);
    if quarantine.is_dir() {
        let target = staged.path(QUARANTINE);
        fs::rename(&quarantine, &target).map_err(SamplesError::io("move", &quarantine))?;
    }
    finish(&plan, &folder, staged, options, progress)
}

/// Writes the sample set of parts that have all been made. Parts inside `staged` are removed.
fn finish(
    plan: &Plan,
    folder: &Path,
    staged: StagedFolder,
    options: &BuildOptions,
    progress: &mut dyn Progress,
) -> Result<SampleManifest, SamplesError> {
    let recipe = &plan.recipe;
    let parts = (0..plan.parts.count).map(|part| Part::read(plan, folder, part));
    let parts: Vec<PartFacts> = parts.collect::<Result<_, _>>()?;
    let labels = parts.first().map(|part| part.labels.clone()).unwrap_or_default();
    check_label_names(recipe, &labels)?;
    let (mut facts, mut outcomes) = (Facts::default(), Outcomes::default());
    let (mut requests, mut written) = ([0; 3], [0; 3]);
    facts.dropped.clone_from(&plan.parts.dropped);
    for part in &parts {
        facts.add(&part.facts);
        outcomes.merge(&part.outcomes);
        for split in 0..SPLITS.len() {
            requests[split] += part.requests[split];
            written[split] += part.written[split];
        }
    }
    logs::check_users(&recipe.samples.split, &requests)?;
    outcomes.check(recipe)?;

    let stretches = plan.parts.bounds.len() + 1;
    let folders: Vec<PathBuf> = (0..plan.parts.count).map(|part| part_folder(folder, part)).collect();
    let from: Vec<(&Path, &PartFacts)> = folders.iter().map(PathBuf::as_path).zip(&parts).collect();
    let fitted = match &options.encoders {
        Some(encoders) => Fitted { set: encoders.clone().reuse(&recipe.features)?, tables: BTreeMap::new() },
        None => {
            progress.start("fitting encoders", Some(plan.parts.count as u64));
            let mut fitting = Fitting::new(recipe)?;
            for part in &from {
                for stretch in 0..stretches {
                    if let Some(samples) = Stretch::of_part(*part, 0, stretch)? {
                        fitting.add(&samples.prepared(recipe, &labels, 0)?, &mut Silent)?;
                    }
                }
                progress.advance(1);
            }
            fitting.finish()
        }
    };
    let encoder = Encoder::new(fitted.set)?;
    let rows: u64 = parts.iter().map(|part| part.rows).sum();
    progress.start("writing shards", Some(rows));
    let inside = staged.path("parts");
    let mut set = SampleSet::new(recipe, staged, &encoder, &options.raw, &written);
    // What a split without samples looks like; there are some for training.
    let mut empty: Option<Stretch> = None;
    for (split, name) in SPLITS.into_iter().enumerate() {
        let mut waiting: Option<Stretch> = None;
        for stretch in 0..stretches {
            let Some(next) = Stretch::of_all(&from, split, stretch)? else { continue };
            let samples = match waiting.take() {
                Some(waiting) => waiting.followed_by(next)?,
                None => next,
            };
            // The last shard may go on with the next stretch.
            let starts = samples.starts();
            let shards = shards::divide(&starts, 0..samples.requests(), shards::most_rows(recipe));
            let whole = shards.last().map_or(0, |last| last.start);
            if whole > 0 {
                let now = samples.slice(0..whole);
                write(&mut set, name, split, &now, &labels, (recipe, &encoder, &fitted.tables), progress)?;
            }
            waiting = Some(samples.slice(whole..samples.requests()));
        }
        if let Some(rest) = &waiting {
            empty.get_or_insert_with(|| rest.slice(0..0));
        }
        if let Some(rest) = waiting.as_ref().or(empty.as_ref()) {
            write(&mut set, name, split, rest, &labels, (recipe, &encoder, &fitted.tables), progress)?;
        }
    }
    if inside.is_dir() {
        fs::remove_dir_all(&inside).map_err(SamplesError::io("remove", &inside))?;
    }
    set.finish(labels, facts, None)
}

fn write(
    set: &mut SampleSet<'_>,
    name: &str,
    split: usize,
    samples: &Stretch,
    labels: &[String],
    (recipe, encoder, tables): (&Recipe, &Encoder, &BTreeMap<usize, gatefold_features::fit::TargetTable>),
    progress: &mut dyn Progress,
) -> Result<(), SamplesError> {
    let prepared = samples.prepared(recipe, labels, split)?;
    let encoded = Encoded::new(encoder, tables, recipe, &prepared, &mut Silent)?;
    set.add(name, &prepared, 0..samples.requests(), &encoded, progress)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, SamplesError> {
    let file = File::open(path).map_err(SamplesError::io("read", path))?;
    serde_json::from_reader(BufReader::new(file))
        .map_err(|error| SamplesError::source(path, format!("cannot be read ({error}); make it again")))
}

fn copy_files(from: &Path, to: &Path) -> Result<(), SamplesError> {
    fs::create_dir_all(to).map_err(SamplesError::io("create", to))?;
    for entry in fs::read_dir(from).map_err(SamplesError::io("read", from))? {
        let entry = entry.map_err(SamplesError::io("read", from))?;
        let path = entry.path();
        fs::copy(&path, to.join(entry.file_name())).map_err(SamplesError::io("copy", &path))?;
    }
    Ok(())
}
