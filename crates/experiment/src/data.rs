//! What a sample set holds: rows and outcomes of each split, what is missing, what has moved between the splits,
//! when conversions come, and which feature looks as if it knew the outcome.

mod html;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use html::render_html;

/// A population stability index from here on is a shift: see [`gatefold_metrics::psi`].
pub const SHIFTED: f64 = 0.25;
/// An index from here on is a change.
pub const CHANGED: f64 = 0.1;

/// A sample set in figures; `report.json` beside the shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataReport {
    /// Name of the recipe.
    pub name: String,
    /// Fingerprint of the encoders.
    pub fingerprint: String,
    /// What should be looked at before a model is trained, in words.
    pub warnings: Vec<String>,
    /// The splits: train, valid, test.
    pub splits: Vec<SplitReport>,
    /// The features.
    pub features: Vec<FeatureReport>,
    /// How long after what led to them events came.
    pub delays: Vec<DelayReport>,
    /// Rows left out, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// One split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitReport {
    /// Its name.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Requests.
    pub requests: u64,
    /// Times of the first and the last request, where the source has times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<[String; 2]>,
    /// The outcomes of tasks with two.
    pub tasks: Vec<TaskReport>,
}

/// A task in a split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskReport {
    /// Name of the task.
    pub task: String,
    /// Rows of its sample space.
    pub rows: u64,
    /// Those of them whose label is 1.
    pub positives: u64,
}

impl TaskReport {
    /// Share of positives; `None` where there is no row.
    pub fn rate(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.positives as f64 / self.rows as f64)
    }
}

/// One feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureReport {
    /// Its name.
    pub name: String,
    /// User, context or item.
    pub side: String,
    /// Name of its encoder.
    pub encoder: String,
    /// What it is like in each split, in their order.
    pub splits: Vec<FeatureSplit>,
    /// The most frequent values of the training split: of a sequence, of its elements.
    pub top: Vec<TopValue>,
    /// How well it separates the outcomes of each task by itself.
    pub separation: Vec<Separation>,
}

/// A feature in a split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSplit {
    /// Rows without a value.
    pub missing: u64,
    /// Values (of a sequence, elements) that the vocabulary does not have; `None` without a vocabulary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_vocabulary: Option<u64>,
    /// Values: rows, or the elements of a sequence.
    pub values: u64,
    /// Population stability index against the training split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psi: Option<f64>,
    /// Range and mean after encoding, of a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbers: Option<Numbers>,
}

/// A number after encoding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbers {
    /// Smallest.
    pub min: f64,
    /// Mean.
    pub mean: f64,
    /// Largest.
    pub max: f64,
}

/// A frequent value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopValue {
    /// The value, or what its code stands for.
    pub value: String,
    /// How often it is there.
    pub count: u64,
}

/// How well a feature by itself separates the outcomes of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Separation {
    /// Name of the task.
    pub task: String,
    /// AUC, at least 0.5 for a number. Of codes: by the rate of each code in the training split.
    pub auc: f64,
    /// The split it was measured on.
    pub split: String,
}

/// How long after what led to them events came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelayReport {
    /// What came, such as `conversion`.
    pub event: String,
    /// What the time is counted from, such as `click`.
    pub since: String,
    /// Number of events.
    pub events: u64,
    /// How many of them came within each time, ascending; up to the first time by which all had come.
    pub within: Vec<Within>,
}

/// Events that came within a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Within {
    /// The time, such as `1h`.
    pub time: String,
    /// Events up to then.
    pub events: u64,
}
