//! Crossed features: the values of several others as one.

use std::borrow::Cow;
use std::fmt::Write;

use gatefold_schema::{
    Clip, ConfigError, Encoder as Encoding, EncoderState, Feature, FittedFeature, ValueType,
};

use crate::{EncodeError, RawColumn, RawValues, encoder::type_name};

/// Combines the values of a crossed feature's parts, as [`Feature::cross`] says.
#[derive(Clone, Debug)]
pub struct Cross {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
struct Part {
    feature: Feature,
    /// Position of the feature.
    index: usize,
    /// For numbers: what tells the buckets apart.
    edges: Option<Vec<f64>>,
}

/// Values of a part.
#[derive(Clone, Copy, Debug)]
pub struct CrossPart<'a> {
    /// The raw column of the part.
    pub column: &'a RawColumn<'a>,
    /// The row of the column for each row of the cross, where they are not the same: the request of each
    /// candidate.
    pub rows: Option<&'a [u32]>,
}

/// The values of a crossed feature.
#[derive(Clone, Debug, Default)]
pub struct CrossValues {
    text: String,
    /// Where each value ends.
    ends: Vec<usize>,
    missing: Vec<bool>,
}

impl Cross {
    /// The cross at `index` of declared features; `None` where that feature is not crossed. For encoders
    /// that are yet to be fitted.
    ///
    /// # Errors
    /// A part that is not declared, or whose edges are fitted.
    pub fn declared(features: &[Feature], index: usize) -> Result<Option<Self>, ConfigError> {
        Self::new(features, index, |_| None)
    }

    /// The cross at `index` of fitted features.
    pub(crate) fn fitted(features: &[FittedFeature], index: usize) -> Result<Option<Self>, ConfigError> {
        let declared: Vec<Feature> = features.iter().map(|fitted| fitted.feature.clone()).collect();
        Self::new(&declared, index, |part| match &features[part].state {
            EncoderState::Edges { edges } => Some(edges.clone()),
            _ => None,
        })
    }

    fn new(
        features: &[Feature],
        index: usize,
        fitted_edges: impl Fn(usize) -> Option<Vec<f64>>,
    ) -> Result<Option<Self>, ConfigError> {
        let cross = &features[index];
        if !cross.is_crossed() {
            return Ok(None);
        }
        let fail = |text: String| ConfigError::new(format!("feature '{}': {text}", cross.name));
        let part = |name: &String| {
            let place = features.iter().position(|other| other.name == *name && !other.is_crossed());
            let index = place.ok_or_else(|| fail(format!("its part '{name}' is not declared")))?;
            let edges = match &features[index].encoder {
                Encoding::Bucketize { edges } => Some(edges.clone()),
                Encoding::Quantile { .. } => {
                    let unfitted = || fail(format!("the edges of its part '{name}' are not fitted"));
                    Some(fitted_edges(index).ok_or_else(unfitted)?)
                }
                _ => None,
            };
            Ok(Part { feature: features[index].clone(), index, edges })
        };
        Ok(Some(Self { parts: cross.cross.iter().map(part).collect::<Result<_, _>>()? }))
    }

    /// Positions of the parts among the features.
    pub fn parts(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().map(|part| part.index)
    }

    /// The combined values of `rows` rows; `columns` in the order of [`Cross::parts`].
    ///
    /// # Errors
    /// A column of another type or with fewer rows than its part must have.
    pub fn values(&self, columns: &[CrossPart<'_>], rows: usize) -> Result<CrossValues, EncodeError> {
        let mut of_parts = Vec::with_capacity(self.parts.len());
        for (part, given) in self.parts.iter().zip(columns) {
            of_parts.push((part.reader(&given.column.values)?, given));
            let (found, last) = (given.column.values.rows(), given.rows.and_then(|rows| rows.iter().max()));
            let expected = given.rows.map_or(rows, |_| last.map_or(0, |last| *last as usize + 1));
            if found < expected {
                let (feature, side) = (part.feature.name.clone(), part.feature.side);
                return Err(EncodeError::WrongRows { feature, side, expected, found });
            }
        }
        let mut values = CrossValues { missing: vec![false; rows], ..CrossValues::default() };
        values.ends.reserve(rows);
        let mut decimal = String::new();
        for row in 0..rows {
            let start = values.text.len();
            for (reader, given) in &of_parts {
                let row_of_part = given.rows.map_or(row, |rows| rows[row] as usize);
                let value = if given.column.is_missing(row_of_part) {
                    None
                } else {
                    reader.text(row_of_part, &mut decimal)
                };
                let Some(value) = value else {
                    values.missing[row] = true;
                    values.text.truncate(start);
                    break;
                };
                // Writing to a string cannot fail.
                let _ = write!(values.text, "{}:{value}", value.len());
            }
            values.ends.push(values.text.len());
        }
        Ok(values)
    }
}

impl CrossValues {
    /// The values as a raw column.
    pub fn column(&self) -> RawColumn<'_> {
        let mut start = 0;
        let texts =
            self.ends.iter().map(|&end| &self.text[std::mem::replace(&mut start, end)..end]).collect();
        let missing = self.missing.contains(&true).then_some(Cow::Borrowed(self.missing.as_slice()));
        RawColumn { values: RawValues::Texts(texts), missing }
    }
}

/// How the values of a part become text.
enum Reader<'a> {
    Ints(&'a [i64]),
    Texts(&'a [&'a str]),
    IntBuckets(&'a [i64], &'a [f64], Option<Clip>),
    FloatBuckets(&'a [f64], &'a [f64], Option<Clip>),
}

impl Part {
    fn reader<'a>(&'a self, values: &'a RawValues<'_>) -> Result<Reader<'a>, EncodeError> {
        let clip = self.feature.clip;
        Ok(match (values, &self.edges, self.feature.value_type) {
            (RawValues::Ints(values), None, ValueType::Int) => Reader::Ints(values),
            (RawValues::Texts(values), None, ValueType::Text) => Reader::Texts(values),
            (RawValues::Ints(values), Some(edges), _) => Reader::IntBuckets(values, edges, clip),
            (RawValues::Floats(values), Some(edges), ValueType::Float) => {
                Reader::FloatBuckets(values, edges, clip)
            }
            _ => {
                return Err(EncodeError::WrongType {
                    feature: self.feature.name.clone(),
                    side: self.feature.side,
                    expected: type_name(&self.feature),
                    found: values.type_name().to_owned(),
                });
            }
        })
    }
}

impl Reader<'_> {
    /// The value at `row`; `None` for a number that is not finite. `decimal` is memory to write numbers in.
    fn text<'t>(&'t self, row: usize, decimal: &'t mut String) -> Option<&'t str> {
        let number = match *self {
            Reader::Texts(values) => return Some(values[row]),
            Reader::Ints(values) => values[row],
            Reader::IntBuckets(values, edges, clip) => bucket(values[row] as f64, edges, clip)?,
            Reader::FloatBuckets(values, edges, clip) => bucket(values[row], edges, clip)?,
        };
        decimal.clear();
        // Writing to a string cannot fail.
        let _ = write!(decimal, "{number}");
        Some(decimal)
    }
}

fn bucket(value: f64, edges: &[f64], clip: Option<Clip>) -> Option<i64> {
    let clipped = clip.map_or(value, |clip| clip.apply(value));
    value.is_finite().then(|| edges.partition_point(|edge| *edge <= clipped) as i64)
}
