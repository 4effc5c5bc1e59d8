//! What each encoder does to a value, made ready from its fitted state.

use std::collections::BTreeMap;
use std::sync::Arc;

use gatefold_schema::{
    Clip, ConfigError, Encoder as Encoding, EncoderState, FIRST_VALUE_CODE, Feature, FittedFeature,
    TargetMeans, ValueType, Vocabulary, VocabularyValues,
};

use super::type_name;
use crate::{
    lookup::{IntLookup, TextLookup},
    murmur::{hash_int, hash_text},
};

/// One feature's encoding, ready to run.
#[derive(Clone, Debug)]
pub(super) enum Transform {
    IntVocabulary {
        lookup: Arc<IntLookup>,
        buckets: u32,
    },
    TextVocabulary {
        lookup: Arc<TextLookup>,
        buckets: u32,
    },
    Hash {
        buckets: u32,
        seed: u32,
    },
    /// Given edges or fitted ones.
    Bucketize {
        edges: Vec<f64>,
        clip: Option<Clip>,
    },
    Given {
        codes: u32,
        missing: u32,
        padding: u32,
    },
    Number(Scaling, Option<Clip>),
    IntTarget {
        lookup: IntLookup,
        means: Vec<f32>,
        prior: f32,
    },
    TextTarget {
        lookup: TextLookup,
        means: Vec<f32>,
        prior: f32,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Scaling {
    Standardize { mean: f64, std: f64 },
    MinMax { min: f64, max: f64 },
    Log1p,
    None,
}

#[inline]
pub(super) fn int_code(lookup: &IntLookup, buckets: u32, value: i64) -> i32 {
    match lookup.get(value) {
        Some(position) => FIRST_VALUE_CODE + (buckets + position) as i32,
        None if buckets == 1 => FIRST_VALUE_CODE,
        None => bucket_code(hash_int(value, 0), buckets),
    }
}

#[inline]
pub(super) fn text_code(lookup: &TextLookup, buckets: u32, value: &str) -> i32 {
    let hash = hash_text(value, 0);
    match lookup.get(value, hash) {
        Some(position) => FIRST_VALUE_CODE + (buckets + position) as i32,
        None => bucket_code(hash, buckets),
    }
}

#[inline]
pub(super) fn bucket_code(hash: u32, buckets: u32) -> i32 {
    FIRST_VALUE_CODE + (hash % buckets) as i32
}

#[inline]
pub(super) fn edge_code(edges: &[f64], value: f64) -> i32 {
    FIRST_VALUE_CODE + edges.partition_point(|edge| *edge <= value) as i32
}

impl Scaling {
    #[inline]
    pub(super) fn apply(self, value: f64) -> f64 {
        match self {
            Scaling::Standardize { mean, std } => (value - mean) / std,
            Scaling::MinMax { min, max } if max > min => ((value - min) / (max - min)).clamp(0.0, 1.0),
            Scaling::MinMax { .. } => 0.0,
            Scaling::Log1p => value.abs().ln_1p().copysign(value),
            Scaling::None => value,
        }
    }
}

/// A vocabulary, ready to be read.
pub(super) enum Lookup {
    Int(Arc<IntLookup>, usize),
    Text(Arc<TextLookup>, usize),
}

impl Lookup {
    pub(super) fn new(table: &str, vocabulary: &Vocabulary) -> Result<Self, ConfigError> {
        let twice = |value: String| {
            ConfigError::new(format!("vocabulary '{table}': the value {value} stands twice; build it again"))
        };
        match &vocabulary.values {
            VocabularyValues::Int(values) => {
                let lookup = IntLookup::new(values).map_err(|value| twice(value.to_string()))?;
                Ok(Lookup::Int(Arc::new(lookup), values.len()))
            }
            VocabularyValues::Text(values) => {
                let lookup = TextLookup::new(values).map_err(|value| twice(format!("{value:?}")))?;
                Ok(Lookup::Text(Arc::new(lookup), values.len()))
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Lookup::Int(_, len) | Lookup::Text(_, len) => *len,
        }
    }
}

impl Transform {
    /// Of a feature with its state; `means` are those of its target encoding.
    pub(super) fn new(
        fitted: &FittedFeature,
        lookups: &BTreeMap<&str, Lookup>,
        means: Option<&TargetMeans>,
    ) -> Result<Self, ConfigError> {
        let feature = &fitted.feature;
        let fail = |text: String| Err(ConfigError::new(format!("feature '{}': {text}", feature.name)));
        if let Some(count) = fitted.code_count()
            && i32::try_from(count).is_err()
        {
            return fail(format!("{count} codes do not fit 32 bits; use fewer buckets"));
        }
        Ok(match (&feature.encoder, &fitted.state) {
            (Encoding::Vocab { oov_buckets, .. }, EncoderState::Vocab { size }) => {
                let table = feature.table_name();
                let Some(lookup) = lookups.get(table) else {
                    return fail(format!("there is no vocabulary '{table}'; its file is missing"));
                };
                if lookup.len() != *size {
                    return fail(format!(
                        "vocabulary '{table}' has {} values, expected {size}; its file is damaged",
                        lookup.len()
                    ));
                }
                let buckets = *oov_buckets;
                match (lookup, feature.value_type) {
                    (Lookup::Int(lookup, _), ValueType::Int) => {
                        Transform::IntVocabulary { lookup: Arc::clone(lookup), buckets }
                    }
                    (Lookup::Text(lookup, _), ValueType::Text) => {
                        Transform::TextVocabulary { lookup: Arc::clone(lookup), buckets }
                    }
                    _ => {
                        return fail(format!(
                            "vocabulary '{table}' holds values of another type than {}; \
                             give the feature a table of its own",
                            type_name(feature)
                        ));
                    }
                }
            }
            (Encoding::Hash { buckets, seed }, EncoderState::Stateless) => {
                Transform::Hash { buckets: *buckets, seed: *seed }
            }
            (Encoding::Bucketize { edges }, EncoderState::Stateless) => {
                Transform::Bucketize { edges: edges.clone(), clip: feature.clip }
            }
            (Encoding::Quantile { .. }, EncoderState::Edges { edges }) => {
                if edges.iter().any(|edge| !edge.is_finite())
                    || edges.windows(2).any(|pair| pair[0] >= pair[1])
                {
                    return fail("its fitted edges are not finite and ascending; fit it again".into());
                }
                Transform::Bucketize { edges: edges.clone(), clip: feature.clip }
            }
            (Encoding::Target { .. }, EncoderState::Target { prior, size }) => {
                return Transform::target(feature, *prior, *size, means);
            }
            (Encoding::Given { codes, missing, padding }, EncoderState::Stateless) => {
                Transform::Given { codes: *codes, missing: *missing, padding: *padding }
            }
            (Encoding::Standardize, EncoderState::Standardize { mean, std }) if *std > 0.0 => {
                Transform::Number(Scaling::Standardize { mean: *mean, std: *std }, feature.clip)
            }
            (Encoding::MinMax, EncoderState::MinMax { min, max }) => {
                Transform::Number(Scaling::MinMax { min: *min, max: *max }, feature.clip)
            }
            (Encoding::Log1p, EncoderState::Stateless) => Transform::Number(Scaling::Log1p, feature.clip),
            (Encoding::None, EncoderState::Stateless) => Transform::Number(Scaling::None, feature.clip),
            (encoder, state) => {
                return fail(format!(
                    "the fitted state {state:?} does not belong to the encoder {encoder:?}"
                ));
            }
        })
    }

    fn target(
        feature: &Feature,
        prior: f32,
        size: usize,
        means: Option<&TargetMeans>,
    ) -> Result<Self, ConfigError> {
        let fail = |text: &str| ConfigError::new(format!("feature '{}': {text}", feature.name));
        let means =
            means.ok_or_else(|| fail("there are no means of its target encoding; their file is missing"))?;
        let found = means.means.len();
        if found != size || means.values.len() != size {
            return Err(fail(&format!(
                "its target encoding has {found} means, expected {size}; their file is damaged"
            )));
        }
        if !prior.is_finite() || means.means.iter().any(|mean| !mean.is_finite()) {
            return Err(fail("a mean of its target encoding is not finite; fit it again"));
        }
        let twice = || fail("a value of its target encoding stands twice; fit it again");
        let means_of = means.means.clone();
        match (&means.values, feature.value_type) {
            (VocabularyValues::Int(values), ValueType::Int) => {
                let lookup = IntLookup::new(values).map_err(|_| twice())?;
                Ok(Transform::IntTarget { lookup, means: means_of, prior })
            }
            (VocabularyValues::Text(values), ValueType::Text) => {
                let lookup = TextLookup::new(values).map_err(|_| twice())?;
                Ok(Transform::TextTarget { lookup, means: means_of, prior })
            }
            _ => Err(fail("its target encoding has values of another type; fit it again")),
        }
    }
}
