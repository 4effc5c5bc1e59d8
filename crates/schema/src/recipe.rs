//! The recipe: one TOML file that says how samples are built, what is predicted from what, which
//! model is trained, and how.

use serde::{Deserialize, Serialize};

use crate::{
    feature::{Feature, check_features},
    strict::{ConfigError, from_toml},
    task::{Derived, Task, check_tasks},
};

/// A whole recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name shown in manifests and reports.
    pub name: String,
    /// How samples are built.
    pub samples: SamplesConfig,
    /// The features, in the order of the graph inputs.
    #[serde(rename = "feature")]
    pub features: Vec<Feature>,
    /// The tasks.
    #[serde(rename = "task")]
    pub tasks: Vec<Task>,
    /// Outputs computed from tasks.
    #[serde(rename = "derived", default)]
    pub derived: Vec<Derived>,
    /// The model.
    pub model: ModelConfig,
    /// The training loop.
    pub train: TrainConfig,
}

impl Recipe {
    /// Parses and checks a recipe; `origin` is the file's name as the person knows it.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ConfigError> {
        let recipe: Recipe = from_toml(text, origin)?;
        recipe.check().map_err(|error| ConfigError::new(format!("{origin}: {error}")))?;
        Ok(recipe)
    }

    /// Checks what the types alone cannot.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.features.is_empty() {
            return Err(ConfigError::new("no feature is declared: add at least one [[feature]]".into()));
        }
        check_features(&self.features)?;
        check_tasks(&self.tasks, &self.derived)?;
        self.model.check(&self.tasks)?;
        self.train.check()
    }
}

/// How samples are built from a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplesConfig {
    /// Where the raw data is.
    pub source: SampleSource,
    /// How rows are divided into train, valid and test.
    #[serde(default)]
    pub split: SplitConfig,
    /// Rows a shard file holds at most.
    #[serde(default = "default_rows_per_shard")]
    pub rows_per_shard: usize,
    /// Requests kept with raw values as examples (golden rows of bundles are made of them).
    #[serde(default = "default_examples")]
    pub examples: usize,
}

fn default_rows_per_shard() -> usize {
    1_000_000
}
fn default_examples() -> usize {
    8
}

/// A source of samples; file names are relative to the folder given on the command line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SampleSource {
    /// Impression, click and conversion logs with user and item profiles (Parquet).
    EventLogs(EventLogs),
    /// The raw files of UCI Adult, plain or gzipped.
    Adult {
        /// The published train file.
        train: String,
        /// The published test file.
        test: String,
    },
}

/// Files and windows of event logs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventLogs {
    /// Impressions: `impression_id`, `request_id`, `user_id`, `item_id`, `time` and context columns.
    pub impressions: String,
    /// Clicks: `request_id`, `item_id`, `time`.
    pub clicks: String,
    /// Conversions: `user_id`, `item_id`, `time`.
    pub conversions: String,
    /// User profiles by `user_id`.
    pub users: String,
    /// Item profiles by `item_id`.
    pub items: String,
    /// Columns by `impression_id` that are kept beside the samples for evaluation and are never
    /// features, such as the outcome a click would have had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<String>,
    /// Columns taken from `audit`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audit_columns: Vec<String>,
    /// A click counts for an impression at most this long after it, in seconds.
    pub click_window_seconds: u64,
    /// A conversion counts for a click at most this long after it, in seconds.
    pub conversion_window_seconds: u64,
}

/// How rows are divided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// Share of the rows (the latest before the test rows, or by hash where there is no time)
    /// used for validation.
    pub valid: f64,
    /// Share of the latest rows used for the test; ignored where the source has a test file.
    pub test: f64,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self { valid: 0.1, test: 0.1 }
    }
}

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
    fn check(&self, tasks: &[Task]) -> Result<(), ConfigError> {
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

/// The training loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Passes over the training split.
    pub epochs: usize,
    /// Rows a step.
    pub batch_size: usize,
    /// Adam's step size.
    pub learning_rate: f32,
    /// Step size of embedding rows; `learning_rate` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_learning_rate: Option<f32>,
    /// Seed of initial weights and of the order of batches.
    pub seed: u64,
    /// Evaluate on validation after this many steps, as well as after each epoch; 0 means only
    /// after each epoch.
    pub evaluate_every: usize,
    /// Stop after this many evaluations without a better mean validation AUC; 0 means never.
    pub patience: usize,
    /// Whether the batches of the training split are shuffled each epoch.
    pub shuffle: bool,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 1,
            batch_size: 1024,
            learning_rate: 1e-3,
            embedding_learning_rate: None,
            seed: 1,
            evaluate_every: 0,
            patience: 0,
            shuffle: true,
        }
    }
}

impl TrainConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let fail = |text: &str| Err(ConfigError::new(format!("[train]: {text}")));
        if self.epochs == 0 {
            return fail("epochs must be at least 1");
        }
        if !(1..=1_000_000).contains(&self.batch_size) {
            return fail("batch_size must be between 1 and 1000000");
        }
        let rates = [Some(self.learning_rate), self.embedding_learning_rate];
        if rates.iter().flatten().any(|rate| !(rate.is_finite() && *rate > 0.0)) {
            return fail("learning rates must be finite and above 0");
        }
        Ok(())
    }
}
