//! What a load run measured.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::generator::{Failure, Outcome, Pace};

/// Longest latency told apart, in microseconds.
const LONGEST: u64 = 600_000_000;

/// Collects outcomes.
pub(super) struct Recorder {
    /// Latencies of answered requests in microseconds, to three digits.
    latencies: Histogram<u64>,
    /// Times until an error was here, likewise.
    failures: Histogram<u64>,
    errors: BTreeMap<&'static str, Errors>,
    candidates: u64,
    arms: BTreeMap<String, OfArm>,
}

/// Errors of one word.
#[derive(Clone, Debug, Default)]
struct Errors {
    count: u64,
    /// What the first said.
    message: String,
}

/// What became of the requests of an arm.
struct OfArm {
    latencies: Histogram<u64>,
    errors: u64,
}

impl Recorder {
    /// Nothing recorded yet.
    ///
    /// # Errors
    /// Never with these bounds; the library cannot know.
    pub(super) fn new() -> anyhow::Result<Self> {
        let latencies = Histogram::new_with_bounds(1, LONGEST, 3)?;
        let failures = latencies.clone();
        Ok(Self { latencies, failures, errors: BTreeMap::new(), candidates: 0, arms: BTreeMap::new() })
    }

    pub(super) fn note(&mut self, latency: Duration, outcome: Outcome) {
        let micros = micros(latency);
        let arm = outcome.arm.map(|name| {
            let latencies = || Histogram::new_from(&self.latencies);
            self.arms.entry(name).or_insert_with(|| OfArm { latencies: latencies(), errors: 0 })
        });
        match outcome.result {
            Ok(candidates) => {
                self.candidates += candidates as u64;
                if let Some(arm) = arm {
                    arm.latencies.saturating_record(micros);
                }
                self.latencies.saturating_record(micros);
            }
            Err(Failure { word, message }) => {
                if let Some(arm) = arm {
                    arm.errors += 1;
                }
                self.failures.saturating_record(micros);
                self.errors.entry(word).or_insert(Errors { count: 0, message }).count += 1;
            }
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.latencies.len() + self.errors()
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.values().map(|errors| errors.count).sum()
    }
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(LONGEST).clamp(1, LONGEST)
}

/// Name and milliseconds.
type Latencies = Vec<(&'static str, f64)>;

/// The figures of an arm.
struct Arm {
    /// Empty for the units in none.
    name: String,
    answered: u64,
    errors: u64,
    latency: Latencies,
}

impl Arm {
    fn requests(&self) -> u64 {
        self.answered + self.errors
    }
}

/// The figures of a run. Latencies are those of answered requests.
pub(crate) struct Report {
    requests: u64,
    answered: u64,
    errors: BTreeMap<&'static str, Errors>,
    arms: Vec<Arm>,
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
            arms: recorder.arms.iter().map(|(name, of)| arm(name, of)).collect(),
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
        let errors = || self.errors.iter();
        let arms = self.arms.iter().map(|arm| {
            let figures = json!({
                "requests": arm.requests(),
                "errors": arm.errors,
                "latency_ms": object(&arm.latency),
            });
            (arm.name.clone(), figures)
        });
        json!({
            "requests": self.requests,
            "answered": self.answered,
            "errors": errors().map(|(word, errors)| (*word, errors.count)).collect::<BTreeMap<_, _>>(),
            "error_messages": errors().map(|(word, errors)| (*word, &errors.message)).collect::<BTreeMap<_, _>>(),
            "arms": arms.collect::<serde_json::Map<_, _>>(),
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
        table.add_row(["errors".to_owned(), (self.requests - self.answered).to_string()]);
        for (word, errors) in &self.errors {
            table.add_row([format!("  {word}"), errors.count.to_string()]);
        }
        for (name, milliseconds) in self.failure.iter().flatten() {
            table.add_row([format!("error after {name} (ms)"), format!("{milliseconds:.3}")]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let said = self.errors.iter().filter(|(_, errors)| !errors.message.is_empty());
        let said: String = said.map(|(word, errors)| format!("\n\n{word}: {}", errors.message)).collect();
        format!("{table}{}{said}", self.arms_text())
    }

    /// A table of the arms, where there are any.
    fn arms_text(&self) -> String {
        if self.arms.is_empty() {
            return String::new();
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["arm", "requests", "errors", "p50 (ms)", "p99 (ms)"]);
        for arm in &self.arms {
            let name = if arm.name.is_empty() { "(in none)" } else { &arm.name };
            let mut row = vec![name.to_owned(), arm.requests().to_string(), arm.errors.to_string()];
            row.extend(arm.latency.iter().map(|(_, milliseconds)| match arm.answered {
                0 => "-".to_owned(),
                _ => format!("{milliseconds:.3}"),
            }));
            table.add_row(row);
        }
        table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        format!("\n\n{table}")
    }
}

fn arm(name: &str, of: &OfArm) -> Arm {
    let latency = quantiles(&of.latencies).into_iter().filter(|(name, _)| ["p50", "p99"].contains(name));
    Arm { name: name.to_owned(), answered: of.latencies.len(), errors: of.errors, latency: latency.collect() }
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
            let arm = Some(if milliseconds <= 40 { "control" } else { "" }.to_owned());
            recorder.note(Duration::from_millis(milliseconds), Outcome { result: Ok(50), arm });
        }
        let mut fail = |milliseconds, word, message: &str, arm: Option<&str>| {
            let result = Err(Failure { word, message: message.to_owned() });
            let outcome = Outcome { result, arm: arm.map(str::to_owned) };
            recorder.note(Duration::from_millis(milliseconds), outcome);
        };
        fail(1, "RESOURCE_EXHAUSTED", "the queue is full", Some("treatment"));
        fail(3, "RESOURCE_EXHAUSTED", "the queue is full again", Some("control"));
        fail(2, "UNAVAILABLE", "", None);
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
        assert_eq!(json["error_messages"]["RESOURCE_EXHAUSTED"], "the queue is full");
        for (arm, requests, errors, p50) in
            [("control", 41, 1, 20.0), ("", 60, 0, 70.0), ("treatment", 1, 1, 0.0)]
        {
            let arm = &json["arms"][arm];
            assert_eq!((&arm["requests"], &arm["errors"]), (&json!(requests), &json!(errors)));
            assert!((arm["latency_ms"]["p50"].as_f64().unwrap() - p50).abs() < 0.1, "{arm}");
            assert_eq!(arm["latency_ms"].as_object().unwrap().len(), 2);
        }
        let text = report.text();
        assert!(text.ends_with("\n\nRESOURCE_EXHAUSTED: the queue is full"), "{text}");
        let line = |start: &str| text.lines().find(|line| line.trim_start().starts_with(start)).unwrap();
        let words = |start| line(start).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words("treatment"), ["treatment", "1", "1", "-", "-"]);
        assert_eq!(words("(in none)")[2..4], ["60", "0"]);
    }
}
