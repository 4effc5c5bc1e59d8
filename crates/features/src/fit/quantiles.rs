//! Quantiles of numbers, whatever the order they are seen in, in bounded memory.

use std::collections::HashMap;

use gatefold_schema::{Clip, EncoderState};

use super::{hasher::FastState, present::for_each_number};
use crate::RawColumn;

/// Distinct numbers that are told apart exactly.
pub const EXACT_VALUES: usize = 1 << 20;

/// How often each number was seen.
///
/// Up to [`EXACT_VALUES`] distinct numbers the quantiles are exact. Beyond, numbers are taken together
/// that have the same leading bits, of which as many are kept as leave no more groups than that; a group
/// counts as the least number that it can hold. With k bits dropped, a number moves by less than
/// 2^(k − 52) of itself. Which bits are dropped follows from the set of numbers alone: a part of them never
/// needs to drop more than all of them do. So parts that were counted apart can be merged in any order.
#[derive(Clone, Debug)]
pub struct QuantileCounter {
    /// Count by the leading bits of a number's [`rank`].
    counts: HashMap<u64, u64, FastState>,
    /// Trailing bits that are dropped.
    dropped: u32,
    limit: usize,
}

impl Default for QuantileCounter {
    fn default() -> Self {
        Self { counts: HashMap::default(), dropped: 0, limit: EXACT_VALUES }
    }
}

impl QuantileCounter {
    /// Counts the present finite numbers, brought into `clip`; `false` if the values are not numbers.
    #[must_use]
    pub fn add(&mut self, column: &RawColumn<'_>, clip: Option<Clip>) -> bool {
        for_each_number(column, clip, |value| {
            *self.counts.entry(rank(value) >> self.dropped).or_default() += 1;
            if self.counts.len() > self.limit {
                self.coarsen(self.dropped + 1);
            }
        })
    }

    /// Adds what `other` has counted.
    pub fn merge(&mut self, other: QuantileCounter) {
        if other.dropped > self.dropped {
            self.coarsen(other.dropped);
        }
        for (leading, count) in other.counts {
            *self.counts.entry(leading >> (self.dropped - other.dropped)).or_default() += count;
        }
        if self.counts.len() > self.limit {
            self.coarsen(self.dropped + 1);
        }
    }

    /// Drops `dropped` bits, and as many more as the limit asks for.
    fn coarsen(&mut self, dropped: u32) {
        let more = dropped - self.dropped;
        self.dropped = dropped;
        let mut coarse: HashMap<u64, u64, FastState> = HashMap::default();
        for (leading, count) in self.counts.drain() {
            *coarse.entry(leading >> more).or_default() += count;
        }
        self.counts = coarse;
        if self.counts.len() > self.limit {
            self.coarsen(self.dropped + 1);
        }
    }

    /// The distinct quantiles at `i / buckets` for `i` from 1 to `buckets − 1`, ascending; see
    /// [`gatefold_schema::Encoder::Quantile`].
    pub fn edges(&self, buckets: u32) -> EncoderState {
        let mut groups: Vec<(u64, u64)> =
            self.counts.iter().map(|(leading, count)| (*leading, *count)).collect();
        groups.sort_unstable();
        // From now on each group with the number of values up to its end.
        let mut total = 0;
        for (_, count) in &mut groups {
            total += *count;
            *count = total;
        }
        let mut edges: Vec<f64> = Vec::new();
        let value_at = |place: u64| {
            let group = groups.partition_point(|(_, end)| *end <= place);
            groups.get(group).map(|(leading, _)| number(leading << self.dropped))
        };
        for i in 1..buckets {
            let position = u128::from(total.saturating_sub(1)) * u128::from(i);
            let (below, rest) = (position / u128::from(buckets), position % u128::from(buckets));
            let Some(low) = value_at(below as u64) else { break };
            let high = if rest == 0 { low } else { value_at(below as u64 + 1).unwrap_or(low) };
            let edge = between(low, high, rest as f64 / f64::from(buckets));
            if edges.last().is_none_or(|last| *last < edge) {
                edges.push(edge);
            }
        }
        EncoderState::Edges { edges }
    }
}

/// The number at `share` of the way from `low` to `high`.
fn between(low: f64, high: f64, share: f64) -> f64 {
    let distance = high - low;
    if distance.is_finite() { low + distance * share } else { low * (1.0 - share) + high * share }
}

/// A whole number that is ordered as `value`.
fn rank(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

/// The number of a rank, or the nearest finite one.
fn number(rank: u64) -> f64 {
    let rank = rank.max(self::rank(f64::MIN));
    f64::from_bits(if rank >> 63 == 1 { rank & !(1 << 63) } else { !rank })
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::RawValues;

    fn counted(values: &[f64], limit: usize) -> QuantileCounter {
        let mut counter = QuantileCounter { limit, ..QuantileCounter::default() };
        let column = RawColumn { values: RawValues::Floats(Cow::Borrowed(values)), missing: None };
        assert!(counter.add(&column, None));
        counter
    }

    #[track_caller]
    fn check(values: &[f64], buckets: u32, expected: &[f64]) {
        let EncoderState::Edges { edges } = counted(values, EXACT_VALUES).edges(buckets) else { panic!() };
        // NumPy rounds `i / buckets` before it multiplies.
        let near = |(edge, expected): (&f64, &f64)| (edge - expected).abs() <= 1e-14 * expected.abs();
        assert_eq!(edges.len(), expected.len(), "{edges:?}");
        assert!(edges.iter().zip(expected).all(near), "{edges:?}, expected {expected:?}");
    }

    /// NumPy 2.4: `numpy.quantile(values, numpy.arange(1, buckets) / buckets)`, then `numpy.unique`.
    #[test]
    fn edges_are_those_of_numpy() {
        check(&[3.0, 1.0, 2.0, 4.0], 2, &[2.5]);
        check(&[3.0, 1.0, 2.0, 4.0], 4, &[1.75, 2.5, 3.25]);
        check(&[7.25, -1.5, 0.0, 1e6, 3.5, 3.5, -20.0], 4, &[-0.75, 3.5, 5.375]);
        check(
            &[7.25, -1.5, 0.0, 1e6, 3.5, 3.5, -20.0],
            5,
            &[-1.1999999999999997, 1.4000000000000012, 3.5, 6.500000000000003],
        );
        check(&[5.0; 9], 10, &[5.0]);
        check(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0], 4, &[0.0]);
        check(&[2.5], 3, &[2.5]);
        check(&[f64::MIN, f64::MAX], 2, &[0.0]);
        check(&[f64::NAN, f64::INFINITY], 4, &[]);
    }

    #[test]
    fn beyond_the_limit_edges_move_little_and_no_order_changes_them() {
        let values: Vec<f64> =
            (0..5000u32).map(|i| f64::from(i.wrapping_mul(2_654_435_761) >> 8) * 1e-3 - 4000.0).collect();
        let EncoderState::Edges { edges: exact } = counted(&values, EXACT_VALUES).edges(16) else { panic!() };
        let whole = counted(&values, 600);
        assert!(whole.dropped > 0 && whole.counts.len() <= 600);
        let EncoderState::Edges { edges } = whole.edges(16) else { panic!() };
        for (edge, exact) in edges.iter().zip(&exact) {
            let most = 2f64.powi(whole.dropped as i32 - 52) * exact.abs();
            assert!((edge - exact).abs() <= most, "{edge} for {exact}");
        }
        for parts in [2, 9, 40] {
            let mut merged = counted(&[], 600);
            for part in values.chunks(values.len() / parts).rev() {
                merged.merge(counted(part, 600));
            }
            assert_eq!(merged.dropped, whole.dropped, "{parts} parts");
            assert_eq!(merged.counts, whole.counts, "{parts} parts");
        }
    }
}
