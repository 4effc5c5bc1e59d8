//! `cargo xtask soak`: minutes of steady load on one server, whose memory and file handles must stay
//! flat once it is warm.
//!
//! The load is a share of what the server answers at most, measured first. What the server holds is
//! read from `/proc` while the load runs. The first fifth of the time is warm-up; the last fifth is
//! held to the second.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::bars::{Bars, Limit};
use crate::bench::median;
use crate::program::{Programs, last_json, number};
use crate::server::Server;
use crate::table::Table;
use crate::workspace::Workspace;
use crate::{record, table};

/// Looks at the server, evenly over the time.
const SAMPLES: u32 = 50;
/// How long the server's capacity is measured.
const CAPACITY_SECONDS: &str = "15s";
/// How much more memory the last fifth may hold than the second: the allocator's, not the requests'.
const MEMORY_RATIO: f64 = 1.05;
/// How many more handles.
const HANDLES: f64 = 3.0;

#[derive(Args)]
pub(crate) struct SoakOptions {
    /// Minutes of load.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Share of the server's capacity that is offered.
    #[arg(long, default_value_t = 0.7)]
    share: f64,
    /// Print one JSON object last on stdout: the bars, as `cargo xtask bench --json`.
    #[arg(long)]
    json: bool,
    /// Keep the run under `benches/runs/`.
    #[arg(long)]
    record: bool,
}

/// What the server holds at one moment.
struct Sample {
    seconds: f64,
    resident_mib: f64,
    handles: f64,
}

pub(crate) fn run(workspace: &Workspace, options: &SoakOptions) -> Result<()> {
    let SoakOptions { minutes, share, .. } = *options;
    ensure!((0.1..=1440.0).contains(&minutes), "--minutes is {minutes}: give 0.1 to 1440");
    ensure!((0.05..=1.0).contains(&share), "--share is {share}: give 0.05 to 1");
    let programs = Programs::build(workspace)?;
    let folder = workspace.root.join("work/soak");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let path = |name: &str| folder.join(name).display().to_string();
    let (model, models, requests) = (path("models/mmoe"), path("models"), path("requests.json"));
    let mut publish = programs.command("gatefold-bench");
    last_json(publish.args(["bundle", "--model", &model, "--requests", &folder.display().to_string()]))?;

    let server = programs.serve(&models, &[])?;
    let load = |flags: &[&str]| {
        programs.load(&server, &[&["--requests", &requests, "--candidates", "200"], flags].concat())
    };
    let capacity = load(&["--rate", "max", "--in-flight", "4", "--duration", CAPACITY_SECONDS])?;
    let capacity = number(&capacity, "answered_per_second")?;
    let (rate, duration) = (format!("{:.3}", capacity * share), format!("{}s", minutes * 60.0));
    let (samples, report) = std::thread::scope(|scope| -> Result<(Vec<Sample>, Value)> {
        let load = scope.spawn(|| load(&["--rate", &rate, "--duration", &duration]));
        let (started, mut samples) = (Instant::now(), Vec::new());
        while !load.is_finished() {
            samples.push(Sample::of(&server, started)?);
            let next = Duration::from_secs_f64(minutes * 60.0 / f64::from(SAMPLES)) * samples.len() as u32;
            while started.elapsed() < next && !load.is_finished() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        let report = load.join().map_err(|_| anyhow::anyhow!("the thread of the load panicked"))??;
        Ok((samples, report))
    })?;
    server.stop()?;

    let bars = judge(&samples, &report)?;
    let text = format!(
        "{minutes} minutes of {rate} requests/s of 200 candidates, {share} of the capacity\n{}\n{}",
        render(&samples),
        bars.render()
    );
    table::print(&text);
    let series: Vec<Value> = samples.iter().map(Sample::json).collect();
    if options.record {
        let raw = json!({ "capacity": capacity, "load": report, "samples": series });
        let folder = record::write(workspace, "soak", &text, &bars.json(), &raw)?;
        eprintln!("==> recorded in {}", folder.display());
    }
    if options.json {
        table::print(&bars.json().to_string());
    }
    let missed = bars.missed();
    if !missed.is_empty() {
        bail!("the server did not stay as it was: {}", missed.join(", "));
    }
    Ok(())
}

impl Sample {
    fn of(server: &Server, started: Instant) -> Result<Self> {
        let process = format!("/proc/{}", server.process().id());
        let status = format!("{process}/status");
        let text = fs::read_to_string(&status).with_context(|| format!("cannot read {status}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        let handles = format!("{process}/fd");
        Ok(Self {
            seconds: started.elapsed().as_secs_f64(),
            resident_mib: kib.with_context(|| format!("no VmRSS in {status}"))? / 1024.0,
            handles: fs::read_dir(&handles).with_context(|| format!("cannot read {handles}"))?.count() as f64,
        })
    }

    fn json(&self) -> Value {
        json!({ "seconds": self.seconds, "resident_mib": self.resident_mib, "handles": self.handles })
    }
}

/// Holds the last fifth of the samples to the second, and the load to no failed request.
fn judge(samples: &[Sample], report: &Value) -> Result<Bars> {
    let fifth = samples.len() / 5;
    ensure!(fifth > 0, "the load ended before the server could be looked at five times");
    let typical =
        |samples: &[Sample], what: fn(&Sample) -> f64| median(&samples.iter().map(what).collect::<Vec<_>>());
    let (warm, last) = (&samples[fifth..2 * fifth], &samples[samples.len() - fifth..]);
    let mut bars = Bars::default();
    let memory = typical(last, |sample| sample.resident_mib) / typical(warm, |sample| sample.resident_mib);
    bars.bar("resident memory, last fifth over second", memory, Limit::AtMost(MEMORY_RATIO));
    let handles = typical(last, |sample| sample.handles) - typical(warm, |sample| sample.handles);
    bars.bar("further file handles in the last fifth", handles, Limit::AtMost(HANDLES));
    let failed = number(report, "requests")? - number(report, "answered")?;
    bars.bar("requests that were not answered", failed, Limit::AtMost(0.0));
    for figure in ["answered_per_second", "latency_ms/p50", "latency_ms/p99"] {
        bars.figure(figure, number(report, figure)?);
    }
    Ok(bars)
}

fn render(samples: &[Sample]) -> String {
    let mut table = Table::new(["seconds", "resident, MiB", "handles"]);
    for Sample { seconds, resident_mib, handles } in samples {
        table.row([format!("{seconds:.0}"), format!("{resident_mib:.1}"), handles.to_string()]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(grow: impl Fn(f64) -> (f64, f64), answered: u32, expected: &[&str]) {
        let sample = |seconds: u32| {
            let (resident_mib, handles) = grow(f64::from(seconds));
            Sample { seconds: seconds.into(), resident_mib, handles }
        };
        let samples: Vec<Sample> = (0..SAMPLES).map(sample).collect();
        let report = json!({
            "requests": 100, "answered": answered, "answered_per_second": 9.0,
            "latency_ms": { "p50": 1.0, "p99": 2.0 },
        });
        assert_eq!(judge(&samples, &report).unwrap().missed(), expected);
    }

    #[test]
    fn what_grows_after_the_warm_up_is_found() {
        let memory = "resident memory, last fifth over second";
        let handles = "further file handles in the last fifth";
        check(|_| (100.0, 30.0), 100, &[]);
        check(|seconds| (100.0 + seconds.min(5.0) * 20.0, 30.0), 100, &[]);
        check(|seconds| (100.0 + 0.3 * seconds, 30.0), 100, &[memory]);
        check(|seconds| (100.0, 30.0 + 0.2 * seconds), 100, &[handles]);
        check(|_| (100.0, 30.0), 99, &["requests that were not answered"]);
        assert!(judge(&[], &json!({})).is_err());
    }
}
