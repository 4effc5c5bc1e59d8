//! Starting requests at their times and noting what became of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gatefold_server::metrics::code_name;
use indicatif::ProgressBar;
use prost::bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp};
use tokio::runtime::Runtime;
use tonic::{Code, Status};

use super::report::{Recorder, Report};
use super::wire::Connection;

/// Requests that may be without an answer at once: an open load on a server that answers nothing
/// must end too.
const MOST_IN_FLIGHT: usize = 20_000;

/// One request, ready to be sent.
pub(super) struct Prepared {
    /// The encoded message.
    pub(super) message: Bytes,
    /// Its candidates.
    pub(super) candidates: usize,
}

/// When requests start.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
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

/// Sends requests over connections in turn.
pub(super) struct Generator {
    shared: Arc<Shared>,
    warmup: Duration,
    duration: Duration,
}

struct Shared {
    prepared: Vec<Prepared>,
    connections: Vec<Connection>,
    timeout: Duration,
    recorder: Mutex<Recorder>,
    in_flight: AtomicUsize,
    bar: ProgressBar,
}

impl Generator {
    /// Counting begins after `warmup` and lasts for `duration`; `bar` shows the seconds.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub(super) fn new(
        prepared: Vec<Prepared>,
        connections: Vec<Connection>,
        warmup: Duration,
        duration: Duration,
        timeout: Duration,
        bar: ProgressBar,
    ) -> anyhow::Result<Self> {
        let recorder = Mutex::new(Recorder::new()?);
        let in_flight = AtomicUsize::new(0);
        let shared = Shared { prepared, connections, timeout, recorder, in_flight, bar };
        Ok(Self { shared: Arc::new(shared), warmup, duration })
    }

    /// Sends the load; returns once every request is answered or given up.
    ///
    /// # Errors
    /// When a thread of the load failed.
    pub(super) fn run(self, runtime: &Runtime, pace: Pace) -> anyhow::Result<Report> {
        let start = Instant::now();
        let counted = start + self.warmup;
        let end = counted + self.duration;
        let duration = match pace {
            Pace::Open { rate, seed } => {
                self.open(runtime, rate, seed, start, counted, end);
                self.duration
            }
            Pace::Closed { in_flight } => {
                self.closed(runtime, in_flight, counted, end)?;
                // The last answers come after the end, and are counted.
                counted.elapsed()
            }
        };
        self.shared.bar.finish_and_clear();
        let recorder = self.shared.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Report::new(&recorder, pace, duration))
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
                    self.shared.note(Duration::ZERO, Err("NOT_SENT (too many unanswered)"));
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
        let patience = Instant::now() + self.shared.timeout + Duration::from_secs(1);
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

impl Shared {
    async fn one(&self, index: usize, intended: Instant, counts: bool) {
        let prepared = &self.prepared[index % self.prepared.len()];
        let mut connection = self.connections[index % self.connections.len()].clone();
        let result = connection.score(prepared.message.clone(), self.timeout).await;
        if !counts {
            return;
        }
        let outcome = match result {
            Ok(reply) if reply.outputs.iter().any(|output| output.scores.len() != prepared.candidates) => {
                Err("WRONG_REPLY (not one score a candidate)")
            }
            Ok(_) => Ok(prepared.candidates),
            Err(status) => Err(word(&status)),
        };
        self.note(intended.elapsed(), outcome);
    }

    /// Notes candidates scored, or why there are none.
    fn note(&self, latency: Duration, outcome: Result<usize, &'static str>) {
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(candidates) => recorder.answered(latency, candidates),
            Err(word) => recorder.failed(latency, word),
        }
        if recorder.requests().is_multiple_of(256) {
            self.bar.set_message(format!("{} requests, {} errors", recorder.requests(), recorder.errors()));
        }
    }
}

fn word(status: &Status) -> &'static str {
    // The client's own timer says it so, when it goes off before the server's answer is here.
    if status.code() == Code::Cancelled && status.message() == "Timeout expired" {
        return code_name(Code::DeadlineExceeded);
    }
    code_name(status.code())
}
