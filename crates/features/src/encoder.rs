//! The encoder: raw columns in, codes and 32-bit numbers out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gatefold_schema::{
    ConfigError, Encoder as Encoding, EncoderSet, EncoderState, FIRST_VALUE_CODE, Feature, FittedFeature,
    Kind, Level, MISSING_CODE, PADDING_CODE, ValueType, Vocabulary, VocabularyValues, strict::nearest,
};

use crate::{
    EncodeError, FeatureBatch, FeatureColumn, RawBatch, RawColumn, RawValues,
    lookup::{IntLookup, TextLookup},
    murmur::{hash_int, hash_text},
};

/// What to do with values that a careful client would not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// For requests: numbers that are not finite and sequences that are too long are errors.
    Refuse,
    /// For logs: numbers that are not finite are missing, and of a sequence that is too long the
    /// first `max_len` elements are kept.
    Lenient,
}

/// Encodes raw values by fitted encoders. Cheap to share behind an `Arc`; encoding needs `&self`.
#[derive(Clone, Debug)]
pub struct Encoder {
    set: EncoderSet,
    transforms: Vec<Transform>,
    index: HashMap<String, usize>,
    fingerprint: String,
}

/// One feature's encoding, ready to run.
#[derive(Clone, Debug)]
enum Transform {
    IntVocabulary { lookup: Arc<IntLookup>, buckets: u32 },
    TextVocabulary { lookup: Arc<TextLookup>, buckets: u32 },
    Hash { buckets: u32, seed: u32 },
    Bucketize { edges: Vec<f64> },
    Number(Scaling),
}

#[derive(Clone, Copy, Debug)]
enum Scaling {
    Standardize { mean: f64, std: f64 },
    MinMax { min: f64, max: f64 },
    Log1p,
    None,
}

impl Encoder {
    /// Prepares the encoders of `set`.
    ///
    /// # Errors
    /// When a vocabulary is missing, damaged or of another type than its feature, or when a
    /// fitted state does not belong to its encoder.
    pub fn new(set: EncoderSet) -> Result<Self, ConfigError> {
        let mut lookups = BTreeMap::new();
        for (table, vocabulary) in &set.vocabularies {
            lookups.insert(table.as_str(), Lookup::new(table, vocabulary)?);
        }
        let transforms = set
            .features
            .iter()
            .map(|fitted| Transform::new(fitted, &lookups))
            .collect::<Result<Vec<_>, _>>()?;
        let name_of = |(index, fitted): (usize, &FittedFeature)| (fitted.feature.name.clone(), index);
        let index = set.features.iter().enumerate().map(name_of).collect();
        let fingerprint = set.fingerprint();
        Ok(Self { set, transforms, index, fingerprint })
    }

    /// The fitted features and vocabularies.
    pub fn set(&self) -> &EncoderSet {
        &self.set
    }

    /// [`EncoderSet::fingerprint`], computed once.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Position of the feature `name` in the schema.
    pub fn feature_index(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// Encodes a batch of requests.
    ///
    /// # Errors
    /// Anything about the raw values that is not as the schema says; see [`EncodeError`].
    pub fn encode(&self, raw: &RawBatch<'_>, strictness: Strictness) -> Result<FeatureBatch, EncodeError> {
        let mut batch = FeatureBatch::default();
        self.encode_into(raw, strictness, &mut batch)?;
        Ok(batch)
    }

    /// As [`Encoder::encode`], into a batch whose memory is used again. After an error `batch`
    /// holds nothing that may be used.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_into(
        &self,
        raw: &RawBatch<'_>,
        strictness: Strictness,
        batch: &mut FeatureBatch,
    ) -> Result<(), EncodeError> {
        check_request_of(raw)?;
        batch.requests = raw.requests;
        batch.candidates = raw.candidates;
        batch.request_of.clone_from(&raw.request_of);
        batch.columns.resize_with(self.transforms.len(), || FeatureColumn::Numbers(Vec::new()));

        let mut given = vec![false; self.transforms.len()];
        for (position, (name, column)) in raw.columns.iter().enumerate() {
            let index = self.index_of(name, position)?;
            let feature = &self.set.features[index].feature;
            if std::mem::replace(&mut given[index], true) {
                return Err(EncodeError::DuplicateFeature { feature: feature.name.clone() });
            }
            let rows = match feature.side.level() {
                Level::Request => raw.requests,
                Level::Candidate => raw.candidates,
            };
            self.encode_column_into(index, column, rows, strictness, &mut batch.columns[index])?;
        }
        if let Some(absent) = given.iter().position(|given| !given) {
            let feature = &self.set.features[absent].feature;
            return Err(EncodeError::MissingFeature { feature: feature.name.clone(), side: feature.side });
        }
        Ok(())
    }

    /// Encodes `rows` values of the feature at `index` of the schema.
    ///
    /// # Errors
    /// As [`Encoder::encode`], for this column.
    pub fn encode_column(
        &self,
        index: usize,
        column: &RawColumn<'_>,
        rows: usize,
        strictness: Strictness,
    ) -> Result<FeatureColumn, EncodeError> {
        let mut encoded = FeatureColumn::Numbers(Vec::new());
        self.encode_column_into(index, column, rows, strictness, &mut encoded)?;
        Ok(encoded)
    }

    /// Position of the feature `name`; callers that keep the schema's order skip the hash map.
    fn index_of(&self, name: &str, position: usize) -> Result<usize, EncodeError> {
        if self.set.features.get(position).is_some_and(|fitted| fitted.feature.name == name) {
            return Ok(position);
        }
        self.feature_index(name).ok_or_else(|| unknown_feature(name, &self.set))
    }

    fn encode_column_into(
        &self,
        index: usize,
        column: &RawColumn<'_>,
        rows: usize,
        strictness: Strictness,
        encoded: &mut FeatureColumn,
    ) -> Result<(), EncodeError> {
        let feature = &self.set.features[index].feature;
        let found = column.values.rows();
        if found != rows {
            let (feature, side) = (feature.name.clone(), feature.side);
            return Err(EncodeError::WrongRows { feature, side, expected: rows, found });
        }
        let missing = column.missing.as_deref();
        if let Some(mask) = missing
            && mask.len() != rows
        {
            let feature = feature.name.clone();
            return Err(EncodeError::WrongMask { feature, expected: rows, found: mask.len() });
        }
        let target = Target { feature, missing, strictness };
        let transform = &self.transforms[index];
        match transform {
            Transform::Number(scaling) => {
                let data = numbers_of(encoded);
                target.numbers(&column.values, *scaling, data)
            }
            _ if feature.kind == Kind::Sequence => {
                let data = codes_of(encoded, feature.width());
                target.sequences(&column.values, transform, data)
            }
            _ => {
                let data = codes_of(encoded, 1);
                target.codes(&column.values, transform, data)
            }
        }
    }
}

/// The error for a column that no feature claims, with the nearest known name.
pub(crate) fn unknown_feature(name: &str, set: &EncoderSet) -> EncodeError {
    let known = set.features.iter().map(|fitted| fitted.feature.name.as_str());
    EncodeError::UnknownFeature { feature: name.to_owned(), nearest: nearest(name, known).map(str::to_owned) }
}

fn check_request_of(raw: &RawBatch<'_>) -> Result<(), EncodeError> {
    let fail = |text: String| Err(EncodeError::BadRequestOf { text });
    if raw.request_of.len() != raw.candidates {
        return fail(format!(
            "{} entries for {} candidates; give one for each candidate",
            raw.request_of.len(),
            raw.candidates
        ));
    }
    if let Some(row) = raw.request_of.windows(2).position(|pair| pair[1] < pair[0]) {
        return fail(format!(
            "candidate {} belongs to an earlier request than the candidate before it; \
             keep the candidates of a request together, in the order of the requests",
            row + 1
        ));
    }
    match raw.request_of.last() {
        Some(&last) if last as usize >= raw.requests => fail(format!(
            "candidate of request {last}, but there are {} requests, counted from 0",
            raw.requests
        )),
        _ => Ok(()),
    }
}

/// The column's code buffer, emptied, its memory kept.
fn codes_of(column: &mut FeatureColumn, new_width: usize) -> &mut Vec<i32> {
    if !matches!(column, FeatureColumn::Codes { .. }) {
        *column = FeatureColumn::Codes { width: new_width, data: Vec::new() };
    }
    match column {
        FeatureColumn::Codes { width, data } => {
            *width = new_width;
            data.clear();
            data
        }
        FeatureColumn::Numbers(_) => unreachable!("made of codes above"),
    }
}

fn numbers_of(column: &mut FeatureColumn) -> &mut Vec<f32> {
    if !matches!(column, FeatureColumn::Numbers(_)) {
        *column = FeatureColumn::Numbers(Vec::new());
    }
    match column {
        FeatureColumn::Numbers(data) => {
            data.clear();
            data
        }
        FeatureColumn::Codes { .. } => unreachable!("made of numbers above"),
    }
}

/// A column being encoded.
#[derive(Clone, Copy)]
struct Target<'a> {
    feature: &'a Feature,
    missing: Option<&'a [bool]>,
    strictness: Strictness,
}

impl Target<'_> {
    fn is_missing(&self, row: usize) -> bool {
        self.missing.is_some_and(|mask| mask[row])
    }

    /// One code a row.
    fn codes(&self, values: &RawValues<'_>, how: &Transform, data: &mut Vec<i32>) -> Result<(), EncodeError> {
        match (values, how) {
            (RawValues::Ints(values), Transform::IntVocabulary { lookup, buckets }) => {
                self.fill(values, data, |value| int_code(lookup, *buckets, value));
            }
            (RawValues::Texts(values), Transform::TextVocabulary { lookup, buckets }) => {
                self.fill(values, data, |value| text_code(lookup, *buckets, value));
            }
            (RawValues::Ints(values), Transform::Hash { buckets, seed })
                if self.feature.value_type == ValueType::Int =>
            {
                self.fill(values, data, |value| bucket_code(hash_int(value, *seed), *buckets));
            }
            (RawValues::Texts(values), Transform::Hash { buckets, seed })
                if self.feature.value_type == ValueType::Text =>
            {
                self.fill(values, data, |value| bucket_code(hash_text(value, *seed), *buckets));
            }
            (RawValues::Ints(values), Transform::Bucketize { edges }) => {
                self.fill(values, data, |value| edge_code(edges, value as f64));
            }
            (RawValues::Floats(values), Transform::Bucketize { edges })
                if self.feature.value_type == ValueType::Float =>
            {
                self.check_finite(values)?;
                self.fill(values, data, |value| {
                    if value.is_finite() { edge_code(edges, value) } else { MISSING_CODE }
                });
            }
            _ => return Err(self.wrong_type(values)),
        }
        Ok(())
    }

    fn fill<V: Copy>(&self, values: &[V], data: &mut Vec<i32>, code: impl Fn(V) -> i32) {
        match self.missing {
            None => data.extend(values.iter().map(|&value| code(value))),
            Some(mask) => data.extend(
                values
                    .iter()
                    .zip(mask)
                    .map(|(&value, &missing)| if missing { MISSING_CODE } else { code(value) }),
            ),
        }
    }

    /// `max_len` codes a row: the valid ones first, then padding. A missing list is one missing
    /// value; an empty list is padding alone.
    fn sequences(
        &self,
        values: &RawValues<'_>,
        how: &Transform,
        data: &mut Vec<i32>,
    ) -> Result<(), EncodeError> {
        match (values, how) {
            (RawValues::IntLists { values, offsets }, Transform::IntVocabulary { lookup, buckets }) => {
                self.fill_lists(values, offsets, data, |value| int_code(lookup, *buckets, value))
            }
            (RawValues::TextLists { values, offsets }, Transform::TextVocabulary { lookup, buckets }) => {
                self.fill_lists(values, offsets, data, |value| text_code(lookup, *buckets, value))
            }
            (RawValues::IntLists { values, offsets }, Transform::Hash { buckets, seed })
                if self.feature.value_type == ValueType::Int =>
            {
                self.fill_lists(values, offsets, data, |value| bucket_code(hash_int(value, *seed), *buckets))
            }
            (RawValues::TextLists { values, offsets }, Transform::Hash { buckets, seed })
                if self.feature.value_type == ValueType::Text =>
            {
                self.fill_lists(values, offsets, data, |value| bucket_code(hash_text(value, *seed), *buckets))
            }
            _ => Err(self.wrong_type(values)),
        }
    }

    fn fill_lists<V: Copy>(
        &self,
        values: &[V],
        offsets: &[u32],
        data: &mut Vec<i32>,
        code: impl Fn(V) -> i32,
    ) -> Result<(), EncodeError> {
        let width = self.feature.width();
        data.reserve(width * offsets.len().saturating_sub(1));
        for (row, bounds) in offsets.windows(2).enumerate() {
            let (start, end) = (bounds[0] as usize, bounds[1] as usize);
            let first = data.len();
            if self.is_missing(row) {
                data.push(MISSING_CODE);
            } else {
                let elements = values.get(start..end).ok_or_else(|| EncodeError::BadOffsets {
                    feature: self.feature.name.clone(),
                    row,
                    start,
                    end,
                    elements: values.len(),
                })?;
                if elements.len() > width && self.strictness == Strictness::Refuse {
                    return Err(EncodeError::SequenceTooLong {
                        feature: self.feature.name.clone(),
                        side: self.feature.side,
                        row,
                        found: elements.len(),
                        limit: width,
                    });
                }
                data.extend(elements.iter().take(width).map(|&value| code(value)));
            }
            data.resize(first + width, PADDING_CODE);
        }
        Ok(())
    }

    /// One number a row.
    fn numbers(&self, values: &RawValues<'_>, how: Scaling, data: &mut Vec<f32>) -> Result<(), EncodeError> {
        match values {
            RawValues::Ints(values) => self.fill_numbers(values, how, data, |value| value as f64),
            RawValues::Floats(values) if self.feature.value_type == ValueType::Float => {
                self.fill_numbers(values, how, data, |value| value)
            }
            _ => Err(self.wrong_type(values)),
        }
    }

    fn fill_numbers<V: Copy>(
        &self,
        values: &[V],
        how: Scaling,
        data: &mut Vec<f32>,
        number: impl Fn(V) -> f64,
    ) -> Result<(), EncodeError> {
        data.reserve(values.len());
        for (row, &value) in values.iter().enumerate() {
            if self.is_missing(row) {
                data.push(0.0);
                continue;
            }
            let value = number(value);
            let scaled = if value.is_finite() { how.apply(value) as f32 } else { f32::NAN };
            if scaled.is_finite() {
                data.push(scaled);
            } else if self.strictness == Strictness::Lenient {
                data.push(0.0);
            } else {
                return Err(self.not_finite(row, value));
            }
        }
        Ok(())
    }

    fn check_finite(&self, values: &[f64]) -> Result<(), EncodeError> {
        if self.strictness == Strictness::Lenient {
            return Ok(());
        }
        let bad = |(row, value): (usize, &f64)| !value.is_finite() && !self.is_missing(row);
        match values.iter().enumerate().position(bad) {
            Some(row) => Err(self.not_finite(row, values[row])),
            None => Ok(()),
        }
    }

    fn not_finite(&self, row: usize, value: f64) -> EncodeError {
        EncodeError::NotFinite { feature: self.feature.name.clone(), side: self.feature.side, row, value }
    }

    fn wrong_type(&self, values: &RawValues<'_>) -> EncodeError {
        EncodeError::WrongType {
            feature: self.feature.name.clone(),
            side: self.feature.side,
            expected: type_name(self.feature),
            found: values.type_name().to_owned(),
        }
    }
}

/// The type of a feature's raw values as messages name it.
pub(crate) fn type_name(feature: &Feature) -> &'static str {
    match (feature.kind, feature.value_type) {
        (Kind::Sequence, ValueType::Int) => "list of int",
        (Kind::Sequence, ValueType::Text) => "list of text",
        (Kind::Sequence, ValueType::Float) => "list of float",
        (_, ValueType::Int) => "int",
        (_, ValueType::Float) => "float or int",
        (_, ValueType::Text) => "text",
    }
}

#[inline]
fn int_code(lookup: &IntLookup, buckets: u32, value: i64) -> i32 {
    match lookup.get(value) {
        Some(position) => FIRST_VALUE_CODE + (buckets + position) as i32,
        None if buckets == 1 => FIRST_VALUE_CODE,
        None => bucket_code(hash_int(value, 0), buckets),
    }
}

#[inline]
fn text_code(lookup: &TextLookup, buckets: u32, value: &str) -> i32 {
    let hash = hash_text(value, 0);
    match lookup.get(value, hash) {
        Some(position) => FIRST_VALUE_CODE + (buckets + position) as i32,
        None => bucket_code(hash, buckets),
    }
}

#[inline]
fn bucket_code(hash: u32, buckets: u32) -> i32 {
    FIRST_VALUE_CODE + (hash % buckets) as i32
}

#[inline]
fn edge_code(edges: &[f64], value: f64) -> i32 {
    FIRST_VALUE_CODE + edges.partition_point(|edge| *edge <= value) as i32
}

impl Scaling {
    #[inline]
    fn apply(self, value: f64) -> f64 {
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
enum Lookup {
    Int(Arc<IntLookup>, usize),
    Text(Arc<TextLookup>, usize),
}

impl Lookup {
    fn new(table: &str, vocabulary: &Vocabulary) -> Result<Self, ConfigError> {
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
    fn new(fitted: &FittedFeature, lookups: &BTreeMap<&str, Lookup>) -> Result<Self, ConfigError> {
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
