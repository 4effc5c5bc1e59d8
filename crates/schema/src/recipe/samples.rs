//! How samples are built: `[samples]`.

mod derived;
mod logs;

use serde::{Deserialize, Serialize};

use crate::{
    span::{Instant, Span},
    strict::ConfigError,
};

pub use derived::{Aggregate, BY_ITEM, BY_USER, EventKind, SequenceConfig, Statistic};
pub use logs::{
    ClickKey, ConversionPolicy, EventLogs, Files, LabelConfig, Log, Maturity, Profiles, TimeUnit,
};

/// How samples are built from a source: `logs`, `adult` or `census`, one of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdultFiles {
    /// The published train file.
    pub train: String,
    /// The published test file.
    pub test: String,
}

/// The file of UCI census-income.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

    /// Checks what the types alone cannot.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let SampleSource::Logs(logs) = self.source()? {
            logs.check()?;
        }
        self.split.check()?;
        if self.rows_per_shard == 0 {
            return Err(ConfigError::new("[samples]: rows_per_shard must be at least 1".into()));
        }
        Ok(())
    }
}

/// How rows are divided: by shares, or at given times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// Share of the rows (the latest before the test rows, or by hash where there is no time)
    /// used for validation. Not read where `valid_from` is given.
    #[serde(default = "default_share")]
    pub valid: f64,
    /// Share of the latest rows, or by hash, used for the test; ignored where the source has a test
    /// file. Not read where `test_from` is given.
    #[serde(default = "default_share")]
    pub test: f64,
    /// Requests at this time and later are for validation (and those from `test_from` for the test).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Instant>,
    /// Requests at this time and later are for the test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_from: Option<Instant>,
    /// Requests less long than this before the next split begins are left out, so that no label of
    /// the earlier split looks into the later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Span>,
}

fn default_share() -> f64 {
    0.1
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self { valid: 0.1, test: 0.1, valid_from: None, test_from: None, gap: None }
    }
}

impl SplitConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let fail = |text: String| Err(ConfigError::new(format!("[samples.split]: {text}")));
        let shares = [("valid", self.valid), ("test", self.test), ("valid + test", self.valid + self.test)];
        if let Some((name, value)) = shares.into_iter().find(|(_, share)| !(0.0..1.0).contains(share)) {
            return fail(format!("{name} must be at least 0 and below 1, found {value}"));
        }
        match (self.valid_from, self.test_from) {
            (Some(valid), Some(test)) if valid > test => fail(format!(
                "valid_from ({valid}) is later than test_from ({test}); validation comes before the test"
            )),
            (Some(_), Some(_)) | (None, None) => Ok(()),
            _ => fail(
                "give both valid_from and test_from, or neither; a split may be empty if they are equal"
                    .into(),
            ),
        }
    }
}

#[cfg(test)]
mod tests;
