//! What each loaded model version has done since it was loaded: counts and times, as totals.
//!
//! [`crate::metrics`] tells distributions to a collector; this is what a client of the Open
//! Inference Protocol asks for. Both are fed where a call is answered and where a batch has run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gatefold_engine::{ModelState, ModelVersion, Timings};

/// Totals of all loaded model versions; cheap to update from any thread.
#[derive(Debug, Default)]
pub struct Statistics {
    versions: RwLock<BTreeMap<ModelVersion, Arc<Counts>>>,
}

/// Totals of one model version.
#[derive(Debug, Default)]
pub struct Counts {
    /// Answered requests: from the decoded message to the finished reply.
    pub success: Total,
    /// Requests that failed.
    pub fail: Total,
    /// Of the answered: waiting for a batch to start.
    pub queue: Total,
    /// Of the answered: checking and encoding.
    pub encode: Total,
    /// Of the answered: running the batch that the request was part of.
    pub infer: Total,
    /// Of the answered: the rest, which is writing the reply.
    pub reply: Total,
    /// Runs of the model by the number of candidates: place `i` has those of at most `2^i` and more
    /// than half of it.
    pub batches: [Total; BATCH_SIZES],
    candidates: AtomicU64,
    last: AtomicU64,
}

/// Up to a batch of 2^31 candidates, beyond what any limit allows.
const BATCH_SIZES: usize = 32;

/// How often something happened and how long it took all together.
#[derive(Debug, Default)]
pub struct Total {
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Total {
    fn add(&self, time: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        // 500 years of work fit.
        self.nanoseconds.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// How often it happened.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Nanoseconds, all together.
    pub fn nanoseconds(&self) -> u64 {
        self.nanoseconds.load(Ordering::Relaxed)
    }
}

impl Counts {
    /// Candidates scored.
    pub fn candidates(&self) -> u64 {
        self.candidates.load(Ordering::Relaxed)
    }

    /// When the last request was answered, in milliseconds since 1970 UTC; 0 before the first.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }
}

impl Statistics {
    /// Notes an answered request; `total` is from the decoded message to the finished reply.
    pub fn answered(&self, model: &ModelVersion, candidates: usize, timings: &Timings, total: Duration) {
        let Some(counts) = self.of(model) else { return };
        let known = timings.encode + timings.queue + timings.infer;
        counts.success.add(total);
        counts.encode.add(timings.encode);
        counts.queue.add(timings.queue);
        counts.infer.add(timings.infer);
        counts.reply.add(total.saturating_sub(known));
        counts.candidates.fetch_add(candidates as u64, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        counts.last.fetch_max(now.as_millis() as u64, Ordering::Relaxed);
    }

    /// Notes a request that failed after `total`.
    pub fn failed(&self, model: &ModelVersion, total: Duration) {
        if let Some(counts) = self.of(model) {
            counts.fail.add(total);
        }
    }

    /// Notes one run of a model.
    pub fn batch(&self, model: &ModelVersion, candidates: usize, infer: Duration) {
        if let Some(counts) = self.of(model) {
            let place = candidates.next_power_of_two().trailing_zeros() as usize;
            counts.batches[place.min(BATCH_SIZES - 1)].add(infer);
        }
    }

    /// Begins with a version that takes traffic, ends with one that is gone.
    pub fn model(&self, model: &ModelVersion, state: &ModelState) {
        let mut versions = self.versions.write().unwrap_or_else(PoisonError::into_inner);
        match state {
            ModelState::Serving => {
                versions.entry(model.clone()).or_default();
            }
            ModelState::Unloaded | ModelState::Refused { .. } => {
                versions.remove(model);
            }
            ModelState::Loading | ModelState::Draining => {}
        }
    }

    /// The totals of a version, while it is loaded.
    pub fn of(&self, model: &ModelVersion) -> Option<Arc<Counts>> {
        self.versions.read().unwrap_or_else(PoisonError::into_inner).get(model).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_those_of_the_versions_that_are_loaded() {
        let statistics = Statistics::default();
        let model = ModelVersion { name: "shop".into(), version: 3 };
        let ms = Duration::from_millis;
        statistics.failed(&model, ms(1));
        assert!(statistics.of(&model).is_none(), "not loaded yet");
        statistics.model(&model, &ModelState::Serving);
        let timings = Timings { encode: ms(1), queue: ms(2), infer: ms(3), ..Timings::default() };
        statistics.answered(&model, 200, &timings, ms(7));
        statistics.answered(&model, 50, &timings, ms(6));
        statistics.failed(&model, ms(9));
        for rows in [1, 255, 256, 257] {
            statistics.batch(&model, rows, ms(3));
        }
        // Installed again: the totals go on.
        statistics.model(&model, &ModelState::Serving);
        let counts = statistics.of(&model).unwrap();
        let total = |total: &Total| (total.count(), total.nanoseconds() / 1_000_000);
        let found =
            [&counts.success, &counts.fail, &counts.encode, &counts.queue, &counts.infer, &counts.reply];
        assert_eq!(found.map(total), [(2, 13), (1, 9), (2, 2), (2, 4), (2, 6), (2, 1)]);
        assert_eq!(counts.candidates(), 250);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        assert!(since_1970.abs_diff(counts.last()) < 60_000, "{}", counts.last());
        let batches: Vec<u64> = counts.batches.iter().map(Total::count).collect();
        assert_eq!((batches[0], batches[8], batches[9]), (1, 2, 1));
        assert_eq!(batches.iter().sum::<u64>(), 4);
        statistics.model(&model, &ModelState::Unloaded);
        assert!(statistics.of(&model).is_none());
    }
}
