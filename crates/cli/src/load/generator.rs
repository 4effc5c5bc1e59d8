//! Starting requests at their times and noting what became of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp};
use tokio::runtime::Runtime;

use super::report::{Recorder, Report};
use crate::processor;

/// Requests that may be without an answer at once: an open load on a server that answers nothing
/// must end too.
const MOST_IN_FLIGHT: usize = 20_000;

/// Who answers the requests.
pub(crate) trait Target: Send + Sync + 'static {
    /// Sends the request of this number, counted from 0 in the order in which they start.
    fn send(&self, index: usize) -> impl Future<Output = Outcome> + Send;
}

/// What became of a request.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The candidates that were scored.
    pub(crate) result: Result<usize, Failure>,
    /// The arm of an experiment that its unit is in, where the answer says so; empty for none.
    pub(crate) arm: Option<String>,
}

/// Why a request has no scores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// In a word.
    pub(crate) word: &'static str,
    /// In a sentence; empty where the word says all.
    pub(crate) message: String,
}

impl From<Result<usize, Failure>> for Outcome {
    fn from(result: Result<usize, Failure>) -> Self {
        Self { result, arm: None }
    }
}

impl From<&'static str> for Failure {
    fn from(word: &'static str) -> Self {
        Self { word, message: String::new() }
    }
}

/// When requests start.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// At times of a Poisson process.
    Open {
        /// Requests a second on average.
        rate: f64,
        /// Seed of the times.
        seed: u64,
    },
    /// When one of `in_flight` earlier ones is answered.
    Closed {
        /// Requests at once.
        in_flight: usize,
    },
}

/// Sends requests at their times.
pub(crate) struct Generator<T> {
    shared: Arc<Shared<T>>,
    times: Times,
}

/// How long a load lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// How long is sent before counting begins.
    pub(crate) warmup: Duration,
    /// How long requests start for that count.
    pub(crate) duration: Duration,
    /// How long the last ones are waited for.
    pub(crate) patience: Duration,
}

struct Shared<T> {
    target: T,
    recorder: Mutex<Recorder>,
    in_flight: AtomicUsize,
    bar: ProgressBar,
}

impl<T: Target> Generator<T> {
    /// Sends to `target`; `bar` shows the seconds.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub(crate) fn new(target: T, times: Times, bar: ProgressBar) -> anyhow::Result<Self> {
        let recorder = Mutex::new(Recorder::new()?);
        let shared = Shared { target, recorder, in_flight: AtomicUsize::new(0), bar };
        Ok(Self { shared: Arc::new(shared), times })
    }

    /// Sends the load; returns once every request is answered or given up.
    ///
    /// # Errors
    /// When a thread of the load failed.
    pub(crate) fn run(self, runtime: &Runtime, pace: Pace) -> anyhow::Result<Report> {
        let before = processor::seconds();
        let start = Instant::now();
        let counted = start + self.times.warmup;
        let end = counted + self.times.duration;
        let duration = match pace {
            Pace::Open { rate, seed } => {
                self.open(runtime, rate, seed, start, counted, end);
                self.times.duration
            }
            Pace::Closed { in_flight } => {
                self.closed(runtime, in_flight, counted, end)?;
                // The last answers come after the end, and are counted.
                counted.elapsed()
            }
        };
        self.shared.bar.finish_and_clear();
        let recorder = self.shared.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Report::new(&recorder, pace, duration, processor::seconds() - before))
    }

    /// Runs on this thread: the runtime's timers tick in milliseconds, a sleeping thread wakes within
    /// tens of microseconds.
    fn open(&self, runtime: &Runtime, rate: f64, seed: u64, start: Instant, counted: Instant, end: Instant) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let Ok(gaps) = Exp::new(rate) else { return };
        let mut intended = start;
        for index in 0.. {
            intended += Duration::from_secs_f64(gaps.sample(&mut random));
            if intended >= end {
                break;
            }
            if let Some(wait) = intended.checked_duration_since(Instant::now()) {
                std::thread::sleep(wait);
            }
            self.shared.bar.set_position(start.elapsed().as_secs());
            let counts = intended >= counted;
            if self.shared.in_flight.load(Ordering::Relaxed) >= MOST_IN_FLIGHT {
                if counts {
                    self.shared
                        .note(Duration::ZERO, Err(Failure::from("NOT_SENT (too many unanswered)")).into());
                }
                continue;
            }
            self.shared.in_flight.fetch_add(1, Ordering::Relaxed);
            let shared = Arc::clone(&self.shared);
            runtime.spawn(async move {
                shared.one(index, intended, counts).await;
                shared.in_flight.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let patience = Instant::now() + self.times.patience;
        while self.shared.in_flight.load(Ordering::Relaxed) > 0 && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn closed(
        &self,
        runtime: &Runtime,
        in_flight: usize,
        counted: Instant,
        end: Instant,
    ) -> anyhow::Result<()> {
        let next = Arc::new(AtomicUsize::new(0));
        let loops: Vec<_> = (0..in_flight)
            .map(|_| {
                let (shared, next) = (Arc::clone(&self.shared), Arc::clone(&next));
                runtime.spawn(async move {
                    loop {
                        let start = Instant::now();
                        if start >= end {
                            break;
                        }
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        shared.one(index, start, start >= counted).await;
                    }
                })
            })
            .collect();
        runtime.block_on(async {
            for one in loops {
                one.await?;
            }
            anyhow::Ok(())
        })
    }
}

impl<T: Target> Shared<T> {
    async fn one(&self, index: usize, intended: Instant, counts: bool) {
        let outcome = self.target.send(index).await;
        if counts {
            self.note(intended.elapsed(), outcome);
        }
    }

    fn note(&self, latency: Duration, outcome: Outcome) {
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        recorder.note(latency, outcome);
        if recorder.requests().is_multiple_of(256) {
            self.bar.set_message(format!("{} requests, {} errors", recorder.requests(), recorder.errors()));
        }
    }
}
