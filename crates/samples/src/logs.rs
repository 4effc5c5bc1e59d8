//! Event logs as a source: reads and checks the files, joins what was known before each request, labels what
//! came of it.
//!
//! | step | module |
//! |---|---|
//! | names to files, files to rows | [`names`], [`scan`], [`source`], [`times`], [`keys`] |
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
//!
//! What is known is strictly before the request; only [`labels`] looks at what happened after it.

mod audit;
mod bad;
mod derived;
mod events;
mod features;
mod impressions;
mod keys;
mod labels;
mod names;
mod profiles;
mod sampling;
mod scan;
mod served;
mod session;
mod source;
mod split;
mod times;
pub(crate) mod trace;
mod users;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use gatefold_schema::{
    CLICK_LABEL, CONVERSION_LABEL, Correction, EventLogs, Files, Instant, Maturity, Recipe, Side, Span,
    VIEW_LABEL, WEIGHT_COLUMN,
};
use polars::prelude::*;

pub(crate) use {bad::BadRows, keys::KeyError};

use self::{
    audit::AuditFile,
    bad::Dropped,
    derived::Derived,
    events::EventLog,
    features::Columns,
    impressions::ImpressionLog,
    keys::{Ids, KeyType},
    profiles::ProfileFile,
    sampling::Sampling,
    served::ServedLog,
    source::Source,
    split::Cuts,
    times::check_zones,
    trace::Trace,
};
use crate::{
    Progress, SamplesError,
    columns::missing_column,
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
    mut trace: Option<&mut Trace>,
    progress: &mut dyn Progress,
) -> Result<Prepared, SamplesError> {
    let mut logs = Logs::open(recipe, config, folder)?;
    let plan = features::plan(recipe, config, &mut logs)?;
    let mut dropped = Dropped::new();

    progress.start("reading impressions", None);
    let audited = logs.audit.is_some();
    let (mut impressions, mut keys) =
        logs.impressions.read(&plan.impressions, audited, bad_rows, &mut dropped)?;
    progress.start("reading clicks and conversions", None);
    let clicks = logs.clicks.read(&mut keys, &impressions, &plan.clicks, bad_rows, &mut dropped)?;
    let conversions = match logs.conversions {
        Some(log) => Some(log.read(&mut keys, &impressions, &plan.conversions, bad_rows, &mut dropped)?),
        None => None,
    };
    progress.start("reading profiles", None);
    let mut profiles = |file: Option<ProfileFile>, ids: &Ids, wanted: &[String]| {
        file.map(|file| file.read(ids, wanted, bad_rows, &mut dropped)).transpose()
    };
    let users = profiles(logs.users, &keys.users, &plan.users)?;
    let items = profiles(logs.items, &keys.items, &plan.items)?;

    progress.start("labelling", None);
    let outcomes = labels::label(config, &impressions, &clicks, conversions.as_ref())?;
    if let Some(trace) = &mut trace {
        trace.outcomes(&config.labels, &keys, &impressions, (&clicks, conversions.as_ref()), &outcomes)?;
    }
    let delays = outcomes.delays(&impressions, &clicks, conversions.as_ref());
    let last_event =
        [Some(&clicks), conversions.as_ref()].into_iter().flatten().filter_map(|log| log.last_time());
    let until = last_event.chain(impressions.time.iter().max().copied()).max().unwrap_or(i64::MIN);
    let first_event =
        [Some(&clicks), conversions.as_ref()].into_iter().flatten().filter_map(|log| log.first_time());
    let from = first_event.chain(impressions.time.iter().min().copied()).min().unwrap_or(i64::MAX);
    check_windows(config, &plan.derived, from..until)?;
    let mut labels = outcomes.labels;
    if let (Some(file), Some(ids)) = (logs.audit, impressions.audit.take()) {
        labels.extend(file.read(&ids.0, &ids.1)?);
    }

    let clicks = clicks.first_of_each().map_err(SamplesError::step("reading clicks"))?;

    let rows = |request: usize| impressions.starts[request + 1] - impressions.starts[request];
    let requests: Vec<(i64, u32)> =
        impressions.request_time.iter().enumerate().map(|(request, time)| (*time, rows(request))).collect();
    let window = split::label_window(&config.labels, conversions.is_some());
    let cuts = Cuts::new(&requests, &recipe.samples.split, config.labels.maturity, window, until)?;
    dropped.insert("impressions logged again".to_owned(), impressions.again);
    dropped.extend(cuts.dropped(&impressions.request_time, |request| u64::from(rows(request))));
    let by_time = cuts.ranges(&impressions.request_time);
    let divided = users::divide(&recipe.samples.split, &keys, &impressions, &by_time)?;
    if let Some(divided) = &divided {
        dropped.insert("impressions of users of another split".to_owned(), divided.left_out);
    }
    let train = match &divided {
        Some(divided) => divided.splits[0].1.clone(),
        None => (by_time[0].1.start as u32..by_time[0].1.end as u32).collect(),
    };

    progress.start("joining what was known", None);
    let derived = Derived {
        config,
        keys: &keys,
        impressions: &impressions,
        clicks: &clicks,
        conversions: conversions.as_ref(),
        items: items.as_ref(),
    };
    let mut made = derived.columns(&plan.derived)?;
    if let Some(gap) = config.session_gap {
        made.extend(session::columns(&impressions, keys.users.len(), gap)?);
    }
    if config.labels.maturity == Maturity::Elapsed {
        made.push(session::observed(&impressions, &train, until, window));
    }
    if let Some(trace) = &mut trace {
        trace.known(&derived, users.as_ref(), &plan, &made)?;
    }
    let columns = Columns {
        keys: &keys,
        impressions: &impressions,
        users: users.as_ref(),
        items: items.as_ref(),
        made,
    };
    let mut values = columns.of_features(recipe, config)?;
    let skew = match logs.served {
        Some(log) => {
            progress.start("comparing what was served", None);
            let served = log.read(&keys, &impressions)?;
            Some(served.apply(recipe, &mut values, &impressions, &keys)?)
        }
        None => None,
    };

    let places = IdxCa::from_slice(PlSmallStr::EMPTY, &impressions.request);
    let request_ids =
        keys.requests.values("").take(&places).map_err(SamplesError::step("numbering requests"))?;
    let mut events = outcomes.events;
    let sampling = config.sampling.as_ref();
    let sampling = sampling.map(|config| Sampling { config, keys: &keys, impressions: &impressions });
    let young = split::first_young(until, window);
    let young = impressions.request_time.partition_point(|time| *time < young);
    if config.labels.maturity != Maturity::HoldBack {
        let rows = impressions.rows() - impressions.starts[young] as usize;
        events.insert("impressions whose windows had not ended".to_owned(), rows as u64);
    }
    let thinned = sampling::thin(
        sampling.as_ref(),
        &train,
        || sampling::negatives(&recipe.tasks, &labels, impressions.rows()),
        &impressions,
        (config.labels.maturity, young),
    );
    labels.extend(thinned.weights);
    dropped.extend(thinned.dropped);
    let prepared = Prepared {
        splits: by_time,
        request_ids: Some(request_ids),
        starts: impressions.starts,
        times: Some(impressions.request_time),
        values,
        labels,
        dropped,
        events,
        delays,
        kept: thinned.kept,
        negative_sampling_rate: thinned.negative_sampling_rate,
        skew,
    };
    match divided {
        Some(divided) => prepared.of_requests(&divided.splits),
        None => Ok(prepared),
    }
}

/// A window that is longer than the logs is full for no request: what it says of the first and of the last would be of
/// spans of another length.
fn check_windows(config: &EventLogs, used: &BTreeSet<String>, logs: Range<i64>) -> Result<(), SamplesError> {
    for aggregate in &config.aggregates {
        let longer = |window: &&Span| {
            used.contains(&aggregate.column_name(**window)) && window.micros() > logs.end - logs.start
        };
        if let Some(window) = aggregate.windows.iter().find(longer) {
            return Err(SamplesError::config(format!(
                "[[samples.logs.aggregate]] '{}': the window of {window} is longer than the logs, which are from {} to \
                 {}; give a shorter one, or longer logs",
                aggregate.name,
                Instant::from_micros(logs.start),
                Instant::from_micros(logs.end)
            )));
        }
    }
    Ok(())
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
    names
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

/// All logs, opened: their columns are known, their rows are not.
struct Logs {
    impressions: ImpressionLog,
    clicks: EventLog,
    conversions: Option<EventLog>,
    users: Option<ProfileFile>,
    items: Option<ProfileFile>,
    audit: Option<AuditFile>,
    served: Option<ServedLog>,
}

impl Logs {
    fn open(recipe: &Recipe, config: &EventLogs, folder: &Path) -> Result<Self, SamplesError> {
        let log = |name, log: &gatefold_schema::Log| {
            Source::open(name, folder, &log.files, log.condition.as_deref())
        };
        let impressions = ImpressionLog::new(log("impressions", &config.impressions)?, &config.impressions)?;
        let clicks = log("clicks", &config.clicks)?;
        let clicks = EventLog::clicks(clicks, &config.clicks, config.labels.click_by, &impressions)?;
        let conversions = match &config.conversions {
            Some(own) => Some(EventLog::conversions(log("conversions", own)?, own, &impressions)?),
            None => None,
        };
        let profiles = |own: &Option<gatefold_schema::Profiles>, side: Side| match own {
            Some(own) => {
                let name = if side == Side::Item { "items" } else { "users" };
                let source = Source::open(name, folder, &own.files, own.condition.as_deref())?;
                ProfileFile::new(source, own, side, &impressions).map(Some)
            }
            None => Ok(None),
        };
        let users = profiles(&config.users, Side::User)?;
        let items = profiles(&config.items, Side::Item)?;
        let audit = match &config.audit {
            Some(files) => {
                Some(AuditFile::new(Source::open("audit", folder, files, None)?, config, &impressions)?)
            }
            None => None,
        };
        let served = match &config.served {
            Some(own) => {
                let source = Source::open("served", folder, &own.files, own.condition.as_deref())?;
                Some(ServedLog::new(source, own, recipe, &impressions)?)
            }
            None => None,
        };
        let mut times = vec![(impressions.source.name.as_path(), &impressions.time)];
        let events = [Some(&clicks), conversions.as_ref()].into_iter().flatten();
        times.extend(events.map(|log| (log.source.name.as_path(), &log.time)));
        for file in [&users, &items].into_iter().flatten() {
            times.extend(file.times().map(|time| (file.source.name.as_path(), time)));
        }
        check_zones(&times)?;
        Ok(Self { impressions, clicks, conversions, users, items, audit, served })
    }
}

/// The column of a log that holds identifiers, as a column called `alias`; `what` says whose. A row without one is
/// a bad row.
fn key(source: &mut Source, name: &str, alias: &str, what: &str) -> Result<(KeyType, Expr), SamplesError> {
    let key_type = key_type(source, name, what)?;
    source.require(name);
    source.use_column(name);
    Ok((key_type, col(name).strict_cast(key_type.frame_type()).alias(alias)))
}

fn key_type(source: &Source, name: &str, what: &str) -> Result<KeyType, SamplesError> {
    let Some(found) = source.schema.get(name) else {
        return Err(missing_column(&source.name, &source.schema, name, what));
    };
    KeyType::of(found).ok_or_else(|| {
        SamplesError::source(
            &source.name,
            format!("column '{name}' has type {found}; a key must hold integers or strings"),
        )
    })
}

/// As [`key`], of a log whose keys are matched with those of the impressions, and which may have rows without one.
fn matching_key(
    source: &mut Source,
    name: &str,
    alias: &str,
    impressions: (&ImpressionLog, &str),
) -> Result<Expr, SamplesError> {
    let (log, other_name) = impressions;
    let other = key_type(&log.source, other_name, "the key that other logs are matched by")?;
    // A key that looks like a number may be a text in the impressions, and the other way round.
    source.parse_as(name, other.frame_type());
    let own = key_type(source, name, "the key that its rows are matched by")?;
    if own.matches(other) {
        source.use_column(name);
        return Ok(col(name).strict_cast(own.frame_type()).alias(alias));
    }
    Err(SamplesError::source(
        &source.name,
        format!(
            "column '{name}' holds {}, but '{other_name}' in the impressions {}; use one type",
            own.name(),
            other.name()
        ),
    ))
}

/// What went wrong while keys of a log were numbered.
fn key_error(log: &Path, error: KeyError) -> SamplesError {
    match error {
        KeyError::Frame(source) => SamplesError::Reading { path: log.to_owned(), source },
        KeyError::TooMany(error) => SamplesError::source(log, error.to_string()),
    }
}
