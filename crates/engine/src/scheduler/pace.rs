//! How fast a lane's rows are computed, learnt from the batches that ran, so that a request which
//! cannot be answered in time is told so before anything is done for it.

use std::time::Duration;

/// What is left of a batch's weight after each later one: the last twenty or so decide.
const KEPT: f64 = 0.95;

/// Time that rows take on one worker. Batches count by their rows, so a batch of one row, which
/// costs more a row than any other, says little about large ones.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    rows: f64,
    seconds: f64,
}

impl Pace {
    /// Takes note of a batch.
    pub(crate) fn ran(&mut self, rows: usize, took: Duration) {
        self.rows = self.rows * KEPT + rows as f64;
        self.seconds = self.seconds * KEPT + took.as_secs_f64();
    }

    /// Seconds that this many rows take; none is known before the first batch.
    pub(crate) fn seconds(&self, rows: f64) -> f64 {
        if self.rows == 0.0 { 0.0 } else { self.seconds / self.rows * rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_batches_decide_and_the_latest_most() {
        let mut pace = Pace::default();
        assert_eq!(pace.seconds(100.0), 0.0);
        for _ in 0..50 {
            pace.ran(1, Duration::from_micros(100));
        }
        assert!((pace.seconds(1.0) - 100e-6).abs() < 1e-9);
        pace.ran(1000, Duration::from_millis(5));
        let row = pace.seconds(1.0);
        assert!(row > 5e-6 && row < 7e-6, "{row}: the lone rows weigh little");
        for _ in 0..60 {
            pace.ran(1000, Duration::from_millis(10));
        }
        let row = pace.seconds(1.0);
        assert!((row - 10e-6).abs() < 0.5e-6, "{row}: it has slowed down");
    }
}
