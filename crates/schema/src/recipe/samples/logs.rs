//! Event logs as a source: where they are, how their columns are called, and which outcomes count.

use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    derived::{Aggregate, SequenceConfig, check_derived},
    labels::{CLICK_LABEL, CONVERSION_LABEL, ValueLabel, check_labels},
    sampling::{Correction, SamplingConfig},
};
use crate::{span::Span, strict::ConfigError};

/// Impressions, clicks and conversions, profiles of users and items, and what is made of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventLogs {
    /// What was shown: request, user, item, time, and the columns of context features.
    #[serde(deserialize_with = "files_or_table")]
    #[schemars(with = "FilesOr<Log>")]
    pub impressions: Log,
    /// What was clicked: request (or user), item, time.
    #[serde(deserialize_with = "files_or_table")]
    #[schemars(with = "FilesOr<Log>")]
    pub clicks: Log,
    /// What was bought: user, item, time.
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<FilesOr<Log>>")]
    pub conversions: Option<Log>,
    /// What was known of users, and since when.
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<FilesOr<Profiles>>")]
    pub users: Option<Profiles>,
    /// What was known of items, and since when.
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<FilesOr<Profiles>>")]
    pub items: Option<Profiles>,
    /// Columns by `impression_id` that are kept beside the samples for evaluation and are never
    /// features, such as the outcome a click would have had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Files>,
    /// Columns taken from `audit`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audit_columns: Vec<String>,
    /// The server's request log: features of impressions that it has are taken from it, as they were
    /// served, and compared with those that the other logs give (`skew.json` of the sample folder).
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<FilesOr<Served>>")]
    pub served: Option<Served>,
    /// Which outcomes count.
    #[serde(default)]
    pub labels: LabelConfig,
    /// What becomes of rows that cannot be used.
    #[serde(default)]
    pub on_bad_row: OnBadRow,
    /// Labels made of a column of clicks or conversions.
    #[serde(rename = "label", default, skip_serializing_if = "Vec::is_empty")]
    pub value_labels: Vec<ValueLabel>,
    /// A pause of a user that is longer than this begins a new session. Makes the columns `session`
    /// (its number among the user's, from 0) and `session_position` (how many requests of the user
    /// the session had before this one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_gap: Option<Span>,
    /// Which rows of the training split are kept; all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<SamplingConfig>,
    /// Columns made of the events before each request.
    #[serde(rename = "aggregate", default, skip_serializing_if = "Vec::is_empty")]
    pub aggregates: Vec<Aggregate>,
    /// Columns of the last events before each request.
    #[serde(rename = "sequence", default, skip_serializing_if = "Vec::is_empty")]
    pub sequences: Vec<SequenceConfig>,
}

impl EventLogs {
    /// The label of which training has fake negatives, if it has: that of the last outcome.
    pub fn late_label(&self) -> Option<&'static str> {
        let last = if self.conversions.is_some() { CONVERSION_LABEL } else { CLICK_LABEL };
        (self.labels.maturity == Maturity::FakeNegatives).then_some(last)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check_derived(self)?;
        self.labels.check()?;
        check_labels(self)?;
        if let Some(sampling) = &self.sampling {
            sampling.check()?;
            if self.late_label().is_some() && sampling.negatives < 1.0 && sampling.correct == Correction::Rate
            {
                return Err(ConfigError::new(
                    "[samples.logs.sampling]: correct = \"rate\" takes all negatives to be thinned out alike, but the \
                     fake ones of labels.maturity = \"fake-negatives\" stay; use correct = \"weight\""
                        .into(),
                ));
            }
        }
        match (&self.audit, self.audit_columns.first()) {
            (None, Some(column)) => Err(ConfigError::new(format!(
                "[samples.logs]: audit_columns names '{column}', but there is no audit file; add audit = \"…\""
            ))),
            _ => Ok(()),
        }
    }
}

/// One name or a list of names of files: globs such as `clicks/*.parquet`, folders with partitions
/// such as `impressions/`, or addresses such as `s3://bucket/clicks/*.parquet`. The ending tells
/// the format: `.parquet`, `.csv`, `.arrow`, `.ipc`, `.feather`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a file name or a list of file names")]
pub enum Files {
    /// One.
    One(String),
    /// Several, read one after another.
    Many(Vec<String>),
}

impl Files {
    /// The names as written.
    pub fn names(&self) -> &[String] {
        match self {
            Files::One(name) => std::slice::from_ref(name),
            Files::Many(names) => names,
        }
    }
}

impl fmt::Display for Files {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.names().join(", "))
    }
}

/// Unit of times that are integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Seconds since 1970 UTC.
    S,
    /// Milliseconds since 1970 UTC.
    #[default]
    Ms,
    /// Microseconds since 1970 UTC.
    Us,
    /// Nanoseconds since 1970 UTC.
    Ns,
}

impl TimeUnit {
    /// All units, the longest first.
    pub const ALL: [TimeUnit; 4] = [TimeUnit::S, TimeUnit::Ms, TimeUnit::Us, TimeUnit::Ns];

    /// How many make a second.
    pub fn per_second(self) -> i64 {
        match self {
            TimeUnit::S => 1,
            TimeUnit::Ms => 1000,
            TimeUnit::Us => 1_000_000,
            TimeUnit::Ns => 1_000_000_000,
        }
    }

    /// The word in a recipe.
    pub fn key(self) -> &'static str {
        match self {
            TimeUnit::S => "s",
            TimeUnit::Ms => "ms",
            TimeUnit::Us => "us",
            TimeUnit::Ns => "ns",
        }
    }

    /// The word for messages.
    pub fn name(self) -> &'static str {
        match self {
            TimeUnit::S => "seconds",
            TimeUnit::Ms => "milliseconds",
            TimeUnit::Us => "microseconds",
            TimeUnit::Ns => "nanoseconds",
        }
    }
}

/// What becomes of rows that cannot be used: without a key or a time, with a time that cannot be one, or with a
/// value that its type does not allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnBadRow {
    /// They are left out; their number stands in the manifest.
    #[default]
    Drop,
    /// Nothing is built; the message shows the first of them.
    Fail,
    /// They are left out, and written to `quarantine/<log>.parquet` of the sample folder with their reason.
    Quarantine,
}

impl std::str::FromStr for OnBadRow {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "drop" => Ok(OnBadRow::Drop),
            "fail" => Ok(OnBadRow::Fail),
            "quarantine" => Ok(OnBadRow::Quarantine),
            _ => Err(ConfigError::new(format!("'{text}' is none of drop, fail and quarantine"))),
        }
    }
}

/// A log: its files, how its columns are called, and which of its rows count. A string in its place
/// stands for `files`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The files.
    pub files: Files,
    /// Column of the request's id.
    #[serde(default = "request_id")]
    pub request: String,
    /// Column of the user's id.
    #[serde(default = "user_id")]
    pub user: String,
    /// Column of the item's id.
    #[serde(default = "item_id")]
    pub item: String,
    /// Column of the time: timestamps, or integers in `time_unit`.
    #[serde(default = "time")]
    pub time: String,
    /// Unit of integer times.
    #[serde(default)]
    pub time_unit: TimeUnit,
    /// Condition in SQL on the log's columns; other rows are left out, such as those of crawlers:
    /// `device <> 'bot' AND user_id > 0`.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

impl From<Files> for Log {
    fn from(files: Files) -> Self {
        Self {
            files,
            request: request_id(),
            user: user_id(),
            item: item_id(),
            time: time(),
            time_unit: TimeUnit::default(),
            condition: None,
        }
    }
}

/// A table of what was known of users or items: one row for each version of a profile. A string in
/// its place stands for `files`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// The files.
    pub files: Files,
    /// Column of the user's or item's id; `user_id` or `item_id` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Column of the time from which a row holds: timestamps, or integers in `time_unit`. A request
    /// sees the last row strictly before it.
    #[serde(default = "time")]
    pub time: String,
    /// The rows hold at any time: there is one for each key, and no time. Say so only of what does
    /// not change: a price of today in a sample of last week is a leak.
    #[serde(default, rename = "static")]
    pub is_static: bool,
    /// Column of the time at which a row was written, where that is later than the time from which
    /// it holds (as when history is filled in afterwards): a request sees only rows that were
    /// written before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Unit of integer times.
    #[serde(default)]
    pub time_unit: TimeUnit,
    /// A row holds for so long; after that the features are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// Condition in SQL on the table's columns; other rows are left out.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

impl From<Files> for Profiles {
    fn from(files: Files) -> Self {
        Self {
            files,
            key: None,
            time: time(),
            is_static: false,
            created: None,
            time_unit: TimeUnit::default(),
            ttl: None,
            condition: None,
        }
    }
}

/// The server's request log: a row for each candidate of each request, with a column for each feature. A
/// string in its place stands for `files`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Served {
    /// The files.
    pub files: Files,
    /// Column of the request's id.
    #[serde(default = "request_id")]
    pub request: String,
    /// Column of the item's id: the feature that holds it.
    #[serde(default = "item_id")]
    pub item: String,
    /// Condition in SQL on the log's columns; other rows are left out, such as those of another model.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

impl From<Files> for Served {
    fn from(files: Files) -> Self {
        Self { files, request: request_id(), item: item_id(), condition: None }
    }
}

fn request_id() -> String {
    "request_id".into()
}
fn user_id() -> String {
    "user_id".into()
}
fn item_id() -> String {
    "item_id".into()
}
fn time() -> String {
    "time".into()
}

/// Which clicks and conversions count for an impression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelConfig {
    /// How a click finds its impression.
    pub click_by: ClickKey,
    /// A click counts for an impression at most this long after it.
    pub click_window: Span,
    /// A conversion counts for a click at most this long after it.
    pub conversion_window: Span,
    /// Which click a conversion counts for.
    pub conversion: ConversionPolicy,
    /// A conversion that follows no click within its window counts for the user's last impression
    /// of the item, at most this long after it: in the label `view_conversion`, which is made where
    /// this is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view_window: Option<Span>,
    /// What happens to impressions whose windows had not ended when the logs end.
    pub maturity: Maturity,
}

impl Default for LabelConfig {
    fn default() -> Self {
        Self {
            click_by: ClickKey::default(),
            click_window: Span::days(1),
            conversion_window: Span::days(7),
            conversion: ConversionPolicy::default(),
            view_window: None,
            maturity: Maturity::default(),
        }
    }
}

impl LabelConfig {
    fn check(&self) -> Result<(), ConfigError> {
        match self.maturity {
            Maturity::Weight(weight) if !(weight > 0.0 && weight < 1.0) => Err(ConfigError::new(format!(
                "[samples.logs]: labels.maturity: weight must be above 0 and below 1, found {weight}; use \"keep\" for 1 \
                 and \"hold-back\" for 0"
            ))),
            _ => Ok(()),
        }
    }
}

/// How a click finds its impression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClickKey {
    /// By request and item.
    #[default]
    Request,
    /// By user and item: the last impression of the item before the click, or at its time.
    User,
}

/// Which click a conversion counts for, among those strictly before it within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConversionPolicy {
    /// The last.
    #[default]
    LastClick,
    /// The first.
    FirstClick,
    /// Every one.
    EveryClick,
}

/// What happens to impressions that are younger, at the end of the logs, than their windows are long:
/// outcomes of theirs may still come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Maturity {
    /// They are kept; their outcomes may be missing. Their number stands in the manifest.
    #[default]
    Keep,
    /// They are left out: training waits for the windows to end.
    HoldBack,
    /// They are kept, and the column `observed` says of each row for how many seconds its outcomes
    /// could be observed: from the request to the end of the logs, at most the length of the windows.
    /// A model that has it as a context feature learns how outcomes come in over time (after
    /// O. Chapelle, "Modeling delayed feedback in display advertising", KDD 2014, where the elapsed
    /// time bounds the delay). Validation and test have the whole length, and so must every
    /// request that is served: what is asked for is what comes in the end.
    Elapsed,
    /// Training has the rows that a stream would have brought, so that it need not wait: every
    /// impression as a negative when it is shown, and once more as a positive, which the column
    /// `late` marks, when its conversion comes (its click where there are no conversions). The stream
    /// begins when the windows of the first impressions have ended, as only from then on positives
    /// come at the rate of impressions: earlier impressions give their later positives alone. It ends
    /// where training ends. Tasks with that label say by `fake_negatives` how they learn from such
    /// rows; all others, validation and test know nothing of them.
    FakeNegatives,
    /// They are kept and count less, `maturity = { weight = 0.3 }`: by the column `weight`, which
    /// `[train] sample_weight = "weight"` names. Above 0 and below 1.
    Weight(f64),
}

/// What [`files_or_table`] reads, for the schema.
#[derive(JsonSchema)]
#[schemars(untagged, rename = "FilesOr{T}")]
#[expect(dead_code, reason = "only its schema is of use")]
enum FilesOr<T> {
    Files(Files),
    Table(T),
}

/// Reads a table, or file names that stand for a table with defaults.
fn files_or_table<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: From<Files> + Deserialize<'de>,
{
    struct Either<T>(PhantomData<T>);
    impl<'de, T: From<Files> + Deserialize<'de>> Visitor<'de> for Either<T> {
        type Value = T;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a file name, a list of file names, or a table with `files`")
        }

        fn visit_str<E>(self, name: &str) -> Result<T, E> {
            Ok(T::from(Files::One(name.to_owned())))
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut names: A) -> Result<T, A::Error> {
            let mut files = Vec::new();
            while let Some(name) = names.next_element::<String>()? {
                files.push(name);
            }
            Ok(T::from(Files::Many(files)))
        }

        fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(table))
        }
    }
    deserializer.deserialize_any(Either(PhantomData))
}

fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: From<Files> + Deserialize<'de>,
{
    files_or_table(deserializer).map(Some)
}
