//! The order of a log by key and time, on which every kernel works.

use std::ops::Range;

use crate::{HistoryError, NONE};

/// The rows of a log in the order (key, time, row): 12 bytes a row and 4 a key.
///
/// Made by a counting sort of the keys, which keeps the order of rows: a log that is sorted by time is then in
/// order, and in any other log the rows of each key that are out of order are sorted. Rows whose key is
/// [`NONE`] (a null key) belong to no history and are left out.
///
/// *Row* is the number of a row in the caller's columns; *position* is its place in this order.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// First position of each key, and the number of positions after the last: `[keys + 1]`.
    starts: Vec<u32>,
    /// Row of each position.
    rows: Vec<u32>,
    /// Time of each position, so that kernels read memory in order.
    times: Vec<i64>,
    /// Rows in the caller's columns, those without a key included.
    row_count: usize,
}

impl Timeline {
    /// Orders the rows of `key_of[row]` in `0..keys` (or [`NONE`]) and `time_of[row]` in microseconds. Equal
    /// times of a key stay in the order of their rows.
    ///
    /// # Errors
    ///
    /// When the columns differ in length, a key is not below `keys`, or there are 2³² - 1 rows or more.
    pub fn new(key_of: &[u32], time_of: &[i64], keys: usize) -> Result<Self, HistoryError> {
        let mut timeline = Self::default();
        timeline.fill(key_of, time_of, keys)?;
        Ok(timeline)
    }

    /// As [`Timeline::new`], with equal times of a key in the order of `tie_of[row]`, then of their rows.
    ///
    /// # Errors
    ///
    /// As [`Timeline::new`].
    pub fn with_ties<T: Ord>(
        key_of: &[u32],
        time_of: &[i64],
        tie_of: &[T],
        keys: usize,
    ) -> Result<Self, HistoryError> {
        same_length("the column that orders ties", key_of, tie_of)?;
        let mut timeline = Self::new(key_of, time_of, keys)?;
        timeline.sort_within_keys(|row| &tie_of[row as usize]);
        Ok(timeline)
    }

    /// As [`Timeline::new`], in the memory of this one: touching fresh memory costs as much as the sort.
    ///
    /// # Errors
    ///
    /// As [`Timeline::new`]; the timeline is then empty.
    pub fn fill(&mut self, key_of: &[u32], time_of: &[i64], keys: usize) -> Result<(), HistoryError> {
        self.clear();
        same_length("the column of times", key_of, time_of)?;
        if key_of.len() >= NONE as usize {
            return Err(HistoryError::TooManyRows { found: key_of.len(), limit: NONE as usize - 1 });
        }
        first_positions(&mut self.starts, key_of, keys).inspect_err(|_| self.starts.clear())?;
        let placed = self.starts[keys + 1] as usize;
        self.rows.resize(placed, 0);
        self.times.resize(placed, 0);
        self.row_count = key_of.len();
        // `starts[key + 1]` is the next free position of the key, and at the end the first of the next key.
        let mut sorted = true;
        let mut previous = i64::MIN;
        for (row, (&key, &time)) in key_of.iter().zip(time_of).enumerate() {
            sorted &= previous <= time;
            previous = time;
            if key != NONE {
                let next = &mut self.starts[key as usize + 1];
                let position = *next as usize;
                *next += 1;
                self.rows[position] = row as u32;
                self.times[position] = time;
            }
        }
        self.starts.truncate(keys + 1);
        if !sorted {
            self.sort_within_keys(|_| ());
        }
        Ok(())
    }

    /// The whole of it, as kernels read it.
    pub fn view(&self) -> View<'_> {
        View { starts: &self.starts, rows: &self.rows, times: &self.times, row_count: self.row_count }
    }

    /// The keys of a range alone, numbered from 0 again: a share of the work for one of several threads.
    /// Positions and rows are those of the whole.
    ///
    /// # Panics
    ///
    /// When the range goes beyond the keys.
    pub fn keys_in(&self, keys: Range<usize>) -> View<'_> {
        View { starts: &self.starts[keys.start..=keys.end], ..self.view() }
    }

    fn clear(&mut self) {
        self.starts.clear();
        self.rows.clear();
        self.times.clear();
        self.row_count = 0;
    }

    /// Sorts the rows of every key by (time, tie, row) where they are not yet.
    fn sort_within_keys<T: Ord>(&mut self, tie: impl Fn(u32) -> T) {
        let mut scratch: Vec<(i64, u32)> = Vec::new();
        for bounds in self.starts.windows(2) {
            let positions = bounds[0] as usize..bounds[1] as usize;
            let (times, rows) = (&mut self.times[positions.clone()], &mut self.rows[positions]);
            let in_order = (1..rows.len())
                .all(|next| (times[next - 1], tie(rows[next - 1])) <= (times[next], tie(rows[next])));
            if in_order {
                continue;
            }
            scratch.clear();
            scratch.extend(times.iter().copied().zip(rows.iter().copied()));
            // Stable, and the rows of a key were in order.
            scratch.sort_by_key(|&(time, row)| (time, tie(row)));
            for (position, &(time, row)) in scratch.iter().enumerate() {
                (times[position], rows[position]) = (time, row);
            }
        }
    }
}

/// A [`Timeline`], or some of its keys, as kernels read it.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    starts: &'a [u32],
    rows: &'a [u32],
    times: &'a [i64],
    row_count: usize,
}

impl<'a> View<'a> {
    /// Number of keys.
    pub fn keys(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Positions of a key.
    ///
    /// # Panics
    ///
    /// When there is no such key.
    pub fn positions(&self, key: usize) -> Range<usize> {
        self.starts[key] as usize..self.starts[key + 1] as usize
    }

    /// Positions of all keys of this view.
    pub fn all_positions(&self) -> Range<usize> {
        match self.starts {
            [first, .., last] => *first as usize..*last as usize,
            _ => 0..0,
        }
    }

    /// Row of each position of the timeline.
    pub fn rows(&self) -> &'a [u32] {
        self.rows
    }

    /// Time of each position of the timeline, in microseconds.
    pub fn times(&self) -> &'a [i64] {
        self.times
    }

    /// Rows of the caller's columns, those without a key included: the length of a result with a value a row.
    pub fn row_count(&self) -> usize {
        self.row_count
    }

    /// A column of the caller's rows in the order of positions, so that a kernel reads it from front to back.
    ///
    /// # Panics
    ///
    /// When the column has fewer values than there are rows.
    pub fn in_order<T: Copy>(&self, column: &[T]) -> Vec<T> {
        self.rows.iter().map(|&row| column[row as usize]).collect()
    }

    /// Row of the earliest event of each key, or [`NONE`]: `[keys]`. What is left of a log whose repeated
    /// events are one.
    pub fn earliest(&self) -> Vec<u32> {
        (0..self.keys())
            .map(|key| {
                let positions = self.positions(key);
                if positions.is_empty() { NONE } else { self.rows[positions.start] }
            })
            .collect()
    }
}

/// Leaves in `starts[key + 1]` the first position of each key: `[keys + 2]`, the last being the number of rows
/// that have a key.
fn first_positions(starts: &mut Vec<u32>, key_of: &[u32], keys: usize) -> Result<(), HistoryError> {
    starts.clear();
    starts.resize(keys + 2, 0);
    let counts = &mut starts[2..];
    for (row, &key) in key_of.iter().enumerate() {
        match counts.get_mut(key as usize) {
            Some(count) => *count += 1,
            None if key == NONE => {}
            None => return Err(HistoryError::KeyOutOfRange { row, key, keys }),
        }
    }
    let mut sum = 0;
    for count in counts {
        sum += *count;
        *count = sum;
    }
    Ok(())
}

/// Refuses columns of one log that differ in length.
pub(crate) fn same_length<T>(what: &'static str, keys: &[u32], column: &[T]) -> Result<(), HistoryError> {
    if keys.len() == column.len() {
        return Ok(());
    }
    Err(HistoryError::LengthMismatch { what, expected: keys.len(), found: column.len() })
}
