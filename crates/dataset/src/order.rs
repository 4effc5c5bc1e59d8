//! The order in which the rows of a split are seen.
//!
//! An epoch takes the shards in a shuffled order, and consecutive shards of it together as a
//! *window*: as many as fit a given memory, at least one. The rows (or whole requests) of a window
//! are shuffled, so that a set of one window is shuffled completely. The order of an epoch depends
//! on seed and epoch alone, that of a window on its number besides; so reading can begin anywhere,
//! and neither the shards before nor those after are needed.

use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Split;

/// What stays together when rows are shuffled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nothing: each row by itself.
    Row,
    /// The rows of a request.
    Request,
}

/// A row of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowOf {
    /// Index of its shard in the window.
    pub(crate) shard: u32,
    pub(crate) row: u32,
}

/// The shards of a window, and where it stands among the rows of the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) shards: Vec<usize>,
    pub(crate) rows: Range<usize>,
}

/// Source of the random numbers of an epoch: stream 0 orders the shards, the following ones the
/// windows. Initial parameters draw from streams numbered by a 64-bit hash of their names, so that
/// neither moves the other.
fn random(seed: u64, epoch: usize, stream: usize) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(((epoch as u64 + 1) << 32) + stream as u64);
    random
}

/// Fisher and Yates: each order is equally likely.
fn shuffle<T>(values: &mut [T], random: &mut ChaCha8Rng) {
    for last in (1..values.len()).rev() {
        let chosen = random.random_range(0..=last as u32) as usize;
        values.swap(last, chosen);
    }
}

/// The windows of an epoch. `stored` and `kept` are the rows of each shard before and after
/// filtering; a shard of which nothing is kept is left out. A window stores at most `most` rows,
/// or one shard.
pub(crate) fn windows(
    stored: &[usize],
    kept: &[usize],
    most: usize,
    shuffled: Option<(u64, usize)>,
) -> Vec<Window> {
    let mut shards: Vec<usize> = (0..stored.len()).filter(|&shard| kept[shard] > 0).collect();
    if let Some((seed, epoch)) = shuffled {
        shuffle(&mut shards, &mut random(seed, epoch, 0));
    }
    let mut windows: Vec<Window> = Vec::new();
    let mut room = 0;
    for shard in shards {
        let end = windows.last().map_or(0, |window| window.rows.end);
        match windows.last_mut() {
            Some(window) if stored[shard] <= room => {
                window.shards.push(shard);
                window.rows.end += kept[shard];
                room -= stored[shard];
            }
            _ => {
                windows.push(Window { shards: vec![shard], rows: end..end + kept[shard] });
                room = most.saturating_sub(stored[shard]);
            }
        }
    }
    windows
}

/// The rows of a window in the order they are seen, and where each unit begins.
pub(crate) struct WindowOrder {
    pub(crate) rows: Vec<RowOf>,
    /// First row of each request and the number of rows at the end; empty where the unit is a row.
    starts: Vec<u32>,
}

impl WindowOrder {
    /// `kept` are the rows to see of each of `parts`, ascending; `shuffled` holds seed, epoch and
    /// number of the window.
    pub(crate) fn new(
        parts: &[impl AsRef<Split>],
        kept: &[Vec<u32>],
        unit: Unit,
        shuffled: Option<(u64, usize, usize)>,
    ) -> Self {
        let in_place = kept.iter().enumerate().flat_map(|(shard, rows)| {
            let shard = shard as u32;
            rows.iter().map(move |&row| RowOf { shard, row })
        });
        let mut rows: Vec<RowOf> = in_place.collect();
        let mut random = shuffled.map(|(seed, epoch, window)| random(seed, epoch, window + 1));
        if unit == Unit::Row {
            if let Some(random) = &mut random {
                shuffle(&mut rows, random);
            }
            return Self { rows, starts: Vec::new() };
        }
        let request_of = |row: &RowOf| parts[row.shard as usize].as_ref().request[row.row as usize];
        let mut requests: Vec<&[RowOf]> =
            rows.chunk_by(|a, b| a.shard == b.shard && request_of(a) == request_of(b)).collect();
        if let Some(random) = &mut random {
            shuffle(&mut requests, random);
        }
        let mut starts = Vec::with_capacity(requests.len() + 1);
        starts.push(0);
        for request in &requests {
            starts.push(starts[starts.len() - 1] + request.len() as u32);
        }
        Self { rows: requests.concat(), starts }
    }

    /// The rows of the units that begin in `places`.
    pub(crate) fn units(&self, places: Range<usize>) -> Range<usize> {
        let first_from = |place: usize| match self.starts.as_slice() {
            [] => place.min(self.rows.len()),
            starts => {
                let unit = starts.partition_point(|start| (*start as usize) < place);
                starts.get(unit).map_or(self.rows.len(), |start| *start as usize)
            }
        };
        first_from(places.start)..first_from(places.end)
    }
}

/// How an epoch is cut into steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cuts {
    rows: usize,
    batch_size: usize,
    unit: Unit,
}

impl Cuts {
    pub(crate) fn new(rows: usize, batch_size: usize, unit: Unit) -> Self {
        Self { rows, batch_size, unit }
    }

    /// Steps of an epoch.
    pub(crate) fn steps(&self) -> usize {
        match self.unit {
            Unit::Row => self.rows.div_ceil(self.batch_size),
            Unit::Request => (self.rows / self.batch_size).max(1),
        }
    }

    /// The units of `step` are those that begin at these places of the epoch. Rows are cut at
    /// multiples of the batch size; requests in even parts of at least the batch size, so that
    /// none is empty as long as no request is longer than a batch.
    pub(crate) fn places(&self, step: usize) -> Range<usize> {
        let cut = |step: usize| match self.unit {
            Unit::Row => (step * self.batch_size).min(self.rows),
            Unit::Request => (step as u128 * self.rows as u128 / self.steps() as u128) as usize,
        };
        cut(step)..cut(step + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_every_shard_once_and_as_much_as_fits() {
        let stored = [10, 20, 30, 40, 50];
        let all = |windows: &[Window]| {
            let mut shards: Vec<usize> = windows.iter().flat_map(|window| window.shards.clone()).collect();
            shards.sort_unstable();
            shards
        };
        let in_place = windows(&stored, &stored, 60, None);
        let expected = [(vec![0, 1, 2], 0..60), (vec![3], 60..100), (vec![4], 100..150)];
        assert_eq!(in_place, expected.map(|(shards, rows)| Window { shards, rows }));
        let first = windows(&stored, &stored, 60, Some((7, 0)));
        let orders: Vec<Vec<Window>> =
            (0..8).map(|epoch| windows(&stored, &stored, 60, Some((7, epoch)))).collect();
        assert!(orders.iter().any(|other| *other != first), "epochs differ");
        for order in &orders {
            assert_eq!(all(order), [0, 1, 2, 3, 4]);
            assert_eq!(order.last().map(|window| window.rows.end), Some(150));
            for window in order {
                let size: usize = window.shards.iter().map(|&shard| stored[shard]).sum();
                assert!(size <= 60 || window.shards.len() == 1);
            }
        }
        assert_eq!(windows(&stored, &stored, 1000, Some((7, 0))).len(), 1);
        let kept = [10, 0, 3, 0, 0];
        let filtered = windows(&stored, &kept, 60, None);
        assert_eq!(filtered, [Window { shards: vec![0, 2], rows: 0..13 }]);
    }

    #[test]
    fn every_order_of_three_is_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..6000 {
            let mut order = [0, 1, 2];
            shuffle(&mut order, &mut random(seed, 0, 1));
            *counts.entry(order).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        // Each count is binomial(6000, 1/6): mean 1000, standard deviation 29.
        assert!(counts.values().all(|&count| (1000i32 - count).abs() < 145), "{counts:?}");
    }

    #[test]
    fn an_epoch_is_cut_without_gap_or_overlap() {
        for (rows, batch_size) in [(10, 4), (12, 4), (3, 4), (1_000_001, 4096)] {
            for unit in [Unit::Row, Unit::Request] {
                let cuts = Cuts::new(rows, batch_size, unit);
                let mut end = 0;
                for step in 0..cuts.steps() {
                    let places = cuts.places(step);
                    assert_eq!(places.start, end);
                    match unit {
                        Unit::Row => assert!(places.len() <= batch_size && !places.is_empty()),
                        Unit::Request => assert!(places.len() >= batch_size.min(rows)),
                    }
                    end = places.end;
                }
                assert_eq!(end, rows);
            }
        }
        assert_eq!(Cuts::new(10, 4, Unit::Row).steps(), 3);
        assert_eq!(Cuts::new(10, 4, Unit::Request).steps(), 2);
    }
}
