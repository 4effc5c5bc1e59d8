//! The order in which training rows are seen.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Random stream of the first epoch. Initial parameters draw from streams numbered by a 64-bit hash
/// of their names, so that neither moves the other.
const FIRST_EPOCH_STREAM: u64 = 1;

/// The rows of one epoch in the order they are seen; an epoch's order depends on the seed and the
/// epoch alone, so that a training can go on at any epoch.
#[derive(Clone, Debug)]
pub(crate) struct EpochOrder {
    rows: Vec<u32>,
    seed: u64,
    shuffle: bool,
}

impl EpochOrder {
    /// Rows `0..rows`, shuffled anew each epoch unless `shuffle` is false.
    pub(crate) fn new(rows: usize, seed: u64, shuffle: bool) -> Self {
        Self { rows: (0..rows as u32).collect(), seed, shuffle }
    }

    /// The rows of `epoch` (from 0).
    pub(crate) fn rows_of_epoch(&mut self, epoch: usize) -> &[u32] {
        if self.shuffle {
            for (row, place) in self.rows.iter_mut().enumerate() {
                *place = row as u32;
            }
            let mut random = ChaCha8Rng::seed_from_u64(self.seed);
            random.set_stream(FIRST_EPOCH_STREAM + epoch as u64);
            // Fisher and Yates: each order is equally likely.
            for last in (1..self.rows.len()).rev() {
                let chosen = random.random_range(0..=last as u32) as usize;
                self.rows.swap(last, chosen);
            }
        }
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_once_an_epoch_and_another_order_each_time() {
        let mut order = EpochOrder::new(1000, 7, true);
        let first = order.rows_of_epoch(0).to_vec();
        let second = order.rows_of_epoch(1).to_vec();
        assert_ne!(first, second);
        for epoch in [&first, &second] {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..1000).collect::<Vec<u32>>());
        }
        assert_eq!(order.rows_of_epoch(0), first, "an epoch's order does not depend on those before it");
        assert_ne!(EpochOrder::new(1000, 8, true).rows_of_epoch(0), first);
    }

    #[test]
    fn rows_stay_in_place_when_not_shuffled() {
        assert_eq!(EpochOrder::new(4, 1, false).rows_of_epoch(3), [0, 1, 2, 3]);
    }

    #[test]
    fn every_order_of_three_is_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..6000 {
            *counts.entry(EpochOrder::new(3, seed, true).rows_of_epoch(0).to_vec()).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        // Each count is binomial(6000, 1/6): mean 1000, standard deviation 29.
        assert!(counts.values().all(|&count| (1000i32 - count).abs() < 145), "{counts:?}");
    }
}
