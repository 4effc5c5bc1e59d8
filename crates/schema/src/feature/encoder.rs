//! How raw values become codes or numbers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::span::Span;

/// How raw values become codes or numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Encoder {
    /// Codes by a vocabulary fitted on the training split.
    Vocab {
        /// Values seen fewer times than this are out of vocabulary.
        #[serde(default = "one")]
        min_count: u64,
        /// Number of buckets that unseen values are hashed into (at least 1).
        #[serde(default = "one_u32")]
        oov_buckets: u32,
    },
    /// Codes by murmur3_x86_32 of the value's bytes modulo `buckets`.
    Hash {
        /// Number of buckets.
        buckets: u32,
        /// Seed of the hash.
        #[serde(default)]
        seed: u32,
    },
    /// Codes by the position of a number among ascending `edges`: the code of a value is the
    /// number of edges that are less than or equal to it.
    Bucketize {
        /// Strictly ascending edges.
        edges: Vec<f64>,
    },
    /// As [`Encoder::Bucketize`], with edges fitted on the training split: its quantiles at `i / buckets`,
    /// where values that occur often make some edges one. Quantiles are those of NumPy's default
    /// (definition 7 of Hyndman and Fan, The American Statistician 50, 1996: linear between the order
    /// statistics around `(n − 1) · i / buckets`).
    Quantile {
        /// Number of buckets wanted, 2 to 65,536.
        buckets: u32,
    },
    /// The values are codes already, as a model that came from elsewhere was trained on: whole numbers
    /// of at least 0 and below `codes`. Others are refused. Only the map of an import declares it.
    Given {
        /// Number of codes: the rows of the model's embedding table.
        codes: u32,
        /// The code of a value that is absent.
        #[serde(default)]
        missing: u32,
        /// The code that fills a sequence up.
        #[serde(default)]
        padding: u32,
    },
    /// `(x − mean) / standard deviation`, both fitted on the training split; missing is 0.
    Standardize,
    /// `(x − min) / (max − min)`, fitted on the training split and clipped to 0..1; missing is 0.
    MinMax,
    /// `sign(x) · ln(1 + |x|)`; missing is 0.
    Log1p,
    /// The number as it is; missing is 0.
    None,
    /// The mean of a task's label over the training rows that have the value, drawn to the mean over all of
    /// them, the prior, where the value is rare: `(sum + prior · smoothing) / (count + smoothing)`
    /// (Micci-Barreca, SIGKDD Explorations 3, 2001, equation 3 with n / (n + smoothing) as its weight).
    /// A missing value, and one that no training row has, is the prior. Rows outside the sample space of
    /// the task do not count.
    ///
    /// A training row must not see its own label: what it gets instead is said by `by`.
    Target {
        /// Name of the task.
        task: String,
        /// How many rows the prior counts as; above 0.
        #[serde(default = "default_smoothing")]
        smoothing: f64,
        /// Which other rows a training row learns from.
        #[serde(default, skip_serializing_if = "TargetBy::is_default")]
        by: TargetBy,
        /// Number of folds, at least 2; [`DEFAULT_FOLDS`] unless given. For `by = "folds"` alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folds: Option<u32>,
        /// How long after its row a label is known, 0 unless given: it should be the longest window of the
        /// task's label, as a label is taken to be known from then on. For `by = "time"` alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delay: Option<Span>,
    },
}

/// Folds of a target encoding that says nothing of them.
pub const DEFAULT_FOLDS: u32 = 5;

/// Which rows the target encoding of a training row is made of. Every other row gets that of all
/// training rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TargetBy {
    /// The training rows of the other folds, the prior included. The fold of a row is a hash of its
    /// request, so that the rows of a request never learn from each other.
    #[default]
    Folds,
    /// The training rows before it: those whose label was known before its own time. Rows of one time
    /// do not see each other. Where there are none before it, the value is 0.
    Time,
}

impl TargetBy {
    fn is_default(&self) -> bool {
        *self == TargetBy::default()
    }
}

/// A range that numbers are brought into.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clip {
    /// Numbers below become this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Numbers above become this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

impl Clip {
    /// `value`, a number, or the bound that it is beyond.
    pub fn apply(&self, value: f64) -> f64 {
        let raised = self.min.map_or(value, |min| value.max(min));
        self.max.map_or(raised, |max| raised.min(max))
    }
}

impl Encoder {
    /// The word used in files and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Encoder::Vocab { .. } => "vocab",
            Encoder::Hash { .. } => "hash",
            Encoder::Bucketize { .. } => "bucketize",
            Encoder::Quantile { .. } => "quantile",
            Encoder::Given { .. } => "given",
            Encoder::Standardize => "standardize",
            Encoder::MinMax => "min-max",
            Encoder::Log1p => "log1p",
            Encoder::None => "none",
            Encoder::Target { .. } => "target",
        }
    }

    /// Whether it gives codes, which an embedding table is read by, and not numbers.
    pub fn is_coded(&self) -> bool {
        match self {
            Encoder::Vocab { .. }
            | Encoder::Hash { .. }
            | Encoder::Bucketize { .. }
            | Encoder::Quantile { .. }
            | Encoder::Given { .. } => true,
            Encoder::Standardize
            | Encoder::MinMax
            | Encoder::Log1p
            | Encoder::None
            | Encoder::Target { .. } => false,
        }
    }

    /// Whether it reads numbers, and not values that are the same or another.
    pub fn reads_numbers(&self) -> bool {
        match self {
            Encoder::Bucketize { .. }
            | Encoder::Quantile { .. }
            | Encoder::Standardize
            | Encoder::MinMax
            | Encoder::Log1p
            | Encoder::None => true,
            Encoder::Vocab { .. } | Encoder::Hash { .. } | Encoder::Given { .. } | Encoder::Target { .. } => {
                false
            }
        }
    }
}

fn one() -> u64 {
    1
}
fn one_u32() -> u32 {
    1
}

fn default_smoothing() -> f64 {
    20.0
}
