//! What Prometheus collects.
//!
//! The number of time series is bounded: a model and its version are used as labels only once they
//! are loaded, features and outputs are those of its manifest, and what a version has counted is
//! dropped ten minutes after it has gone, when it has been collected for the last time. Everything
//! that a request touches has been looked up when its model was loaded (`series`).
//!
//! `deploy/METRICS.md` lists every metric; a test holds it to what is registered here.

mod edge;
mod labels;
mod loaded;
mod process;
mod rejection;
mod scores;
mod series;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use gatefold_engine::{BatchEvent, ModelInfo, ModelStatus, ModelVersion, ScoreReply};
use gatefold_features::Tally;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;

pub use self::edge::{Edge, Turned};
use self::labels::{ByArm, ByCode, ByReason};
use self::loaded::LoadedModels;
use self::process::Process;
pub use self::rejection::Rejection;
use self::series::{Families, Served};
use crate::experiments::{Arm, Experiments};
use crate::request_log::Counters;

/// The server's metrics; cheap to update from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<ByCode, Counter>,
    rejections: Family<ByReason, Counter>,
    experiments: Family<ByArm, Counter>,
    in_flight: Gauge,
    /// Connections and callers.
    pub edge: Edge,
    /// What becomes of the sampled requests.
    pub request_log: Counters,
    loaded: LoadedModels,
    served: Served,
}

/// What is known of a model version before it takes traffic.
#[derive(Clone, Debug)]
pub struct Installed<'a> {
    /// Names of its features, in the order of the manifest.
    pub features: Vec<&'a str>,
    /// Names of its outputs.
    pub outputs: Vec<&'a str>,
    /// When it was published.
    pub published: SystemTime,
}

/// A model version that takes traffic, at the moment of a collection.
#[derive(Clone, Copy, Debug)]
pub struct ModelGauge<'a> {
    /// Name and version.
    pub model: &'a ModelVersion,
    /// Whether it takes the traffic which names no version.
    pub current: bool,
    /// Candidates waiting in its queue.
    pub waiting_rows: usize,
    /// When it began to take traffic.
    pub since: SystemTime,
}

impl<'a> From<&'a ModelInfo> for ModelGauge<'a> {
    fn from(info: &'a ModelInfo) -> Self {
        let ModelInfo { model, current, waiting_rows, since, .. } = info;
        Self { model, current: *current, waiting_rows: *waiting_rows, since: *since }
    }
}

/// Times and sizes of one answered request.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// Candidates of the request.
    pub candidates: usize,
    /// Checking and encoding.
    pub encode: Duration,
    /// Waiting in the queue.
    pub queue: Duration,
    /// From the decoded message to the finished reply.
    pub total: Duration,
}

/// Counts a request as in flight until dropped. Where it is dropped before [`InFlight::ended`] it
/// counts as cancelled, or as late where its deadline has passed.
#[derive(Debug)]
pub struct InFlight<'a> {
    metrics: &'a Metrics,
    deadline: Option<Instant>,
    model: Option<ModelVersion>,
    arm: Option<Arc<Arm>>,
    ended: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        let ours = registry.sub_registry_with_prefix("gatefold");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        ours.register("build", "The running program", build);
        let requests = Family::default();
        ours.register(
            "requests",
            "Score requests by status code; version is 0 where none is loaded that was named, and model empty unless an experiment names it",
            requests.clone(),
        );
        let rejections = Family::default();
        let reasons = Rejection::ALL.map(Rejection::name).join(", ");
        let help = format!("Score requests that got no scores, by reason ({reasons}); model as in requests");
        ours.register("rejections", help, rejections.clone());
        let experiments = Family::default();
        let help = "Score requests for which an experiment of the settings had an arm, by status code (OK: scored); arm is empty for units in none";
        ours.register("experiment_requests", help, experiments.clone());
        let in_flight = Gauge::default();
        ours.register("requests_in_flight", "Score requests being worked on", in_flight.clone());
        let edge = Edge::register(ours);
        let request_log = request_log(ours);
        let loaded = LoadedModels::register(ours);
        let families = Families::register(ours, requests.clone(), rejections.clone());
        let served = Served::new(families);
        Self { registry, requests, rejections, experiments, in_flight, edge, request_log, loaded, served }
    }
}

impl Metrics {
    /// Notes that a request arrived, which is of no use after the `deadline`.
    pub fn arrived(&self, deadline: Option<Instant>) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight { metrics: self, deadline, model: None, arm: None, ended: false }
    }

    /// Gives every arm its series, so that one that gets no requests is seen.
    pub fn experiments(&self, experiments: &Experiments) {
        for arm in experiments.arms() {
            self.experiments.get_or_create(&ByArm::new(arm, Code::Ok)).inc_by(0);
        }
    }

    /// Notes that a model version is about to take traffic.
    pub fn installed(&self, model: &ModelVersion, installed: &Installed<'_>) {
        self.served.add(model, installed);
    }

    /// Notes that a model version takes no traffic any more.
    pub fn unloaded(&self, model: &ModelVersion) {
        self.served.leave(model);
    }

    /// Notes the values of an encoded request; one tally a feature.
    pub fn encoded(&self, model: &ModelVersion, tallies: &[Tally]) {
        if let Some(series) = self.served.get(model) {
            series.encoded(tallies);
        }
    }

    /// Notes the scores of a request.
    pub fn scored(&self, reply: &ScoreReply) {
        if let Some(series) = self.served.get(&reply.model) {
            series.scored(&reply.outputs, &reply.scores);
        }
    }

    /// Notes an answered request.
    pub fn answered(&self, model: &ModelVersion, answered: &Answered) {
        if let Some(series) = self.served.get(model) {
            series.answered(answered);
        }
    }

    /// Notes one run of a model.
    pub fn batch(&self, event: &BatchEvent<'_>) {
        if let Some(series) = self.served.get(event.model) {
            series.batch(event);
        }
    }

    /// Notes a request that got no scores; `model` is the loaded version it was for. Without one it is
    /// version 0 of the model that the settings have for its `arm`.
    pub fn refused(&self, model: Option<&ModelVersion>, arm: Option<&Arm>, code: Code, reason: Rejection) {
        let named = arm.map(|arm| ModelVersion { name: arm.model.as_str().into(), version: 0 });
        let model = model.filter(|model| self.served.get(model).is_some()).or(named.as_ref());
        self.requests.get_or_create(&ByCode::new(model, code)).inc();
        self.rejections.get_or_create(&ByReason::new(model, reason)).inc();
    }

    /// Replaces what is known of the loaded models.
    pub fn models(&self, models: &[ModelGauge<'_>], status: &[ModelStatus]) {
        self.served.sweep();
        self.loaded.show(models, status, |model| self.served.get(model).map(|series| series.published));
    }

    /// Everything in the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if let Err(error) = text::encode(&mut out, &self.registry) {
            // Writing into a String does not fail.
            let _ = write!(out, "# {error}");
        }
        out
    }
}

/// Registers the counters of the request log.
fn request_log(registry: &mut Registry) -> Counters {
    let given_up = Family::<[(&str, &str); 1], Counter>::default();
    let counters = Counters {
        queue_full: given_up.get_or_create_owned(&[("reason", "queue_full")]),
        failed: given_up.get_or_create_owned(&[("reason", "write_failed")]),
        ..Counters::default()
    };
    registry.register(
        "request_log_dropped",
        "Sampled requests that were not logged: the queue was full, or a file could not be written",
        given_up,
    );
    registry.register(
        "request_log_rows",
        "Candidates in whole files of the request log",
        counters.rows.clone(),
    );
    registry.register("request_log_files", "Whole files of the request log", counters.files.clone());
    let bytes = "Size of the whole files of the request log";
    registry.register_with_unit("request_log", bytes, Unit::Bytes, counters.bytes.clone());
    counters
}

impl InFlight<'_> {
    /// Notes which model version the request is for.
    pub fn is_for(&mut self, model: &ModelVersion) {
        self.model = Some(model.clone());
    }

    /// Notes which arm of an experiment the request is for.
    pub fn is_in(&mut self, arm: &Arc<Arm>) {
        self.arm = Some(arm.clone());
    }

    /// Notes that the request is answered with `code`; returns the model version and the arm it was
    /// for, where it came so far.
    pub fn ended(mut self, code: Code) -> (Option<ModelVersion>, Option<Arc<Arm>>) {
        self.ended = true;
        self.count_arm(code);
        (self.model.take(), self.arm.take())
    }

    fn count_arm(&self, code: Code) {
        if let Some(arm) = &self.arm {
            self.metrics.experiments.get_or_create(&ByArm::new(arm, code)).inc();
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        if !self.ended {
            let late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
            let (code, reason) = match late {
                true => (Code::DeadlineExceeded, Rejection::Deadline),
                false => (Code::Cancelled, Rejection::Cancelled),
            };
            self.count_arm(code);
            self.metrics.refused(self.model.as_ref(), self.arm.as_deref(), code, reason);
        }
    }
}

/// The name of a status code as the gRPC specification writes it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
