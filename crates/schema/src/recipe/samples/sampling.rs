//! Which rows of the training split are kept, and how the choice is made good again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::strict::ConfigError;

/// How the training split is thinned out. Validation and test stay whole, and everything before
/// (aggregates, sequences, fitted encoders) is made of all rows.
///
/// A row's hash is `murmur3_x86_32(item, murmur3_x86_32(request, seed))`, integers as their eight
/// little-endian bytes and texts as UTF-8: the choice depends on nothing but the identifiers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingConfig {
    /// Share of the negatives (rows on which no task has a positive label) that is kept: those
    /// whose hash is below this share of 2^32. Positives always stay.
    pub negatives: f64,
    /// How training makes up for the negatives that are missing.
    pub correct: Correction,
    /// The negatives of a request stay or go together, by the hash of the request alone.
    pub whole_requests: bool,
    /// Rows a user has at most, after the negatives were thinned out: those of the lowest hash with
    /// `seed + 1`, positive or not, so that no outcome is favoured. With `whole_requests` whole
    /// requests are taken in that order, as far as they fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_user: Option<u32>,
    /// Seed of the hash; another one keeps other rows.
    pub seed: u32,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self {
            negatives: 1.0,
            correct: Correction::default(),
            whole_requests: false,
            per_user: None,
            seed: 0,
        }
    }
}

/// How training makes up for a share w of the negatives: by one of the two, never both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Correction {
    /// The manifest names w, and the published model gives `q = p / (p + (1 − p)/w)`. The model learns
    /// from fewer rows that all count alike. Exact for a task whose negatives are the rows that were
    /// thinned out; where several tasks on all impressions have positives of their own, use `weight`.
    #[default]
    Rate,
    /// Each kept negative counts 1/w in every loss, by the column `weight`, which `[train]
    /// sample_weight = "weight"` names. Exact for every task.
    Weight,
}

/// The column of row weights.
pub const WEIGHT_COLUMN: &str = "weight";

impl SamplingConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fail = |text: String| Err(ConfigError::new(format!("[samples.logs.sampling]: {text}")));
        if !(self.negatives > 0.0 && self.negatives <= 1.0) {
            return fail(format!("negatives must be above 0 and at most 1, found {}", self.negatives));
        }
        if self.per_user == Some(0) {
            return fail("per_user must be at least 1; leave it out to keep all rows of a user".into());
        }
        Ok(())
    }
}
