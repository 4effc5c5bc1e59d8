//! What encoders learn, and all that is needed to encode raw values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Encoder, Feature};
use crate::{FIRST_VALUE_CODE, strict::ConfigError};

/// What an encoder learned from the training split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum EncoderState {
    /// The vocabulary is stored under the feature's table name.
    Vocab {
        /// Number of values in the vocabulary.
        size: usize,
    },
    /// Mean and standard deviation (1 where the column is constant).
    Standardize {
        /// Mean of the present values.
        mean: f64,
        /// Population standard deviation of the present values.
        std: f64,
    },
    /// Range of the present values.
    MinMax {
        /// Smallest present value.
        min: f64,
        /// Largest present value.
        max: f64,
    },
    /// The edges of `quantile`.
    Edges {
        /// Strictly ascending; none where there was no value.
        edges: Vec<f64>,
    },
    /// The means of `target` are stored under the feature's name.
    Target {
        /// Mean label over all training rows that have one; 0 where none has.
        prior: f32,
        /// Number of values that have a mean.
        size: usize,
    },
    /// Nothing to fit.
    Stateless,
}

/// A feature with its fitted encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedFeature {
    /// The feature as declared.
    pub feature: Feature,
    /// What its encoder learned.
    pub state: EncoderState,
}

impl FittedFeature {
    /// Number of distinct codes, padding and missing included: the rows of its embedding table.
    /// `None` for numeric features.
    pub fn code_count(&self) -> Option<usize> {
        let values = match (&self.feature.encoder, &self.state) {
            (Encoder::Given { codes, .. }, _) => {
                return self.feature.is_coded().then_some(*codes as usize);
            }
            (Encoder::Vocab { oov_buckets, .. }, EncoderState::Vocab { size }) => {
                *oov_buckets as usize + size
            }
            (Encoder::Hash { buckets, .. }, _) => *buckets as usize,
            (Encoder::Bucketize { edges }, _) | (Encoder::Quantile { .. }, EncoderState::Edges { edges }) => {
                edges.len() + 1
            }
            _ => return None,
        };
        self.feature.is_coded().then_some(FIRST_VALUE_CODE as usize + values)
    }
}

/// Values of a vocabulary in code order: the value at index `i` has code
/// `2 + oov_buckets + i`. Ordered by falling count, then by value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VocabularyValues {
    /// Integer values.
    Int(Vec<i64>),
    /// Text values.
    Text(Vec<String>),
}

impl VocabularyValues {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            VocabularyValues::Int(values) => values.len(),
            VocabularyValues::Text(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A fitted vocabulary, stored as `vocab/<table>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vocabulary {
    /// Table name.
    pub table: String,
    /// The values in code order.
    pub values: VocabularyValues,
}

/// The means that a target encoding has learned, stored as `target/<feature>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetMeans {
    /// Name of the feature.
    pub feature: String,
    /// The values that training rows have, ascending.
    pub values: VocabularyValues,
    /// The smoothed mean of each value.
    pub means: Vec<f32>,
}

/// Every fitted feature and vocabulary: all that is needed to encode raw values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct EncoderSet {
    /// Fitted features, in schema order.
    pub features: Vec<FittedFeature>,
    /// Vocabularies by table name.
    pub vocabularies: BTreeMap<String, Vocabulary>,
    /// Means of target encodings by feature name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub targets: BTreeMap<String, TargetMeans>,
}

impl EncoderSet {
    /// The features that sources and requests have values of: all but crossed ones.
    pub fn sent(&self) -> impl Iterator<Item = &Feature> {
        self.features.iter().map(|fitted| &fitted.feature).filter(|feature| !feature.is_crossed())
    }

    /// The features whose means stand in files of their own: those with a target encoding.
    pub fn with_means(features: &[FittedFeature]) -> impl Iterator<Item = &str> {
        let with_means = |fitted: &&FittedFeature| matches!(fitted.feature.encoder, Encoder::Target { .. });
        features.iter().filter(with_means).map(|fitted| fitted.feature.name.as_str())
    }

    /// Hexadecimal sha256 over the features' encodings and all that they have learned: two sample sets with
    /// the same fingerprint encode every value alike.
    pub fn fingerprint(&self) -> String {
        use sha2::{Digest, Sha256};
        let encoding = |fitted: &FittedFeature| FittedFeature {
            feature: fitted.feature.encoding(),
            state: fitted.state.clone(),
        };
        let features: Vec<FittedFeature> = self.features.iter().map(encoding).collect();
        // Struct fields and BTreeMap keys serialise in a fixed order, so the text is canonical.
        let text = serde_json::to_vec(&(features, &self.vocabularies)).unwrap_or_default();
        let mut hash = Sha256::new_with_prefix(text);
        if !self.targets.is_empty() {
            hash.update(serde_json::to_vec(&self.targets).unwrap_or_default());
        }
        hex(&hash.finalize())
    }

    /// Rows and width of each embedding table, by table name.
    ///
    /// # Errors
    /// When two features that share a table disagree on its rows or width.
    pub fn tables(&self) -> Result<BTreeMap<String, (usize, usize)>, ConfigError> {
        let mut tables = BTreeMap::new();
        for fitted in &self.features {
            let Some(rows) = fitted.code_count() else { continue };
            let Some(width) = fitted.feature.embedding else { continue };
            let name = fitted.feature.table_name();
            let previous = tables.insert(name.to_owned(), (rows, width));
            if previous.is_some_and(|shape| shape != (rows, width)) {
                return Err(ConfigError::new(format!(
                    "feature '{}' shares table '{name}' with a feature of another encoder or \
                     embedding width: give both the same encoder and width, or separate tables",
                    fitted.feature.name
                )));
            }
        }
        Ok(tables)
    }
}

/// Lower-case hexadecimal text of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
