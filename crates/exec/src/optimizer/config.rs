//! What an optimizer does: its kind, its settings, and what is done to gradients before.

use crate::error::ExecError;

/// An optimizer and its settings. The constructors give the usual ones.
///
/// `g` is the gradient, `w` the number trained, `r` the learning rate times the rate factor of
/// the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptimizerConfig {
    /// Stochastic gradient descent, as `torch.optim.SGD`: `m ← momentum·m + g; w ← w − r·m`.
    Sgd {
        /// Step size.
        learning_rate: f32,
        /// Share of the last step's `m` that is kept; 0: none is remembered.
        momentum: f32,
    },
    /// Adam (Kingma and Ba, 2015), as `torch.optim.Adam`; on tables as `torch.optim.SparseAdam`,
    /// which corrects the bias of the step instead of that of the root.
    Adam {
        /// Step size.
        learning_rate: f32,
        /// Decay of the mean of gradients.
        beta1: f32,
        /// Decay of the mean of squared gradients.
        beta2: f32,
        /// Added to the root of the mean of squares.
        epsilon: f32,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019), as `torch.optim.AdamW`:
    /// before the step of Adam, `w ← w − r·weight_decay·w`.
    AdamW {
        /// Step size.
        learning_rate: f32,
        /// Decay of the mean of gradients.
        beta1: f32,
        /// Decay of the mean of squared gradients.
        beta2: f32,
        /// Added to the root of the mean of squares.
        epsilon: f32,
        /// Share of a number, times `r`, that each step takes away.
        weight_decay: f32,
    },
    /// Adagrad (Duchi et al., 2011), as `torch.optim.Adagrad`: `s ← s + g²; w ← w − r·g/(√s + ε)`.
    Adagrad {
        /// Step size.
        learning_rate: f32,
        /// Added to the root of the sum of squares.
        epsilon: f32,
        /// Sum of squares before the first step.
        initial: f32,
    },
    /// Adagrad with one sum for each row, of the mean square of its gradient, as FBGEMM's
    /// `EXACT_ROWWISE_ADAGRAD`: `s ← s + Σg²/width; w ← w − r·g/(√s + ε)`. A row of a dense
    /// parameter is its last dimension.
    RowwiseAdagrad {
        /// Step size.
        learning_rate: f32,
        /// Added to the root of the sum of squares.
        epsilon: f32,
        /// Sum of squares before the first step.
        initial: f32,
    },
    /// FTRL-Proximal (McMahan et al., 2013, algorithm 1), with α the learning rate:
    /// `σ = (√(n + g²) − √n)/α; z ← z + g − σ·w; n ← n + g²;`
    /// `w ← 0 where |z| ≤ λ₁, else −(z − sgn(z)·λ₁)/((β + √n)/α + λ₂)`.
    ///
    /// The paper begins with zeros. A number that begins elsewhere gets, with its first gradient,
    /// the `z` from which the formula gives it back. The rate factor `f` of a schedule multiplies
    /// `g` in the sum `z` alone, so that without λ₁ and λ₂ a step is `f·g·α/(β + √n)`.
    Ftrl {
        /// The paper's α.
        learning_rate: f32,
        /// The paper's β: how soon the step size begins to fall.
        beta: f32,
        /// The paper's λ₁: holds numbers at exactly 0.
        l1: f32,
        /// The paper's λ₂.
        l2: f32,
    },
}

impl OptimizerConfig {
    /// SGD without momentum.
    pub fn sgd(learning_rate: f32) -> Self {
        Self::Sgd { learning_rate, momentum: 0.0 }
    }

    /// Adam with the settings of its paper.
    pub fn adam(learning_rate: f32) -> Self {
        Self::Adam { learning_rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }

    /// AdamW with the settings of `torch.optim.AdamW`.
    pub fn adam_w(learning_rate: f32) -> Self {
        Self::AdamW { learning_rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 }
    }

    /// Adagrad with the settings of `torch.optim.Adagrad`.
    pub fn adagrad(learning_rate: f32) -> Self {
        Self::Adagrad { learning_rate, epsilon: 1e-10, initial: 0.0 }
    }

    /// Row-wise Adagrad with the settings of FBGEMM.
    pub fn rowwise_adagrad(learning_rate: f32) -> Self {
        Self::RowwiseAdagrad { learning_rate, epsilon: 1e-8, initial: 0.0 }
    }

    /// FTRL with β = 1, as the paper advises, and no regularisation.
    pub fn ftrl(learning_rate: f32) -> Self {
        Self::Ftrl { learning_rate, beta: 1.0, l1: 0.0, l2: 0.0 }
    }

    /// Names of what is remembered, one array each.
    pub(super) fn state_names(&self) -> &'static [&'static str] {
        match self {
            Self::Sgd { momentum: 0.0, .. } => &[],
            Self::Sgd { .. } => &["momentum"],
            Self::Adam { .. } | Self::AdamW { .. } => &["mean", "mean_square"],
            Self::Adagrad { .. } | Self::RowwiseAdagrad { .. } => &["squares"],
            Self::Ftrl { .. } => &["linear", "squares"],
        }
    }

    /// Whether one number is remembered for a row instead of one for each number.
    pub(super) fn is_by_row(&self) -> bool {
        matches!(self, Self::RowwiseAdagrad { .. })
    }

    /// Refuses settings that no training can have.
    pub(super) fn check(&self, part: &str) -> Result<(), ExecError> {
        let rate = |value: f32| ("learning_rate", value, value.is_finite() && value > 0.0, "above 0");
        let share = |name, value: f32| (name, value, (0.0..1.0).contains(&value), "at least 0 and below 1");
        let positive = |name, value: f32| (name, value, value.is_finite() && value > 0.0, "above 0");
        let amount = |name, value: f32| (name, value, value.is_finite() && value >= 0.0, "at least 0");
        let settings = match *self {
            Self::Sgd { learning_rate, momentum } => vec![rate(learning_rate), share("momentum", momentum)],
            Self::Adam { learning_rate, beta1, beta2, epsilon } => vec![
                rate(learning_rate),
                share("beta1", beta1),
                share("beta2", beta2),
                positive("epsilon", epsilon),
            ],
            Self::AdamW { learning_rate, beta1, beta2, epsilon, weight_decay } => vec![
                rate(learning_rate),
                share("beta1", beta1),
                share("beta2", beta2),
                positive("epsilon", epsilon),
                amount("weight_decay", weight_decay),
            ],
            Self::Adagrad { learning_rate, epsilon, initial }
            | Self::RowwiseAdagrad { learning_rate, epsilon, initial } => {
                vec![rate(learning_rate), positive("epsilon", epsilon), amount("initial", initial)]
            }
            Self::Ftrl { learning_rate, beta, l1, l2 } => {
                vec![rate(learning_rate), positive("beta", beta), amount("l1", l1), amount("l2", l2)]
            }
        };
        match settings.into_iter().find(|(_, _, is_good, _)| !is_good) {
            None => Ok(()),
            Some((setting, found, _, must)) => bad_setting(part, setting, found, must),
        }
    }
}

/// What is done to all gradients before an optimizer sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GradientOptions {
    /// Gradients are scaled down where their norm, over dense parameters and summed touched rows
    /// together, is larger; as `torch.nn.utils.clip_grad_norm_`.
    pub clip_norm: Option<f32>,
    /// `l2·w` is added to the gradient of dense parameters, after clipping: the gradient of the
    /// penalty `l2/2·‖w‖²`, and what PyTorch's optimizers call `weight_decay`. With SGD it is
    /// weight decay; with the others it is scaled like any gradient, unlike the decoupled decay of
    /// [`OptimizerConfig::AdamW`].
    pub l2: f32,
    /// The same for tables, in the rows that a step touches only: a row is regularised as often
    /// as it occurs in batches.
    pub embedding_l2: f32,
}

impl GradientOptions {
    pub(super) fn check(&self) -> Result<(), ExecError> {
        let is_amount = |value: f32| value.is_finite() && value >= 0.0;
        match *self {
            Self { clip_norm: Some(norm), .. } if !(norm.is_finite() && norm > 0.0) => {
                bad_setting("gradients", "clip_norm", norm, "above 0")
            }
            Self { l2, .. } if !is_amount(l2) => bad_setting("gradients", "l2", l2, "at least 0"),
            Self { embedding_l2: l2, .. } if !is_amount(l2) => {
                bad_setting("gradients", "embedding_l2", l2, "at least 0")
            }
            _ => Ok(()),
        }
    }
}

fn bad_setting(part: &str, setting: &str, found: f32, must: &str) -> Result<(), ExecError> {
    let (part, setting, found) = (part.to_owned(), setting.to_owned(), found.to_string());
    Err(ExecError::BadSetting { part, setting, found, must: must.to_owned() })
}
