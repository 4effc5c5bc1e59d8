//! Encoding one column: which values are taken, which refused, and where the codes go.

use gatefold_schema::{Clip, Feature, Kind, MISSING_CODE, PADDING_CODE, ValueType};

use super::{
    Strictness,
    transform::{Scaling, Transform, bucket_code, edge_code, int_code, text_code},
    type_name,
};
use crate::{
    EncodeError, FeatureColumn, RawColumn, RawValues,
    murmur::{hash_int, hash_text},
};

/// Encodes the rows of `column`, whose number and mask have been checked, into `encoded`, whose
/// memory is used again.
pub(super) fn encode_into_column(
    feature: &Feature,
    transform: &Transform,
    column: &RawColumn<'_>,
    strictness: Strictness,
    encoded: &mut FeatureColumn,
) -> Result<(), EncodeError> {
    let (missing_code, padding_code) = match transform {
        Transform::Given { missing, padding, .. } => (*missing as i32, *padding as i32),
        _ => (MISSING_CODE, PADDING_CODE),
    };
    let missing = column.missing.as_deref();
    let target = Target { feature, missing, strictness, missing_code, padding_code };
    match transform {
        Transform::Number(scaling, clip) => {
            let data = numbers_of(encoded);
            target.numbers(&column.values, *scaling, *clip, data)
        }
        Transform::IntTarget { .. } | Transform::TextTarget { .. } => {
            let data = numbers_of(encoded);
            target.means(&column.values, transform, data)
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

fn clipped(value: f64, clip: Option<Clip>) -> f64 {
    clip.map_or(value, |clip| clip.apply(value))
}

/// Stands for a value that is no code of the model.
const NO_CODE: i32 = -1;

fn given_code(value: i64, codes: u32) -> i32 {
    i32::try_from(value)
        .ok()
        .filter(|code| (0..i64::from(codes)).contains(&i64::from(*code)))
        .unwrap_or(NO_CODE)
}

/// A column being encoded.
#[derive(Clone, Copy)]
struct Target<'a> {
    feature: &'a Feature,
    missing: Option<&'a [bool]>,
    strictness: Strictness,
    missing_code: i32,
    padding_code: i32,
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
            (RawValues::Ints(values), Transform::Given { codes, .. }) => {
                self.fill(values, data, |value| given_code(value, *codes));
                self.check_given(data, *codes, |row, _| values[row])?;
            }
            (RawValues::Ints(values), Transform::Bucketize { edges, clip }) => {
                self.fill(values, data, |value| edge_code(edges, clipped(value as f64, *clip)));
            }
            (RawValues::Floats(values), Transform::Bucketize { edges, clip })
                if self.feature.value_type == ValueType::Float =>
            {
                self.check_finite(values)?;
                self.fill(values, data, |value| {
                    if value.is_finite() { edge_code(edges, clipped(value, *clip)) } else { MISSING_CODE }
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
                    .map(|(&value, &missing)| if missing { self.missing_code } else { code(value) }),
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
            (RawValues::IntLists { values, offsets }, Transform::Given { codes, .. }) => {
                self.fill_lists(values, offsets, data, |value| given_code(value, *codes))?;
                self.check_given(data, *codes, |row, element| values[offsets[row] as usize + element])
            }
            _ => Err(self.wrong_type(values)),
        }
    }

    /// Puts the missing code for values that are no code of the model ([`NO_CODE`] in `data`), or refuses
    /// the first; `value_at` gives the value at a row and a position in it.
    fn check_given(
        &self,
        data: &mut [i32],
        codes: u32,
        value_at: impl Fn(usize, usize) -> i64,
    ) -> Result<(), EncodeError> {
        let width = self.feature.width();
        for (index, code) in data.iter_mut().enumerate().filter(|(_, code)| **code == NO_CODE) {
            if self.strictness == Strictness::Refuse {
                let (feature, side) = (self.feature.name.clone(), self.feature.side);
                let (row, value) = (index / width, value_at(index / width, index % width));
                return Err(EncodeError::NoSuchCode { feature, side, row, value, codes });
            }
            *code = self.missing_code;
        }
        Ok(())
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
                data.push(self.missing_code);
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
            data.resize(first + width, self.padding_code);
        }
        Ok(())
    }

    /// One number a row.
    fn numbers(
        &self,
        values: &RawValues<'_>,
        how: Scaling,
        clip: Option<Clip>,
        data: &mut Vec<f32>,
    ) -> Result<(), EncodeError> {
        match values {
            RawValues::Ints(values) => self.fill_numbers(values, how, clip, data, |value| value as f64),
            RawValues::Floats(values) if self.feature.value_type == ValueType::Float => {
                self.fill_numbers(values, how, clip, data, |value| value)
            }
            _ => Err(self.wrong_type(values)),
        }
    }

    /// The mean of each row's value.
    fn means(&self, values: &RawValues<'_>, how: &Transform, data: &mut Vec<f32>) -> Result<(), EncodeError> {
        let mut fill = |prior: f32, mean: &dyn Fn(usize) -> Option<f32>| {
            let of_row = |row| if self.is_missing(row) { None } else { mean(row) };
            data.extend((0..values.rows()).map(|row| of_row(row).unwrap_or(prior)));
        };
        match (values, how) {
            (RawValues::Ints(values), Transform::IntTarget { lookup, means, prior }) => {
                fill(*prior, &|row| Some(means[lookup.get(values[row])? as usize]));
            }
            (RawValues::Texts(values), Transform::TextTarget { lookup, means, prior }) => {
                fill(*prior, &|row| {
                    Some(means[lookup.get(values[row], hash_text(values[row], 0))? as usize])
                });
            }
            _ => return Err(self.wrong_type(values)),
        }
        Ok(())
    }

    fn fill_numbers<V: Copy>(
        &self,
        values: &[V],
        how: Scaling,
        clip: Option<Clip>,
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
            let scaled = if value.is_finite() { how.apply(clipped(value, clip)) as f32 } else { f32::NAN };
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
