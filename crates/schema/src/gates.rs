//! What a look into a model's gates and hidden layers found, as a bundle's manifest records it.

use serde::{Deserialize, Serialize};

/// Gates and hidden layers of a model on the rows of one split.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateReport {
    /// Rows looked at: the whole validation split.
    pub rows: usize,
    /// The gates in the order of the model.
    pub gates: Vec<GateFigures>,
    /// Shared experts that one task has for itself, in effect.
    pub captured: Vec<CapturedExpert>,
    /// The hidden layers in the order of the model.
    pub layers: Vec<LayerFigures>,
    /// What deserves attention, in sentences.
    pub warnings: Vec<String>,
}

/// How a gate spreads its weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateFigures {
    /// Name of the gate: `gate.<task>` or `gate.shared`, after `level.<l>.` in PLE.
    pub gate: String,
    /// Its experts with their mean weights, which add up to 1.
    pub experts: Vec<ExpertWeight>,
    /// Mean entropy of a row's weights, as a share of the largest possible: 0 where a row uses one
    /// expert, 1 where it uses all alike.
    pub entropy: f64,
    /// Entropy of the mean weights, as a share of the largest possible: 0 where every row uses the
    /// same expert.
    pub entropy_of_mean: f64,
}

/// An expert under a gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertWeight {
    /// Name of the expert.
    pub expert: String,
    /// Its mean weight.
    pub weight: f64,
}

/// A shared expert that one gate has for itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapturedExpert {
    /// Name of the expert.
    pub expert: String,
    /// The gate.
    pub gate: String,
    /// The gate's part of all weight that the gates of tasks give the expert.
    pub share: f64,
}

/// The units of a hidden layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerFigures {
    /// Name of the layer, such as `expert.0.1`.
    pub layer: String,
    /// Number of units.
    pub units: usize,
    /// Units with the same value on every row; of ReLUs, those never active.
    pub dead: usize,
}
