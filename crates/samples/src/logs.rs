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
//! | training rows as a stream would have brought them | [`feedback`] |
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
pub(crate) mod parts;
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

use std::ops::Range;
use std::path::{Path, PathBuf};

use gatefold_schema::{
    CLICK_LABEL, CONVERSION_LABEL, Correction, EventLogs, Files, Instant, LATE_COLUMN, Maturity, Recipe,
    Side, Span, VIEW_LABEL, WEIGHT_COLUMN,
};
use polars::prelude::*;
use serde::{Deserialize, Serialize};

pub(crate) use {
    bad::BadRows,
    keys::{Ids, KeyError, KeyType},
    users::check as check_users,
};

use self::{
    audit::AuditFile,
    bad::Dropped,
    derived::{Derived, Made},
    events::{EventLog, Events},
    features::{Columns, Plan},
    impressions::{ImpressionLog, Impressions, Keys},
    profiles::{ProfileFile, Table},
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
    prepared::{Facts, Label, Prepared, Written},
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

/// Logs whose rows are in memory: of all users, or of some.
struct Read {
    plan: Plan,
    impressions: Impressions,
    keys: Keys,
    clicks: Events,
    conversions: Option<Events>,
    users: Option<Table>,
    items: Option<Table>,
    audit: Option<AuditFile>,
    served: Option<ServedLog>,
    /// Rows left out, by reason.
    dropped: Dropped,
}

impl Read {
    /// Reads the columns that are planned.
    fn new(
        logs: Logs,
        plan: Plan,
        bad_rows: &BadRows,
        progress: &mut dyn Progress,
    ) -> Result<Self, SamplesError> {
        let mut dropped = Dropped::new();
        progress.start("reading impressions", None);
        let (impressions, mut keys) = logs.impressions.read(&plan.impressions, bad_rows, &mut dropped)?;
        progress.start("reading clicks and conversions", None);
        let clicks = logs.clicks.read(&mut keys, &impressions, &plan.clicks, bad_rows, &mut dropped)?;
        let conversions = match logs.conversions {
            Some(log) => {
                Some(log.read(&mut keys, &impressions, &plan.conversions, bad_rows, &mut dropped)?)
            }
            None => None,
        };
        progress.start("reading profiles", None);
        let mut profiles = |file: Option<ProfileFile>, ids: &Ids, wanted: &[String]| {
            file.map(|file| file.read(ids, wanted, bad_rows, &mut dropped)).transpose()
        };
        let users = profiles(logs.users, &keys.users, &plan.users)?;
        let items = profiles(logs.items, &keys.items, &plan.items)?;
        dropped.insert("impressions logged again".to_owned(), impressions.again);
        let (audit, served) = (logs.audit, logs.served);
        Ok(Self { plan, impressions, keys, clicks, conversions, users, items, audit, served, dropped })
    }

    /// Time and number of rows of each request, in the order of time.
    fn requests(&self) -> Vec<(i64, u32)> {
        let sizes = self.impressions.starts.windows(2).map(|bounds| bounds[1] - bounds[0]);
        self.impressions.request_time.iter().copied().zip(sizes).collect()
    }

    /// Times of the first and of the last row of impressions, clicks and conversions.
    fn span(&self) -> Range<i64> {
        let events = [Some(&self.clicks), self.conversions.as_ref()].into_iter().flatten();
        let times = || events.clone().map(|log| &log.time).chain([&self.impressions.time]).flatten().copied();
        times().min().unwrap_or(i64::MAX)..times().max().unwrap_or(i64::MIN)
    }

    /// The labelled samples. `shared` are the aggregates by keys that users share, where not all users are here.
    fn prepare(
        self,
        recipe: &Recipe,
        config: &EventLogs,
        whole: &Whole,
        shared: Option<Vec<Made>>,
        mut trace: Option<&mut Trace>,
        progress: &mut dyn Progress,
    ) -> Result<Prepared, SamplesError> {
        let Self { plan, mut impressions, keys, clicks, conversions, users, items, audit, served, dropped } =
            self;
        let (conversions, users, items) = (conversions.as_ref(), users.as_ref(), items.as_ref());
        let (mut facts, until) = (Facts { dropped, ..Facts::default() }, whole.span.end);
        progress.start("labelling", None);
        let outcomes = labels::label(config, &impressions, &clicks, conversions)?;
        if let Some(trace) = &mut trace {
            trace.outcomes(&config.labels, &keys, &impressions, (&clicks, conversions), &outcomes)?;
        }
        facts.delays = outcomes.delays(&impressions, &clicks, conversions);
        let arrivals = feedback::arrivals(config, &outcomes, &clicks, conversions);
        facts.events = outcomes.events;
        let mut labels = outcomes.labels;
        // Memory is scarcest while columns are made.
        drop((outcomes.click_of, outcomes.conversion_of));
        if let (Some(file), Some(ids)) = (audit, impressions.audit.take()) {
            labels.extend(file.read(&ids.0, &ids.1)?);
        }
        let clicks = clicks.first_of_each().map_err(SamplesError::step("reading clicks"))?;

        let rows = |request: usize| u64::from(impressions.starts[request + 1] - impressions.starts[request]);
        facts.dropped.extend(whole.cuts.dropped(&impressions.request_time, rows));
        let by_time = whole.cuts.ranges(&impressions.request_time);
        let divided = users::divide(&recipe.samples.split, &keys, &impressions, &by_time);
        if let Some(divided) = &divided {
            facts.dropped.insert("impressions of users of another split".to_owned(), divided.left_out);
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
            shown: None,
            clicks: &clicks,
            conversions,
            items,
        };
        let mut made = derived.columns(&plan.derived, shared)?;
        if let Some(gap) = config.session_gap {
            made.extend(session::columns(&impressions, keys.users.len(), gap)?);
        }
        if config.labels.maturity == Maturity::Elapsed {
            made.push(session::observed(&impressions, &train, until, whole.window));
        }
        if let Some(trace) = &mut trace {
            trace.known(&derived, users, &plan, &made)?;
        }
        let columns = Columns { keys: &keys, impressions: &impressions, users, items, made };
        let mut values = columns.of_features(recipe, config)?;
        let skew = match served {
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
        let sampling = config.sampling.as_ref();
        let sampling = sampling.map(|config| Sampling { config, keys: &keys, impressions: &impressions });
        let young = split::first_young(until, whole.window);
        let young = impressions.request_time.partition_point(|time| *time < young);
        if config.labels.maturity != Maturity::HoldBack {
            let rows = impressions.rows() - impressions.starts[young] as usize;
            facts.events.insert("impressions whose windows had not ended".to_owned(), rows as u64);
        }
        let mut thinned = sampling::thin(
            sampling.as_ref(),
            &train,
            || sampling::negatives(&recipe.tasks, &labels, impressions.rows()),
            &impressions,
            (config.labels.maturity, young),
        );
        labels.extend(thinned.weights);
        facts.dropped.extend(thinned.dropped);
        if let (Some(arrivals), Some(stream)) = (arrivals, &whole.stream) {
            let written = thinned.written.get_or_insert_with(|| vec![Written::AsItIs; impressions.rows()]);
            arrivals.stream(&impressions, &train, stream, written);
            let never = written.iter().filter(|row| **row == Written::Never).count();
            let before = "impressions before the windows of the first had ended";
            facts.dropped.insert(before.to_owned(), never as u64);
            labels.push(Label::new(LATE_COLUMN, vec![0.0; impressions.rows()]));
        }
        let prepared = Prepared {
            splits: by_time,
            request_ids: Some(request_ids),
            starts: impressions.starts,
            times: Some(impressions.request_time),
            values,
            labels,
            written: thinned.written,
            skew,
            facts,
        };
        match divided {
            Some(divided) => prepared.of_requests(&divided.splits),
            None => Ok(prepared),
        }
    }
}

/// What is known only of all users together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Whole {
    /// Times of the first event and of the last, microseconds.
    span: Range<i64>,
    /// Where the splits are in time.
    cuts: Cuts,
    /// How long after a request its labels can change, microseconds.
    window: i64,
    /// The times that training has the stream of, where it has fake negatives.
    stream: Option<Range<i64>>,
}

impl Whole {
    /// Of all requests, given by time and number of rows in the order of time.
    fn new(
        recipe: &Recipe,
        config: &EventLogs,
        requests: &[(i64, u32)],
        span: Range<i64>,
    ) -> Result<Self, SamplesError> {
        let window = split::label_window(&config.labels, config.conversions.is_some());
        let cuts = Cuts::new(requests, &recipe.samples.split, config.labels.maturity, window, span.end)?;
        let first = requests.first().map_or(i64::MAX, |(time, _)| *time);
        let end = cuts.train_end().min(span.end.saturating_add(1));
        let stream = config.late_label().map(|_| feedback::stream(first, window, end)).transpose()?;
        Ok(Self { span, cuts, window, stream })
    }

    /// A window that is longer than the logs is full for no request: what it says of the first and of the last would
    /// be of spans of another length.
    fn check_windows(&self, config: &EventLogs, plan: &Plan) -> Result<(), SamplesError> {
        for aggregate in &config.aggregates {
            let longer = |window: &&Span| {
                plan.derived.contains(&aggregate.column_name(**window))
                    && window.micros() > self.span.end - self.span.start
            };
            if let Some(window) = aggregate.windows.iter().find(longer) {
                return Err(SamplesError::config(format!(
                    "[[samples.logs.aggregate]] '{}': the window of {window} is longer than the logs, which are from {} \
                     to {}; give a shorter one, or longer logs",
                    aggregate.name,
                    Instant::from_micros(self.span.start),
                    Instant::from_micros(self.span.end)
                )));
            }
        }
        Ok(())
    }
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

/// Rows of the impressions that meet the condition.
pub(crate) fn count_impressions(config: &EventLogs, folder: &Path) -> Result<u64, SamplesError> {
    let log = &config.impressions;
    let source = Source::open("impressions", folder, &log.files, log.condition.as_deref())?;
    let count = || -> PolarsResult<u64> {
        let counted = source.frame().select([len().cast(DataType::UInt64).alias("rows")]).collect()?;
        Ok(counted.column("rows")?.u64()?.get(0).unwrap_or(0))
    };
    count().map_err(|error| source.unreadable(error))
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
        let impressions = ImpressionLog::new(
            log("impressions", &config.impressions)?,
            &config.impressions,
            config.audit.is_some(),
        )?;
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

    fn sources(&mut self) -> impl Iterator<Item = &mut Source> {
        let logs = [Some(&mut self.clicks), self.conversions.as_mut()].into_iter().flatten();
        let tables = [self.users.as_mut(), self.items.as_mut()].into_iter().flatten();
        let events = logs.map(|log| &mut log.source).chain(tables.map(|table| &mut table.source));
        events.chain([&mut self.impressions.source])
    }

    /// What messages call the logs, by their keys in `[samples.logs]`.
    fn names(&mut self) -> Vec<(String, PathBuf)> {
        self.sources().map(|source| (source.log.to_owned(), source.name.clone())).collect()
    }

    /// Has messages call the logs by other names.
    fn rename(&mut self, names: &[(String, PathBuf)]) {
        for source in self.sources() {
            if let Some((_, name)) = names.iter().find(|(log, _)| log == source.log) {
                source.name.clone_from(name);
            }
        }
    }
}

/// The column of a log that identifies what its rows are about. A row without a value is a bad row.
struct Key {
    key_type: KeyType,
    /// The column under another name.
    column: Expr,
}

impl Key {
    /// The column `name` as one called `alias`; `what` says whose identifiers it holds.
    fn new(source: &mut Source, name: &str, alias: &str, what: &str) -> Result<Self, SamplesError> {
        let key_type = key_type(source, name, what)?;
        source.require(name);
        source.use_column(name);
        Ok(Self { key_type, column: col(name).strict_cast(key_type.frame_type()).alias(alias) })
    }
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
