//! What Prometheus collects.
//!
//! Labels are bounded: a model name is used as a label only once it is known to name a loaded model,
//! so that callers cannot grow the process with made-up names.

use std::fmt::Write;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;

/// The server's metrics; cheap to update from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<ByCode, Counter>,
    candidates: Family<ByVersion, Counter>,
    total: Family<ByModel, Histogram, fn() -> Histogram>,
    encode: Family<ByModel, Histogram, fn() -> Histogram>,
    queue: Family<ByModel, Histogram, fn() -> Histogram>,
    infer: Family<ByModel, Histogram, fn() -> Histogram>,
    batch: Family<ByModel, Histogram, fn() -> Histogram>,
    failed_batches: Family<ByModel, Counter>,
    waiting: Family<ByModel, Gauge>,
    version: Family<ByModel, Gauge>,
    in_flight: Gauge,
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

/// Counts a request as in flight until dropped.
#[derive(Debug)]
pub struct InFlight<'a>(&'a Gauge);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByModel {
    model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByVersion {
    model: String,
    version: u64,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByCode {
    model: String,
    code: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("gatefold");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running program", build);
        let requests = Family::default();
        registry.register(
            "requests",
            "Score requests by status code; model is empty where the request named none that is loaded",
            requests.clone(),
        );
        let candidates = Family::default();
        registry.register("candidates", "Candidates scored", candidates.clone());
        let waiting = Family::default();
        registry.register("queue_rows", "Candidates waiting in the queue", waiting.clone());
        let version = Family::default();
        registry.register("model_version", "Version that takes traffic", version.clone());
        let in_flight = Gauge::default();
        registry.register("requests_in_flight", "Score requests being worked on", in_flight.clone());
        let mut seconds = |name: &str, help: &str| {
            let family = Family::new_with_constructor(time_buckets as fn() -> Histogram);
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
            family
        };
        let total = seconds("request", "Time from the decoded message to the finished reply");
        let encode = seconds("encode", "Time to check and encode a request");
        let queue = seconds("queue", "Time a request waited for its batch to start");
        let infer = seconds("infer", "Time to run the model on a batch");
        let batch = Family::new_with_constructor(size_buckets as fn() -> Histogram);
        registry.register("batch_candidates", "Candidates in a batch", batch.clone());
        let failed_batches = Family::default();
        registry.register("failed_batches", "Batches that the model failed on", failed_batches.clone());
        Self {
            registry,
            requests,
            candidates,
            total,
            encode,
            queue,
            infer,
            batch,
            failed_batches,
            waiting,
            version,
            in_flight,
        }
    }
}

/// 50 µs to 3.3 s.
fn time_buckets() -> Histogram {
    Histogram::new(exponential_buckets(50e-6, 2.0, 17))
}

/// 1 to 16,384 candidates.
fn size_buckets() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 15))
}

impl Metrics {
    /// Notes that a request arrived.
    pub fn arrived(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }

    /// Notes an answered request.
    pub fn answered(&self, model: &str, version: u64, answered: &Answered) {
        self.finished(model, Code::Ok);
        self.candidates
            .get_or_create(&ByVersion { model: model.to_owned(), version })
            .inc_by(answered.candidates as u64);
        let by = ByModel { model: model.to_owned() };
        self.total.get_or_create(&by).observe(answered.total.as_secs_f64());
        self.encode.get_or_create(&by).observe(answered.encode.as_secs_f64());
        self.queue.get_or_create(&by).observe(answered.queue.as_secs_f64());
    }

    /// Notes one run of a model.
    pub fn batch(&self, model: &str, candidates: usize, infer: Duration, ok: bool) {
        let by = ByModel { model: model.to_owned() };
        self.infer.get_or_create(&by).observe(infer.as_secs_f64());
        self.batch.get_or_create(&by).observe(candidates as f64);
        if !ok {
            self.failed_batches.get_or_create(&by).inc();
        }
    }

    /// Notes a request that ended with `code`; `model` is empty unless it is loaded.
    pub fn finished(&self, model: &str, code: Code) {
        self.requests.get_or_create(&ByCode { model: model.to_owned(), code: code_name(code) }).inc();
    }

    /// Replaces what is known of the loaded models: name, version that takes traffic, and
    /// candidates waiting.
    pub fn models<'a>(&self, models: impl Iterator<Item = (&'a str, u64, usize)>) {
        self.version.clear();
        self.waiting.clear();
        for (model, version, waiting) in models {
            let by = ByModel { model: model.to_owned() };
            self.version.get_or_create(&by).set(i64::try_from(version).unwrap_or(i64::MAX));
            self.waiting.get_or_create(&by).set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
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

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_open_metrics_with_units_and_labels() {
        let metrics = Metrics::default();
        let answered = Answered {
            candidates: 200,
            encode: Duration::from_micros(60),
            queue: Duration::from_micros(40),
            total: Duration::from_millis(3),
        };
        metrics.answered("demo", 7, &answered);
        metrics.finished("", Code::NotFound);
        metrics.batch("demo", 400, Duration::from_millis(2), true);
        metrics.models([("demo", 7, 12)].into_iter());
        let in_flight = metrics.arrived();
        let text = metrics.text();
        for line in [
            "gatefold_requests_total{model=\"demo\",code=\"OK\"} 1",
            "gatefold_requests_total{model=\"\",code=\"NOT_FOUND\"} 1",
            "gatefold_candidates_total{model=\"demo\",version=\"7\"} 200",
            "gatefold_request_seconds_count{model=\"demo\"} 1",
            "gatefold_queue_seconds_bucket{le=\"0.00005\",model=\"demo\"} 1",
            "gatefold_batch_candidates_sum{model=\"demo\"} 400.0",
            "gatefold_model_version{model=\"demo\"} 7",
            "gatefold_queue_rows{model=\"demo\"} 12",
            "gatefold_requests_in_flight 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        drop(in_flight);
        metrics.models(std::iter::empty());
        let text = metrics.text();
        assert!(text.contains("gatefold_requests_in_flight 0"), "{text}");
        assert!(!text.contains("gatefold_model_version{"), "{text}");
    }
}
