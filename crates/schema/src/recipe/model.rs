//! The model: `[model]`.

use serde::{Deserialize, Serialize};

use crate::{strict::ConfigError, task::Task};

/// The way experts are shared between tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// One bottom network under a tower for each task (Caruana, 1997).
    SharedBottom,
    /// A CTR and a CVR tower over shared embeddings, both learned on all impressions through
    /// `ctcvr = ctr · cvr` (Ma et al., SIGIR 2018).
    Esmm,
    /// Experts mixed by one softmax gate for each task (Ma et al., KDD 2018).
    Mmoe,
}

impl ModelKind {
    /// Every kind, in the order of reports.
    pub const ALL: [ModelKind; 3] = [ModelKind::SharedBottom, ModelKind::Esmm, ModelKind::Mmoe];

    /// The word used in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::SharedBottom => "shared-bottom",
            ModelKind::Esmm => "esmm",
            ModelKind::Mmoe => "mmoe",
        }
    }
}

/// The model: its kind and the widths of its parts. Parts that a kind does not have are ignored,
/// so that one recipe serves every kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Which model.
    pub kind: ModelKind,
    /// Hidden widths of the shared bottom.
    #[serde(default = "default_bottom")]
    pub bottom: Vec<usize>,
    /// Number of experts.
    #[serde(default = "default_experts")]
    pub experts: usize,
    /// Hidden widths of each expert.
    #[serde(default = "default_bottom")]
    pub expert: Vec<usize>,
    /// Hidden widths of each gate, before its softmax layer.
    #[serde(default)]
    pub gate: Vec<usize>,
    /// Hidden widths of each task's tower, before its one-unit layer.
    #[serde(default = "default_tower")]
    pub tower: Vec<usize>,
}

fn default_bottom() -> Vec<usize> {
    vec![256, 128]
}
fn default_experts() -> usize {
    8
}
fn default_tower() -> Vec<usize> {
    vec![64]
}

impl ModelConfig {
    pub(super) fn check(&self, tasks: &[Task]) -> Result<(), ConfigError> {
        let fail = |text: &str| Err(ConfigError::new(format!("[model]: {text}")));
        let widths = [&self.bottom, &self.expert, &self.gate, &self.tower];
        if widths.iter().any(|list| list.iter().any(|width| !(1..=65_536).contains(width))) {
            return fail("every width must be between 1 and 65536");
        }
        match self.kind {
            ModelKind::SharedBottom if self.bottom.is_empty() => fail("bottom needs at least one width"),
            ModelKind::Mmoe if !(1..=256).contains(&self.experts) => {
                fail("experts must be between 1 and 256")
            }
            ModelKind::Mmoe if self.expert.is_empty() => fail("expert needs at least one width"),
            ModelKind::Esmm
                if !(tasks.len() == 2
                    && tasks[0].given.is_none()
                    && tasks[1].given.as_deref() == Some(tasks[0].name.as_str())) =>
            {
                fail(
                    "esmm needs exactly two tasks, the second conditional on the first, such as ctr \
                     and cvr with given = \"ctr\"",
                )
            }
            _ => Ok(()),
        }
    }
}
