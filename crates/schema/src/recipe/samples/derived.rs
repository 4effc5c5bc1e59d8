//! Columns made of the events before each request: aggregates over windows, and sequences.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::logs::{EventLogs, Maturity};
use crate::{span::Span, strict::ConfigError};

/// A log whose rows are events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// Every item shown, once a request, at the time it was shown.
    Impressions,
    /// The first click on an item in a request, at the time of the click.
    Clicks,
    /// Every conversion, repeated rows once.
    Conversions,
}

impl EventKind {
    /// The key of its log in `[samples.logs]`.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Impressions => "impressions",
            EventKind::Clicks => "clicks",
            EventKind::Conversions => "conversions",
        }
    }
}

/// What is said of the events in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Statistic {
    /// How many there are.
    #[default]
    Count,
    /// The sum of a column; absent values count as 0.
    Sum,
    /// The mean of the present values; missing where there are none.
    Mean,
    /// The smallest present value; missing where there are none.
    Min,
    /// The largest present value; missing where there are none.
    Max,
    /// How many different values there are.
    Distinct,
    /// Events for each impression of the same key and window, smoothed:
    /// `(events + prior · weight) / (impressions + weight)`.
    Rate,
}

/// A statistic of the events of a key in each of some windows before the request: one column a
/// window, `<name>_<window>`, such as `item_clicks_7d`. An event counts where
/// `request − window ≤ event < request`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// First part of the columns' names.
    pub name: String,
    /// The events.
    pub of: EventKind,
    /// What event and impression must have in common: `user`, `item`, a column of the items'
    /// profiles such as `category`, or several.
    pub by: Vec<String>,
    /// What is said of them.
    #[serde(default)]
    pub what: Statistic,
    /// The column of the events that is summed up: one of their log, or `item`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// How far back, in ascending order.
    pub windows: Vec<Span>,
    /// Impressions that the prior of a rate counts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The rate where there is nothing to go by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<f64>,
}

impl Aggregate {
    /// Name of the column for one of the windows.
    pub fn column_name(&self, window: Span) -> String {
        format!("{}_{window}", self.name)
    }
}

/// What a user's last events before the request were about: a column of lists, the latest last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SequenceConfig {
    /// Name of the column.
    pub name: String,
    /// The events.
    pub of: EventKind,
    /// What is listed: `item`, or a column of the items' profiles such as `category`, as it was at
    /// the time of the event.
    #[serde(default = "item")]
    pub column: String,
    /// Events listed at most.
    pub last: usize,
    /// Events longer ago are not listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// Name of a column of lists that says of each event how many seconds before the request it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gaps: Option<String>,
}

fn item() -> String {
    "item".into()
}

/// The column with the number of the user's session, from 0: see [`EventLogs::session_gap`].
pub const SESSION: &str = "session";
/// The column with the number of the user's requests in the session before this one.
pub const SESSION_POSITION: &str = "session_position";

/// The column with the seconds for which outcomes could be observed: see [`Maturity::Elapsed`].
pub const OBSERVED: &str = "observed";

/// The word in `by` for the user.
pub const BY_USER: &str = "user";
/// The word in `by` and `column` for the item.
pub const BY_ITEM: &str = "item";

/// Longest history in a sequence.
const LONGEST_SEQUENCE: usize = 10_000;

pub(super) fn check_derived(logs: &EventLogs) -> Result<(), ConfigError> {
    let mut names = BTreeSet::new();
    let mut once = |place: &str, name: &str| {
        if name.is_empty() {
            return Err(ConfigError::new(format!("{place}: give it a name")));
        }
        if names.insert(name.to_owned()) {
            return Ok(());
        }
        Err(ConfigError::new(format!(
            "{place}: another column is called '{name}' already; give each its own name"
        )))
    };
    if logs.session_gap.is_some() {
        for name in [SESSION, SESSION_POSITION] {
            once("[samples.logs] session_gap", name)?;
        }
    }
    if logs.labels.maturity == Maturity::Elapsed {
        once("[samples.logs] labels.maturity", OBSERVED)?;
    }
    for aggregate in &logs.aggregates {
        let place = format!("[[samples.logs.aggregate]] '{}'", aggregate.name);
        aggregate.check(&place, logs)?;
        for window in &aggregate.windows {
            once(&place, &aggregate.column_name(*window))?;
        }
    }
    for sequence in &logs.sequences {
        let place = format!("[[samples.logs.sequence]] '{}'", sequence.name);
        once(&place, &sequence.name)?;
        if let Some(gaps) = &sequence.gaps {
            once(&place, gaps)?;
        }
        if !(1..=LONGEST_SEQUENCE).contains(&sequence.last) {
            return Err(ConfigError::new(format!(
                "{place}: last must be from 1 to {LONGEST_SEQUENCE}, found {}",
                sequence.last
            )));
        }
        check_log(&place, sequence.of, logs)?;
    }
    Ok(())
}

fn check_log(place: &str, of: EventKind, logs: &EventLogs) -> Result<(), ConfigError> {
    if of == EventKind::Conversions && logs.conversions.is_none() {
        return Err(ConfigError::new(format!(
            "{place}: of = \"conversions\", but [samples.logs] has no conversions; add the log"
        )));
    }
    Ok(())
}

impl Aggregate {
    fn check(&self, place: &str, logs: &EventLogs) -> Result<(), ConfigError> {
        let fail = |text: String| Err(ConfigError::new(format!("{place}: {text}")));
        check_log(place, self.of, logs)?;
        if self.by.is_empty() {
            return fail(
                "by is empty; name what events and impressions have in common, such as [\"item\"]".into(),
            );
        }
        if let Some(twice) = self.by.iter().enumerate().find(|(index, key)| self.by[..*index].contains(key)) {
            return fail(format!("by names '{}' twice", twice.1));
        }
        if self.windows.is_empty() {
            return fail("windows is empty; give one at least, such as [\"1h\", \"7d\"]".into());
        }
        if let Some(pair) = self.windows.windows(2).find(|pair| pair[0] >= pair[1]) {
            return fail(format!("windows must ascend, found {} before {}", pair[0], pair[1]));
        }
        let needs_column = !matches!(self.what, Statistic::Count | Statistic::Rate);
        match &self.column {
            None if needs_column => {
                return fail("column is missing; name the column of the events that is summed up".into());
            }
            Some(column) if !needs_column => {
                return fail(format!("column = \"{column}\" is not read by a count or a rate; leave it out"));
            }
            _ => {}
        }
        if self.what == Statistic::Rate {
            if self.of == EventKind::Impressions {
                return fail(
                    "a rate is of clicks or conversions, for each impression; set of = \"clicks\"".into(),
                );
            }
            let (Some(weight), Some(prior)) = (self.weight, self.prior) else {
                return fail("a rate needs weight (impressions that the prior counts for) and prior".into());
            };
            if !(weight.is_finite() && weight > 0.0) {
                return fail(format!("weight must be above 0, found {weight}"));
            }
            if !(prior.is_finite() && prior >= 0.0) {
                return fail(format!("prior must be at least 0, found {prior}"));
            }
        } else if self.weight.is_some() || self.prior.is_some() {
            return fail("weight and prior are read by a rate alone; leave them out".into());
        }
        Ok(())
    }
}
