//! Counts of one feature in one split.

use std::borrow::Cow;

use gatefold_schema::{FittedFeature, Kind, MISSING_CODE};
use polars::prelude::*;

/// Bits of a number that its bin is made of: sign, exponent and seven of the fraction, so that the numbers of a
/// bin differ by less than a hundredth, and small whole numbers have bins of their own.
const NUMBER_BITS: u32 = 16;

/// The arrays that hold codes, and lists of them.
type CodeArray = <Int32Type as PolarsDataType>::Array;
type ListArray = <ListType as PolarsDataType>::Array;

/// Rows that a task has outcomes of, counted from the first row of a shard.
pub(super) struct TaskRows {
    /// Its sample space; `None` for all rows.
    pub(super) space: Option<Vec<u32>>,
    /// The positive ones.
    pub(super) positives: Vec<u32>,
}

/// Counts of one feature in one split.
pub(super) struct FeatureTally {
    /// Rows by code, by bin of the number, or by length of the sequence.
    rows: Vec<u32>,
    /// Elements of sequences by code.
    elements: Option<Vec<u32>>,
    /// Of each task.
    outcomes: Vec<Outcomes>,
    /// Rows without a value.
    pub(super) missing: u64,
    range: Option<[f32; 2]>,
    sum: f64,
}

#[derive(Clone)]
struct Outcomes {
    /// Rows of the sample space by bin; `None` where that is all rows.
    space: Option<Vec<u32>>,
    positives: Vec<u32>,
}

impl FeatureTally {
    pub(super) fn new(fitted: &FittedFeature, tasks: usize) -> Self {
        let codes = fitted.code_count().unwrap_or(0);
        let (bins, elements) = match fitted.feature.kind {
            Kind::Categorical => (codes, None),
            Kind::Numeric => (1 << NUMBER_BITS, None),
            Kind::Sequence => (fitted.feature.width() + 1, Some(vec![0; codes])),
        };
        let outcomes = vec![Outcomes { space: None, positives: vec![0; bins] }; tasks];
        Self { rows: vec![0; bins], elements, outcomes, missing: 0, range: None, sum: 0.0 }
    }

    /// Counts the rows of a shard.
    pub(super) fn add(&mut self, column: &Column, tasks: &[TaskRows]) -> PolarsResult<()> {
        let bins = self.bins(column)?;
        for bin in bins.iter() {
            self.rows[*bin as usize] += 1;
        }
        for (outcomes, task) in self.outcomes.iter_mut().zip(tasks) {
            if let Some(space) = &task.space {
                let counts = outcomes.space.get_or_insert_with(|| vec![0; outcomes.positives.len()]);
                space.iter().for_each(|row| counts[bins[*row as usize] as usize] += 1);
            }
            task.positives.iter().for_each(|row| outcomes.positives[bins[*row as usize] as usize] += 1);
        }
        Ok(())
    }

    /// The bin of each row.
    fn bins<'a>(&mut self, column: &'a Column) -> PolarsResult<Cow<'a, [i32]>> {
        match column.dtype() {
            DataType::List(_) => {
                let mut lengths = Vec::with_capacity(column.len());
                for lists in column.list()?.downcast_iter() {
                    self.add_lists(lists, &mut lengths)?;
                }
                Ok(Cow::Owned(lengths))
            }
            DataType::Float32 => {
                let mut bins = Vec::with_capacity(column.len());
                for value in column.f32()?.iter().map(Option::unwrap_or_default) {
                    let [min, max] = self.range.unwrap_or([value, value]);
                    self.range = Some([min.min(value), max.max(value)]);
                    self.sum += f64::from(value);
                    bins.push(bin_of(value));
                }
                Ok(Cow::Owned(bins))
            }
            _ => {
                let codes = column.i32()?.cont_slice()?;
                self.missing += codes.iter().filter(|code| **code == MISSING_CODE).count() as u64;
                Ok(Cow::Borrowed(codes))
            }
        }
    }

    /// Counts the elements of sequences, and appends how many there are in each row.
    fn add_lists(&mut self, lists: &ListArray, lengths: &mut Vec<i32>) -> PolarsResult<()> {
        let Some(codes) = lists.values().as_any().downcast_ref::<CodeArray>() else {
            polars_bail!(ComputeError: "a sequence holds no codes");
        };
        let (codes, bounds) = (codes.values().as_slice(), lists.offsets().as_slice());
        let list = |row: usize| &codes[bounds[row] as usize..bounds[row + 1] as usize];
        let elements = self.elements.get_or_insert_default();
        let mut row = 0;
        while row < lists.len() {
            let own = list(row);
            // Rows of one request have one list, whose elements are counted once.
            let rows = (row..lists.len()).take_while(|other| list(*other) == own).count();
            let mut length = 0;
            // A sequence that is missing is one code that says so.
            for code in own.iter().filter(|code| **code != MISSING_CODE) {
                elements[*code as usize] += rows as u32;
                length += 1;
            }
            if length == 0 {
                self.missing += rows as u64;
            }
            lengths.extend(std::iter::repeat_n(length, rows));
            row += rows;
        }
        Ok(())
    }

    /// Values by code or bin: rows, or the elements of sequences.
    pub(super) fn values(&self) -> &[u32] {
        self.elements.as_deref().unwrap_or(&self.rows)
    }

    /// Rows of the sample space and positives of a task, by bin.
    pub(super) fn outcomes(&self, task: usize) -> Vec<[u32; 2]> {
        let outcomes = &self.outcomes[task];
        let space = outcomes.space.as_ref().unwrap_or(&self.rows);
        space.iter().zip(&outcomes.positives).map(|(space, positives)| [*space, *positives]).collect()
    }

    /// Least, mean and largest number.
    pub(super) fn numbers(&self) -> Option<[f64; 3]> {
        let [min, max] = self.range?;
        let rows: f64 = self.rows.iter().map(|count| f64::from(*count)).sum();
        Some([f64::from(min), self.sum / rows, f64::from(max)])
    }
}

/// The bin of a number: its bits in the order of numbers, of which the first are kept.
fn bin_of(value: f32) -> i32 {
    // Adding 0 makes one of the two zeros.
    let bits = (value + 0.0).to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    (ordered >> (32 - NUMBER_BITS)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_in_the_order_of_numbers_and_tell_whole_ones_apart() {
        let numbers = [f32::MIN, -100.0, -1.0, -1e-9, 0.0, 1e-9, 0.5, 1.0, 2.0, 3.0, 100.0, 127.0, 1e9];
        let bins: Vec<i32> = numbers.iter().map(|number| bin_of(*number)).collect();
        assert!(bins.is_sorted_by(|a, b| a < b), "{bins:?}");
        assert_eq!(bin_of(-0.0), bin_of(0.0));
        assert_eq!(bin_of(1000.0), bin_of(1003.0));
        assert_ne!(bin_of(1000.0), bin_of(1010.0));
    }
}
