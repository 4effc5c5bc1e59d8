//! Lengths of time and instants as people write them.

use std::fmt;
use std::time::Duration;

use schemars::{
    JsonSchema,
    r#gen::SchemaGenerator,
    schema::{InstanceType, Metadata, Schema, SchemaObject, StringValidation},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::strict::ConfigError;

const MICROSECONDS: i64 = 1_000_000;
/// A hundred years: no window of a log is longer, and sums of times stay far from overflow.
const LONGEST: i64 = 100 * 366 * 86_400 * MICROSECONDS;

/// A length of time of at least a microsecond, written as `90s`, `30m`, `1h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    micros: i64,
}

impl Span {
    /// So many seconds, for defaults.
    pub const fn seconds(seconds: u32) -> Self {
        Self { micros: seconds as i64 * MICROSECONDS }
    }

    /// So many days, for defaults.
    pub const fn days(days: u16) -> Self {
        Self { micros: days as i64 * 86_400 * MICROSECONDS }
    }

    /// The length in microseconds; at least 1 and at most a hundred years.
    pub fn micros(self) -> i64 {
        self.micros
    }

    /// Reads `90s`, `30m`, `1h`, `7d` or a sum of them such as `1h 30m`.
    ///
    /// # Errors
    /// Text that is no length of time, nothing at all, and more than a hundred years.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let fail = |reason: String| {
            ConfigError::new(format!(
                "'{text}' is no length of time ({reason}); write it as 90s, 30m, 1h or 7d"
            ))
        };
        let length = humantime::parse_duration(text).map_err(|error| fail(error.to_string()))?;
        match i64::try_from(length.as_micros()) {
            Ok(micros @ 1..=LONGEST) => Ok(Self { micros }),
            Ok(..1) => Err(fail("it is shorter than a microsecond".into())),
            _ => Err(fail("it is longer than a hundred years".into())),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("d", 86_400 * MICROSECONDS), ("h", 3600 * MICROSECONDS), ("m", 60 * MICROSECONDS)];
        let units = units.into_iter().chain([("s", MICROSECONDS), ("ms", 1000), ("us", 1)]);
        for (unit, length) in units {
            if self.micros % length == 0 {
                return write!(out, "{}{unit}", self.micros / length);
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Span::parse(&text).map_err(de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> String {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text("A length of time: 90s, 30m, 1h, 7d, or a sum such as 1h 30m.", "^([0-9]+ *[a-zA-Zµ]+ *)+$")
    }
}

/// The schema of texts that match `pattern`.
fn text(about: &str, pattern: &str) -> Schema {
    Schema::Object(SchemaObject {
        instance_type: Some(InstanceType::String.into()),
        metadata: Some(Box::new(Metadata { description: Some(about.into()), ..Metadata::default() })),
        string: Some(Box::new(StringValidation {
            pattern: Some(pattern.into()),
            ..StringValidation::default()
        })),
        ..SchemaObject::default()
    })
}

/// A moment, written as `2024-03-13` or `2024-03-13T06:00:00Z`; without an offset it is UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant {
    micros: i64,
}

impl Instant {
    /// Microseconds since 1970 UTC.
    pub fn micros(self) -> i64 {
        self.micros
    }

    /// The moment so many microseconds after 1970 UTC.
    pub fn from_micros(micros: i64) -> Self {
        Self { micros }
    }

    /// Reads a date or a date and time.
    ///
    /// # Errors
    /// Text that is neither, and times before 1970.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let whole =
            if text.len() == "2024-03-13".len() { format!("{text} 00:00:00") } else { text.to_owned() };
        let parsed = humantime::parse_rfc3339_weak(&whole).map_err(|error| error.to_string());
        let since = parsed
            .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).map_err(|error| error.to_string()));
        match since.map(|since| i64::try_from(since.as_micros())) {
            Ok(Ok(micros)) => Ok(Self { micros }),
            Ok(Err(_)) => Err(ConfigError::new(format!("'{text}' is too far in the future"))),
            Err(reason) => Err(ConfigError::new(format!(
                "'{text}' is no time ({reason}); write it as 2024-03-13 or 2024-03-13T06:00:00Z"
            ))),
        }
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u64::try_from(self.micros) {
            Ok(micros) => {
                let time = std::time::UNIX_EPOCH + Duration::from_micros(micros);
                match micros % 1_000_000 {
                    0 => humantime::format_rfc3339_seconds(time).fmt(out),
                    _ => humantime::format_rfc3339_micros(time).fmt(out),
                }
            }
            Err(_) => write!(out, "{} µs before 1970", self.micros.unsigned_abs()),
        }
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Instant::parse(&text).map_err(de::Error::custom)
    }
}

impl JsonSchema for Instant {
    fn schema_name() -> String {
        "Instant".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text(
            "A moment: 2024-03-13 or 2024-03-13T06:00:00Z; without an offset it is UTC.",
            "^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]+Z?)?$",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written_in_their_largest_unit() {
        let read = |text: &str| Span::parse(text).unwrap();
        for (text, seconds, written) in [
            ("90s", 90, "90s"),
            ("30m", 1800, "30m"),
            ("1h 30m", 5400, "90m"),
            ("7d", 604_800, "7d"),
            ("24h", 86_400, "1d"),
        ] {
            assert_eq!(
                (read(text).micros(), read(text).to_string()),
                (seconds * MICROSECONDS, written.to_owned())
            );
        }
        assert_eq!(read("1500us").to_string(), "1500us");
        for (text, reason) in
            [("7", "time unit"), ("0s", "shorter"), ("200years", "longer"), ("soon", "no length of time")]
        {
            let error = Span::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn instants_are_dates_or_times() {
        let at = |text: &str| Instant::parse(text).unwrap();
        assert_eq!(at("2024-03-13").micros(), 1_710_288_000 * MICROSECONDS);
        assert_eq!(at("2024-03-13T06:00:00Z").micros(), 1_710_309_600 * MICROSECONDS);
        assert_eq!(at("2024-03-13").to_string(), "2024-03-13T00:00:00Z");
        for (text, reason) in [("13.3.2024", "no time"), ("1969-01-01", "no time"), ("2024-13-01", "no time")]
        {
            let error = Instant::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
