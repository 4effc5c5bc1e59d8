//! What the best parameters are chosen by.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::task::{Derived, Task};

/// A metric on the validation split, weighted over outputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelectConfig {
    /// The metric.
    #[serde(default)]
    pub metric: SelectMetric,
    /// Weight of each output, task or derived, in the mean of the metric; the tasks and derived
    /// outputs that a loss teaches, evenly, unless given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, f64>,
}

/// A metric that parameters can be chosen by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SelectMetric {
    /// Area under the ROC curve.
    #[default]
    Auc,
    /// AUC within requests, weighted by their impressions.
    Gauc,
    /// Mean NDCG of the requests.
    Ndcg,
    /// Mean negative log likelihood.
    LogLoss,
    /// Log loss over that of the base rate.
    NormalizedEntropy,
    /// Predicted over observed positives; 1 is best.
    Pcoc,
    /// Expected calibration error, bins of equal weight.
    Ece,
    /// Expected calibration error, bins of equal width.
    EceEqualWidth,
    /// Mean squared error.
    SquaredError,
}

impl SelectMetric {
    /// Every metric.
    pub const ALL: [SelectMetric; 9] = [
        SelectMetric::Auc,
        SelectMetric::Gauc,
        SelectMetric::Ndcg,
        SelectMetric::LogLoss,
        SelectMetric::NormalizedEntropy,
        SelectMetric::Pcoc,
        SelectMetric::Ece,
        SelectMetric::EceEqualWidth,
        SelectMetric::SquaredError,
    ];

    /// The word used in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            SelectMetric::Auc => "auc",
            SelectMetric::Gauc => "gauc",
            SelectMetric::Ndcg => "ndcg",
            SelectMetric::LogLoss => "log-loss",
            SelectMetric::NormalizedEntropy => "normalized-entropy",
            SelectMetric::Pcoc => "pcoc",
            SelectMetric::Ece => "ece",
            SelectMetric::EceEqualWidth => "ece-equal-width",
            SelectMetric::SquaredError => "squared-error",
        }
    }
}

impl SelectConfig {
    pub(super) fn check(&self, tasks: &[Task], derived: &[Derived]) -> Result<(), String> {
        let outputs: Vec<&str> = tasks
            .iter()
            .map(|task| &task.name)
            .chain(derived.iter().map(|output| &output.name))
            .map(String::as_str)
            .collect();
        for (output, weight) in &self.weights {
            if !outputs.contains(&output.as_str()) {
                return Err(format!("select: '{output}' is no output (those are: {})", outputs.join(", ")));
            }
            if !(weight.is_finite() && *weight >= 0.0) {
                return Err(format!(
                    "select: the weight of {output} must be finite and at least 0, found {weight}"
                ));
            }
        }
        if !self.weights.is_empty() && self.weights.values().all(|weight| *weight == 0.0) {
            return Err("select: at least one weight must be above 0".into());
        }
        Ok(())
    }
}
