//! The recipe: one TOML file that says how samples are built, what is predicted from what, which
//! model is trained, and how.

mod editor;
mod model;
mod samples;
mod train;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    calibration::check_methods,
    feature::{Feature, check_embeddings, check_features, check_targets},
    strict::{ConfigError, from_toml},
    task::{Derived, Task, check_fake_negatives, check_tasks},
};

pub use editor::json_schema;
pub use model::{Activation, ModelConfig, ModelKind, Normalization, SHARED};
pub use samples::{
    AdultFiles, Aggregate, BY_ITEM, BY_USER, CLICK_LABEL, CONVERSION_LABEL, CensusFile, ClickKey,
    ConversionPolicy, Correction, EventKind, EventLogs, Files, LATE_COLUMN, LabelConfig, Log, Maturity,
    OBSERVED, OnBadRow, Profiles, SESSION, SESSION_POSITION, SampleSource, SamplesConfig, SamplingConfig,
    SequenceConfig, Served, SplitBy, SplitConfig, Statistic, TimeUnit, VIEW_LABEL, ValueLabel, WEIGHT_COLUMN,
};
pub use train::{
    BalanceConfig, JOINT, OptimizerConfig, OutsideSpace, ScheduleConfig, SelectConfig, SelectMetric,
    TrainConfig,
};

/// A whole recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// The model; MMoE with the default widths where nothing is said, as in a recipe of samples alone.
    #[serde(default = "default_model")]
    pub model: ModelConfig,
    /// The training loop.
    #[serde(default)]
    pub train: TrainConfig,
}

fn default_model() -> ModelConfig {
    ModelConfig::new(ModelKind::Mmoe)
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

    /// The features that sources and requests have values of: all but crossed ones.
    pub fn sent_features(&self) -> impl Iterator<Item = &Feature> {
        self.features.iter().filter(|feature| !feature.is_crossed())
    }

    /// Checks what the types alone cannot.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.features.is_empty() {
            return Err(ConfigError::new("no feature is declared: add at least one [[feature]]".into()));
        }
        self.samples.check()?;
        check_features(&self.features)?;
        check_embeddings(&self.features)?;
        check_tasks(&self.tasks, &self.derived)?;
        check_fake_negatives(&self.tasks, self.samples.late_label())?;
        check_targets(&self.features, &self.tasks)?;
        self.model.check(&self.tasks)?;
        check_methods(&self.train.calibrate, &self.tasks, &self.model)?;
        self.train.check(&self.tasks, &self.derived)
    }
}
