//! How the losses of the tasks are weighed against each other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A rule that sets the weights of the losses, or combines their gradients. The weight of each
/// task in the recipe multiplies what the rule says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum BalanceConfig {
    /// The weights of the recipe.
    Fixed {},
    /// Weights learned as the uncertainty of each task (Kendall, Gal and Cipolla, CVPR 2018).
    Uncertainty {
        /// Step size of the learned log variances.
        #[serde(default = "uncertainty_rate")]
        learning_rate: f32,
    },
    /// Dynamic weight average: a task whose loss falls slower gets more weight (Liu, Johns and
    /// Davison, CVPR 2019). Losses are compared epoch by epoch.
    Dwa {
        /// A large one makes the weights more even.
        #[serde(default = "dwa_temperature")]
        temperature: f32,
    },
    /// Weights learned so that the gradients of all tasks at the last shared layer have the norms
    /// that their training rates ask for (Chen et al., ICML 2018).
    GradNorm {
        /// How strongly tasks that learn slower are pulled ahead.
        #[serde(default = "gradnorm_alpha")]
        alpha: f32,
        /// Step size of the weights.
        #[serde(default = "gradnorm_rate")]
        learning_rate: f32,
    },
    /// Gradients of shared parameters that conflict lose the part against each other (Yu et al.,
    /// NeurIPS 2020).
    PcGrad {},
}

fn uncertainty_rate() -> f32 {
    1e-3
}
fn dwa_temperature() -> f32 {
    2.0
}
fn gradnorm_alpha() -> f32 {
    1.5
}
fn gradnorm_rate() -> f32 {
    0.025
}

impl Default for BalanceConfig {
    fn default() -> Self {
        BalanceConfig::Fixed {}
    }
}

impl BalanceConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        let is_above_0 = |value: f32| value.is_finite() && value > 0.0;
        match *self {
            BalanceConfig::Dwa { temperature } if !is_above_0(temperature) => {
                Err("balance: temperature must be finite and above 0".into())
            }
            BalanceConfig::GradNorm { alpha, .. } if !(alpha.is_finite() && alpha >= 0.0) => {
                Err("balance: alpha must be finite and at least 0".into())
            }
            BalanceConfig::Uncertainty { learning_rate } | BalanceConfig::GradNorm { learning_rate, .. }
                if !is_above_0(learning_rate) =>
            {
                Err("balance: learning_rate must be finite and above 0".into())
            }
            _ => Ok(()),
        }
    }
}
