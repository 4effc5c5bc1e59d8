//! What a load run measured.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::generator::Pace;

/// Longest latency told apart, in microseconds.
const LONGEST: u64 = 600_000_000;

/// Collects outcomes.
pub(super) struct Recorder {
    /// Latencies of answered requests in microseconds, to three digits.
    latencies: Histogram<u64>,
    /// Times until an error was here, likewise.
    failures: Histogram<u64>,
    errors: BTreeMap<&'static str, u64>,
    candidates: u64,
}

impl Recorder {
    /// Nothing recorded yet.
    ///
    /// # Errors
    /// Never with these bounds; the library cannot know.
    pub(super) fn new() -> anyhow::Result<Self> {
        let latencies = Histogram::new_with_bounds(1, LONGEST, 3)?;
        let failures = latencies.clone();
        Ok(Self { latencies, failures, errors: BTreeMap::new(), candidates: 0 })
    }

    pub(super) fn answered(&mut self, latency: Duration, candidates: usize) {
        self.latencies.saturating_record(micros(latency));
        self.candidates += candidates as u64;
    }

    pub(super) fn failed(&mut self, latency: Duration, word: &'static str) {
        self.failures.saturating_record(micros(latency));
        *self.errors.entry(word).or_default() += 1;
    }

    pub(super) fn requests(&self) -> u64 {
        self.latencies.len() + self.errors()
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.values().sum()
    }
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(LONGEST).clamp(1, LONGEST)
}

/// Name and milliseconds.
type Latencies = Vec<(&'static str, f64)>;

/// The figures of a run. Latencies are those of answered requests.
pub(crate) struct Report {
    requests: u64,
    answered: u64,
    errors: BTreeMap<&'static str, u64>,
    seconds: f64,
    offered: Option<f64>,
    candidates_per_second: f64,
    latency: Latencies,
    /// Of what ended in an error, where anything did.
    failure: Option<Latencies>,
    cpu_seconds: f64,
}

impl Report {
    /// `cpu_seconds` is the processor time of this process in the run.
    pub(super) fn new(recorder: &Recorder, pace: Pace, duration: Duration, cpu_seconds: f64) -> Self {
        let seconds = duration.as_secs_f64();
        let offered = match pace {
            Pace::Open { rate, .. } => Some(rate),
            Pace::Closed { .. } => None,
        };
        Self {
            requests: recorder.requests(),
            answered: recorder.latencies.len(),
            errors: recorder.errors.clone(),
            seconds,
            offered,
            candidates_per_second: recorder.candidates as f64 / seconds.max(1e-9),
            latency: quantiles(&recorder.latencies),
            failure: (!recorder.failures.is_empty()).then(|| quantiles(&recorder.failures)),
            cpu_seconds,
        }
    }

    /// Whether there were requests and each was answered.
    pub(crate) fn complete(&self) -> bool {
        self.answered > 0 && self.answered == self.requests
    }

    /// Processor seconds of this process in the run, warm-up included.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.cpu_seconds
    }

    /// Candidates scored a second.
    pub(crate) fn candidates_per_second(&self) -> f64 {
        self.candidates_per_second
    }

    /// Milliseconds of a latency by its name, such as `p99`; not a number where there is none.
    pub(crate) fn latency(&self, name: &str) -> f64 {
        self.latency.iter().find(|(known, _)| *known == name).map_or(f64::NAN, |(_, value)| *value)
    }

    /// Requests answered a second.
    pub(crate) fn answered_per_second(&self) -> f64 {
        self.answered as f64 / self.seconds.max(1e-9)
    }

    pub(super) fn json(&self) -> Value {
        let object = |latencies: &Latencies| -> serde_json::Map<_, _> {
            latencies.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
        };
        json!({
            "requests": self.requests,
            "answered": self.answered,
            "errors": self.errors,
            "seconds": self.seconds,
            "offered_per_second": self.offered,
            "answered_per_second": self.answered_per_second(),
            "candidates_per_second": self.candidates_per_second,
            "latency_ms": object(&self.latency),
            "error_ms": self.failure.as_ref().map(object),
            "generator_cpu_seconds": self.cpu_seconds,
        })
    }

    pub(super) fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let offered = self.offered.map_or_else(|| "max".to_owned(), |rate| format!("{rate}"));
        table.add_row(["requests".to_owned(), self.requests.to_string()]);
        table.add_row(["offered / s".to_owned(), offered]);
        table.add_row(["answered / s".to_owned(), format!("{:.1}", self.answered_per_second())]);
        table.add_row(["candidates / s".to_owned(), format!("{:.0}", self.candidates_per_second)]);
        for (name, milliseconds) in &self.latency {
            table.add_row([format!("latency {name} (ms)"), format!("{milliseconds:.3}")]);
        }
        table.add_row(["CPU of the generator (s)".to_owned(), format!("{:.2}", self.cpu_seconds)]);
        table.add_row(["errors".to_owned(), self.errors.values().sum::<u64>().to_string()]);
        for (word, count) in &self.errors {
            table.add_row([format!("  {word}"), count.to_string()]);
        }
        for (name, milliseconds) in self.failure.iter().flatten() {
            table.add_row([format!("error after {name} (ms)"), format!("{milliseconds:.3}")]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }
}

fn quantiles(latencies: &Histogram<u64>) -> Latencies {
    let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1e3;
    vec![
        ("p50", at(0.5)),
        ("p90", at(0.9)),
        ("p99", at(0.99)),
        ("p999", at(0.999)),
        ("max", latencies.max() as f64 / 1e3),
        ("mean", latencies.mean() / 1e3),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_rates_and_errors_are_those_of_what_was_recorded() {
        let mut recorder = Recorder::new().unwrap();
        for milliseconds in 1..=100 {
            recorder.answered(Duration::from_millis(milliseconds), 50);
        }
        recorder.failed(Duration::from_millis(1), "RESOURCE_EXHAUSTED");
        recorder.failed(Duration::from_millis(3), "RESOURCE_EXHAUSTED");
        recorder.failed(Duration::from_millis(2), "UNAVAILABLE");
        let report = Report::new(&recorder, Pace::Open { rate: 51.5, seed: 1 }, Duration::from_secs(2), 0.25);
        let json = report.json();
        assert_eq!(json["requests"], 103);
        assert_eq!(json["answered_per_second"], 50.0);
        assert_eq!(json["candidates_per_second"], 2500.0);
        assert_eq!(json["errors"]["RESOURCE_EXHAUSTED"], 2);
        for (name, expected) in [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("max", 100.0)] {
            let value = json["latency_ms"][name].as_f64().unwrap();
            // Three digits are kept.
            assert!((value / expected - 1.0_f64).abs() < 1e-3, "{name}: {value}");
        }
        assert_eq!(json["error_ms"]["p50"], 2.0);
        assert_eq!(json["generator_cpu_seconds"], 0.25);
        assert!(report.text().contains("RESOURCE_EXHAUSTED"));
    }
}
