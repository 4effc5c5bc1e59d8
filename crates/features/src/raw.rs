//! Raw values as callers have them: borrowed where possible, one column a feature.

use std::borrow::Cow;
use std::ops::Range;

use gatefold_schema::{Feature, Kind, Level, ValueType};

/// Raw feature values of some requests and their candidates.
#[derive(Clone, Debug, Default)]
pub struct RawBatch<'a> {
    /// Number of requests: rows of user and context columns.
    pub requests: usize,
    /// Number of candidates over all requests: rows of item columns.
    pub candidates: usize,
    /// Request row of each candidate, never falling; length `candidates`.
    pub request_of: Vec<u32>,
    /// Columns by feature name, in any order.
    pub columns: Vec<(Cow<'a, str>, RawColumn<'a>)>,
}

impl RawBatch<'_> {
    /// Bytes of memory that a copy takes, roughly.
    pub fn bytes(&self) -> usize {
        let column = |(name, column): &(Cow<'_, str>, RawColumn<'_>)| {
            name.len() + column.missing.as_ref().map_or(0, |mask| mask.len()) + column.values.bytes()
        };
        size_of_val(self.request_of.as_slice()) + self.columns.iter().map(column).sum::<usize>()
    }

    /// Rows of the columns of a level.
    pub(crate) fn rows(&self, level: Level) -> usize {
        match level {
            Level::Request => self.requests,
            Level::Candidate => self.candidates,
        }
    }
}

/// Raw values of one feature.
#[derive(Clone, Debug)]
pub struct RawColumn<'a> {
    /// The values; what stands at a missing row is not looked at.
    pub values: RawValues<'a>,
    /// For each row, whether the value is missing; `None` where every value is present.
    pub missing: Option<Cow<'a, [bool]>>,
}

impl<'a> RawColumn<'a> {
    /// A column of `feature` in which every value is missing.
    pub fn all_missing(feature: &Feature, rows: usize) -> RawColumn<'static> {
        let offsets = || Cow::Owned(vec![0; rows + 1]);
        let values = match (feature.kind, feature.value_type) {
            (Kind::Sequence, ValueType::Text) => {
                RawValues::TextLists { values: Vec::new(), offsets: offsets() }
            }
            (Kind::Sequence, _) => RawValues::IntLists { values: Cow::Owned(Vec::new()), offsets: offsets() },
            (_, ValueType::Text) => RawValues::Texts(vec![""; rows]),
            (_, ValueType::Float) => RawValues::Floats(Cow::Owned(vec![0.0; rows])),
            (_, ValueType::Int) => RawValues::Ints(Cow::Owned(vec![0; rows])),
        };
        RawColumn { values, missing: Some(Cow::Owned(vec![true; rows])) }
    }

    /// Whether the value at `row` is missing.
    pub fn is_missing(&self, row: usize) -> bool {
        self.missing.as_ref().is_some_and(|mask| mask[row])
    }

    /// Whether the values at two rows are the same; numbers are compared by their bits.
    pub fn same(&self, a: usize, b: usize) -> bool {
        match (self.is_missing(a), self.is_missing(b)) {
            (true, true) => return true,
            (false, false) => {}
            _ => return false,
        }
        let list = |offsets: &[u32], row: usize| offsets[row] as usize..offsets[row + 1] as usize;
        match &self.values {
            RawValues::Ints(values) => values[a] == values[b],
            RawValues::Floats(values) => values[a].to_bits() == values[b].to_bits(),
            RawValues::Texts(values) => values[a] == values[b],
            RawValues::IntLists { values, offsets } => values[list(offsets, a)] == values[list(offsets, b)],
            RawValues::TextLists { values, offsets } => values[list(offsets, a)] == values[list(offsets, b)],
        }
    }

    /// The rows in `rows`, borrowed where that is possible.
    pub fn slice(&self, rows: Range<usize>) -> RawColumn<'_> {
        let missing = self.missing.as_ref().map(|mask| Cow::Borrowed(&mask[rows.clone()]));
        let offsets_of = |offsets: &'_ [u32]| -> (Range<usize>, Vec<u32>) {
            let bounds = &offsets[rows.start..=rows.end];
            let (first, last) = (bounds[0], bounds[bounds.len() - 1]);
            (first as usize..last as usize, bounds.iter().map(|bound| bound - first).collect())
        };
        let values = match &self.values {
            RawValues::Ints(values) => RawValues::Ints(Cow::Borrowed(&values[rows])),
            RawValues::Floats(values) => RawValues::Floats(Cow::Borrowed(&values[rows])),
            RawValues::Texts(values) => RawValues::Texts(values[rows].to_vec()),
            RawValues::IntLists { values, offsets } => {
                let (elements, offsets) = offsets_of(offsets);
                RawValues::IntLists { values: Cow::Borrowed(&values[elements]), offsets: Cow::Owned(offsets) }
            }
            RawValues::TextLists { values, offsets } => {
                let (elements, offsets) = offsets_of(offsets);
                RawValues::TextLists { values: values[elements].to_vec(), offsets: Cow::Owned(offsets) }
            }
        };
        RawColumn { values, missing }
    }

    /// A column of the rows `rows`, in that order.
    pub fn take(&self, rows: &[u32]) -> RawColumn<'a> {
        fn pick<V: Copy>(values: &[V], rows: &[u32]) -> Vec<V> {
            rows.iter().map(|&row| values[row as usize]).collect()
        }
        fn pick_lists<V: Copy>(values: &[V], offsets: &[u32], rows: &[u32]) -> (Vec<V>, Vec<u32>) {
            let (mut picked, mut ends) = (Vec::new(), Vec::with_capacity(rows.len() + 1));
            ends.push(0);
            for &row in rows {
                picked.extend_from_slice(
                    &values[offsets[row as usize] as usize..offsets[row as usize + 1] as usize],
                );
                ends.push(picked.len() as u32);
            }
            (picked, ends)
        }
        let values = match &self.values {
            RawValues::Ints(values) => RawValues::Ints(Cow::Owned(pick(values, rows))),
            RawValues::Floats(values) => RawValues::Floats(Cow::Owned(pick(values, rows))),
            RawValues::Texts(values) => RawValues::Texts(pick(values, rows)),
            RawValues::IntLists { values, offsets } => {
                let (values, offsets) = pick_lists(values, offsets, rows);
                RawValues::IntLists { values: Cow::Owned(values), offsets: Cow::Owned(offsets) }
            }
            RawValues::TextLists { values, offsets } => {
                let (values, offsets) = pick_lists(values, offsets, rows);
                RawValues::TextLists { values, offsets: Cow::Owned(offsets) }
            }
        };
        let missing = self.missing.as_ref().map(|mask| Cow::Owned(pick(mask, rows)));
        RawColumn { values, missing }
    }
}

/// Typed raw values.
#[derive(Clone, Debug)]
pub enum RawValues<'a> {
    /// Integers.
    Ints(Cow<'a, [i64]>),
    /// Numbers.
    Floats(Cow<'a, [f64]>),
    /// Text.
    Texts(Vec<&'a str>),
    /// Integer sequences: row `i` is `values[offsets[i]..offsets[i + 1]]`.
    IntLists {
        /// All elements.
        values: Cow<'a, [i64]>,
        /// Rows + 1 positions, never falling.
        offsets: Cow<'a, [u32]>,
    },
    /// Text sequences, as integer sequences.
    TextLists {
        /// All elements.
        values: Vec<&'a str>,
        /// Rows + 1 positions, never falling.
        offsets: Cow<'a, [u32]>,
    },
}

impl RawValues<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            RawValues::Ints(values) => values.len(),
            RawValues::Floats(values) => values.len(),
            RawValues::Texts(values) => values.len(),
            RawValues::IntLists { offsets, .. } | RawValues::TextLists { offsets, .. } => {
                offsets.len().saturating_sub(1)
            }
        }
    }

    fn bytes(&self) -> usize {
        let texts =
            |values: &[&str]| values.iter().map(|text| size_of::<usize>() + text.len()).sum::<usize>();
        match self {
            RawValues::Ints(values) => size_of_val(&**values),
            RawValues::Floats(values) => size_of_val(&**values),
            RawValues::Texts(values) => texts(values),
            RawValues::IntLists { values, offsets } => size_of_val(&**values) + size_of_val(&**offsets),
            RawValues::TextLists { values, offsets } => texts(values) + size_of_val(&**offsets),
        }
    }

    /// The type as messages name it.
    pub fn type_name(&self) -> &'static str {
        match self {
            RawValues::Ints(_) => "int",
            RawValues::Floats(_) => "float",
            RawValues::Texts(_) => "text",
            RawValues::IntLists { .. } => "list of int",
            RawValues::TextLists { .. } => "list of text",
        }
    }
}
