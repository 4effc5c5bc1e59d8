//! Features: their side, kind, encoder, and the state an encoder is fitted to.

mod check;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{FIRST_VALUE_CODE, strict::ConfigError};
pub(crate) use check::check_embeddings;
pub use check::check_features;

/// Where a feature's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// One value a request: who asks.
    User,
    /// One value a request: when, where and on what.
    Context,
    /// One value a candidate.
    Item,
}

/// How many rows a value has: one a request, or one a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// One row a request.
    Request,
    /// One row a candidate.
    Candidate,
}

impl Side {
    /// The row level of a feature on this side.
    pub fn level(self) -> Level {
        match self {
            Side::User | Side::Context => Level::Request,
            Side::Item => Level::Candidate,
        }
    }

    /// The word used in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Side::User => "user",
            Side::Context => "context",
            Side::Item => "item",
        }
    }
}

/// What shape a feature has after encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One code a row, looked up in an embedding table.
    Categorical,
    /// One number a row.
    Numeric,
    /// Up to `max_len` codes a row, looked up and pooled.
    Sequence,
}

/// How the embeddings of a sequence become one. Padded positions do not count; where there is no
/// other, the result is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// The largest of each column.
    Max,
    /// Their sum by weights from an activation unit that compares each with the candidate: target
    /// attention (Zhou et al., KDD 2018).
    Attention,
    /// The last state of a gated recurrent unit (Cho et al., 2014).
    Gru,
}

impl Pooling {
    fn is_default(&self) -> bool {
        *self == Pooling::default()
    }
}

/// The type of a feature's raw values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueType {
    /// 64-bit signed integer.
    Int,
    /// Floating point; integers are accepted where a float is expected.
    Float,
    /// UTF-8 text.
    Text,
}

/// How raw values become codes or numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Encoder {
    /// Codes by a vocabulary fitted on the training split.
    Vocab {
        /// Values seen fewer times than this are out of vocabulary.
        #[serde(default = "one")]
        min_count: u64,
        /// Number of buckets that unseen values are hashed into (at least 1).
        #[serde(default = "one_u32")]
        oov_buckets: u32,
    },
    /// Codes by murmur3_x86_32 of the value's bytes modulo `buckets`.
    Hash {
        /// Number of buckets.
        buckets: u32,
        /// Seed of the hash.
        #[serde(default)]
        seed: u32,
    },
    /// Codes by the position of a number among ascending `edges`: the code of a value is the
    /// number of edges that are less than or equal to it.
    Bucketize {
        /// Strictly ascending edges.
        edges: Vec<f64>,
    },
    /// The values are codes already, as a model that came from elsewhere was trained on: whole numbers
    /// of at least 0 and below `codes`. Others are refused. Only the map of an import declares it.
    Given {
        /// Number of codes: the rows of the model's embedding table.
        codes: u32,
        /// The code of a value that is absent.
        #[serde(default)]
        missing: u32,
        /// The code that fills a sequence up.
        #[serde(default)]
        padding: u32,
    },
    /// `(x − mean) / standard deviation`, both fitted on the training split; missing is 0.
    Standardize,
    /// `(x − min) / (max − min)`, fitted on the training split and clipped to 0..1; missing is 0.
    MinMax,
    /// `sign(x) · ln(1 + |x|)`; missing is 0.
    Log1p,
    /// The number as it is; missing is 0.
    None,
}

fn one() -> u64 {
    1
}
fn one_u32() -> u32 {
    1
}

/// One feature as a recipe declares it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// Unique name; also the name of the graph input and of the shard column.
    pub name: String,
    /// User, context or item.
    pub side: Side,
    /// Categorical, numeric or sequence.
    pub kind: Kind,
    /// Type of the raw values (of the elements, for a sequence).
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// Column of the source table; the feature's name unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// How values are encoded.
    pub encoder: Encoder,
    /// Width of the embedding; required for categorical and sequence features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<usize>,
    /// Embedding table (and vocabulary), shared by every feature that names it; the feature's
    /// name unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Longest sequence kept; required for sequences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_len: Option<usize>,
    /// How the embeddings of a sequence become one.
    #[serde(default, skip_serializing_if = "Pooling::is_default")]
    pub pooling: Pooling,
    /// The categorical feature of the candidate that attention compares a sequence with; required
    /// for that pooling alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

impl Feature {
    /// The feature without what only a model reads of it, its embedding's width and its pooling:
    /// two features with the same encoding give every value the same code.
    pub fn encoding(&self) -> Self {
        Self { embedding: None, pooling: Pooling::default(), query: None, ..self.clone() }
    }

    /// Name of the embedding table and vocabulary this feature uses.
    pub fn table_name(&self) -> &str {
        self.table.as_deref().unwrap_or(&self.name)
    }

    /// Column of the source table that holds the raw values.
    pub fn source_column(&self) -> &str {
        self.column.as_deref().unwrap_or(&self.name)
    }

    /// Number of codes a row: 1, or `max_len` for a sequence.
    pub fn width(&self) -> usize {
        match self.kind {
            Kind::Sequence => self.max_len.unwrap_or(1),
            _ => 1,
        }
    }

    /// Whether this feature is encoded to codes that an embedding table is read by.
    pub fn is_coded(&self) -> bool {
        self.kind != Kind::Numeric
    }
}

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
            (Encoder::Bucketize { edges }, _) => edges.len() + 1,
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

/// Every fitted feature and vocabulary: all that is needed to encode raw values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct EncoderSet {
    /// Fitted features, in schema order.
    pub features: Vec<FittedFeature>,
    /// Vocabularies by table name.
    pub vocabularies: BTreeMap<String, Vocabulary>,
}

impl EncoderSet {
    /// Hexadecimal sha256 over the features' encodings and the vocabularies: two sample sets with
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
        hex(&Sha256::digest(text))
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
