//! Gatefold's trainer against its peers, on the same data, threads and hyper-parameters, in turns.
//!
//! A turn of one competitor is a process of its own: it reads the data, warms up for two steps and
//! times the others. The speed of one large matrix product is measured in turns with them, so that
//! a busy machine slows both sides of every ratio.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{BenchOptions, Outcome, median};
use crate::bars::{Bars, Limit};
use crate::program::{Programs, last_json, number};
use crate::table::{Table, thousands};
use crate::venv;
use crate::workspace::Workspace;

const THREADS: &str = "2";

/// A workload with those who are measured on it. Steps are per turn: fewer where a step is slow.
struct Workload {
    name: &'static str,
    title: &'static str,
    batches: &'static str,
    peers: &'static [Peer],
}

/// A Python program under `benches/peers`.
struct Peer {
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
}

const PYTORCH: [Peer; 3] = [
    Peer { name: "pytorch dense", program: "train_pytorch.py", arguments: &["dense", "--steps", "12"] },
    Peer { name: "pytorch sparse", program: "train_pytorch.py", arguments: &["sparse", "--steps", "12"] },
    Peer { name: "pytorch fused", program: "train_pytorch.py", arguments: &["fused", "--steps", "12"] },
];
const TORCH_RECHUB: Peer =
    Peer { name: "torch-rechub", program: "train_torch_rechub.py", arguments: &["--steps", "12"] };
const DEEPCTR: Peer =
    Peer { name: "deepctr-torch", program: "train_deepctr_torch.py", arguments: &["--steps", "12"] };
const ALL: [Peer; 5] = {
    let [dense, sparse, fused] = PYTORCH;
    [dense, sparse, fused, TORCH_RECHUB, DEEPCTR]
};

const WORKLOADS: [Workload; 3] = [
    Workload {
        name: "t1",
        title: "T1: MMoE, 26 fields, 1 million rows, batch 4096",
        batches: "26",
        peers: &ALL,
    },
    Workload {
        name: "t2",
        title: "T2: ESMM, 17 fields, 1 million rows, batch 2048",
        batches: "50",
        peers: &ALL,
    },
    Workload {
        name: "t3",
        title: "T3: T1 with 20 million rows",
        batches: "26",
        // A step over tables of this size takes seconds where gradients are dense.
        peers: &[Peer {
            name: "torch-rechub",
            program: "train_torch_rechub.py",
            arguments: &["--steps", "3"],
        }],
    },
];

/// What one competitor gave on one workload.
struct Competitor {
    name: String,
    /// One JSON object a turn, or why there is none.
    turns: Result<Vec<Value>, String>,
}

impl Competitor {
    fn median(&self, key: &str) -> Option<f64> {
        let turns = self.turns.as_ref().ok()?;
        let values: Vec<f64> = turns.iter().filter_map(|turn| number(turn, key).ok()).collect();
        (!values.is_empty()).then(|| median(&values))
    }
}

pub(super) fn measure(workspace: &Workspace, programs: &Programs, options: &BenchOptions) -> Result<Outcome> {
    let requirements = workspace.root.join("benches/peers/requirements.txt");
    let python = if options.with_peers {
        Some(venv::make("reference", &requirements)?)
    } else {
        venv::interpreter("reference")?
    };
    if python.is_none() {
        eprintln!("==> no peers here: Gatefold runs alone; --with-peers makes their environment");
    }

    let mut bars = Bars::default();
    let mut text = String::new();
    let mut raw = Map::new();
    let mut own_speeds = Vec::new();
    for workload in &WORKLOADS {
        let (competitors, peaks) =
            compete(workspace, programs, python.as_deref(), workload, options.rounds())?;
        text.push_str(&report(workload, &competitors));
        text.push('\n');
        own_speeds.push(judge(workload, &competitors, median(&peaks), own_speeds.first(), &mut bars)?);
        let turns = competitors.iter().map(|competitor| {
            let turns = match &competitor.turns {
                Ok(turns) => json!(turns),
                Err(why) => json!({ "failed": why }),
            };
            (competitor.name.clone(), turns)
        });
        let mut entry: Map<String, Value> = turns.collect();
        entry.insert("gemm peak, gflops".into(), json!(peaks));
        raw.insert(workload.name.into(), entry.into());
    }
    Ok(Outcome { table: text, bars, raw: raw.into() })
}

/// Lets every competitor take its turns on one workload; the peaks measured meanwhile come second.
fn compete(
    workspace: &Workspace,
    programs: &Programs,
    python: Option<&Path>,
    workload: &Workload,
    rounds: u32,
) -> Result<(Vec<Competitor>, Vec<f64>)> {
    let data: PathBuf = workspace.root.join("work/bench/train").join(workload.name);
    let mut prepare = programs.command("gatefold-bench");
    prepare.args(["train-data", "--workload", workload.name, "--batches", workload.batches]);
    last_json(prepare.arg("--out").arg(&data))?;

    let start = |name: &str| Competitor { name: name.to_owned(), turns: Ok(Vec::new()) };
    let mut competitors = vec![start("gatefold")];
    if python.is_some() {
        competitors.extend(workload.peers.iter().map(|peer| start(peer.name)));
    }
    let mut peaks = Vec::new();
    for _ in 0..rounds {
        let mut peak = programs.command("gatefold-bench");
        peaks.push(number(&last_json(peak.args(["peak", "--threads", THREADS]))?, "gflops")?);
        for competitor in &mut competitors {
            let Ok(turns) = &mut competitor.turns else { continue };
            let peer = workload.peers.iter().find(|peer| peer.name == competitor.name);
            let mut command = match (peer, python) {
                (Some(peer), Some(python)) => {
                    let mut command = Command::new(python);
                    command.arg(workspace.root.join("benches/peers").join(peer.program));
                    command.args(peer.arguments);
                    command
                }
                _ => {
                    let mut command = programs.command("gatefold-bench");
                    command.arg("train");
                    command
                }
            };
            match last_json(command.arg("--data").arg(&data).args(["--threads", THREADS])) {
                Ok(turn) => turns.push(turn),
                // A peer that cannot run a workload is a result; our own failure is an error.
                Err(error) if peer.is_some() => competitor.turns = Err(format!("{error:#}")),
                Err(error) => return Err(error),
            }
        }
    }
    Ok((competitors, peaks))
}

fn report(workload: &Workload, competitors: &[Competitor]) -> String {
    let mut table =
        Table::new([workload.title, "samples/s (median)", "samples a CPU second", "peak memory, MB"]);
    for competitor in competitors {
        let Ok(turns) = &competitor.turns else {
            table.row([competitor.name.clone(), "failed to run".into(), String::new(), String::new()]);
            continue;
        };
        let a_cpu_second: Vec<f64> = turns
            .iter()
            .filter_map(|turn| Some(number(turn, "samples").ok()? / number(turn, "cpu_seconds").ok()?))
            .collect();
        table.row([
            competitor.name.clone(),
            thousands(competitor.median("samples_per_second").unwrap_or(f64::NAN)),
            thousands(median(&a_cpu_second)),
            thousands(competitor.median("peak_memory_mb").unwrap_or(f64::NAN)),
        ]);
    }
    table.render()
}

/// Holds a workload's figures against its bars; gives Gatefold's own speed. `t1` is that of T1.
fn judge(
    workload: &Workload,
    competitors: &[Competitor],
    peak: f64,
    t1: Option<&f64>,
    bars: &mut Bars,
) -> Result<f64> {
    let (ours, peers) = competitors.split_first().context("nothing was measured")?;
    let speed = ours.median("samples_per_second").context("Gatefold was not measured")?;
    let name = workload.name.to_uppercase();
    for competitor in competitors {
        if let Some(speed) = competitor.median("samples_per_second") {
            bars.figure(format!("{name} {} samples/s", competitor.name), speed);
        }
    }
    let best_of = |prefix: &str| {
        let of_kind = peers.iter().filter(|peer| peer.name.starts_with(prefix));
        of_kind.filter_map(|peer| peer.median("samples_per_second")).reduce(f64::max)
    };
    let pytorch = best_of("pytorch");
    match (workload.name, pytorch) {
        ("t1", pytorch) => {
            let gflops = ours.median("gflops").unwrap_or(f64::NAN);
            bars.bar("T1 arithmetic over the gemm peak", gflops / peak, Limit::AtLeast(0.55));
            if let Some(best) = pytorch {
                bars.bar("T1 over the best PyTorch variant", speed / best, Limit::AtLeast(3.0));
            }
        }
        ("t2", Some(best)) => {
            bars.bar("T2 over the best PyTorch variant", speed / best, Limit::AtLeast(4.0));
        }
        ("t3", _) => {
            if let Some(t1) = t1 {
                bars.bar("T3 over T1", speed / t1, Limit::AtLeast(0.85));
            }
            // Adam keeps two numbers for each parameter.
            let state = 3.0 * ours.median("parameter_mb").unwrap_or(f64::NAN);
            let beyond = ours.median("peak_memory_mb").unwrap_or(f64::NAN) - state;
            bars.bar("T3 memory beyond parameters and optimizer, MB", beyond, Limit::AtMost(500.0));
            if let Some(rechub) = best_of("torch-rechub") {
                bars.bar("T3 over torch-rechub", speed / rechub, Limit::AtLeast(8.0));
            }
        }
        _ => {}
    }
    Ok(speed)
}
