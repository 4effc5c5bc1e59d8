//! Times of logs: any unit and zone in, microseconds since 1970 UTC out.

use std::path::Path;

use gatefold_schema::{Instant, TimeUnit};
use polars::prelude::{AnyValue, DataType, Expr, TimeUnit as FrameUnit, TimeZone, col, lit};

use super::{
    bad::{Check, Fault},
    source::Source,
};
use crate::{SamplesError, columns::missing_column};

/// March 1973: seconds of today, taken for milliseconds, lie in 1970.
const EARLIEST: i64 = 100_000_000_000_000;
/// The year 2200.
const LATEST: i64 = 7_258_118_400_000_000;
/// The end of the year 9999, which is the last that is written with four digits.
const LAST_DATE: i64 = 253_402_300_799_999_999;

/// What a column of times holds.
#[derive(Clone, Debug, PartialEq)]
enum TimeKind {
    /// Integers, whose unit can be mistaken.
    Integers,
    /// Timestamps or dates, with the time zone that they name.
    Timestamps(Option<TimeZone>),
}

/// A column of times.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TimeColumn {
    name: String,
    unit: TimeUnit,
    kind: TimeKind,
}

impl TimeColumn {
    /// The column `name` of a log, whose rows are bad where it has no time, or one before 1973 or after 2200.
    ///
    /// # Errors
    /// No such column, and one that holds no times.
    pub(crate) fn new(source: &mut Source, name: &str, unit: TimeUnit) -> Result<Self, SamplesError> {
        source.settle(name, &[DataType::Int64, DataType::Datetime(FrameUnit::Microseconds, None)])?;
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
        let column = Self { name: name.to_owned(), unit, kind };
        source.require(name);
        source.use_column(name);
        source.check(Check {
            fault: Fault::Time(column.clone()),
            column: name.to_owned(),
            bad: column.is_impossible(),
        });
        Ok(column)
    }

    /// Name of the column.
    pub(crate) fn name(&self) -> &String {
        &self.name
    }

    /// The times in microseconds, as a column called `alias`.
    pub(crate) fn micros(&self, alias: &str) -> Expr {
        self.as_micros().alias(alias)
    }

    fn as_micros(&self) -> Expr {
        let column = col(self.name.as_str());
        match (&self.kind, self.unit) {
            (TimeKind::Integers, TimeUnit::Ns) => {
                column.strict_cast(DataType::Int64).floor_div(lit(1000_i64))
            }
            (TimeKind::Integers, unit) => {
                column.strict_cast(DataType::Int64) * lit(1_000_000 / unit.per_second())
            }
            (TimeKind::Timestamps(zone), _) => {
                column.cast(DataType::Datetime(FrameUnit::Microseconds, zone.clone())).cast(DataType::Int64)
            }
        }
    }

    /// Where the time is none of a log. Integers are compared before they are multiplied.
    fn is_impossible(&self) -> Expr {
        let (column, bounds) = match &self.kind {
            TimeKind::Integers => (col(self.name.as_str()), self.bounds(self.unit)),
            TimeKind::Timestamps(_) => (self.as_micros(), (EARLIEST, LATEST)),
        };
        column.clone().lt(lit(bounds.0)).or(column.gt(lit(bounds.1)))
    }

    /// The first and the last time in a unit.
    fn bounds(&self, unit: TimeUnit) -> (i64, i64) {
        let from_micros = |time: i64| match unit {
            TimeUnit::Ns => time * 1000,
            unit => time / (1_000_000 / unit.per_second()),
        };
        (from_micros(EARLIEST), from_micros(LATEST))
    }

    /// What to do where most times are impossible, `value` among them: the unit is another one.
    pub(super) fn remedy(&self, value: &AnyValue<'_>) -> String {
        let name = &self.name;
        let number = match &self.kind {
            // A text in CSV.
            TimeKind::Integers => value.extract::<i64>().or_else(|| value.get_str()?.parse().ok()),
            TimeKind::Timestamps(_) => None,
        };
        let Some(number) = number else {
            return format!(
                "column '{name}': {value} cannot be when something happened, and so in most rows; correct the column"
            );
        };
        let micros = i128::from(number) * 1_000_000 / i128::from(self.unit.per_second());
        let shown = match i64::try_from(micros) {
            Ok(micros @ 0..=LAST_DATE) => format!("is {}", Instant::from_micros(micros)),
            _ => "is no date of today".to_owned(),
        };
        let fits = |unit: &TimeUnit| {
            let bounds = self.bounds(*unit);
            (bounds.0..=bounds.1).contains(&number)
        };
        let remedy = match TimeUnit::ALL.iter().find(|unit| fits(unit)) {
            Some(unit) => format!("set time_unit = \"{}\" if that is what the column holds", unit.key()),
            None => "correct the column".to_owned(),
        };
        format!("column '{name}': {number} in {} {shown}; {remedy}", self.unit.name())
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
