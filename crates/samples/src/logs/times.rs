//! Times of logs: any unit and zone in, microseconds since 1970 UTC out.

use std::path::Path;

use gatefold_schema::{Instant, TimeUnit};
use polars::prelude::{DataType, Expr, TimeUnit as FrameUnit, TimeZone, col, lit};

use super::source::Source;
use crate::{SamplesError, columns::missing_column};

/// March 1973: seconds of today, taken for milliseconds, lie in 1970.
const EARLIEST: i64 = 100_000_000_000_000;
/// The year 2200.
const LATEST: i64 = 7_258_118_400_000_000;

/// What a column of times holds.
#[derive(Clone, Debug, PartialEq)]
enum TimeKind {
    /// Integers, whose unit can be mistaken.
    Integers,
    /// Timestamps or dates, with the time zone that they name.
    Timestamps(Option<TimeZone>),
}

/// A column of times.
#[derive(Clone, Debug)]
pub(crate) struct TimeColumn {
    name: String,
    unit: TimeUnit,
    kind: TimeKind,
}

impl TimeColumn {
    /// The column `name` of a log.
    ///
    /// # Errors
    /// No such column, and one that holds no times.
    pub(crate) fn new(source: &Source, name: &str, unit: TimeUnit) -> Result<Self, SamplesError> {
        let kind = match source.schema.get(name) {
            None => return Err(missing_column(&source.name, &source.schema, name, "the time of a row")),
            Some(DataType::Datetime(_, zone)) => TimeKind::Timestamps(zone.clone()),
            Some(DataType::Date) => TimeKind::Timestamps(None),
            Some(found) if found.is_integer() => TimeKind::Integers,
            Some(found) => {
                return Err(SamplesError::source(
                    &source.name,
                    format!(
                        "column '{name}' has type {found}; a time must be a timestamp, or an integer in the unit \
                         that time_unit says"
                    ),
                ));
            }
        };
        Ok(Self { name: name.to_owned(), unit, kind })
    }

    /// The times in microseconds, as a column called `alias`; null where there is none.
    pub(crate) fn micros(&self, alias: &str) -> Expr {
        let column = col(self.name.as_str());
        let micros = match &self.kind {
            TimeKind::Integers => column.strict_cast(DataType::Int64) * lit(self.unit.micros()),
            TimeKind::Timestamps(zone) => {
                column.cast(DataType::Datetime(FrameUnit::Microseconds, zone.clone())).cast(DataType::Int64)
            }
        };
        micros.alias(alias)
    }

    /// Checks that times lie where times of logs can lie.
    ///
    /// # Errors
    /// Times before 1973 and after 2200: the unit is another one.
    pub(crate) fn check(&self, log: &Path, times: &[i64]) -> Result<(), SamplesError> {
        let bounds = times.iter().fold(None, |bounds, &time| match bounds {
            None => Some((time, time)),
            Some((first, last)) => Some((time.min(first), time.max(last))),
        });
        let Some((first, last)) = bounds else { return Ok(()) };
        let wrong = |time: i64, other: &str| {
            let remedy = if self.kind == TimeKind::Integers {
                format!(
                    "{} in {} is {}; set time_unit = \"{other}\" if that is what the column holds",
                    time / self.unit.micros(),
                    self.unit.name(),
                    Instant::from_micros(time)
                )
            } else {
                format!(
                    "{} cannot be when something was shown; correct the column",
                    Instant::from_micros(time)
                )
            };
            Err(SamplesError::source(log, format!("column '{}': {remedy}", self.name)))
        };
        if first < EARLIEST {
            return wrong(first, if self.unit == TimeUnit::Us { "ms" } else { "s" });
        }
        if last > LATEST {
            return wrong(last, if self.unit == TimeUnit::S { "ms" } else { "us" });
        }
        Ok(())
    }
}

/// Checks that all timestamps name a time zone or none does: one log in local time beside others in UTC would
/// put events hours before or after each other.
pub(crate) fn check_zones(columns: &[(&Path, &TimeColumn)]) -> Result<(), SamplesError> {
    let is_zoned = |column: &TimeColumn| match &column.kind {
        TimeKind::Integers => None,
        TimeKind::Timestamps(zone) => Some(zone.is_some()),
    };
    let found = |zoned: bool| columns.iter().find(|(_, column)| is_zoned(column) == Some(zoned));
    match (found(true), found(false)) {
        (Some((with, column)), Some((without, other))) => Err(SamplesError::source(
            without,
            format!(
                "column '{}' has timestamps without a time zone, and column '{}' of {} has them with one; write both \
                 with a zone, or both in UTC without",
                other.name,
                column.name,
                with.display()
            ),
        )),
        _ => Ok(()),
    }
}
