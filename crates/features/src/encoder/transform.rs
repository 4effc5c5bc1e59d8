//! What each encoder does to a value, made ready from its fitted state.

use std::collections::BTreeMap;
use std::sync::Arc;

use gatefold_schema::{
    ConfigError, Encoder as Encoding, EncoderState, FIRST_VALUE_CODE, FittedFeature, ValueType, Vocabulary,
    VocabularyValues,
};

use super::type_name;
use crate::{
    lookup::{IntLookup, TextLookup},
    murmur::{hash_int, hash_text},
};

/// One feature's encoding, ready to run.
#[derive(Clone, Debug)]
pub(super) enum Transform {
    IntVocabulary { lookup: Arc<IntLookup>, buckets: u32 },
    TextVocabulary { lookup: Arc<TextLookup>, buckets: u32 },
    Hash { buckets: u32, seed: u32 },
    Bucketize { edges: Vec<f64> },
    Given { codes: u32, missing: u32, padding: u32 },
    Number(Scaling),
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
    pub(super) fn new(fitted: &FittedFeature, lookups: &BTreeMap<&str, Lookup>) -> Result<Self, ConfigError> {
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
                Transform::Bucketize { edges: edges.clone() }
            }
            (Encoding::Given { codes, missing, padding }, EncoderState::Stateless) => {
                Transform::Given { codes: *codes, missing: *missing, padding: *padding }
            }
            (Encoding::Standardize, EncoderState::Standardize { mean, std }) if *std > 0.0 => {
                Transform::Number(Scaling::Standardize { mean: *mean, std: *std })
            }
            (Encoding::MinMax, EncoderState::MinMax { min, max }) => {
                Transform::Number(Scaling::MinMax { min: *min, max: *max })
            }
            (Encoding::Log1p, EncoderState::Stateless) => Transform::Number(Scaling::Log1p),
            (Encoding::None, EncoderState::Stateless) => Transform::Number(Scaling::None),
            (encoder, state) => {
                return fail(format!(
                    "the fitted state {state:?} does not belong to the encoder {encoder:?}"
                ));
            }
        })
    }
}
