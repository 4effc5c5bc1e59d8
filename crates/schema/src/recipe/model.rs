//! The model: `[model]`.

use serde::{Deserialize, Serialize};

use crate::{
    strict::ConfigError,
    task::{Loss, Task},
};

/// The way tasks share what they learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    fn shares_bottom(self) -> bool {
        matches!(
            self,
            ModelKind::SharedBottom | ModelKind::L2Sharing | ModelKind::TraceNorm | ModelKind::CrossStitch
        )
    }

    /// Whether the model has experts and gates.
    fn has_experts(self) -> bool {
        matches!(self, ModelKind::Omoe | ModelKind::Mmoe) || self.has_task_experts()
    }

    /// Whether some of the experts belong to one task.
    fn has_task_experts(self) -> bool {
        matches!(self, ModelKind::Cgc | ModelKind::Ple)
    }
}

/// What follows the linear part of a hidden layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// The model: its kind and the widths of its parts. Parts that a kind does not have are ignored,
/// so that one recipe serves every kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
fn default_sharing() -> f32 {
    0.01
}
fn default_calibrator() -> f32 {
    0.6
}

/// Most experts of a sort, and most levels: far above what is of use, and small enough to build.
const MOST_EXPERTS: usize = 256;
const MOST_LEVELS: usize = 16;

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
            sharing: default_sharing(),
            calibrator: default_calibrator(),
        }
    }

    /// Checks the settings that the kind reads, and that it can learn these tasks.
    ///
    /// # Errors
    /// The first thing that is wrong, with what was found and what to do.
    pub fn check(&self, tasks: &[Task]) -> Result<(), ConfigError> {
        let kind = self.kind.name();
        let fail = |text: String| Err(ConfigError::new(format!("[model]: {text}")));
        let widths = [
            ("bottom", &self.bottom),
            ("expert", &self.expert),
            ("gate", &self.gate),
            ("tower", &self.tower),
        ];
        for (key, widths) in widths {
            if let Some(width) = widths.iter().find(|width| !(1..=65_536).contains(*width)) {
                return fail(format!("{key} holds the width {width}; widths are between 1 and 65536"));
            }
        }
        let counts = [
            ("experts", self.experts, MOST_EXPERTS, self.kind.has_experts()),
            ("task_experts", self.task_experts, MOST_EXPERTS, self.kind.has_task_experts()),
            ("levels", self.levels, MOST_LEVELS, self.kind == ModelKind::Ple),
        ];
        for (key, found, most, is_read) in counts {
            if is_read && !(1..=most).contains(&found) {
                return fail(format!("{kind} needs {key} between 1 and {most}, found {found}"));
            }
        }
        if self.kind.shares_bottom() && self.bottom.is_empty() {
            return fail(format!("{kind} needs a width in bottom, such as bottom = [256, 128]"));
        }
        if self.kind.has_experts() && self.expert.is_empty() {
            return fail(format!("{kind} needs a width in expert, such as expert = [256, 128]"));
        }
        for (key, strength) in [("sharing", self.sharing), ("calibrator", self.calibrator)] {
            if !(strength.is_finite() && strength >= 0.0) {
                return fail(format!("{key} must be a number of at least 0, found {strength}"));
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return fail(format!("dropout must be at least 0 and below 1, found {}", self.dropout));
        }
        if self.kind.has_task_experts() && tasks.iter().any(|task| task.name == SHARED) {
            return fail(format!("{kind} calls its common experts '{SHARED}'; give that task another name"));
        }
        match self.kind {
            ModelKind::Esmm => check_esmm(tasks),
            ModelKind::Aitm => self.check_aitm(tasks),
            _ => Ok(()),
        }
        .or_else(|text| fail(format!("{kind} {text}")))
    }

    fn check_aitm(&self, tasks: &[Task]) -> Result<(), String> {
        if self.bottom.is_empty() && self.tower.is_empty() {
            return Err("needs a width in bottom or tower, such as tower = [64]".into());
        }
        let [_, _, ..] = tasks else {
            return Err("passes information from task to task and needs at least two, in the order of the \
                        outcomes, such as ctr and cvr"
                .into());
        };
        for pair in tasks.windows(2) {
            if pair[1].given.as_ref().is_some_and(|given| *given != pair[0].name) {
                return Err(format!(
                    "needs the tasks in the order of the outcomes: '{}' comes before {}",
                    pair[0].name,
                    pair[1].in_words()
                ));
            }
        }
        check_probabilities(tasks)
    }
}

/// What stands for the task in the names of parts that CGC and PLE share between tasks.
pub const SHARED: &str = "shared";

fn check_esmm(tasks: &[Task]) -> Result<(), String> {
    let fits = match tasks {
        [first, second] => first.given.is_none() && second.given.as_deref() == Some(first.name.as_str()),
        _ => false,
    };
    if !fits {
        let found: Vec<String> = tasks.iter().map(Task::in_words).collect();
        return Err(format!(
            "needs exactly two tasks, the second conditional on the first, such as ctr and cvr with \
             given = \"ctr\"; found {}",
            found.join(", ")
        ));
    }
    check_probabilities(tasks)
}

fn check_probabilities(tasks: &[Task]) -> Result<(), String> {
    match tasks.iter().find(|task| task.loss != Loss::CrossEntropy) {
        None => Ok(()),
        Some(task) => Err(format!(
            "relates probabilities, but task '{}' has the loss {}; use cross-entropy or another kind",
            task.name,
            task.loss.name()
        )),
    }
}
