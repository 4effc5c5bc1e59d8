//! `cargo xtask bench NAME`: measures speed and prints it beside its bars.
//!
//! The measuring itself needs the heavy crates and lives in `gatefold-bench` (`tests/bench`);
//! peers in Python live in `benches/peers`. What is compared is measured in one run, in turns.

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::bars::{Bars, Limit};
use crate::program::{Programs, last_json, number};
use crate::table::{self, Table, thousands};
use crate::workspace::Workspace;
use crate::{record, venv};

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
    /// Make the Python environment of the peers first, if it is not there (several gigabytes).
    #[arg(long)]
    with_peers: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Bench {
    /// The user-once graph against the plain one, and Score over gRPC.
    Serve,
    /// Training of a large MMoE against PyTorch.
    Train,
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
        Bench::Serve => ("serve", serve(workspace, &programs, options)?),
        Bench::Train => ("train", train(workspace, &programs, options)?),
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

fn serve(workspace: &Workspace, programs: &Programs, options: &BenchOptions) -> Result<Outcome> {
    let folder = workspace.root.join("work/bench/serve");
    // Publishing would otherwise add a version each time.
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let bench = |arguments: &[&str]| {
        let mut command = programs.command("gatefold-bench");
        command.current_dir(&workspace.root).args(arguments);
        last_json(&mut command)
    };
    bench(&["bundle", "--out", "work/bench/serve"])?;
    let rounds = options.rounds.to_string();
    let graphs = bench(&["graphs", "--model", "work/bench/serve/models/mmoe", "--rounds", &rounds])?;
    let load = programs.serve_and_load(
        "work/bench/serve/models",
        &[
            "--model",
            "mmoe",
            "--requests",
            "work/bench/serve/requests.json",
            "--rate",
            "max",
            "--duration",
            "8s",
        ],
    )?;

    let of_turns = |key: &str| -> Result<f64> {
        let turns = graphs[key].as_array().with_context(|| format!("no list {key} in {graphs}"))?;
        Ok(median(&turns.iter().filter_map(Value::as_f64).collect::<Vec<_>>()))
    };
    let (plain, once) = (of_turns("plain_ms")?, of_turns("user_once_ms")?);
    let candidates = number(&graphs, "candidates")?;
    let grpc = number(&load, "candidates_per_second")?;

    let mut table = Table::new(["one request of 200 candidates", "ms (median)", "candidates/s"]);
    for (name, milliseconds) in [("plain graph, one thread", plain), ("user-once graph, one thread", once)] {
        let rate = thousands(candidates / milliseconds * 1000.0);
        table.row([format!("ONNX Runtime, {name}"), format!("{milliseconds:.3}"), rate]);
    }
    let latency = number(&load, "latency_ms/p50")?;
    table.row([
        "Score over gRPC, closed loop, load generator beside it".to_owned(),
        format!("{latency:.3}"),
        thousands(grpc),
    ]);

    let mut bars = Bars::default();
    bars.bar("user once over plain", plain / once, Limit::AtLeast(1.5));
    bars.figure("plain_ms", plain);
    bars.figure("user_once_ms", once);
    bars.figure("grpc_candidates_per_second", grpc);
    Ok(Outcome { table: table.render(), bars, raw: json!({ "graphs": graphs, "load": load }) })
}

const PYTORCH_VARIANTS: [&str; 3] = ["dense", "sparse", "fused"];
const THREADS: &str = "2";

fn train(workspace: &Workspace, programs: &Programs, options: &BenchOptions) -> Result<Outcome> {
    let data = workspace.root.join("work/bench/train");
    let mut prepare = programs.command("gatefold-bench");
    last_json(prepare.arg("train-data").arg("--out").arg(&data))?;

    let requirements = workspace.root.join("training/reference/requirements.txt");
    let python = if options.with_peers {
        Some(venv::make("reference", &requirements)?)
    } else {
        venv::interpreter("reference")?
    };
    if python.is_none() {
        eprintln!("==> no PyTorch here: Gatefold runs alone; --with-peers makes its environment");
    }

    let mut runs: Vec<(String, Vec<f64>)> = vec![("gatefold".to_owned(), Vec::new())];
    if python.is_some() {
        runs.extend(PYTORCH_VARIANTS.map(|variant| (format!("pytorch {variant}"), Vec::new())));
    }
    for _ in 0..options.rounds {
        for (name, speeds) in &mut runs {
            let mut command = match (name.strip_prefix("pytorch "), &python) {
                (Some(variant), Some(python)) => {
                    let mut command = std::process::Command::new(python);
                    command.arg(workspace.root.join("benches/peers/train_pytorch.py")).arg(variant);
                    command.args(["--rounds", "1"]);
                    command
                }
                _ => {
                    let mut command = programs.command("gatefold-bench");
                    command.arg("train");
                    command
                }
            };
            let figures = last_json(command.arg("--data").arg(&data).args(["--threads", THREADS]))?;
            speeds.push(number(&figures, "samples_per_second")?);
        }
    }

    let medians: Vec<(String, f64)> =
        runs.iter().map(|(name, speeds)| (name.clone(), median(speeds))).collect();
    let mut table =
        Table::new(["T1: MMoE, 26 fields, 1 million rows, batch 4096, 2 threads", "samples/s (median)"]);
    let mut bars = Bars::default();
    for (name, speed) in &medians {
        table.row([name.clone(), thousands(*speed)]);
        bars.figure(format!("{name} samples/s"), *speed);
    }
    let ours = medians.first().map(|(_, speed)| *speed).context("nothing was measured")?;
    if let Some(best) = medians[1..].iter().map(|(_, speed)| *speed).reduce(f64::max) {
        bars.bar("T1 over the best PyTorch variant", ours / best, Limit::AtLeast(3.0));
    }
    Ok(Outcome { table: table.render(), bars, raw: json!(runs) })
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
