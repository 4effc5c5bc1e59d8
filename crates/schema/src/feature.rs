//! Features: their side, kind, encoder, and the state an encoder is fitted to.

mod check;
mod cross;
mod encoder;
mod fitted;
mod reuse;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::check_features;
pub(crate) use check::{check_embeddings, check_targets};
pub use encoder::{Clip, DEFAULT_FOLDS, Encoder, TargetBy};
pub use fitted::{EncoderSet, EncoderState, FittedFeature, TargetMeans, Vocabulary, VocabularyValues, hex};

/// Where a feature's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ValueType {
    /// 64-bit signed integer.
    Int,
    /// Floating point; integers are accepted where a float is expected.
    Float,
    /// UTF-8 text.
    Text,
}

/// One feature as a recipe declares it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// The features whose values together are this one's value; empty unless it is a crossed feature,
    /// which has no values of its own in any source or request.
    ///
    /// Of each part in this order, its value as text (an integer in decimal; of a part that is encoded
    /// by `bucketize` or `quantile`, the number of its edges that are less than or equal to it): its
    /// length in bytes in decimal, `:`, and the text, all joined. So `"ab"` and `"c"` make `2:ab1:c`,
    /// `"a"` and `"bc"` make `1:a2:bc`, and 34 and `"x"` make `2:341:x`. That text is the value that is
    /// hashed or looked up. It is missing where a part is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cross: Vec<String>,
    /// How values are encoded.
    pub encoder: Encoder,
    /// The range that numbers are brought into before they are encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<Clip>,
    /// Width of the embedding; required for categorical and sequence features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<usize>,
    /// Embedding table (and vocabulary), shared by every feature that names it; the feature's
    /// name unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Whether the values are counted when the vocabulary of a shared table is fitted; where they are
    /// not, they are looked up in what the other features of the table have learned.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub fit: bool,
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

    /// Whether this feature is made of others: sources and requests have no values of it.
    pub fn is_crossed(&self) -> bool {
        !self.cross.is_empty()
    }

    /// Whether this feature is encoded to codes that an embedding table is read by.
    pub fn is_coded(&self) -> bool {
        self.kind != Kind::Numeric
    }
}

fn yes() -> bool {
    true
}
fn is_yes(fit: &bool) -> bool {
    *fit
}
