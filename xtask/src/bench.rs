//! `cargo xtask bench NAME`: measures speed and prints it beside its bars.
//!
//! The measuring itself needs the heavy crates and lives in `gatefold-bench` (`tests/bench`);
//! peers in Python live in `benches/peers`. What is compared is measured in one run, in turns.

mod cuda;
mod samples;
mod serve;
mod train;

pub(crate) use samples::peers as samples_peers;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::bars::Bars;
use crate::program::Programs;
use crate::workspace::Workspace;
use crate::{record, table};

#[derive(Args)]
pub(crate) struct BenchOptions {
    /// What to measure.
    name: Bench,
    /// Print one JSON object last on stdout: `{"bars": {"<row>": {"value", "bar", "ok"}}}`.
    #[arg(long)]
    json: bool,
    /// Keep the run under `benches/runs/`.
    #[arg(long)]
    record: bool,
    /// Turns each competitor takes; medians are compared.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// One short turn each: shows that everything runs, on a busy machine too; not worth recording.
    #[arg(long, conflicts_with = "record")]
    quick: bool,
    /// Make the Python environment of the peers first, if it is not there (several gigabytes).
    #[arg(long)]
    with_peers: bool,
    /// Impressions in the logs of `samples`.
    #[arg(long, default_value_t = 10_000_000)]
    impressions: u64,
    /// Of `samples`: measure Gatefold alone, within a memory limit of so many MiB.
    #[arg(long)]
    memory_mib: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Bench {
    /// Score over gRPC against a bare loop around ONNX Runtime, on the plain and the user-once graph.
    Serve,
    /// A GPU against the processor: the same scores, and how many more a second. Where there is no GPU
    /// or no ONNX Runtime for it, says so.
    Cuda,
    /// Training of large models (T1, T2, T3) against PyTorch, torch-rechub and DeepCTR-Torch.
    Train,
    /// Samples from event logs, against polars, pandas and DuckDB on the job of ../shared/bench/samples.
    Samples,
}

impl BenchOptions {
    fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }
}

/// What one bench found: a table for people, bars, and everything it measured.
struct Outcome {
    table: String,
    bars: Bars,
    raw: Value,
}

pub(crate) fn run(workspace: &Workspace, options: &BenchOptions) -> Result<()> {
    let programs = Programs::build(workspace)?;
    let (name, outcome) = match options.name {
        Bench::Serve => ("serve", serve::measure(workspace, &programs, options)?),
        Bench::Cuda => ("cuda", cuda::measure(workspace, &programs, options)?),
        Bench::Train => ("train", train::measure(workspace, &programs, options)?),
        Bench::Samples => {
            let name = if options.memory_mib.is_some() { "samples-memory" } else { "samples" };
            (name, samples::measure(workspace, &programs, options)?)
        }
    };
    let text = format!("{}\n{}", outcome.table, outcome.bars.render());
    table::print(&text);
    let result = outcome.bars.json();
    if options.record {
        let folder = record::write(workspace, name, &text, &result, &outcome.raw)?;
        eprintln!("==> recorded in {}", folder.display());
    }
    if options.json {
        table::print(&result.to_string());
    }
    Ok(())
}

/// The median of some measurements; not a number where there are none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even_counts() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
