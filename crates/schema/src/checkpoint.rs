//! The JSON file that says what belongs to a checkpoint of a training.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{manifest::FileEntry, recipe::Recipe};

/// Version of the checkpoint folder's layout.
pub const CHECKPOINT_FORMAT: u32 = 1;

/// `checkpoint.json`: written last, so that it always names files that are complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointManifest {
    /// [`CHECKPOINT_FORMAT`].
    pub format: u32,
    /// What is trained, and how. A training goes on with the same recipe only.
    pub recipe: Recipe,
    /// The samples it learns from.
    pub samples: SamplesIdentity,
    /// The bundle that the parameters began from, as the person named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_start: Option<String>,
    /// Steps made.
    pub step: usize,
    /// Parameters and what the optimizer remembers of them.
    pub state: StoredFile,
    /// What the balancing of the tasks remembers, by name.
    pub balance: BTreeMap<String, Vec<f64>>,
    /// The best parameters so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<StoredBest>,
    /// Evaluations since then.
    pub evaluations_without_gain: usize,
}

/// What tells one sample set from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplesIdentity {
    /// [`crate::EncoderSet::fingerprint`] of the encoders.
    pub fingerprint: String,
    /// Rows of the training split.
    pub train_rows: usize,
    /// Rows of the validation split.
    pub valid_rows: usize,
}

/// A file beside the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredFile {
    /// Its name.
    pub name: String,
    /// Its size and hash.
    pub entry: FileEntry,
}

/// The best parameters so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredBest {
    /// Steps made before them.
    pub step: usize,
    /// What they were chosen by; larger is better.
    pub score: f64,
    /// Their values.
    pub parameters: StoredFile,
}
