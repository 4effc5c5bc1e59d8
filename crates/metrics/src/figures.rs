//! Every figure of one output on one sample space, computed one way for all who show or use it:
//! validation during training, `gatefold evaluate`, the comparison of models.

use std::fmt;

use crate::auc::{Gauc, auc, gauc};
use crate::calibration::{Binning, expected_calibration_error};
use crate::error::MetricError;
use crate::ndcg::{Ndcg, ndcg_at};
use crate::probability::{log_loss, mean_squared_error, normalized_entropy, pcoc};

/// The rows that an output is judged on; all slices have one value a row.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// Predicted probabilities.
    pub scores: &'a [f32],
    /// What happened: 0 or 1.
    pub labels: &'a [f32],
    /// How much each row counts; every row once without.
    pub weights: Option<&'a [f32]>,
    /// Request or user of each row, for [`Figures::gauc`] and [`Figures::ndcg`].
    pub groups: Option<&'a [u32]>,
}

/// What the figures need to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FigureOptions {
    /// Bins of both calibration errors.
    pub bins: usize,
    /// Ranks that the NDCG looks at.
    pub ndcg_at: usize,
}

impl Default for FigureOptions {
    fn default() -> Self {
        Self { bins: 15, ndcg_at: 10 }
    }
}

/// The figures of one output. A figure is absent where the rows are too poor for it to be defined:
/// one class only, no group with both classes, no groups at all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Rows judged.
    pub rows: usize,
    /// Rows among them with label 1.
    pub positives: usize,
    /// Area under the ROC curve.
    pub auc: Option<f64>,
    /// AUC within groups, weighted by their impressions.
    pub gauc: Option<Gauc>,
    /// Mean NDCG of the groups.
    pub ndcg: Option<Ndcg>,
    /// Mean negative log likelihood in nats; absent for values that are no probabilities.
    pub log_loss: Option<f64>,
    /// Log loss over that of the base rate.
    pub normalized_entropy: Option<f64>,
    /// Predicted over observed positives.
    pub pcoc: Option<f64>,
    /// Expected calibration error over bins of equal weight.
    pub ece: Option<f64>,
    /// Expected calibration error over bins of equal width.
    pub ece_equal_width: Option<f64>,
    /// Mean squared error; of probabilities, the Brier score.
    pub squared_error: f64,
}

impl Figures {
    /// Judges probabilities of an outcome that happens or does not.
    ///
    /// # Errors
    /// NaN or scores outside [0, 1], labels other than 0 and 1, bad weights, unequal lengths.
    pub fn of_probabilities(rows: &Judged<'_>, options: &FigureOptions) -> Result<Self, MetricError> {
        let Judged { scores, labels, weights, groups } = *rows;
        let ece =
            |binning| expected_calibration_error(scores, labels, weights, options.bins, binning).map(Some);
        let grouped_auc = groups.map(|groups| defined(gauc(scores, labels, weights, groups))).transpose()?;
        let ndcg =
            groups.map(|groups| defined(ndcg_at(scores, labels, groups, options.ndcg_at))).transpose()?;
        Ok(Self {
            auc: defined(auc(scores, labels, weights))?,
            gauc: grouped_auc.flatten(),
            ndcg: ndcg.flatten(),
            log_loss: Some(log_loss(scores, labels, weights)?),
            normalized_entropy: defined(normalized_entropy(scores, labels, weights))?,
            pcoc: defined(pcoc(scores, labels, weights))?,
            ece: ece(Binning::EqualCount)?,
            ece_equal_width: ece(Binning::EqualWidth)?,
            squared_error: mean_squared_error(scores, labels, weights)?,
            rows: scores.len(),
            positives: labels.iter().filter(|&&label| label == 1.0).count(),
        })
    }

    /// Judges predictions of a number: [`Figures::squared_error`] alone is defined.
    ///
    /// # Errors
    /// NaN scores, labels that are not finite, bad weights, unequal lengths.
    pub fn of_values(rows: &Judged<'_>) -> Result<Self, MetricError> {
        Ok(Self {
            rows: rows.scores.len(),
            positives: 0,
            auc: None,
            gauc: None,
            ndcg: None,
            log_loss: None,
            normalized_entropy: None,
            pcoc: None,
            ece: None,
            ece_equal_width: None,
            squared_error: mean_squared_error(rows.scores, rows.labels, rows.weights)?,
        })
    }

    /// The figure of that name, where it is defined.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::Auc => self.auc,
            Metric::Gauc => self.gauc.map(|gauc| gauc.value),
            Metric::Ndcg => self.ndcg.map(|ndcg| ndcg.value),
            Metric::LogLoss => self.log_loss,
            Metric::NormalizedEntropy => self.normalized_entropy,
            Metric::Pcoc => self.pcoc,
            Metric::Ece => self.ece,
            Metric::EceEqualWidth => self.ece_equal_width,
            Metric::SquaredError => Some(self.squared_error),
        }
    }
}

/// None where the sample is too poor for a figure to be defined; other errors stay errors.
///
/// # Errors
/// What is wrong with the input itself.
pub fn defined<T>(found: Result<T, MetricError>) -> Result<Option<T>, MetricError> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(
            MetricError::OneClass { .. }
            | MetricError::NoUsableGroup { .. }
            | MetricError::TooFewUnits { .. },
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The figures by name, as recipes, tables and JSON name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// [`Figures::auc`].
    Auc,
    /// [`Figures::gauc`].
    Gauc,
    /// [`Figures::ndcg`].
    Ndcg,
    /// [`Figures::log_loss`].
    LogLoss,
    /// [`Figures::normalized_entropy`].
    NormalizedEntropy,
    /// [`Figures::pcoc`].
    Pcoc,
    /// [`Figures::ece`].
    Ece,
    /// [`Figures::ece_equal_width`].
    EceEqualWidth,
    /// [`Figures::squared_error`].
    SquaredError,
}

impl Metric {
    /// Every metric, in the order of tables.
    pub const ALL: [Metric; 9] = [
        Metric::Auc,
        Metric::Gauc,
        Metric::Ndcg,
        Metric::LogLoss,
        Metric::NormalizedEntropy,
        Metric::Pcoc,
        Metric::Ece,
        Metric::EceEqualWidth,
        Metric::SquaredError,
    ];

    /// The name in recipes, manifests and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Auc => "auc",
            Metric::Gauc => "gauc",
            Metric::Ndcg => "ndcg",
            Metric::LogLoss => "log_loss",
            Metric::NormalizedEntropy => "normalized_entropy",
            Metric::Pcoc => "pcoc",
            Metric::Ece => "ece",
            Metric::EceEqualWidth => "ece_equal_width",
            Metric::SquaredError => "squared_error",
        }
    }

    /// The name for people, as a column of a table has it.
    pub fn title(self) -> &'static str {
        match self {
            Metric::Auc => "AUC",
            Metric::Gauc => "GAUC",
            Metric::Ndcg => "NDCG",
            Metric::LogLoss => "log loss",
            Metric::NormalizedEntropy => "NE",
            Metric::Pcoc => "PCOC",
            Metric::Ece => "ECE",
            Metric::EceEqualWidth => "ECE (equal width)",
            Metric::SquaredError => "squared error",
        }
    }

    /// The metric of that [`Metric::name`]; a hyphen may stand for an underscore, as in recipes.
    pub fn from_name(name: &str) -> Option<Metric> {
        let name = name.replace('-', "_");
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// The value turned so that more is better: a loss becomes negative, and the PCOC, whose best
    /// value is 1, the negative distance of its logarithm from 0.
    pub fn goodness(self, value: f64) -> f64 {
        match self {
            Metric::Auc | Metric::Gauc | Metric::Ndcg => value,
            Metric::Pcoc => -value.ln().abs(),
            Metric::LogLoss
            | Metric::NormalizedEntropy
            | Metric::Ece
            | Metric::EceEqualWidth
            | Metric::SquaredError => -value,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
