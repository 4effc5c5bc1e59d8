//! A batch that borrows nothing, for whoever keeps requests beyond their messages.

use std::borrow::Cow;

use crate::{RawBatch, RawColumn, RawValues};

/// A copy of a [`RawBatch`]; all text of a column stands in one buffer.
#[derive(Clone, Debug)]
pub struct OwnedBatch {
    requests: usize,
    candidates: usize,
    request_of: Vec<u32>,
    columns: Vec<(String, OwnedColumn)>,
}

#[derive(Clone, Debug)]
struct OwnedColumn {
    values: OwnedValues,
    missing: Option<Vec<bool>>,
}

/// As [`RawValues`].
#[derive(Clone, Debug)]
enum OwnedValues {
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Texts(Texts),
    IntLists { values: Vec<i64>, offsets: Vec<u32> },
    TextLists { values: Texts, offsets: Vec<u32> },
}

/// Texts one after the other, and the end of each.
#[derive(Clone, Debug)]
struct Texts {
    text: String,
    ends: Vec<usize>,
}

impl OwnedBatch {
    /// The batch as it was copied.
    pub fn raw(&self) -> RawBatch<'_> {
        let columns = self.columns.iter();
        RawBatch {
            requests: self.requests,
            candidates: self.candidates,
            request_of: self.request_of.clone(),
            columns: columns.map(|(name, column)| (name.as_str().into(), column.raw())).collect(),
        }
    }
}

impl From<&RawBatch<'_>> for OwnedBatch {
    fn from(raw: &RawBatch<'_>) -> OwnedBatch {
        OwnedBatch {
            requests: raw.requests,
            candidates: raw.candidates,
            request_of: raw.request_of.clone(),
            columns: raw.columns.iter().map(|(name, column)| (name.to_string(), column.into())).collect(),
        }
    }
}

impl OwnedColumn {
    fn raw(&self) -> RawColumn<'_> {
        let values = match &self.values {
            OwnedValues::Ints(values) => RawValues::Ints(values.into()),
            OwnedValues::Floats(values) => RawValues::Floats(values.into()),
            OwnedValues::Texts(values) => RawValues::Texts(values.raw()),
            OwnedValues::IntLists { values, offsets } => {
                RawValues::IntLists { values: values.into(), offsets: offsets.into() }
            }
            OwnedValues::TextLists { values, offsets } => {
                RawValues::TextLists { values: values.raw(), offsets: offsets.into() }
            }
        };
        RawColumn { values, missing: self.missing.as_ref().map(Cow::from) }
    }
}

impl From<&RawColumn<'_>> for OwnedColumn {
    fn from(raw: &RawColumn<'_>) -> OwnedColumn {
        let values = match &raw.values {
            RawValues::Ints(values) => OwnedValues::Ints(values.to_vec()),
            RawValues::Floats(values) => OwnedValues::Floats(values.to_vec()),
            RawValues::Texts(values) => OwnedValues::Texts(Texts::new(values)),
            RawValues::IntLists { values, offsets } => {
                OwnedValues::IntLists { values: values.to_vec(), offsets: offsets.to_vec() }
            }
            RawValues::TextLists { values, offsets } => {
                OwnedValues::TextLists { values: Texts::new(values), offsets: offsets.to_vec() }
            }
        };
        OwnedColumn { values, missing: raw.missing.as_ref().map(|mask| mask.to_vec()) }
    }
}

impl Texts {
    fn new(texts: &[&str]) -> Texts {
        let mut end = 0;
        let ends = texts.iter().map(|text| {
            end += text.len();
            end
        });
        Texts { ends: ends.collect(), text: texts.concat() }
    }

    fn raw(&self) -> Vec<&str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end]).collect()
    }
}
