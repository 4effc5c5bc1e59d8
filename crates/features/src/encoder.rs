//! The encoder: raw columns in, codes and 32-bit numbers out.

mod column;
mod transform;

use std::collections::{BTreeMap, HashMap};

use gatefold_schema::{
    ConfigError, EncoderSet, Feature, FittedFeature, Kind, Level, ValueType, strict::nearest,
};

use self::{
    column::encode_into_column,
    transform::{Lookup, Transform},
};
use crate::{Cross, CrossPart, EncodeError, FeatureBatch, FeatureColumn, RawBatch, RawColumn};

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
    /// By feature, `None` for one with values of its own.
    crosses: Vec<Option<Cross>>,
    index: HashMap<String, usize>,
    fingerprint: String,
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
            .map(|fitted| Transform::new(fitted, &lookups, set.targets.get(&fitted.feature.name)))
            .collect::<Result<Vec<_>, _>>()?;
        let crosses = (0..set.features.len()).map(|index| Cross::fitted(&set.features, index));
        let crosses = crosses.collect::<Result<Vec<_>, _>>()?;
        let name_of = |(index, fitted): (usize, &FittedFeature)| (fitted.feature.name.clone(), index);
        let index = set.features.iter().enumerate().map(name_of).collect();
        let fingerprint = set.fingerprint();
        Ok(Self { set, transforms, crosses, index, fingerprint })
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

    /// What combines the values of the feature at `index`; `None` for one with values of its own. Callers
    /// that encode column by column give its values to [`Encoder::encode_column`].
    pub fn cross(&self, index: usize) -> Option<&Cross> {
        self.crosses[index].as_ref()
    }

    /// Encodes a batch of requests: a column for every feature that is not crossed, whose values are made of
    /// the others.
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

        // Where each feature's values stand in `raw`.
        let mut given: Vec<Option<usize>> = vec![None; self.transforms.len()];
        for (position, (name, column)) in raw.columns.iter().enumerate() {
            let index = self.index_of(name, position)?;
            let feature = &self.set.features[index].feature;
            if feature.is_crossed() {
                return Err(EncodeError::crossed(feature));
            }
            if given[index].replace(position).is_some() {
                return Err(EncodeError::DuplicateFeature { feature: feature.name.clone() });
            }
            let rows = raw.rows(feature.side.level());
            self.encode_column_into(index, column, rows, strictness, &mut batch.columns[index])?;
        }
        let absent = |index: &usize| given[*index].is_none() && self.crosses[*index].is_none();
        if let Some(absent) = (0..given.len()).find(absent) {
            let feature = &self.set.features[absent].feature;
            return Err(EncodeError::MissingFeature { feature: feature.name.clone(), side: feature.side });
        }
        for (index, cross) in self.crosses.iter().enumerate() {
            let Some(cross) = cross else { continue };
            let level = self.set.features[index].feature.side.level();
            let part = |part: usize| {
                let (_, column) = &raw.columns[given[part]?];
                let repeats = level == Level::Candidate
                    && self.set.features[part].feature.side.level() == Level::Request;
                Some(CrossPart { column, rows: repeats.then_some(raw.request_of.as_slice()) })
            };
            let parts: Vec<CrossPart<'_>> = cross.parts().filter_map(part).collect();
            let rows = raw.rows(level);
            let values = cross.values(&parts, rows)?;
            self.encode_column_into(index, &values.column(), rows, strictness, &mut batch.columns[index])?;
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
    pub(crate) fn index_of(&self, name: &str, position: usize) -> Result<usize, EncodeError> {
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
        if let Some(mask) = column.missing.as_deref()
            && mask.len() != rows
        {
            let feature = feature.name.clone();
            return Err(EncodeError::WrongMask { feature, expected: rows, found: mask.len() });
        }
        encode_into_column(feature, &self.transforms[index], column, strictness, encoded)
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
