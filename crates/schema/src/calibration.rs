//! Calibration: what turns a task's raw output into a probability that holds on validation, and
//! the record of what that changed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    recipe::{ModelConfig, ModelKind},
    strict::ConfigError,
    task::{FakeNegatives, Loss, Task},
};

/// How a calibration is fitted on the validation rows of a task's sample space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CalibrationMethod {
    /// A logistic curve of the logit (Platt 1999): two numbers, which some hundred positives
    /// settle, and the order of scores stays what it is.
    Platt,
    /// A rising, piecewise linear curve of the probability (Zadrozny and Elkan 2002): any bend, for
    /// which it needs thousands of positives. Scores beyond its ends become equal.
    Isotonic,
}

impl CalibrationMethod {
    /// The word used in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            CalibrationMethod::Platt => "platt",
            CalibrationMethod::Isotonic => "isotonic",
        }
    }
}

/// What the graphs of a bundle do to a task's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Calibrator {
    /// `sigmoid(scale · z + shift)` of the logit z.
    Logistic {
        /// Factor of the logit.
        scale: f32,
        /// Added to it. For samples that keep a share w of their negatives, `ln w` undoes the
        /// sampling: `p / (p + (1 − p)/w)`.
        shift: f32,
    },
    /// The piecewise linear curve through these points, level outside.
    Curve {
        /// Raw probabilities, at least two, strictly rising.
        scores: Vec<f32>,
        /// What they become.
        rates: Vec<f32>,
    },
}

/// A calibrated task, as the bundle's manifest records it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The task.
    pub task: String,
    /// How it was fitted; absent where sampling alone is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<CalibrationMethod>,
    /// Share of negatives in the samples; 1 means all.
    pub negative_sampling_rate: f64,
    /// What the graphs do.
    pub calibrator: Calibrator,
    /// Validation rows of the task's sample space, which it was fitted on.
    pub rows: usize,
    /// The raw output on those rows.
    pub before: CalibrationFigures,
    /// The calibrated output on the same rows; on rows it was not fitted on it is a little worse.
    pub after: CalibrationFigures,
}

/// How well probabilities hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationFigures {
    /// Expected calibration error over bins of equal weight.
    pub ece: f64,
    /// Predicted over observed positives.
    pub pcoc: f64,
    /// Mean negative log likelihood in nats.
    pub log_loss: f64,
}

/// Checks `[train] calibrate` against tasks and model.
pub(crate) fn check_methods(
    methods: &BTreeMap<String, CalibrationMethod>,
    tasks: &[Task],
    model: &ModelConfig,
) -> Result<(), ConfigError> {
    let fail = |text: String| Err(ConfigError::new(format!("[train]: calibrate: {text}")));
    for (name, method) in methods {
        let Some(task) = tasks.iter().find(|task| task.name == *name) else {
            let known: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
            return fail(format!(
                "'{name}' is not a task (those are: {}); a derived output uses its calibrated factors",
                known.join(", ")
            ));
        };
        if task.loss != Loss::CrossEntropy {
            return fail(format!("'{name}' has the loss {} and predicts no probability", task.loss.name()));
        }
        if *method == CalibrationMethod::Platt && model.kind == ModelKind::Aitm && task.given.is_some() {
            return fail(format!(
                "'{name}' is a quotient of probabilities in {} and has no logit: use isotonic",
                model.kind.name()
            ));
        }
        if *method == CalibrationMethod::Platt && task.fake_negatives == Some(FakeNegatives::Calibrated) {
            return fail(format!(
                "'{name}' is calibrated for its fake negatives already and has no logit: use isotonic"
            ));
        }
    }
    Ok(())
}
