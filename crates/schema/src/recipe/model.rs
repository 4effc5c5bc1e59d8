//! The model: `[model]`.

mod check;
mod kind;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use kind::{Activation, ModelKind, Normalization};

/// What stands for the task in the names of parts that CGC and PLE share between tasks.
pub const SHARED: &str = "shared";

/// The model: its kind and the widths of its parts. Parts that a kind does not have are ignored,
/// so that one recipe serves every kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Which model.
    pub kind: ModelKind,
    /// Hidden widths below the towers, of models without experts.
    #[serde(default = "default_bottom")]
    pub bottom: Vec<usize>,
    /// Number of experts; of shared experts in CGC and PLE.
    #[serde(default = "default_experts")]
    pub experts: usize,
    /// Number of experts of each task's own in CGC and PLE.
    #[serde(default = "default_task_experts")]
    pub task_experts: usize,
    /// Number of extraction levels of PLE.
    #[serde(default = "default_levels")]
    pub levels: usize,
    /// Hidden widths of each expert.
    #[serde(default = "default_bottom")]
    pub expert: Vec<usize>,
    /// Hidden widths of each gate, before its softmax layer.
    #[serde(default)]
    pub gate: Vec<usize>,
    /// Hidden widths of each task's tower, before its one-unit layer.
    #[serde(default = "default_tower")]
    pub tower: Vec<usize>,
    /// What follows each hidden layer.
    #[serde(default)]
    pub activation: Activation,
    /// What comes before the activation of each hidden layer.
    #[serde(default)]
    pub normalization: Normalization,
    /// Share of the units that a hidden layer leaves out at each step of training, after the
    /// activation.
    #[serde(default)]
    pub dropout: f32,
    /// Hidden widths of the activation unit of sequences pooled by attention.
    #[serde(default = "default_attention")]
    pub attention: Vec<usize>,
    /// Strength of the penalty of l2-sharing and trace-norm.
    #[serde(default = "default_sharing")]
    pub sharing: f32,
    /// Strength of AITM's calibrator: of the constraint that no outcome is likelier than the one
    /// before it.
    #[serde(default = "default_calibrator")]
    pub calibrator: f32,
}

fn default_bottom() -> Vec<usize> {
    vec![256, 128]
}
fn default_experts() -> usize {
    8
}
fn default_task_experts() -> usize {
    2
}
fn default_levels() -> usize {
    2
}
fn default_tower() -> Vec<usize> {
    vec![64]
}
fn default_attention() -> Vec<usize> {
    vec![36]
}
fn default_sharing() -> f32 {
    0.01
}
fn default_calibrator() -> f32 {
    0.6
}

impl ModelConfig {
    /// A model of this kind with the default of every other setting.
    pub fn new(kind: ModelKind) -> Self {
        Self {
            kind,
            bottom: default_bottom(),
            experts: default_experts(),
            task_experts: default_task_experts(),
            levels: default_levels(),
            expert: default_bottom(),
            gate: Vec::new(),
            tower: default_tower(),
            activation: Activation::default(),
            normalization: Normalization::default(),
            dropout: 0.0,
            attention: default_attention(),
            sharing: default_sharing(),
            calibrator: default_calibrator(),
        }
    }
}
