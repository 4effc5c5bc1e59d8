//! Every kernel against its definition, computed the slow way on small random logs with coarse clock ticks (so
//! that equal times and events on the borders of windows are common), and on cases by hand.

mod attribution;
mod intern;
mod last;
mod latest;
mod order;
mod sessions;
mod windows;

use gatefold_history::{NONE, Timeline};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Keys of the random logs.
const KEYS: usize = 3;

/// The columns of a log: the key of each row, or [`NONE`], and its time.
#[derive(Debug, Clone)]
struct Log {
    keys: Vec<u32>,
    times: Vec<i64>,
}

impl Log {
    fn of(rows: &[(u32, i64)]) -> Self {
        let (keys, times) = rows.iter().copied().unzip();
        Self { keys, times }
    }

    fn timeline(&self) -> Timeline {
        Timeline::new(&self.keys, &self.times, KEYS).unwrap()
    }

    fn len(&self) -> usize {
        self.keys.len()
    }

    /// Rows of the key with a time for which `holds`, by time and row.
    fn rows_where(&self, key: u32, holds: impl Fn(i64) -> bool) -> Vec<u32> {
        let mut rows: Vec<u32> = (0..self.len() as u32)
            .filter(|&row| key != NONE && self.keys[row as usize] == key && holds(self.times[row as usize]))
            .collect();
        rows.sort_by_key(|&row| (self.times[row as usize], row));
        rows
    }

    /// Rows of the key in the window before a time.
    fn rows_before(&self, key: u32, time: i64, window: Option<i64>) -> Vec<u32> {
        self.rows_where(key, |event| event < time && window.is_none_or(|window| time - window <= event))
    }
}

/// A random log of up to `rows` rows, sorted by time in half of the cases.
fn log(rows: usize) -> impl Strategy<Value = Log> {
    let row = (prop_oneof![9 => 0..KEYS as u32, 1 => Just(NONE)], -6_i64..10);
    (prop::collection::vec(row, 0..rows), any::<bool>()).prop_map(|(mut rows, sorted)| {
        if sorted {
            rows.sort_by_key(|row| row.1);
        }
        Log::of(&rows)
    })
}

/// Many cases, the same on every run.
fn cases() -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::with_cases(500)
    }
}
