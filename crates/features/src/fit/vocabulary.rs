//! Counting values.

use std::collections::HashMap;

use gatefold_schema::{ValueType, VocabularyValues};

use super::{hasher::FastState, present, present_elements};
use crate::{RawColumn, RawValues};

/// How often each value was seen.
#[derive(Clone, Debug)]
pub enum VocabularyCounter {
    /// Integers.
    Int(HashMap<i64, u64, FastState>),
    /// Texts.
    Text(HashMap<Box<str>, u64, FastState>),
}

impl VocabularyCounter {
    /// A counter that has seen nothing.
    pub fn new(value_type: ValueType) -> Self {
        match value_type {
            ValueType::Text => VocabularyCounter::Text(HashMap::default()),
            _ => VocabularyCounter::Int(HashMap::default()),
        }
    }

    /// Counts the present values (every element of a present list); `false` if they are of
    /// another type.
    #[must_use]
    pub fn add(&mut self, column: &RawColumn<'_>) -> bool {
        match (self, &column.values) {
            (VocabularyCounter::Int(counts), RawValues::Ints(values)) => {
                present(values, column).for_each(|value| *counts.entry(*value).or_default() += 1);
            }
            (VocabularyCounter::Int(counts), RawValues::IntLists { values, offsets }) => {
                present_elements(values, offsets, column)
                    .for_each(|value| *counts.entry(*value).or_default() += 1);
            }
            (VocabularyCounter::Text(counts), RawValues::Texts(values)) => {
                present(values, column).for_each(|value| count_text(counts, value, 1));
            }
            (VocabularyCounter::Text(counts), RawValues::TextLists { values, offsets }) => {
                present_elements(values, offsets, column).for_each(|value| count_text(counts, value, 1));
            }
            _ => return false,
        }
        true
    }

    /// Counts each present value as often as `counts` says; `false` if they are of another type, or lists.
    #[must_use]
    pub fn add_counted(&mut self, column: &RawColumn<'_>, counts: &[u64]) -> bool {
        let seen =
            |(row, count): (usize, &u64)| (*count > 0 && !column.is_missing(row)).then_some((row, *count));
        let seen = counts.iter().enumerate().filter_map(seen);
        match (self, &column.values) {
            (VocabularyCounter::Int(all), RawValues::Ints(values)) => {
                seen.for_each(|(row, count)| *all.entry(values[row]).or_default() += count);
            }
            (VocabularyCounter::Text(all), RawValues::Texts(values)) => {
                seen.for_each(|(row, count)| count_text(all, values[row], count));
            }
            _ => return false,
        }
        true
    }

    /// Adds the counts of `other`; counts of another type are dropped.
    pub fn merge(&mut self, other: VocabularyCounter) {
        match (self, other) {
            (VocabularyCounter::Int(counts), VocabularyCounter::Int(others)) => {
                others.into_iter().for_each(|(value, count)| *counts.entry(value).or_default() += count);
            }
            (VocabularyCounter::Text(counts), VocabularyCounter::Text(others)) => {
                others.into_iter().for_each(|(value, count)| *counts.entry(value).or_default() += count);
            }
            _ => {}
        }
    }

    /// The values seen at least `min_count` times, most frequent first, equal counts by value.
    pub fn values(&self, min_count: u64) -> VocabularyValues {
        fn ordered<V: Ord>(counts: impl Iterator<Item = (V, u64)>, min_count: u64) -> Vec<V> {
            let mut kept: Vec<(V, u64)> = counts.filter(|(_, count)| *count >= min_count).collect();
            kept.sort_unstable_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.cmp(b)));
            kept.into_iter().map(|(value, _)| value).collect()
        }
        match self {
            VocabularyCounter::Int(counts) => VocabularyValues::Int(ordered(
                counts.iter().map(|(value, count)| (*value, *count)),
                min_count,
            )),
            VocabularyCounter::Text(counts) => {
                let texts = ordered(counts.iter().map(|(value, count)| (&**value, *count)), min_count);
                VocabularyValues::Text(texts.into_iter().map(str::to_owned).collect())
            }
        }
    }
}

fn count_text(counts: &mut HashMap<Box<str>, u64, FastState>, value: &str, times: u64) {
    match counts.get_mut(value) {
        Some(count) => *count += times,
        None => drop(counts.insert(value.into(), times)),
    }
}
