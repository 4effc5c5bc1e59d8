//! Score over gRPC against a bare loop around ONNX Runtime, on the plain and the user-once graph.
//!
//! All competitors have the same weights, get the same requests and may use all cores of the
//! machine; they are measured in turns, in one run. Processor time is that of the server's process
//! as the system accounts it, so that the load generator beside it does not count. Latencies with a
//! bar are those of the windows in which the host took least of the machine; only the swap of a model is measured
//! once without and once with it, one right after the other.

mod competitor;
mod latency;
mod operation;
mod quiet;
mod throughput;
mod world;

use anyhow::{Context, Result};
use serde_json::json;

use self::competitor::Competitor;
use self::operation::Operation;
use self::throughput::Throughput;
use self::world::{WORKLOADS, World};
use super::{BenchOptions, Outcome};
use crate::bars::Bars;
use crate::program::Programs;
use crate::workspace::Workspace;

/// How long everything takes.
struct Durations {
    /// One turn of a competitor, in seconds.
    turn: f64,
    /// One offered load, in seconds.
    load: f64,
    /// Windows of a load whose latency has a bar.
    windows: u32,
}

pub(super) fn measure(workspace: &Workspace, programs: &Programs, options: &BenchOptions) -> Result<Outcome> {
    let windows = options.rounds();
    let durations = match options.quick {
        true => Durations { turn: 0.7, load: 1.5, windows },
        false => Durations { turn: 3.0, load: 10.0, windows },
    };
    let world = World::build(workspace, programs, options.with_peers)?;
    let competitors = Competitor::all(programs, &world)?;
    let mut bars = Bars::default();
    let throughput = Throughput::measure(programs, &world, &competitors, options.rounds(), &durations)?;
    throughput.judge(&mut bars);
    let mut text = throughput.render();
    let mut latencies = Vec::new();
    let loads = if options.quick { &WORKLOADS[1..2] } else { &WORKLOADS[..] };
    for workload in loads {
        let (table, raw) =
            latency::measure(programs, &world, &competitors, &throughput, workload, &durations, &mut bars)?;
        text.push_str(&format!("\n{table}"));
        latencies.push(raw);
    }
    let operation = Operation {
        programs,
        world: &world,
        competitor: competitors.iter().find(|one| one.letter == "d").context("nobody is (d)")?,
        throughput: &throughput,
        workload: &WORKLOADS[1],
        durations: &durations,
    };
    let operation = operation.measure(options.quick, &mut bars)?;
    for competitor in competitors {
        competitor.stop()?;
    }
    let raw = json!({ "throughput": throughput.raw(), "latency": latencies, "operation": operation });
    Ok(Outcome { table: text, bars, raw })
}
