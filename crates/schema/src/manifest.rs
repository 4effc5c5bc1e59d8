//! The JSON files that describe what stands beside them: sample shards and model bundles.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    calibration::Calibration,
    feature::{FittedFeature, Level},
    gates::GateReport,
    recipe::ModelConfig,
    request::JsonRequest,
    task::{Derived, Task},
};

/// Version of the sample folder's layout.
pub const SAMPLES_FORMAT: u32 = 1;
/// Key in the metadata of a shard file under which it names the fingerprint of its encoders.
pub const SHARD_FINGERPRINT: &str = "gatefold.fingerprint";
/// Name of the file that holds the means of a target encoding, relative to a sample set or bundle.
pub fn target_file(feature: &str) -> String {
    format!("target/{feature}.json")
}

/// Version of the bundle folder's layout.
pub const BUNDLE_FORMAT: u32 = 1;

/// `manifest.json` of a folder of sample shards; written last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleManifest {
    /// [`SAMPLES_FORMAT`].
    pub format: u32,
    /// Name of the recipe.
    pub name: String,
    /// [`crate::EncoderSet::fingerprint`] of the encoders.
    pub fingerprint: String,
    /// Fitted features; vocabularies stand in `vocab/<table>.json`.
    pub features: Vec<FittedFeature>,
    /// Tables that have a vocabulary file.
    pub vocabularies: Vec<String>,
    /// Tasks.
    pub tasks: Vec<Task>,
    /// Derived outputs.
    pub derived: Vec<Derived>,
    /// Every label column, audit columns included.
    pub labels: Vec<String>,
    /// Share of its negatives (rows without a positive label) that the training split holds; 1 means
    /// all. The other splits hold all of theirs.
    pub negative_sampling_rate: f64,
    /// Column of the weights by which rows must count in every loss, where there is one: kept
    /// negatives stand for others, or young rows count less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_weight: Option<String>,
    /// The label of which the training split has fake negatives, where there is one: there it is 1 on the
    /// rows that the column `late` marks, and 0 on all others, whatever came of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_label: Option<String>,
    /// `train`, `valid` and `test`.
    pub splits: BTreeMap<String, SplitInfo>,
    /// Rows dropped and why, such as `duplicate impressions`.
    pub dropped: BTreeMap<String, u64>,
    /// What became of the events, such as `conversions without a click`, and how many impressions could
    /// still lead to some.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub events: BTreeMap<String, u64>,
}

/// One split of a sample set.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitInfo {
    /// Files in reading order.
    pub shards: Vec<ShardInfo>,
    /// Rows.
    pub rows: u64,
    /// Distinct requests.
    pub requests: u64,
    /// Earliest impression, microseconds since 1970 UTC; absent where the source has no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_min: Option<i64>,
    /// Latest impression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_max: Option<i64>,
    /// Positive rows of each label column. Rows that `late` marks count for it and for the label that
    /// came late alone.
    pub positives: BTreeMap<String, u64>,
}

/// One shard file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardInfo {
    /// File name.
    pub file: String,
    /// Rows.
    pub rows: u64,
    /// Size in bytes: a cut-off file is refused before it is read.
    pub bytes: u64,
}

/// `manifest.json` of a model bundle; the last file written into it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleManifest {
    /// [`BUNDLE_FORMAT`].
    pub format: u32,
    /// Model name.
    pub name: String,
    /// Version, 1 and up.
    pub version: u64,
    /// The model, where Gatefold trained it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelConfig>,
    /// [`crate::EncoderSet::fingerprint`] of the encoders.
    pub fingerprint: String,
    /// Fitted features.
    pub features: Vec<FittedFeature>,
    /// Tables that have a vocabulary file.
    pub vocabularies: Vec<String>,
    /// Tasks.
    pub tasks: Vec<Task>,
    /// Derived outputs.
    pub derived: Vec<Derived>,
    /// Outputs of the graphs, tasks first.
    pub outputs: Vec<OutputInfo>,
    /// The graph with one row a candidate in every input.
    pub plain: GraphFile,
    /// The graph that computes the request level once, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_once: Option<GraphFile>,
    /// Metrics on validation at the time of publishing, such as `ctr auc`.
    pub metrics: BTreeMap<String, f64>,
    /// The tasks whose outputs are calibrated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calibrations: Vec<Calibration>,
    /// How its gates use their experts, and its dead units, where the trainer has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates: Option<GateReport>,
    /// The gates whose weights the graphs give beside the outputs; none where there are no experts,
    /// and in bundles from before gates were exported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gate_outputs: Vec<GateOutput>,
    /// Largest difference between a golden score and that of a runtime, where it is not that of a
    /// model in 32-bit floats: tables or products in fewer bits round the scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden_tolerance: Option<f32>,
    /// Where the bundle comes from: recipe, seed, sample fingerprint, program version.
    pub provenance: BTreeMap<String, String>,
    /// Every other file of the bundle.
    pub files: BTreeMap<String, FileEntry>,
}

impl BundleManifest {
    /// Values a candidate of the graph output at `position`: the outputs come first, one value each,
    /// then the gates, one value an expert. `None` beyond them.
    pub fn output_width(&self, position: usize) -> Option<usize> {
        match position.checked_sub(self.outputs.len()) {
            None => Some(1),
            Some(gate) => self.gate_outputs.get(gate).map(|gate| gate.experts.len()),
        }
    }
}

/// Size and hash of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Bytes.
    pub bytes: u64,
    /// Lower-case hexadecimal sha256.
    pub sha256: String,
}

/// One output of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputInfo {
    /// Name of the graph output: one probability a candidate.
    pub name: String,
    /// Label column it predicts.
    pub label: String,
    /// The rows it is a probability over, such as `all impressions` or `clicked impressions`.
    pub space: String,
}

/// A gate whose weights are an output of the graphs, to explain scores by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateOutput {
    /// Name of the gate and of the graph output: one weight an expert, which sum to 1, a candidate.
    /// `gate.<task>`, or `gate.shared` where all tasks have one; after `level.<l>.` in PLE.
    pub name: String,
    /// The tasks whose towers read what it mixes.
    pub tasks: Vec<String>,
    /// The experts, column by column.
    pub experts: Vec<String>,
}

/// One ONNX file and its inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphFile {
    /// File name in the bundle.
    pub file: String,
    /// Inputs that carry features, in the order of the features.
    pub inputs: Vec<GraphInput>,
    /// Input that maps candidate rows to request rows, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_of: Option<String>,
}

/// One graph input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphInput {
    /// Name of the graph input.
    pub name: String,
    /// Feature it carries.
    pub feature: String,
    /// Its rows.
    pub level: Level,
}

/// `golden.json`: raw requests and the scores they must get.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Requests with expected scores.
    pub requests: Vec<GoldenRequest>,
}

/// One golden request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenRequest {
    /// Raw values.
    pub request: JsonRequest,
    /// Expected probabilities: output name → one value a candidate.
    pub scores: BTreeMap<String, Vec<f32>>,
}

/// What a model may be called, for messages.
pub const MODEL_NAME_RULE: &str =
    "use 1 to 128 ASCII letters, digits, '_', '-' and '.', not beginning with '.'";

/// Whether `name` can be a model's name, and so a folder's.
pub fn is_model_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=128).contains(&name.len()) && !name.starts_with('.') && name.chars().all(allowed)
}
