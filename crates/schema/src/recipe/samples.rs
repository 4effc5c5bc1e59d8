//! How samples are built: `[samples]`.

use serde::{Deserialize, Serialize};

/// How samples are built from a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplesConfig {
    /// Where the raw data is.
    pub source: SampleSource,
    /// How rows are divided into train, valid and test.
    #[serde(default)]
    pub split: SplitConfig,
    /// Rows a shard file holds at most. A training from disk holds a few shards in memory, and
    /// shuffles rows of shards that it holds together.
    #[serde(default = "default_rows_per_shard")]
    pub rows_per_shard: usize,
    /// Requests kept with raw values as examples (golden rows of bundles are made of them).
    #[serde(default = "default_examples")]
    pub examples: usize,
}

fn default_rows_per_shard() -> usize {
    250_000
}
fn default_examples() -> usize {
    8
}

/// A source of samples; file names are relative to the folder given on the command line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SampleSource {
    /// Impression, click and conversion logs with user and item profiles (Parquet).
    EventLogs(EventLogs),
    /// The raw files of UCI Adult, plain or gzipped.
    Adult {
        /// The published train file.
        train: String,
        /// The published test file.
        test: String,
    },
    /// A raw file of UCI census-income, plain or gzipped, all splits taken from it.
    Census {
        /// The published file.
        file: String,
    },
}

/// Files and windows of event logs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventLogs {
    /// Impressions: `impression_id`, `request_id`, `user_id`, `item_id`, `time` and context columns.
    pub impressions: String,
    /// Clicks: `request_id`, `item_id`, `time`.
    pub clicks: String,
    /// Conversions: `user_id`, `item_id`, `time`.
    pub conversions: String,
    /// User profiles by `user_id`.
    pub users: String,
    /// Item profiles by `item_id`.
    pub items: String,
    /// Columns by `impression_id` that are kept beside the samples for evaluation and are never
    /// features, such as the outcome a click would have had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<String>,
    /// Columns taken from `audit`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audit_columns: Vec<String>,
    /// A click counts for an impression at most this long after it, in seconds.
    pub click_window_seconds: u64,
    /// A conversion counts for a click at most this long after it, in seconds.
    pub conversion_window_seconds: u64,
}

/// How rows are divided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// Share of the rows (the latest before the test rows, or by hash where there is no time)
    /// used for validation.
    pub valid: f64,
    /// Share of the latest rows, or by hash, used for the test; ignored where the source has a test
    /// file.
    pub test: f64,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self { valid: 0.1, test: 0.1 }
    }
}
