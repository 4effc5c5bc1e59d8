//! The training loop: `[train]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{calibration::CalibrationMethod, strict::ConfigError};

/// The training loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Passes over the training split.
    pub epochs: usize,
    /// Rows a step.
    pub batch_size: usize,
    /// Adam's step size.
    pub learning_rate: f32,
    /// Step size of embedding rows; `learning_rate` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_learning_rate: Option<f32>,
    /// Seed of initial weights and of the order of batches.
    pub seed: u64,
    /// Evaluate on validation after this many steps, as well as after each epoch; 0 means only
    /// after each epoch.
    pub evaluate_every: usize,
    /// Stop after this many evaluations without a better mean validation AUC; 0 means never.
    pub patience: usize,
    /// Whether the batches of the training split are shuffled each epoch.
    pub shuffle: bool,
    /// Whether a batch is made of whole requests (about `batch_size` rows), so that what depends on
    /// user and context alone is computed once a request.
    pub request_batches: bool,
    /// How each task's output is calibrated on validation after training; not at all unless given.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub calibrate: BTreeMap<String, CalibrationMethod>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 1,
            batch_size: 1024,
            learning_rate: 1e-3,
            embedding_learning_rate: None,
            seed: 1,
            evaluate_every: 0,
            patience: 0,
            shuffle: true,
            request_batches: false,
            calibrate: BTreeMap::new(),
        }
    }
}

impl TrainConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fail = |text: &str| Err(ConfigError::new(format!("[train]: {text}")));
        if self.epochs == 0 {
            return fail("epochs must be at least 1");
        }
        if !(1..=1_000_000).contains(&self.batch_size) {
            return fail("batch_size must be between 1 and 1000000");
        }
        let rates = [Some(self.learning_rate), self.embedding_learning_rate];
        if rates.iter().flatten().any(|rate| !(rate.is_finite() && *rate > 0.0)) {
            return fail("learning rates must be finite and above 0");
        }
        Ok(())
    }
}
