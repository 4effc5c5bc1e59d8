//! Checks shared by all metrics, and the two orderings they work on: rows by score, rows by group.

use std::collections::HashMap;

use crate::error::{Class, MetricError};

/// Rows and groups are numbered in 30 bits (see [`crate::auc::RankedRows`]).
pub(crate) const ROW_LIMIT: usize = (1 << 30) - 1;

/// Checks lengths, scores (not NaN), labels (0 or 1) and weights (finite, not negative, not all zero).
pub(crate) fn check_rows(scores: &[f32], labels: &[f32], weights: Option<&[f32]>) -> Result<(), MetricError> {
    check_scores(scores)?;
    check_length("labels", labels.len(), scores.len())?;
    for (index, &value) in labels.iter().enumerate() {
        if value != 0.0 && value != 1.0 {
            return Err(MetricError::BadLabel { index, value, remedy: "labels are 0 or 1" });
        }
    }
    check_weights(weights, scores.len())
}

/// Checks that weights, where there are any, are finite, not negative and not all zero.
pub(crate) fn check_weights(weights: Option<&[f32]>, rows: usize) -> Result<(), MetricError> {
    let Some(weights) = weights else { return Ok(()) };
    check_length("weights", weights.len(), rows)?;
    if let Some(index) = weights.iter().position(|weight| !weight.is_finite() || *weight < 0.0) {
        return Err(MetricError::BadWeight { index, value: weights[index] });
    }
    if weights.iter().all(|&weight| weight == 0.0) { Err(MetricError::ZeroWeight) } else { Ok(()) }
}

/// Checks that there are scores, not too many, and that none is NaN.
pub(crate) fn check_scores(scores: &[f32]) -> Result<(), MetricError> {
    if scores.is_empty() {
        return Err(MetricError::Empty);
    }
    if scores.len() > ROW_LIMIT {
        return Err(MetricError::TooManyRows { found: scores.len(), limit: ROW_LIMIT });
    }
    match scores.iter().position(|score| score.is_nan()) {
        Some(index) => Err(MetricError::NanScore { index }),
        None => Ok(()),
    }
}

/// Checks that every score lies in [0, 1]; NaN has been refused before.
pub(crate) fn check_probabilities(scores: &[f32]) -> Result<(), MetricError> {
    match scores.iter().position(|score| !(0.0..=1.0).contains(score)) {
        Some(index) => Err(MetricError::NotAProbability { index, value: scores[index] }),
        None => Ok(()),
    }
}

/// Checks that the slice named `what` has one value a row.
pub(crate) fn check_length(what: &'static str, found: usize, expected: usize) -> Result<(), MetricError> {
    if found == expected { Ok(()) } else { Err(MetricError::LengthMismatch { what, expected, found }) }
}

/// Sum of weights of the positive rows and of all rows.
pub(crate) fn class_weights(labels: &[f32], weights: Option<&[f32]>) -> (f64, f64) {
    match weights {
        None => (labels.iter().map(|&label| f64::from(label)).sum(), labels.len() as f64),
        Some(weights) => {
            let positive =
                labels.iter().zip(weights).map(|(&label, &w)| f64::from(label) * f64::from(w)).sum();
            (positive, weights.iter().map(|&w| f64::from(w)).sum())
        }
    }
}

/// The error for a sample in which one class has no weight.
pub(crate) fn one_class(positive_weight: f64) -> MetricError {
    let present = if positive_weight > 0.0 { Class::Positive } else { Class::Negative };
    MetricError::OneClass { present }
}

/// The weight of a row, 1 where there are no weights.
pub(crate) fn weight_of(weights: Option<&[f32]>, row: usize) -> f64 {
    weights.map_or(1.0, |weights| f64::from(weights[row]))
}

/// Maps a score to an integer with the same order; -0 and 0 are equal. The score is not NaN.
pub(crate) fn order_key(score: f32) -> u32 {
    // Adding zero turns -0 into 0; flipping the sign bit, or for negatives all bits, orders the rest.
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 0 { bits | (1 << 31) } else { !bits }
}

/// `(key of the score, row)` of each row, ascending.
pub(crate) fn rows_by_score(scores: &[f32]) -> Vec<(u32, u32)> {
    let packed =
        scores.iter().enumerate().map(|(row, &score)| (u64::from(order_key(score)) << 32) | row as u64);
    let mut packed: Vec<u64> = packed.collect();
    packed.sort_unstable();
    packed.into_iter().map(|pair| ((pair >> 32) as u32, pair as u32)).collect()
}

/// Groups renumbered 0, 1, … in order of first appearance.
pub(crate) struct DenseGroups {
    /// Dense group of each row.
    pub(crate) of_row: Vec<u32>,
    /// Number of groups.
    pub(crate) count: usize,
}

impl DenseGroups {
    pub(crate) fn new(groups: &[u32]) -> Self {
        let mut dense_of: HashMap<u32, u32> = HashMap::new();
        let mut previous = None;
        let mut of_row = Vec::with_capacity(groups.len());
        for &group in groups {
            // Rows of one request are usually adjacent, so most need no look-up.
            let dense = match previous {
                Some((same, dense)) if same == group => dense,
                _ => {
                    let next = dense_of.len() as u32;
                    *dense_of.entry(group).or_insert(next)
                }
            };
            previous = Some((group, dense));
            of_row.push(dense);
        }
        Self { of_row, count: dense_of.len() }
    }

    /// The rows of each group: `rows[starts[g]..starts[g + 1]]`, in row order.
    pub(crate) fn rows_of_groups(&self) -> (Vec<usize>, Vec<u32>) {
        let mut starts = vec![0usize; self.count + 1];
        for &group in &self.of_row {
            starts[group as usize + 1] += 1;
        }
        for group in 0..self.count {
            starts[group + 1] += starts[group];
        }
        let mut next = starts.clone();
        let mut rows = vec![0u32; self.of_row.len()];
        for (row, &group) in self.of_row.iter().enumerate() {
            let place = &mut next[group as usize];
            rows[*place] = row as u32;
            *place += 1;
        }
        (starts, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_key_keeps_the_order_of_floats() {
        let ascending = [
            f32::NEG_INFINITY,
            -3.5,
            -1.0,
            -f32::MIN_POSITIVE,
            -1e-45,
            0.0,
            1e-45,
            0.25,
            1.0,
            f32::MAX,
            f32::INFINITY,
        ];
        for pair in ascending.windows(2) {
            assert!(order_key(pair[0]) < order_key(pair[1]), "{pair:?}");
        }
        assert_eq!(order_key(-0.0), order_key(0.0));
    }

    #[test]
    fn groups_are_renumbered_by_first_appearance() {
        let groups = DenseGroups::new(&[9, 9, 4, 9, 7, 4]);
        assert_eq!((groups.of_row.as_slice(), groups.count), ([0, 0, 1, 0, 2, 1].as_slice(), 3));
        assert_eq!(groups.rows_of_groups(), (vec![0, 3, 5, 6], vec![0, 1, 3, 2, 5, 4]));
    }
}
