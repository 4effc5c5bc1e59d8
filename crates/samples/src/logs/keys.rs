//! Identifiers of requests, users and items: dense codes while samples are made, their values again at the end.

use std::cmp::Ordering;

use gatefold_features::murmur::{hash_int, hash_text};
use gatefold_history::{
    HistoryError, NONE,
    intern::{Interner, TextInterner},
};
use polars::prelude::*;

/// The type in which a log has an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyType {
    /// Integers below 2^63.
    Signed,
    /// Integers of 64 bits without a sign.
    Unsigned,
    /// UTF-8.
    Text,
}

impl KeyType {
    /// The type of a column that can hold identifiers.
    pub(crate) fn of(found: &DataType) -> Option<Self> {
        match found {
            DataType::String => Some(KeyType::Text),
            DataType::UInt64 => Some(KeyType::Unsigned),
            found if found.is_integer() => Some(KeyType::Signed),
            _ => None,
        }
    }

    /// The frame type to which a column of identifiers is cast.
    pub(crate) fn frame_type(self) -> DataType {
        match self {
            KeyType::Signed => DataType::Int64,
            KeyType::Unsigned => DataType::UInt64,
            KeyType::Text => DataType::String,
        }
    }

    /// Whether identifiers of the two types can be equal.
    pub(crate) fn matches(self, other: Self) -> bool {
        (self == KeyType::Text) == (other == KeyType::Text)
    }

    /// The word for messages.
    pub(crate) fn name(self) -> &'static str {
        if self == KeyType::Text { "strings" } else { "integers" }
    }
}

/// The identifiers of one kind, numbered in the order in which they were first seen.
#[derive(Debug)]
pub(crate) struct Ids {
    key_type: KeyType,
    ints: Interner,
    texts: TextInterner,
}

impl Ids {
    pub(crate) fn new(key_type: KeyType) -> Self {
        Self { key_type, ints: Interner::default(), texts: TextInterner::default() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        if self.key_type == KeyType::Text { self.texts.len() } else { self.ints.values().len() }
    }

    /// Appends the codes of a column, new ones for identifiers that are new; [`NONE`] for nulls.
    pub(crate) fn intern(&mut self, column: &Column, codes: &mut Vec<u32>) -> Result<(), KeyError> {
        let (ints, texts) = (&mut self.ints, &mut self.texts);
        each(column, codes, |value| ints.intern(value), |text| texts.intern(text))
    }

    /// Appends the codes of a column, [`NONE`] for identifiers that were not seen, and nulls.
    pub(crate) fn find(&self, column: &Column, codes: &mut Vec<u32>) -> Result<(), KeyError> {
        each(column, codes, |value| Ok(self.ints.find(value)), |text| Ok(self.texts.find(text)))
    }

    /// The code of an identifier as a person writes it; [`NONE`] where there is no such one.
    pub(crate) fn code(&self, written: &str) -> u32 {
        match self.key_type {
            KeyType::Text => self.texts.find(written),
            KeyType::Unsigned => written.parse().map_or(NONE, |value| self.ints.find(value)),
            KeyType::Signed => {
                written.parse().map_or(NONE, |value: i64| self.ints.find(value.cast_unsigned()))
            }
        }
    }

    /// The identifiers in the order of their codes.
    pub(crate) fn values(&self, name: &str) -> Series {
        let name = PlSmallStr::from_str(name);
        match self.key_type {
            KeyType::Text => {
                let texts = (0..self.texts.len()).map(|code| self.texts.text(code as u32));
                StringChunked::from_iter_values(name, texts).into_series()
            }
            KeyType::Unsigned => UInt64Chunked::from_slice(name, self.ints.values()).into_series(),
            KeyType::Signed => {
                let values = self.ints.values().iter().map(|value| value.cast_signed());
                Int64Chunked::from_iter_values(name, values).into_series()
            }
        }
    }

    /// The order of the identifiers of two codes: numbers by value, texts by bytes.
    pub(crate) fn order(&self, a: u32, b: u32) -> Ordering {
        let value = |code: u32| self.ints.values()[code as usize];
        match self.key_type {
            KeyType::Text => self.texts.text(a).cmp(self.texts.text(b)),
            KeyType::Unsigned => value(a).cmp(&value(b)),
            KeyType::Signed => value(a).cast_signed().cmp(&value(b).cast_signed()),
        }
    }

    /// For each code its place among all identifiers in their order.
    pub(crate) fn ranks(&self) -> Vec<u32> {
        let mut codes: Vec<u32> = (0..self.len() as u32).collect();
        codes.sort_unstable_by(|a, b| self.order(*a, *b));
        let mut ranks = vec![0; codes.len()];
        for (rank, code) in codes.into_iter().enumerate() {
            ranks[code as usize] = rank as u32;
        }
        ranks
    }

    /// The murmur hash of the identifier: of an integer's eight little-endian bytes, of a text's UTF-8 bytes.
    pub(crate) fn hash(&self, code: u32, seed: u32) -> u32 {
        match self.key_type {
            KeyType::Text => hash_text(self.texts.text(code), seed),
            _ => hash_int(self.ints.values()[code as usize].cast_signed(), seed),
        }
    }

    /// The identifier as messages show it.
    pub(crate) fn shown(&self, code: u32) -> String {
        let value = |code: u32| self.ints.values()[code as usize];
        match self.key_type {
            KeyType::Text => format!("'{}'", self.texts.text(code)),
            KeyType::Unsigned => value(code).to_string(),
            KeyType::Signed => value(code).cast_signed().to_string(),
        }
    }
}

/// The murmur hash of each identifier of a column of [`KeyType::frame_type`], as of [`Ids::hash`]; of nulls that of an
/// empty text.
pub(crate) fn hashes(column: &Column, seed: u32) -> PolarsResult<Vec<u32>> {
    let int = |value: Option<i64>| value.map_or_else(|| hash_text("", seed), |value| hash_int(value, seed));
    Ok(match column.dtype() {
        DataType::String => column.str()?.iter().map(|text| hash_text(text.unwrap_or(""), seed)).collect(),
        DataType::UInt64 => column.u64()?.iter().map(|value| int(value.map(u64::cast_signed))).collect(),
        _ => column.i64()?.iter().map(int).collect(),
    })
}

/// A column of identifiers that cannot be numbered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error(transparent)]
    Frame(#[from] PolarsError),
    #[error(transparent)]
    TooMany(#[from] HistoryError),
}

/// Appends a code for each value of a column of [`KeyType::frame_type`]. Rows that stand together often have
/// the same identifier, which is then looked up once.
fn each(
    column: &Column,
    codes: &mut Vec<u32>,
    mut of_int: impl FnMut(u64) -> Result<u32, HistoryError>,
    mut of_text: impl FnMut(&str) -> Result<u32, HistoryError>,
) -> Result<(), KeyError> {
    fn run<T: PartialEq + Copy>(
        values: impl Iterator<Item = Option<T>>,
        codes: &mut Vec<u32>,
        mut code_of: impl FnMut(T) -> Result<u32, HistoryError>,
    ) -> Result<(), KeyError> {
        let mut last = None;
        for value in values {
            let code = match (value, last) {
                (None, _) => NONE,
                (Some(value), Some((known, code))) if value == known => code,
                (Some(value), _) => {
                    let code = code_of(value)?;
                    last = Some((value, code));
                    code
                }
            };
            codes.push(code);
        }
        Ok(())
    }
    codes.reserve(column.len());
    match column.dtype() {
        DataType::String => run(column.str()?.iter(), codes, &mut of_text),
        DataType::UInt64 => run(column.u64()?.iter(), codes, &mut of_int),
        _ => run(column.i64()?.iter().map(|value| value.map(i64::cast_unsigned)), codes, &mut of_int),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of one identifier, whatever its code.
    fn hash(column: Column, seed: u32) -> u32 {
        let mut ids = Ids::new(KeyType::of(column.dtype()).unwrap());
        let mut codes = Vec::new();
        ids.intern(&column, &mut codes).unwrap();
        ids.hash(codes[codes.len() - 1], seed)
    }

    #[test]
    fn identifiers_are_hashed_by_their_value() {
        // Values that stand in the literature.
        assert_eq!(hash(Column::new("id".into(), ["other", "foo"]), 0) as i32, -156_908_512);
        assert_eq!(hash(Column::new("id".into(), ["foo"]), 42) as i32, -1_322_301_282);
        assert_eq!(hash(Column::new("id".into(), [7i64, -1, 34]), 0), 2_017_239_379);
        assert_eq!(hash(Column::new("id".into(), [34u64]), 0), 2_017_239_379);
        assert_eq!(hashes(&Column::new("id".into(), [34u64]), 0).unwrap(), [2_017_239_379]);
        assert_eq!(hashes(&Column::new("id".into(), ["foo"]), 42).unwrap(), [-1_322_301_282_i32 as u32]);
    }
}
