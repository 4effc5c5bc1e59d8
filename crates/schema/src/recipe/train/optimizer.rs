//! How a gradient becomes a step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An optimizer with its own settings; the step size stands beside it, as `learning_rate`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent.
    Sgd {
        /// Share of the last step that is taken again.
        #[serde(default)]
        momentum: f32,
    },
    /// Adam (Kingma and Ba, ICLR 2015).
    Adam {
        /// Decay of the mean of gradients.
        #[serde(default = "beta1")]
        beta1: f32,
        /// Decay of the mean of squared gradients.
        #[serde(default = "beta2")]
        beta2: f32,
        /// Added to the root of the mean of squares.
        #[serde(default = "adam_epsilon")]
        epsilon: f32,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019).
    #[serde(rename = "adamw")]
    AdamW {
        /// Decay of the mean of gradients.
        #[serde(default = "beta1")]
        beta1: f32,
        /// Decay of the mean of squared gradients.
        #[serde(default = "beta2")]
        beta2: f32,
        /// Added to the root of the mean of squares.
        #[serde(default = "adam_epsilon")]
        epsilon: f32,
        /// Share of a parameter that a step of size 1 takes away.
        #[serde(default = "weight_decay")]
        weight_decay: f32,
    },
    /// Adagrad (Duchi, Hazan and Singer, JMLR 2011).
    Adagrad {
        /// The sum of squares at the start.
        #[serde(default)]
        initial: f32,
        /// Added to the root of the sum of squares.
        #[serde(default = "adagrad_epsilon")]
        epsilon: f32,
    },
    /// Adagrad with one sum a row of a table, as DLRM trains embeddings; plain Adagrad for
    /// parameters that are no tables.
    RowwiseAdagrad {
        /// The sum of squares at the start.
        #[serde(default)]
        initial: f32,
        /// Added to the root of the sum of squares.
        #[serde(default = "rowwise_epsilon")]
        epsilon: f32,
    },
    /// FTRL-Proximal (McMahan et al., KDD 2013).
    Ftrl {
        /// Added to the root of the sum of squares.
        #[serde(default = "ftrl_beta")]
        beta: f32,
        /// Strength of L1, which makes parameters exactly 0.
        #[serde(default)]
        l1: f32,
        /// Strength of L2.
        #[serde(default)]
        l2: f32,
    },
}

fn beta1() -> f32 {
    0.9
}
fn beta2() -> f32 {
    0.999
}
fn adam_epsilon() -> f32 {
    1e-8
}
fn weight_decay() -> f32 {
    0.01
}
fn adagrad_epsilon() -> f32 {
    1e-10
}
fn rowwise_epsilon() -> f32 {
    1e-8
}
fn ftrl_beta() -> f32 {
    1.0
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        OptimizerConfig::Adam { beta1: beta1(), beta2: beta2(), epsilon: adam_epsilon() }
    }
}

impl OptimizerConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        let share = |name, value: f32| (name, value, (0.0..1.0).contains(&value), "at least 0 and below 1");
        let positive = |name, value: f32| (name, value, value.is_finite() && value > 0.0, "above 0");
        let amount = |name, value: f32| (name, value, value.is_finite() && value >= 0.0, "at least 0");
        let settings = match *self {
            OptimizerConfig::Sgd { momentum } => vec![share("momentum", momentum)],
            OptimizerConfig::Adam { beta1, beta2, epsilon } => {
                vec![share("beta1", beta1), share("beta2", beta2), positive("epsilon", epsilon)]
            }
            OptimizerConfig::AdamW { beta1, beta2, epsilon, weight_decay } => vec![
                share("beta1", beta1),
                share("beta2", beta2),
                positive("epsilon", epsilon),
                amount("weight_decay", weight_decay),
            ],
            OptimizerConfig::Adagrad { initial, epsilon }
            | OptimizerConfig::RowwiseAdagrad { initial, epsilon } => {
                vec![amount("initial", initial), positive("epsilon", epsilon)]
            }
            OptimizerConfig::Ftrl { beta, l1, l2 } => {
                vec![positive("beta", beta), amount("l1", l1), amount("l2", l2)]
            }
        };
        match settings.into_iter().find(|(_, _, is_right, _)| !is_right) {
            None => Ok(()),
            Some((setting, found, _, must)) => {
                Err(format!("optimizer: {setting} must be {must}, found {found}"))
            }
        }
    }
}
