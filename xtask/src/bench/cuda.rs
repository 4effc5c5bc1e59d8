//! A GPU against the processor, on the model of the serving bench.
//!
//! Needs a GPU and an ONNX Runtime built for it, which `ORT_DYLIB_PATH` names; elsewhere nothing is
//! measured, and the table says why.

use std::fs;

use anyhow::{Context, Result};

use super::{BenchOptions, Outcome};
use crate::bars::{Bars, Limit};
use crate::program::{Programs, last_json, number};
use crate::table::{Table, thousands};
use crate::workspace::Workspace;

/// Between a score of the GPU and the processor's.
const TOLERANCE: f64 = 1e-4;

pub(super) fn measure(workspace: &Workspace, programs: &Programs, options: &BenchOptions) -> Result<Outcome> {
    let folder = workspace.root.join("work/bench/cuda");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let (model, requests) = (folder.join("mmoe").display().to_string(), folder.display().to_string());
    let seconds = if options.quick { "0.5" } else { "5" };
    let bench = |arguments: &[&str]| last_json(programs.command("gatefold-bench").args(arguments));
    bench(&["bundle", "--model", &model, "--requests", &requests])?;
    let raw = bench(&["cuda", "--model", &model, "--seconds", seconds])?;
    let mut bars = Bars::default();
    if raw["ran"] != true {
        let table = format!("not run: {}\n", raw["why"].as_str().unwrap_or("no GPU"));
        return Ok(Outcome { table, bars, raw });
    }
    let mut table =
        Table::new(["candidates", "largest difference", "GPU, candidates/s", "CPU", "GPU over CPU"]);
    for size in raw["sizes"].as_array().into_iter().flatten() {
        let speed = |whose: &str| number(size, &format!("{whose}_candidates_per_second"));
        let (candidates, difference) = (number(size, "candidates")?, number(size, "largest_difference")?);
        let (gpu, cpu) = (speed("gpu")?, speed("cpu")?);
        table.row([
            candidates.to_string(),
            format!("{difference:.1e}"),
            thousands(gpu),
            thousands(cpu),
            format!("{:.2}", gpu / cpu),
        ]);
        bars.bar(format!("largest difference, {candidates}"), difference, Limit::AtMost(TOLERANCE));
        bars.figure(format!("GPU over CPU, {candidates}"), gpu / cpu);
    }
    Ok(Outcome { table: table.render(), bars, raw })
}
