//! Columns made of the events strictly before each request: aggregates over windows, and sequences.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::iter::{Copied, StepBy};
use std::slice;
use std::sync::Arc;

use gatefold_history::{
    NONE, Timeline,
    intern::{Interner, pair},
    last::last,
    windows::{self, aggregate, counts},
};
use gatefold_schema::{
    Aggregate, BY_ITEM, BY_USER, EventKind, EventLogs, Level, Maturity, OBSERVED, SESSION, SESSION_POSITION,
    SequenceConfig, Statistic,
};
use polars::prelude::*;

use super::{
    events::Events,
    impressions::{Impressions, Keys},
    keys::{Ids, KeyType},
    labels::many,
    profiles::Table,
};
use crate::{
    SamplesError, Silent,
    parallel::for_each_index,
    values::{self, Listed, Place, Values},
};

/// What columns are made of.
pub(crate) struct Derived<'a> {
    pub(crate) config: &'a EventLogs,
    pub(crate) keys: &'a Keys,
    pub(crate) impressions: &'a Impressions,
    /// What was shown, where `impressions` are rows to make columns for and no more.
    pub(crate) shown: Option<&'a Events>,
    pub(crate) clicks: &'a Events,
    pub(crate) conversions: Option<&'a Events>,
    pub(crate) items: Option<&'a Table>,
}

/// A column that was made.
pub(crate) struct Made {
    pub(crate) name: String,
    pub(crate) level: Level,
    pub(crate) values: Values,
}

/// The names of the columns that the configuration makes.
pub(crate) fn names(config: &EventLogs) -> Vec<String> {
    let of_aggregate = |aggregate: &Aggregate| {
        aggregate.windows.iter().map(|window| aggregate.column_name(*window)).collect::<Vec<_>>()
    };
    let of_sequence =
        |sequence: &SequenceConfig| std::iter::once(sequence.name.clone()).chain(sequence.gaps.clone());
    let sequences = config.sequences.iter().flat_map(of_sequence);
    let sessions = config.session_gap.map(|_| [SESSION, SESSION_POSITION].map(str::to_owned));
    let observed = (config.labels.maturity == Maturity::Elapsed).then(|| OBSERVED.to_owned());
    let of_requests = sessions.into_iter().flatten().chain(observed);
    config.aggregates.iter().flat_map(of_aggregate).chain(sequences).chain(of_requests).collect()
}

/// The aggregates of which a column is wanted.
pub(super) fn needed<'a>(config: &'a EventLogs, wanted: &BTreeSet<String>) -> Vec<&'a Aggregate> {
    let is_needed = |aggregate: &&Aggregate| {
        aggregate.windows.iter().any(|window| wanted.contains(&aggregate.column_name(*window)))
    };
    config.aggregates.iter().filter(is_needed).collect()
}

/// The keys of some aggregates, each once.
pub(super) fn keys<'a>(aggregates: &[&'a Aggregate]) -> Vec<&'a [String]> {
    let mut keys: Vec<&[String]> = Vec::new();
    for aggregate in aggregates {
        if !keys.contains(&aggregate.by.as_slice()) {
            keys.push(&aggregate.by);
        }
    }
    keys
}

/// Whether a key is of several users.
pub(super) fn is_shared(by: &[String]) -> bool {
    !by.iter().any(|part| part == BY_USER)
}

impl Derived<'_> {
    /// Makes the columns of which some are in `wanted`, but for those in `shared`, which is there where the events of
    /// other users are not.
    pub(crate) fn columns(
        &self,
        wanted: &BTreeSet<String>,
        shared: Option<Vec<Made>>,
    ) -> Result<Vec<Made>, SamplesError> {
        let aggregates = needed(self.config, wanted);
        let own = keys(&aggregates).into_iter().filter(|by| shared.is_none() || !is_shared(by));
        let keys: Vec<&[String]> = own.collect();
        let listed = |sequence: &&SequenceConfig| {
            wanted.contains(&sequence.name)
                || sequence.gaps.as_ref().is_some_and(|gaps| wanted.contains(gaps))
        };
        let sequences: Vec<&SequenceConfig> = self.config.sequences.iter().filter(listed).collect();
        let queries = for_each_index(keys.len(), &mut Silent, |index| self.queries(keys[index]));
        let queries = queries.into_iter().collect::<Result<Vec<_>, _>>()?;
        let of_key = |(by, queries)| {
            let own = aggregates.iter().filter(move |aggregate| aggregate.by == by);
            own.map(move |aggregate| (aggregate, queries))
        };
        let asked: Vec<_> = keys.into_iter().zip(&queries).flat_map(of_key).collect();
        let parts =
            for_each_index(asked.len() + sequences.len(), &mut Silent, |index| match asked.get(index) {
                Some((aggregate, queries)) => self.aggregate(aggregate, queries),
                None => self.sequence(sequences[index - asked.len()]),
            });
        let mut made = shared.unwrap_or_default();
        for part in parts {
            made.extend(part?);
        }
        Ok(made)
    }

    /// All aggregates by one key: what they are asked about is put in order once.
    pub(super) fn aggregates(&self, by: &[String], all: &[&Aggregate]) -> Result<Vec<Made>, SamplesError> {
        let queries = self.queries(by)?;
        let mut made = Vec::new();
        for aggregate in all.iter().filter(|aggregate| aggregate.by == by) {
            made.extend(self.aggregate(aggregate, &queries)?);
        }
        Ok(made)
    }

    fn aggregate(&self, config: &Aggregate, queries: &Queries) -> Result<Vec<Made>, SamplesError> {
        let spans: Vec<Option<i64>> = config.windows.iter().map(|window| Some(window.micros())).collect();
        let view = queries.order.view();
        let events = self.events(config.of, &config.by, queries)?;
        let events = events.view();
        let columns: Vec<Series> = match config.what {
            Statistic::Count => {
                // One window at a time: the counts of all would be the largest thing in memory.
                let of_window =
                    |span: &Option<i64>| narrow(counts(view, &[events], &[*span]).iter().copied());
                spans.iter().map(of_window).collect()
            }
            Statistic::Rate => {
                let shown = self.events(EventKind::Impressions, &config.by, queries)?;
                let shown = counts(view, &[shown.view()], &spans);
                let (weight, prior) = (config.weight.unwrap_or(1.0), config.prior.unwrap_or(0.0));
                let happened = counts(view, &[events], &spans);
                let rate = |(events, shown): (&u32, &u32)| {
                    (f64::from(*events) + prior * weight) / (f64::from(*shown) + weight)
                };
                let rates: Vec<f64> = happened.iter().zip(&shown).map(rate).collect();
                split(&rates, spans.len(), numbers)
            }
            Statistic::Distinct => {
                let codes = self.codes(config, self.log(config.of))?;
                let values = aggregate(view, events, &spans, windows::Aggregate::Distinct(&codes));
                split(&values, spans.len(), |column| narrow(column.map(|value| value as u32)))
            }
            Statistic::Sum | Statistic::Mean | Statistic::Min | Statistic::Max => {
                let values = self.numbers(config, self.log(config.of))?;
                let how = match config.what {
                    Statistic::Sum => windows::Aggregate::Sum(&values),
                    Statistic::Mean => windows::Aggregate::Mean(&values),
                    Statistic::Min => windows::Aggregate::Min(&values),
                    _ => windows::Aggregate::Max(&values),
                };
                split(&aggregate(view, events, &spans, how), spans.len(), numbers)
            }
        };
        let place = if queries.level == Level::Request { Place::Request } else { Place::Row };
        let named = config.windows.iter().zip(columns).map(|(window, dictionary)| Made {
            name: config.column_name(*window),
            level: queries.level,
            values: Values::Scalars { dictionary, place: place.clone() },
        });
        Ok(named.collect())
    }

    fn sequence(&self, config: &SequenceConfig) -> Result<Vec<Made>, SamplesError> {
        let (impressions, log) = (self.impressions, self.log(config.of));
        let users = self.keys.users.len();
        let queries = Timeline::new(&impressions.user, &impressions.request_time, users).map_err(many)?;
        // Events at one time stand in the order of their items.
        let rank = self.keys.items.ranks();
        let ties: Vec<u32> = log.item.iter().map(|item| rank[*item as usize]).collect();
        let order = Timeline::with_ties(&log.user, log.time, &ties, users).map_err(many)?;
        let window = config.window.map(gatefold_schema::Span::micros);
        let tails = Arc::new(last(queries.view(), order.view(), config.last as u32, window));
        let order = Arc::new(order);
        let listed = if config.column == BY_ITEM {
            Listed::Value { dictionary: self.keys.items.values(""), place: Arc::new(log.item.to_vec()) }
        } else {
            let (table, column) = self.item_column(&config.column)?;
            let place = table.versions(log.item, log.time, self.keys.items.len()).map_err(many)?;
            Listed::Value { dictionary: column.as_materialized_series().clone(), place: Arc::new(place) }
        };
        let made = |name: &str, listed: Listed| Made {
            name: name.to_owned(),
            level: Level::Request,
            values: Values::Events(values::Events { order: order.clone(), tails: tails.clone(), listed }),
        };
        let mut columns = vec![made(&config.name, listed)];
        if let Some(gaps) = &config.gaps {
            columns.push(made(gaps, Listed::Gap(Arc::new(impressions.request_time.clone()))));
        }
        Ok(columns)
    }

    /// The events of a log, for impressions those of the samples.
    pub(super) fn log(&self, of: EventKind) -> Log<'_> {
        match (of, self.shown) {
            (EventKind::Impressions, Some(shown)) => Log::of(shown),
            (EventKind::Impressions, None) => Log {
                user: Cow::Owned(self.impressions.row_users()),
                item: &self.impressions.item,
                time: &self.impressions.time,
                events: None,
            },
            (EventKind::Clicks, _) => Log::of(self.clicks),
            (EventKind::Conversions, _) => self.conversions.map_or_else(Log::empty, Log::of),
        }
    }

    /// The instants that a key is asked about: requests where it is the user alone, else rows.
    fn queries(&self, by: &[String]) -> Result<Queries, SamplesError> {
        let impressions = self.impressions;
        if by == [BY_USER] {
            let users = self.keys.users.len();
            let order = Timeline::new(&impressions.user, &impressions.request_time, users).map_err(many)?;
            let (level, chain) = (Level::Request, Chain::default());
            return Ok(Queries { level, order, chain, are_impressions: false });
        }
        let times = impressions.row_request_times();
        let users = if by.iter().any(|part| part == BY_USER) { impressions.row_users() } else { Vec::new() };
        let parts = self.parts(by, &users, &impressions.item, &times)?;
        let mut chain = Chain { levels: vec![Interner::default(); by.len().saturating_sub(1)] };
        let codes = chain.intern(&parts)?;
        let keys = self.key_count(by, &chain)?;
        let order = Timeline::new(&codes, &times, keys).map_err(many)?;
        let are_impressions = self.shown.is_none() && matches!(times, Cow::Borrowed(_));
        Ok(Queries { level: Level::Candidate, order, chain, are_impressions })
    }

    /// The events of a log in the order of the key and time.
    fn events<'q>(
        &self,
        of: EventKind,
        by: &[String],
        queries: &'q Queries,
    ) -> Result<Cow<'q, Timeline>, SamplesError> {
        if of == EventKind::Impressions && queries.are_impressions {
            return Ok(Cow::Borrowed(&queries.order));
        }
        let log = self.log(of);
        let parts = self.parts(by, &log.user, log.item, log.time)?;
        let codes = queries.chain.find(&parts);
        let keys = self.key_count(by, &queries.chain)?;
        Timeline::new(&codes, log.time, keys).map(Cow::Owned).map_err(many)
    }

    /// The codes of each part of a key, of the users and items of some rows at some times.
    pub(super) fn parts<'a>(
        &self,
        by: &[String],
        users: &'a [u32],
        items: &'a [u32],
        times: &[i64],
    ) -> Result<Vec<Cow<'a, [u32]>>, SamplesError> {
        let part = |name: &String| match name.as_str() {
            BY_USER => Ok(Cow::Borrowed(users)),
            BY_ITEM => Ok(Cow::Borrowed(items)),
            column => {
                let (table, _) = self.item_column(column)?;
                let (codes, _) = self.item_codes(column)?;
                let versions = table.versions(items, times, self.keys.items.len()).map_err(many)?;
                let code = |version: u32| if version == NONE { NONE } else { codes[version as usize] };
                Ok(Cow::Owned(versions.into_iter().map(code).collect()))
            }
        };
        by.iter().map(part).collect()
    }

    /// How many keys there can be.
    fn key_count(&self, by: &[String], chain: &Chain) -> Result<usize, SamplesError> {
        match (chain.levels.last(), by) {
            (Some(last), _) => Ok(last.values().len()),
            (None, [part]) if part == BY_USER => Ok(self.keys.users.len()),
            (None, [part]) if part == BY_ITEM => Ok(self.keys.items.len()),
            (None, [column, ..]) => Ok(self.item_codes(column)?.1),
            (None, []) => Ok(0),
        }
    }

    pub(super) fn item_column(&self, name: &str) -> Result<(&Table, &Column), SamplesError> {
        let table = self.items;
        table.and_then(|table| Some((table, table.column(name)?))).ok_or_else(|| {
            SamplesError::config(format!(
                "[samples.logs]: '{name}' is no column of the items' profiles; use user, item or one of those columns"
            ))
        })
    }

    /// A code for each version of an item's profile, by the value of a column; and the number of codes.
    fn item_codes(&self, name: &str) -> Result<(Vec<u32>, usize), SamplesError> {
        let (_, column) = self.item_column(name)?;
        value_codes(column).map_err(|found| no_key(name, &found))
    }

    /// The codes of an event's values, [`NONE`] where it has none.
    fn codes<'a>(&self, config: &Aggregate, log: Log<'a>) -> Result<Cow<'a, [u32]>, SamplesError> {
        if config.column.as_deref() == Some(BY_ITEM) {
            return Ok(Cow::Borrowed(log.item));
        }
        let column = log.column(config)?;
        let (codes, _) =
            value_codes(column).map_err(|found| wrong_type(config, &found, "integers or strings"))?;
        Ok(Cow::Owned(codes))
    }

    /// An event's values, `NaN` where it has none.
    fn numbers(&self, config: &Aggregate, log: Log<'_>) -> Result<Vec<f64>, SamplesError> {
        let column = log.column(config)?;
        if !column.dtype().is_primitive_numeric() {
            return Err(wrong_type(config, column.dtype(), "numbers"));
        }
        let values = column
            .cast(&DataType::Float64)
            .and_then(|column| Ok(column.f64()?.iter().map(|value| value.unwrap_or(f64::NAN)).collect()));
        values.map_err(SamplesError::step("reading the values of events"))
    }
}

/// A column of items by which events cannot be grouped.
pub(super) fn no_key(name: &str, found: &DataType) -> SamplesError {
    SamplesError::config(format!(
        "[samples.logs]: the items' column '{name}' has type {found}, by which events cannot be grouped; use integers or \
         strings"
    ))
}

fn wrong_type(config: &Aggregate, found: &DataType, wanted: &str) -> SamplesError {
    SamplesError::config(format!(
        "[[samples.logs.aggregate]] '{}': column '{}' of the {} has type {found}; it must hold {wanted}",
        config.name,
        config.column.as_deref().unwrap_or_default(),
        config.of.name()
    ))
}

/// A code for each value of a column, [`NONE`] for nulls, and the number of codes; or the column's type, if its
/// values are neither integers nor texts.
fn value_codes(column: &Column) -> Result<(Vec<u32>, usize), DataType> {
    let wrong = || column.dtype().clone();
    let key_type = KeyType::of(column.dtype()).ok_or_else(wrong)?;
    let column = column.cast(&key_type.frame_type()).map_err(|_| wrong())?;
    let (mut ids, mut codes) = (Ids::new(key_type), Vec::new());
    ids.intern(&column, &mut codes).map_err(|_| wrong())?;
    Ok((codes, ids.len()))
}

/// The columns of a log of events that keys are made of.
pub(super) struct Log<'a> {
    pub(super) user: Cow<'a, [u32]>,
    pub(super) item: &'a [u32],
    pub(super) time: &'a [i64],
    events: Option<&'a Events>,
}

impl<'a> Log<'a> {
    fn of(events: &'a Events) -> Self {
        Self {
            user: Cow::Borrowed(&events.user),
            item: &events.item,
            time: &events.time,
            events: Some(events),
        }
    }

    fn empty() -> Self {
        Self { user: Cow::Borrowed(&[]), item: &[], time: &[], events: None }
    }

    pub(super) fn column(&self, config: &Aggregate) -> Result<&'a Column, SamplesError> {
        let name = config.column.as_deref().unwrap_or_default();
        self.events.and_then(|events| events.column(name)).ok_or_else(|| {
            SamplesError::config(format!(
                "[[samples.logs.aggregate]] '{}': column '{name}' is not read from {}; use item, or a column of clicks \
                 or conversions",
                config.name,
                config.of.name()
            ))
        })
    }
}

/// The instants that the events of a key are asked about.
struct Queries {
    level: Level,
    order: Timeline,
    chain: Chain,
    /// Whether they are at the times of the impressions, each row at its own.
    are_impressions: bool,
}

/// Codes for keys of several parts: each level numbers the pairs of a key so far and its next part.
#[derive(Default)]
struct Chain {
    levels: Vec<Interner>,
}

impl Chain {
    /// A code for each row's key, new ones for keys that are new; [`NONE`] where a part is missing.
    fn intern<'a>(&mut self, parts: &'a [Cow<'_, [u32]>]) -> Result<Cow<'a, [u32]>, SamplesError> {
        let Some((first, rest)) = parts.split_first() else { return Ok(Cow::default()) };
        let mut codes = Cow::Borrowed(&**first);
        for (level, part) in self.levels.iter_mut().zip(rest) {
            for (code, next) in codes.to_mut().iter_mut().zip(part.iter()) {
                *code = match (*code, *next) {
                    (NONE, _) | (_, NONE) => NONE,
                    (code, next) => level.intern(pair(code, next)).map_err(many)?,
                };
            }
        }
        Ok(codes)
    }

    /// As [`Chain::intern`], with [`NONE`] for keys that are not known.
    fn find<'a>(&self, parts: &'a [Cow<'_, [u32]>]) -> Cow<'a, [u32]> {
        let Some((first, rest)) = parts.split_first() else { return Cow::default() };
        let mut codes = Cow::Borrowed(&**first);
        for (level, part) in self.levels.iter().zip(rest) {
            for (code, next) in codes.to_mut().iter_mut().zip(part.iter()) {
                let known = *code != NONE && *next != NONE;
                *code = if known { level.find(pair(*code, *next)) } else { NONE };
            }
        }
        codes
    }
}

/// The values of one of several columns that stand side by side.
type Strided<'a, T> = Copied<StepBy<slice::Iter<'a, T>>>;

/// One series for each of `windows`, whose values stand side by side.
fn split<'a, T: Copy>(
    values: &'a [T],
    windows: usize,
    series: impl Fn(Strided<'a, T>) -> Series,
) -> Vec<Series> {
    let from = |window: usize| values.get(window..).unwrap_or_default();
    (0..windows).map(|window| series(from(window).iter().step_by(windows).copied())).collect()
}

/// Counts, in as few bytes as the largest needs.
fn narrow(counts: impl Iterator<Item = u32> + Clone) -> Series {
    let name = PlSmallStr::EMPTY;
    match counts.clone().max().unwrap_or(0) {
        0..=0xff => UInt8Chunked::from_iter_values(name, counts.map(|count| count as u8)).into_series(),
        0x100..=0xffff => {
            UInt16Chunked::from_iter_values(name, counts.map(|count| count as u16)).into_series()
        }
        _ => UInt32Chunked::from_iter_values(name, counts).into_series(),
    }
}

/// Numbers; `NaN` is null.
fn numbers(values: Strided<'_, f64>) -> Series {
    let name = PlSmallStr::EMPTY;
    if values.clone().any(f64::is_nan) {
        let present = values.map(|value| (!value.is_nan()).then_some(value));
        return Float64Chunked::from_iter_options(name, present).into_series();
    }
    Float64Chunked::from_iter_values(name, values).into_series()
}
