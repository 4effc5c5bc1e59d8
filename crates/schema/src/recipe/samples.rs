//! How samples are built: `[samples]`.

mod derived;
mod labels;
mod logs;
mod sampling;
mod split;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::strict::ConfigError;

pub use derived::{
    Aggregate, BY_ITEM, BY_USER, EventKind, OBSERVED, SESSION, SESSION_POSITION, SequenceConfig, Statistic,
};
pub use labels::{CLICK_LABEL, CONVERSION_LABEL, LATE_COLUMN, VIEW_LABEL, ValueLabel};
pub use logs::{
    ClickKey, ConversionPolicy, EventLogs, Files, LabelConfig, Log, Maturity, OnBadRow, Profiles, Served,
    TimeUnit,
};
pub use sampling::{Correction, SamplingConfig, WEIGHT_COLUMN};
pub use split::{SplitBy, SplitConfig};

/// How samples are built from a source: `logs`, `adult` or `census`, one of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SamplesConfig {
    /// Logs of impressions, clicks and conversions, and profiles of users and items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<EventLogs>,
    /// The raw files of UCI Adult, plain or gzipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adult: Option<AdultFiles>,
    /// A raw file of UCI census-income, plain or gzipped, all splits taken from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub census: Option<CensusFile>,
    /// How rows are divided into train, valid and test.
    #[serde(default)]
    pub split: SplitConfig,
    /// Rows a shard file holds at most. Unless given, as many as 64 MiB hold before they are compressed. A training from
    /// disk holds a few shards in memory, and shuffles rows of shards that it holds together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_per_shard: Option<usize>,
    /// Requests kept with raw values as examples (golden rows of bundles are made of them).
    #[serde(default = "default_examples")]
    pub examples: usize,
    /// A feature that by itself separates the outcomes of a task with an AUC above this is named by the data
    /// report: it is likely to know the outcome.
    #[serde(default = "default_leak_auc")]
    pub leak_auc: f64,
}

fn default_leak_auc() -> f64 {
    0.95
}
fn default_examples() -> usize {
    8
}

/// Where samples come from; file names are relative to the folder given on the command line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SampleSource<'a> {
    /// Event logs.
    Logs(&'a EventLogs),
    /// UCI Adult.
    Adult(&'a AdultFiles),
    /// UCI census-income.
    Census(&'a CensusFile),
}

/// The files of UCI Adult.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdultFiles {
    /// The published train file.
    pub train: String,
    /// The published test file.
    pub test: String,
}

/// The file of UCI census-income.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CensusFile {
    /// The published file.
    pub file: String,
}

impl SamplesConfig {
    /// The one source that is given.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn source(&self) -> Result<SampleSource<'_>, ConfigError> {
        match (&self.logs, &self.adult, &self.census) {
            (Some(logs), None, None) => Ok(SampleSource::Logs(logs)),
            (None, Some(files), None) => Ok(SampleSource::Adult(files)),
            (None, None, Some(file)) => Ok(SampleSource::Census(file)),
            (None, None, None) => Err(ConfigError::new(
                "[samples]: no source is given; add [samples.logs] with impressions, clicks and conversions"
                    .into(),
            )),
            _ => Err(ConfigError::new(
                "[samples]: more than one source is given; keep one of logs, adult and census".into(),
            )),
        }
    }

    /// The label of which training has fake negatives, if it has.
    pub fn late_label(&self) -> Option<&'static str> {
        self.logs.as_ref().and_then(EventLogs::late_label)
    }

    /// Checks what the types alone cannot.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let SampleSource::Logs(logs) = self.source()? {
            logs.check()?;
        }
        self.split.check()?;
        if self.split.by != SplitBy::Time && self.logs.is_none() {
            return Err(ConfigError::new(
                "[samples.split]: by = \"user\" and \"both\" need event logs; leave by out".into(),
            ));
        }
        if self.rows_per_shard == Some(0) {
            return Err(ConfigError::new("[samples]: rows_per_shard must be at least 1".into()));
        }
        if !(self.leak_auc > 0.5 && self.leak_auc <= 1.0) {
            return Err(ConfigError::new(format!(
                "[samples]: leak_auc must be above 0.5, which is chance, and at most 1, found {}",
                self.leak_auc
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
