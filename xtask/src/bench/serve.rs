//! The user-once graph against the plain one, and Score over gRPC.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{BenchOptions, Outcome, median};
use crate::bars::{Bars, Limit};
use crate::program::{Programs, last_json, number};
use crate::table::{Table, thousands};
use crate::workspace::Workspace;

pub(super) fn measure(workspace: &Workspace, programs: &Programs, options: &BenchOptions) -> Result<Outcome> {
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
