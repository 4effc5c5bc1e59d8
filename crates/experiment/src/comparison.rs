//! Offline comparison of models on one sample set.
//!
//! The first model is the baseline. For each output (a name *and* a sample space) every model gets
//! its AUC with a cluster bootstrap interval, GAUC, log loss, normalised entropy and calibration;
//! each other model also its difference in AUC to the baseline, with an interval from the same
//! resamples and the p-value of DeLong's test with requests as clusters.
//!
//! Models can only be paired on the same rows, so two models with an output of the same name,
//! space and label must bring the same labels and requests, row by row; anything else is an error.

mod compute;
mod html;
mod number;
mod plot;
mod text;

use std::sync::Arc;

use gatefold_metrics::{BootstrapOptions, MetricError};
use serde::Serialize;

pub use crate::page::CalibrationBin;
pub use compute::compare;
pub use html::render_html;
pub use text::render_text;

/// What is compared: models scored on one sample set. The first model is the baseline.
#[derive(Debug, Clone)]
pub struct ComparisonInput {
    /// The rows the models were scored on.
    pub sample_set: SampleSet,
    /// The models, baseline first.
    pub models: Vec<ModelScores>,
}

/// Name and description of the rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SampleSet {
    /// Short name, such as `synthetic test`.
    pub name: String,
    /// What the rows are: period, source, sampling. May be empty.
    pub description: String,
}

/// A model and its scores.
#[derive(Debug, Clone)]
pub struct ModelScores {
    /// Bundle name.
    pub name: String,
    /// Bundle version; 0 where the scores come from no bundle.
    pub version: u64,
    /// Kind of model, such as `mmoe`.
    pub kind: String,
    /// Its outputs; models need not have the same ones.
    pub outputs: Vec<OutputScores>,
}

/// One output of a model on the rows of its sample space. Labels and requests are shared between
/// models: make them once and clone the [`Arc`].
#[derive(Debug, Clone)]
pub struct OutputScores {
    /// Name of the output, such as `cvr`.
    pub output: String,
    /// The rows it is evaluated on, in words that complete "cvr on …": `clicked impressions`.
    pub space: String,
    /// Name of the label, such as `conversion`.
    pub label: String,
    /// Predicted probability of each row.
    pub scores: Vec<f32>,
    /// Label of each row, 0 or 1.
    pub labels: Arc<[f32]>,
    /// Request of each row: rows of one request are resampled together.
    pub requests: Arc<[u32]>,
}

/// How to compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ComparisonOptions {
    /// Resamples, confidence of the intervals, and seed.
    pub bootstrap: BootstrapOptions,
    /// Bins of the calibration curves and of the calibration error.
    pub calibration_bins: usize,
}

impl Default for ComparisonOptions {
    fn default() -> Self {
        Self { bootstrap: BootstrapOptions::default(), calibration_bins: 15 }
    }
}

/// The result of [`compare`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The rows compared on.
    pub sample_set: SampleSet,
    /// Confidence of every interval, such as 0.95.
    pub confidence: f64,
    /// Bootstrap resamples asked for.
    pub replicates: usize,
    /// Seed of the resamples.
    pub seed: u64,
    /// The models in the order given; the first is the baseline.
    pub models: Vec<ModelName>,
    /// One entry for each output and sample space, in order of first appearance.
    pub outputs: Vec<OutputComparison>,
}

/// A model as the report names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelName {
    /// Bundle name.
    pub name: String,
    /// Bundle version; 0 where the scores come from no bundle.
    pub version: u64,
    /// Kind of model.
    pub kind: String,
}

impl ModelName {
    /// Name and version, such as `mmoe v3`; the name alone where the version is 0, as of scores
    /// that come from no bundle.
    pub fn full(&self) -> String {
        match self.version {
            0 => self.name.clone(),
            version => format!("{} v{version}", self.name),
        }
    }
}

/// One output on one sample space, all models on the same rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputComparison {
    /// Name of the output.
    pub output: String,
    /// The rows it is evaluated on.
    pub space: String,
    /// Name of the label.
    pub label: String,
    /// Number of rows.
    pub rows: usize,
    /// Rows with label 1.
    pub positives: usize,
    /// Number of requests.
    pub requests: usize,
    /// Why figures are absent, where some are.
    pub note: Option<String>,
    /// Results of the models that have this output, in the order of [`Comparison::models`].
    pub results: Vec<ModelResult>,
}

impl OutputComparison {
    /// Output and sample space, such as `cvr on clicked impressions`.
    pub fn title(&self) -> String {
        format!("{} on {}", self.output, self.space)
    }
}

/// One model on one output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelResult {
    /// Place of the model in [`Comparison::models`].
    pub model: usize,
    /// Area under the ROC curve; absent if one class only occurs.
    pub auc: Option<Estimate>,
    /// AUC within requests, weighted by their rows; absent if no request has both classes.
    pub gauc: Option<f64>,
    /// Mean negative log likelihood in nats.
    pub log_loss: f64,
    /// Log loss over that of the constant base rate; absent if one class only occurs.
    pub normalized_entropy: Option<f64>,
    /// Predicted over observed positives; absent without positives.
    pub pcoc: Option<f64>,
    /// Expected calibration error over equal-count bins.
    pub calibration_error: f64,
    /// AUC minus the baseline's; absent for the baseline and where it lacks the output.
    pub auc_difference: Option<Difference>,
    /// The calibration curve, in equal-count bins.
    pub calibration: Vec<CalibrationBin>,
}

/// A value with its bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The value on all rows.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Standard deviation of the resamples.
    pub standard_error: f64,
}

/// A difference in AUC to the baseline on the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// The difference with its paired bootstrap interval.
    pub estimate: Estimate,
    /// Two-sided p-value of DeLong's test, requests as clusters; absent with too few requests.
    pub delong_p_value: Option<f64>,
}

/// What an interval says about a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The interval lies above zero.
    Better,
    /// The interval lies below zero.
    Worse,
    /// The interval holds zero.
    NoClearDifference,
}

impl Difference {
    /// Whether the interval excludes zero, and on which side.
    pub fn verdict(&self) -> Verdict {
        if self.estimate.low > 0.0 {
            Verdict::Better
        } else if self.estimate.high < 0.0 {
            Verdict::Worse
        } else {
            Verdict::NoClearDifference
        }
    }
}

/// Why models cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum ComparisonError {
    /// No model, or none with an output.
    #[error("there is nothing to compare: give at least one model with an output")]
    Nothing,
    /// An output without a name, sample space or label.
    #[error("an output of {model} has no {what}: every output states its name, sample space and label")]
    Unnamed {
        /// The model.
        model: String,
        /// What is empty.
        what: &'static str,
    },
    /// A model brings the same output twice.
    #[error("{model} has {output} twice: give each output and sample space once")]
    Duplicate {
        /// The model.
        model: String,
        /// The output with its sample space.
        output: String,
    },
    /// Two models bring different rows for the same output.
    #[error(
        "{output}: {model} and {other} differ in {what}{}: score all models on the same rows in the same order",
        row.map(|row| format!(" from row {row} on")).unwrap_or_default()
    )]
    DifferentRows {
        /// The output with its sample space.
        output: String,
        /// The model that differs.
        model: String,
        /// The first model with this output.
        other: String,
        /// What differs.
        what: &'static str,
        /// The first row that differs, if their number does not.
        row: Option<usize>,
    },
    /// The scores or labels of an output are unusable.
    #[error("{output}, model {model}")]
    Metric {
        /// The output with its sample space.
        output: String,
        /// The model.
        model: String,
        /// What is wrong.
        source: MetricError,
    },
}
