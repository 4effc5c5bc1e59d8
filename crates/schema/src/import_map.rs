//! The map of an import: which inputs and outputs of an ONNX graph made elsewhere are which features
//! and tasks. A person writes it as TOML, strict like a recipe.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    feature::{Clip, Encoder, EncoderState, Feature, Kind, Pooling, Side, ValueType, check_features},
    manifest::{MODEL_NAME_RULE, is_model_name},
    strict::{ConfigError, from_toml},
    task::{Derived, Loss, Task, check_tasks},
};

/// A whole map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportMap {
    /// Name of the model.
    pub name: String,
    /// Version of the bundle; the next free one unless given.
    #[serde(default)]
    pub version: Option<u64>,
    /// The features, in the order of the bundle.
    #[serde(rename = "feature")]
    pub features: Vec<MappedFeature>,
    /// The tasks.
    #[serde(rename = "task")]
    pub tasks: Vec<MappedTask>,
    /// Outputs that are products of tasks.
    #[serde(rename = "derived", default)]
    pub derived: Vec<Derived>,
    /// The requests that the bundle is checked with.
    #[serde(default)]
    pub golden: GoldenConfig,
}

/// A feature, and the input of the graph that takes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappedFeature {
    /// As [`Feature::name`].
    pub name: String,
    /// As [`Feature::side`].
    pub side: Side,
    /// As [`Feature::kind`].
    pub kind: Kind,
    /// As [`Feature::value_type`].
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// As [`Feature::encoder`].
    pub encoder: Encoder,
    /// As [`Feature::clip`].
    #[serde(default)]
    pub clip: Option<Clip>,
    /// What the encoder was fitted to, where it is `standardize` or `min-max`.
    #[serde(default)]
    pub state: Option<EncoderState>,
    /// File with the values of the encoder `vocab`, a JSON list in the order of the codes, beside the map.
    #[serde(default)]
    pub vocabulary: Option<PathBuf>,
    /// Vocabulary shared with other features, of which one names the file.
    #[serde(default)]
    pub table: Option<String>,
    /// As [`Feature::max_len`].
    #[serde(default)]
    pub max_len: Option<usize>,
    /// Input of the graph; the feature's name unless given.
    #[serde(default)]
    pub input: Option<String>,
    /// First column of that input, where it is a matrix that carries several features. A sequence
    /// takes `max_len` columns.
    #[serde(default)]
    pub column: Option<usize>,
}

impl MappedFeature {
    /// Name of the graph's input.
    pub fn input_name(&self) -> &str {
        self.input.as_deref().unwrap_or(&self.name)
    }

    fn feature(&self) -> Feature {
        Feature {
            name: self.name.clone(),
            side: self.side,
            kind: self.kind,
            value_type: self.value_type,
            column: None,
            cross: Vec::new(),
            encoder: self.encoder.clone(),
            clip: self.clip,
            embedding: None,
            table: self.table.clone(),
            fit: true,
            max_len: self.max_len,
            pooling: Pooling::default(),
            query: None,
        }
    }
}

/// A task, and the output of the graph that predicts it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappedTask {
    /// As [`Task::name`].
    pub name: String,
    /// As [`Task::label`].
    pub label: String,
    /// As [`Task::loss`].
    #[serde(default)]
    pub loss: Loss,
    /// As [`Task::given`].
    #[serde(default)]
    pub given: Option<String>,
    /// Output of the graph; the task's name unless given.
    #[serde(default)]
    pub output: Option<String>,
    /// Column of that output, where it has several.
    #[serde(default)]
    pub column: Option<usize>,
    /// Whether the graph gives a logit, so that a sigmoid makes it a probability.
    #[serde(default)]
    pub sigmoid: bool,
}

impl MappedTask {
    /// Name of the graph's output.
    pub fn output_name(&self) -> &str {
        self.output.as_deref().unwrap_or(&self.name)
    }

    fn task(&self) -> Task {
        Task {
            name: self.name.clone(),
            label: self.label.clone(),
            loss: self.loss,
            given: self.given.clone(),
            weight: 1.0,
            fake_negatives: None,
            potential_label: None,
            oracle: None,
        }
    }
}

/// Golden requests, and candidates of one, at most: a server replays them all before a version takes
/// traffic.
const MOST_GOLDEN: usize = 1000;

/// Where golden requests come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GoldenConfig {
    /// Requests made from random valid values.
    pub requests: usize,
    /// Most candidates of such a request.
    pub candidates: usize,
    /// What their values follow from.
    pub seed: u64,
    /// File beside the map with requests to use instead, in the form of a bundle's `golden.json`; their
    /// scores may be left out, and are compared with the graph's where they are given.
    pub file: Option<PathBuf>,
}

impl Default for GoldenConfig {
    fn default() -> Self {
        Self { requests: 4, candidates: 6, seed: 0, file: None }
    }
}

impl ImportMap {
    /// Parses and checks a map; `origin` is the file's name as the person knows it.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ConfigError> {
        let map: ImportMap = from_toml(text, origin)?;
        map.check().map_err(|error| ConfigError::new(format!("{origin}: {error}")))?;
        Ok(map)
    }

    /// The features.
    pub fn features(&self) -> Vec<Feature> {
        self.features.iter().map(MappedFeature::feature).collect()
    }

    /// The tasks.
    pub fn tasks(&self) -> Vec<Task> {
        self.tasks.iter().map(MappedTask::task).collect()
    }

    /// Names of the outputs, tasks first.
    pub fn outputs(&self) -> Vec<String> {
        let tasks = self.tasks.iter().map(|task| &task.name);
        tasks.chain(self.derived.iter().map(|derived| &derived.name)).cloned().collect()
    }

    fn check(&self) -> Result<(), ConfigError> {
        let fail = |text: String| Err(ConfigError::new(text));
        if !is_model_name(&self.name) {
            return fail(format!("name = '{}': {MODEL_NAME_RULE}", self.name));
        }
        if self.version == Some(0) {
            return fail("version = 0: versions begin with 1".into());
        }
        if self.features.is_empty() {
            return fail("no feature is declared: add a [[feature]] for each input of the graph".into());
        }
        check_features(&self.features())?;
        check_tasks(&self.tasks(), &self.derived)?;
        for feature in &self.features {
            feature.check().or_else(|text| fail(format!("feature '{}': {text}", feature.name)))?;
        }
        if let Some(task) = self.tasks.iter().find(|task| task.sigmoid && task.loss != Loss::CrossEntropy) {
            return fail(format!(
                "task '{}': a squared error is of no probability; remove sigmoid",
                task.name
            ));
        }
        for (key, value) in [("requests", self.golden.requests), ("candidates", self.golden.candidates)] {
            if !(1..=MOST_GOLDEN).contains(&value) {
                return fail(format!("[golden] {key} = {value} must be between 1 and {MOST_GOLDEN}"));
            }
        }
        Ok(())
    }
}

impl MappedFeature {
    fn check(&self) -> Result<(), String> {
        let fitted = matches!(
            (&self.encoder, &self.state),
            (Encoder::Standardize, Some(EncoderState::Standardize { .. }))
                | (Encoder::MinMax, Some(EncoderState::MinMax { .. }))
        );
        match &self.encoder {
            Encoder::Standardize if !fitted => {
                Err("add what it was fitted to: state = { kind = \"standardize\", mean = …, std = … }".into())
            }
            Encoder::MinMax if !fitted => {
                Err("add what it was fitted to: state = { kind = \"min-max\", min = …, max = … }".into())
            }
            Encoder::Quantile { .. } => Err("an import knows its edges; use bucketize".into()),
            Encoder::Target { .. } => {
                Err("a target encoding has no file in an import; send the mean itself, as encoder none"
                    .into())
            }
            _ if self.state.is_some() && !fitted => Err("this encoder has no state; remove it".into()),
            Encoder::Vocab { .. } => Ok(()),
            _ if self.vocabulary.is_some() => {
                Err("only the encoder vocab has a vocabulary; remove it".into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = r#"
name = "shop"
[[feature]]
name = "user"
side = "user"
kind = "categorical"
type = "int"
encoder = { kind = "given", codes = 9 }
[[feature]]
name = "price"
side = "item"
kind = "numeric"
type = "float"
encoder = { kind = "standardize" }
state = { kind = "standardize", mean = 3.0, std = 2.0 }
input = "X"
column = 4
[[task]]
name = "ctr"
label = "click"
output = "y"
sigmoid = true
"#;

    #[test]
    fn names_default_to_those_of_the_graph() {
        let map = ImportMap::parse(MAP, "map.toml").unwrap();
        assert_eq!(map.features[0].input_name(), "user");
        assert_eq!(map.features[1].input_name(), "X");
        assert_eq!(map.tasks[0].output_name(), "y");
        assert_eq!(map.golden, GoldenConfig::default());
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for (from, to, words) in [
            ("sigmoid = true", "sigmoit = true", "map.toml:22: unknown field `sigmoit`"),
            ("name = \"shop\"", "name = \"shop\"\nversion = 0", "versions begin with 1"),
            ("name = \"shop\"", "name = \"../shop\"", "name = '../shop': use 1 to 128 ASCII letters"),
            (
                "state = { kind = \"standardize\", mean = 3.0, std = 2.0 }",
                "",
                "feature 'price': add what it was",
            ),
            ("codes = 9 }", "codes = 9, padding = 9 }", "padding = 9 must be below codes = 9"),
            ("codes = 9 }", "codes = 9 }\nvocabulary = \"v.json\"", "only the encoder vocab"),
            ("codes = 9 }", "codes = 9 }\nstate = { kind = \"stateless\" }", "has no state"),
            ("sigmoid = true", "sigmoid = true\nloss = \"squared-error\"", "remove sigmoid"),
            ("label = \"click\"", "", "map.toml:18: missing field `label`"),
            (
                "sigmoid = true",
                "sigmoid = true\n[golden]\nrequests = 1001",
                "[golden] requests = 1001 must be between 1 and 1000",
            ),
            (
                "sigmoid = true",
                "sigmoid = true\n[golden]\ncandidates = 0",
                "[golden] candidates = 0 must be between 1 and 1000",
            ),
        ] {
            let error = ImportMap::parse(&MAP.replace(from, to), "map.toml").unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
