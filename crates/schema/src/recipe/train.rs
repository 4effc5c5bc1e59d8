//! The training loop: `[train]`.
//!
//! - [`balance`]: how the losses of the tasks are weighed against each other.
//! - [`optimizer`]: how a gradient becomes a step.
//! - [`schedule`]: how the step size changes over a training.
//! - [`select`]: what the best parameters are chosen by.

mod balance;
mod optimizer;
mod schedule;
mod select;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    calibration::CalibrationMethod,
    strict::ConfigError,
    task::{Derived, Task},
};

pub use balance::BalanceConfig;
pub use optimizer::OptimizerConfig;
pub use schedule::ScheduleConfig;
pub use select::{SelectConfig, SelectMetric};

/// Key of [`TrainConfig::alternate`] for batches that every task learns from.
pub const JOINT: &str = "joint";

/// The training loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Passes over the training split.
    pub epochs: usize,
    /// Rows a step.
    pub batch_size: usize,
    /// Step size of the optimizer.
    pub learning_rate: f32,
    /// Step size of embedding rows; `learning_rate` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_learning_rate: Option<f32>,
    /// Seed of initial weights, of the order of batches and of dropout.
    pub seed: u64,
    /// Evaluate on validation after this many steps, as well as after each epoch; 0 means only
    /// after each epoch.
    pub evaluate_every: usize,
    /// Stop after this many evaluations that were no better than the best; 0 means never.
    pub patience: usize,
    /// Whether the batches of the training split are shuffled each epoch.
    pub shuffle: bool,
    /// Whether a batch is made of whole requests (about `batch_size` rows), so that what depends on
    /// user and context alone is computed once a request. One may turn it off where a batch would
    /// hold only a few requests, whose rows are much alike.
    pub request_batches: bool,
    /// How each task's output is calibrated on validation after training; not at all unless given.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub calibrate: BTreeMap<String, CalibrationMethod>,
    /// How a gradient becomes a step.
    pub optimizer: OptimizerConfig,
    /// The same for embedding tables; `optimizer` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_optimizer: Option<OptimizerConfig>,
    /// How the step size changes over the training.
    pub schedule: ScheduleConfig,
    /// Longest gradient, over all parameters together; longer ones are scaled down to it. One may
    /// set it where single batches throw a training off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f32>,
    /// Weight of half the sum of squares of the dense parameters in the loss.
    pub l2: f32,
    /// The same for the rows of embedding tables that a batch looks up.
    pub embedding_l2: f32,
    /// How the losses of the tasks are weighed against each other in joint batches.
    pub balance: BalanceConfig,
    /// Batches of each kind in one round: `joint` ones, which every task learns from, and those of
    /// one task, drawn from its sample space, which change only the parameters that its loss
    /// reaches. Joint batches only unless given.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub alternate: BTreeMap<String, usize>,
    /// What the best parameters are chosen by: the mean AUC over the outputs that a loss teaches,
    /// unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select: Option<SelectConfig>,
    /// Column of the shards with a weight for each row in every loss; 1 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_weight: Option<String>,
    /// What is done about a conditional outcome without its condition, such as a conversion
    /// without a click.
    pub outside_space: OutsideSpace,
}

/// What is done about rows whose labels contradict each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OutsideSpace {
    /// They are counted, and the training is refused.
    #[default]
    Fail,
    /// They are counted and left out.
    Drop,
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
            request_batches: true,
            calibrate: BTreeMap::new(),
            optimizer: OptimizerConfig::default(),
            embedding_optimizer: None,
            schedule: ScheduleConfig::default(),
            clip_norm: None,
            l2: 0.0,
            embedding_l2: 0.0,
            balance: BalanceConfig::default(),
            alternate: BTreeMap::new(),
            select: None,
            sample_weight: None,
            outside_space: OutsideSpace::default(),
        }
    }
}

impl TrainConfig {
    /// The optimizer of embedding tables.
    pub fn table_optimizer(&self) -> &OptimizerConfig {
        self.embedding_optimizer.as_ref().unwrap_or(&self.optimizer)
    }

    pub(super) fn check(&self, tasks: &[Task], derived: &[Derived]) -> Result<(), ConfigError> {
        let fail = |text: String| Err(ConfigError::new(format!("[train]: {text}")));
        if self.epochs == 0 {
            return fail("epochs must be at least 1".into());
        }
        if !(1..=1_000_000).contains(&self.batch_size) {
            return fail("batch_size must be between 1 and 1000000".into());
        }
        let rates = [Some(self.learning_rate), self.embedding_learning_rate];
        if rates.iter().flatten().any(|rate| !(rate.is_finite() && *rate > 0.0)) {
            return fail("learning rates must be finite and above 0".into());
        }
        if self.clip_norm.is_some_and(|norm| !(norm.is_finite() && norm > 0.0)) {
            return fail("clip_norm must be finite and above 0".into());
        }
        if [self.l2, self.embedding_l2].iter().any(|weight| !(weight.is_finite() && *weight >= 0.0)) {
            return fail("l2 and embedding_l2 must be finite and at least 0".into());
        }
        let of_parts = self
            .optimizer
            .check()
            .and_then(|()| self.table_optimizer().check())
            .and_then(|()| self.schedule.check())
            .and_then(|()| self.balance.check())
            .and_then(|()| self.select.as_ref().map_or(Ok(()), |select| select.check(tasks, derived)));
        if let Err(text) = of_parts {
            return fail(text);
        }
        self.check_alternate(tasks).or_else(fail)
    }

    fn check_alternate(&self, tasks: &[Task]) -> Result<(), String> {
        for (kind, batches) in &self.alternate {
            let is_task = tasks.iter().any(|task| task.name == *kind);
            if kind == JOINT && is_task {
                return Err(format!(
                    "alternate: '{JOINT}' would mean both a task and joint batches: rename the task"
                ));
            }
            if kind != JOINT && !is_task {
                let known: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
                return Err(format!(
                    "alternate: '{kind}' is neither '{JOINT}' nor a task (those are: {})",
                    known.join(", ")
                ));
            }
            if *batches > 1000 {
                return Err(format!("alternate: {kind} = {batches} batches a round: at most 1000"));
            }
        }
        if !self.alternate.is_empty() && self.alternate.values().all(|batches| *batches == 0) {
            return Err("alternate: at least one kind of batch must have a number above 0".into());
        }
        Ok(())
    }
}
