//! One setting on the real engine, under loads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gatefold_backend_ort::{Device, OrtLoader, OrtSettings};
use gatefold_engine::{
    Bundle, Engine, EngineSettings, Features, NoObserver, ScoreError, ScoreJob, VersionChoice,
};
use indicatif::ProgressBar;
use tokio::runtime::Runtime;

use super::grid::Setting;
use super::requests::Requests;
use crate::load::generator::{Failure, Generator, Outcome, Pace, Target, Times};
use crate::load::report::Report;

/// Share of a run that is sent before counting begins.
const WARMUP: f64 = 0.15;
/// How much more than the goal a request may take before it is given up.
const PATIENCE: f64 = 4.0;

/// What a run measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    /// Requests offered a second; of a closed load, answered.
    pub(super) requests_per_second: f64,
    /// Candidates scored a second.
    pub(super) candidates_per_second: f64,
    /// Median.
    pub(super) p50_ms: f64,
    /// Within this 99 of 100 were answered; without end where one was not answered at all.
    pub(super) p99_ms: f64,
    /// Processor seconds of this process a million candidates.
    pub(super) cpu_seconds_a_million: f64,
}

/// What all trials share.
pub(super) struct Workshop {
    bundle: Bundle,
    requests: Requests,
    device: Device,
    patience: Duration,
    seconds: f64,
    runtime: Runtime,
}

impl Workshop {
    /// Runs last for `seconds` each.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn new(
        bundle: Bundle,
        requests: Requests,
        device: Device,
        goal_ms: f64,
        seconds: f64,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let patience = Duration::from_secs_f64(goal_ms / 1e3 * PATIENCE);
        Ok(Self { bundle, requests, device, patience, seconds, runtime })
    }

    /// Starts an engine with this setting.
    ///
    /// # Errors
    /// When the backend cannot be opened, or does not give the golden scores.
    pub(super) fn trial(&self, setting: Setting) -> Result<Trial<'_>> {
        let Setting { workers, intra_threads, row_budget, batch_delay_us } = setting;
        let largest = self.requests.largest();
        let full = workers * (2 * row_budget / largest.max(1) + 2);
        let defaults = EngineSettings::default();
        let settings = EngineSettings {
            workers,
            batch_rows: row_budget,
            batch_delay: Duration::from_micros(batch_delay_us),
            queue_rows: defaults.queue_rows.max(full * largest),
            request_rows: defaults.request_rows.max(largest),
            ..defaults
        };
        let loader = OrtLoader::new(OrtSettings { library: None, intra_threads, device: self.device })?;
        let engine = Engine::start(settings, Arc::new(loader), Arc::new(NoObserver))?;
        engine.install(engine.prepare(self.bundle.clone())?);
        Ok(Trial { workshop: self, engine, full })
    }
}

/// An engine with one setting.
pub(super) struct Trial<'a> {
    workshop: &'a Workshop,
    engine: Engine,
    full: usize,
}

impl Trial<'_> {
    /// Requests at once that keep every worker busy with full batches.
    pub(super) fn full(&self) -> usize {
        self.full
    }

    /// `in_flight` requests at once, each followed by another; for longer where none was answered.
    ///
    /// # Errors
    /// When the backend fails.
    pub(super) fn closed(&self, in_flight: usize) -> Result<Measured> {
        let mut seconds = self.workshop.seconds;
        loop {
            let measured = self.run(Pace::Closed { in_flight }, seconds)?;
            if measured.requests_per_second > 0.0 {
                return Ok(measured);
            }
            seconds *= 2.0;
        }
    }

    /// So many requests a second at random times, which `seed` decides.
    ///
    /// # Errors
    /// When the backend fails.
    pub(super) fn open(&self, rate: f64, seed: u64) -> Result<Measured> {
        self.run(Pace::Open { rate, seed }, self.workshop.seconds)
    }

    /// As [`Self::open`], for twice as long.
    ///
    /// # Errors
    /// When the backend fails.
    pub(super) fn open_longer(&self, rate: f64, seed: u64) -> Result<Measured> {
        self.run(Pace::Open { rate, seed }, 2.0 * self.workshop.seconds)
    }

    fn run(&self, pace: Pace, seconds: f64) -> Result<Measured> {
        let patience = match pace {
            Pace::Open { .. } => Some(self.workshop.patience),
            Pace::Closed { .. } => None,
        };
        let jobs = Arc::new(Jobs {
            engine: self.engine.clone(),
            requests: self.workshop.requests,
            patience,
            scored: AtomicU64::new(0),
            failed: OnceLock::new(),
        });
        let times = Times {
            warmup: Duration::from_secs_f64(seconds * WARMUP),
            duration: Duration::from_secs_f64(seconds * (1.0 - WARMUP)),
            patience: self.workshop.patience + Duration::from_secs(1),
        };
        let report =
            Generator::new(jobs.clone(), times, ProgressBar::hidden())?.run(&self.workshop.runtime, pace)?;
        if let Some(error) = jobs.failed.get() {
            return Err(error.clone()).context("a request failed");
        }
        let offered = match pace {
            Pace::Open { rate, .. } => rate,
            Pace::Closed { .. } => report.answered_per_second(),
        };
        Ok(measured(&report, offered, jobs.scored.load(Ordering::Relaxed)))
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        self.engine.shutdown(Duration::from_secs(10));
    }
}

fn measured(report: &Report, offered: f64, scored: u64) -> Measured {
    Measured {
        requests_per_second: offered,
        candidates_per_second: report.candidates_per_second(),
        p50_ms: report.latency("p50"),
        p99_ms: if report.complete() { report.latency("p99") } else { f64::INFINITY },
        cpu_seconds_a_million: report.cpu_seconds() / scored.max(1) as f64 * 1e6,
    }
}

/// Requests to the engine.
struct Jobs {
    engine: Engine,
    requests: Requests,
    patience: Option<Duration>,
    /// Candidates, those of the warm-up too.
    scored: AtomicU64,
    /// The first request that was not scored for another reason than time.
    failed: OnceLock<ScoreError>,
}

impl Target for Arc<Jobs> {
    async fn send(&self, index: usize) -> Outcome {
        let batches = self.requests.batches();
        let batch = &batches[index % batches.len()];
        let job = ScoreJob {
            model: "",
            version: VersionChoice::Current,
            features: Features::Raw(batch),
            outputs: &[],
            gates: false,
            deadline: self.patience.map(|patience| Instant::now() + patience),
            priority: 0,
        };
        let result = match self.engine.score(job).await {
            Ok(_) => {
                self.scored.fetch_add(batch.candidates as u64, Ordering::Relaxed);
                Ok(batch.candidates)
            }
            Err(
                ScoreError::DeadlineExceeded | ScoreError::TooLate { .. } | ScoreError::Overloaded { .. },
            ) => Err(Failure::from("too late")),
            Err(error) => {
                self.failed.get_or_init(|| error);
                Err(Failure::from("failed"))
            }
        };
        result.into()
    }
}
