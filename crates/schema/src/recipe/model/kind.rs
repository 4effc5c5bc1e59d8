//! The kinds of models and of the parts that they are made of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The way tasks share what they learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// A network for each task, embeddings included: nothing is shared.
    SingleTask,
    /// One bottom network under a tower for each task (Caruana, 1997).
    SharedBottom,
    /// A network for each task over shared embeddings, whose parameters are held near each other
    /// by their squared distance (Duong et al., ACL 2015).
    L2Sharing,
    /// A network for each task over shared embeddings, whose parameters are held in a common space
    /// of few dimensions by their trace norm (Yang and Hospedales, ICLR 2017 workshop).
    TraceNorm,
    /// A network for each task over shared embeddings, which exchange linear combinations of their
    /// activations after every layer (Misra et al., CVPR 2016).
    CrossStitch,
    /// Experts mixed by one softmax gate for all tasks (Ma et al., KDD 2018, as OMoE).
    Omoe,
    /// Experts mixed by one softmax gate for each task (Ma et al., KDD 2018).
    Mmoe,
    /// Shared experts and experts of each task's own (Tang et al., RecSys 2020).
    Cgc,
    /// Several levels of CGC (Tang et al., RecSys 2020).
    Ple,
    /// A CTR and a CVR tower over shared embeddings, both learned on all impressions through
    /// `ctcvr = ctr · cvr` (Ma et al., SIGIR 2018).
    Esmm,
    /// Towers in the order of the outcomes, each passing on what it knows to the next by
    /// attention (Xi et al., KDD 2021).
    Aitm,
}

impl ModelKind {
    /// Every kind, in the order of reports.
    pub const ALL: [ModelKind; 11] = [
        ModelKind::SingleTask,
        ModelKind::SharedBottom,
        ModelKind::L2Sharing,
        ModelKind::TraceNorm,
        ModelKind::CrossStitch,
        ModelKind::Omoe,
        ModelKind::Mmoe,
        ModelKind::Cgc,
        ModelKind::Ple,
        ModelKind::Esmm,
        ModelKind::Aitm,
    ];

    /// The word used in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::SingleTask => "single-task",
            ModelKind::SharedBottom => "shared-bottom",
            ModelKind::L2Sharing => "l2-sharing",
            ModelKind::TraceNorm => "trace-norm",
            ModelKind::CrossStitch => "cross-stitch",
            ModelKind::Omoe => "omoe",
            ModelKind::Mmoe => "mmoe",
            ModelKind::Cgc => "cgc",
            ModelKind::Ple => "ple",
            ModelKind::Esmm => "esmm",
            ModelKind::Aitm => "aitm",
        }
    }

    /// Whether the tasks share, or stay near each other in, hidden layers below their towers.
    pub(super) fn shares_bottom(self) -> bool {
        matches!(
            self,
            ModelKind::SharedBottom | ModelKind::L2Sharing | ModelKind::TraceNorm | ModelKind::CrossStitch
        )
    }

    /// Whether the model has experts and gates.
    pub(super) fn has_experts(self) -> bool {
        matches!(self, ModelKind::Omoe | ModelKind::Mmoe) || self.has_task_experts()
    }

    /// Whether some of the experts belong to one task.
    pub(super) fn has_task_experts(self) -> bool {
        matches!(self, ModelKind::Cgc | ModelKind::Ple)
    }
}

/// What follows the linear part of a hidden layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `max(x, 0)`.
    #[default]
    Relu,
    /// `x` where positive, else `0.01 x` (Maas et al., 2013).
    LeakyRelu,
    /// `x` where positive, else `exp(x) − 1` (Clevert et al., 2016).
    Elu,
    /// `x Φ(x)` (Hendrycks and Gimpel, 2016).
    Gelu,
    /// `x σ(x)` (Elfwing et al., 2018).
    Silu,
    /// The hyperbolic tangent.
    Tanh,
}

/// What stands between the linear part of a hidden layer and its activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Normalization {
    /// Nothing.
    #[default]
    None,
    /// Each unit by its mean and variance over the batch, as served over the past batches (Ioffe
    /// and Szegedy, 2015).
    Batch,
    /// Each row by its mean and variance over the units (Ba et al., 2016).
    Layer,
}
