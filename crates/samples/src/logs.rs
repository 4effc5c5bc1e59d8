//! Event logs as a source: reads and checks the files, joins what was known before each request, labels what
//! came of it.
//!
//! | step | module |
//! |---|---|
//! | names to files, files to rows | [`names`], [`scan`], [`source`], [`times`], [`keys`], [`open`] |
//! | rows that cannot be used | [`bad`] |
//! | impressions, each item once a request, in order | [`impressions`] |
//! | clicks and conversions | [`events`], [`labels`] |
//! | profiles as of the request | [`profiles`] |
//! | aggregates and sequences of the events before the request | [`derived`] |
//! | sessions, and how long outcomes could be observed | [`session`] |
//! | which column a feature reads | [`features`] |
//! | features as they were served | [`served`] |
//! | train, valid and test | [`split`], [`users`] |
//! | which training rows are written, and what they count | [`sampling`] |
//! | training rows as a stream would have brought them | [`feedback`] |
//! | all of these, for logs in memory | [`read`], [`whole`] |
//! | logs of which not all rows are in memory at one time | [`parts`] |
//!
//! What is known is strictly before the request; only [`labels`] looks at what happened after it.

mod audit;
mod bad;
mod derived;
mod events;
mod features;
mod feedback;
mod impressions;
mod keys;
mod labels;
mod names;
mod open;
pub(crate) mod parts;
mod profiles;
mod read;
mod sampling;
mod scan;
mod served;
mod session;
mod source;
mod split;
mod times;
pub(crate) mod trace;
mod users;
mod whole;

use std::path::{Path, PathBuf};

use gatefold_schema::{
    CLICK_LABEL, CONVERSION_LABEL, Correction, EventLogs, Files, LATE_COLUMN, Log, Maturity, Recipe,
    VIEW_LABEL, WEIGHT_COLUMN,
};
use polars::prelude::*;

pub(crate) use {
    bad::BadRows,
    keys::{Ids, KeyError, KeyType},
    users::check as check_users,
};

use self::{bad::Dropped, open::Logs, read::Read, source::Source, trace::Trace, whole::Whole};
use crate::{
    Progress, SamplesError,
    prepared::Prepared,
    validate::{FeatureSource, described},
};

/// Reads the logs, whose names are relative to `folder`, and returns the labelled samples. Tells `trace` what
/// became of the impression that it follows.
pub(crate) fn prepare(
    recipe: &Recipe,
    config: &EventLogs,
    folder: &Path,
    bad_rows: &BadRows,
    trace: Option<&mut Trace>,
    progress: &mut dyn Progress,
) -> Result<Prepared, SamplesError> {
    let mut logs = Logs::open(recipe, config, folder)?;
    let plan = features::plan(recipe, config, &mut logs)?;
    let name = logs.impressions.source.name.clone();
    let read = Read::new(logs, plan, bad_rows, progress)?;
    if read.impressions.rows() == 0 {
        return Err(no_impressions(&name, &read.dropped));
    }
    let whole = Whole::new(recipe, config, &read.requests(), read.span())?;
    whole.check_windows(config, &read.plan)?;
    let prepared = read.prepare(recipe, config, &whole, None, trace, progress)?;
    users::check(&recipe.samples.split, &prepared.requests_of_splits())?;
    Ok(prepared)
}

fn no_impressions(log: &Path, dropped: &Dropped) -> SamplesError {
    let bad: Vec<String> = dropped
        .iter()
        .filter_map(|(reason, count)| Some(format!("{}: {count}", reason.strip_prefix("impressions: ")?)))
        .collect();
    let left_out = if bad.is_empty() { String::new() } else { format!(" ({})", bad.join(", ")) };
    SamplesError::source(log, format!("there are no impressions{left_out}; give a log that has some"))
}

/// Share of the negatives among the training rows that is kept and not made up for by weights.
pub(crate) fn negative_sampling_rate(config: &EventLogs) -> f64 {
    let sampling = config.sampling.as_ref().filter(|sampling| sampling.correct == Correction::Rate);
    sampling.map_or(1.0, |sampling| sampling.negatives)
}

/// The labels that samples of these logs have.
pub(crate) fn label_names(config: &EventLogs) -> Vec<String> {
    let mut names = vec![CLICK_LABEL.to_owned()];
    if config.conversions.is_some() {
        names.push(CONVERSION_LABEL.to_owned());
        names.extend(config.labels.view_window.map(|_| VIEW_LABEL.to_owned()));
    }
    names.extend(config.value_labels.iter().map(|label| label.name.clone()));
    names.extend(config.audit_columns.iter().cloned());
    let by_weight = config.sampling.as_ref().is_some_and(|sampling| sampling.correct == Correction::Weight);
    if by_weight || matches!(config.labels.maturity, Maturity::Weight(_)) {
        names.push(WEIGHT_COLUMN.to_owned());
    }
    names.extend(config.late_label().map(|_| LATE_COLUMN.to_owned()));
    names
}

/// Rows of the logs that are divided by user, of those rows that meet the condition, by the logs' keys in
/// `[samples.logs]`.
pub(crate) fn count_rows(
    config: &EventLogs,
    folder: &Path,
) -> Result<Vec<(&'static str, u64)>, SamplesError> {
    let log = |name, log: &Log| (name, log.files.clone(), log.condition.clone());
    let mut logs = vec![log("impressions", &config.impressions), log("clicks", &config.clicks)];
    logs.extend(config.conversions.as_ref().map(|own| log("conversions", own)));
    logs.extend(config.users.as_ref().map(|own| ("users", own.files.clone(), own.condition.clone())));
    let rows = |(name, files, condition): (&'static str, Files, Option<String>)| {
        let source = Source::open(name, folder, &files, condition.as_deref())?;
        let count = || -> PolarsResult<u64> {
            let counted = source.frame().select([len().cast(DataType::UInt64).alias("rows")]).collect()?;
            Ok(counted.column("rows")?.u64()?.get(0).unwrap_or(0))
        };
        Ok((name, count().map_err(|error| source.unreadable(error))?))
    };
    logs.into_iter().map(rows).collect()
}

/// The files that names stand for, as a build would read them.
pub(crate) fn paths(folder: &Path, files: &Files) -> Result<Vec<PathBuf>, SamplesError> {
    let found = names::find(folder, files)?;
    Ok(found.paths.iter().map(|path| PathBuf::from(path.as_str())).collect())
}

/// The first `rows` rows of a file or a folder of files; `None` of what is of no known format.
pub(crate) fn peek(folder: &Path, files: &Files, rows: IdxSize) -> Result<Option<DataFrame>, SamplesError> {
    if names::find(folder, files).is_err() {
        return Ok(None);
    }
    let source = Source::open("log", folder, files, None)?;
    let columns: Vec<Expr> = source.schema.iter_names().map(|name| col(name.clone())).collect();
    let rows = source.frame().select(columns).limit(rows).collect();
    rows.map(Some).map_err(|error| SamplesError::Reading { path: source.name.clone(), source: error })
}

/// The columns that are made of events.
pub(crate) fn made_names(config: &EventLogs) -> Vec<String> {
    derived::names(config)
}

/// Where the features come from, or everything that is wrong with their columns. No row is read.
pub(crate) fn sources(
    recipe: &Recipe,
    config: &EventLogs,
    folder: &Path,
) -> Result<Vec<FeatureSource>, Vec<SamplesError>> {
    let mut logs = Logs::open(recipe, config, folder).map_err(|error| vec![error])?;
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for feature in &recipe.features {
        if feature.is_crossed() {
            found.push(described(feature, None));
            continue;
        }
        match features::resolve(feature, config, &mut logs) {
            Ok((origin, value_type)) => {
                let own = described(feature, Some(origin.name().to_owned()));
                let value_type = value_type.map_or(own.value_type.clone(), |found| found.to_string());
                found.push(FeatureSource { value_type, ..own });
            }
            Err(error) => errors.push(error),
        }
    }
    // What aggregates and sequences read is looked for only where every feature has been found.
    if errors.is_empty() {
        errors.extend(features::plan(recipe, config, &mut logs).err());
    }
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}
