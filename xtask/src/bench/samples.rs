//! `gatefold samples build` against polars, pandas and DuckDB, each in the fastest form found for it, on one job.
//!
//! The job is that of `../shared/bench/samples/SPEC.md`, with the maker of its logs and the peers beside it; for
//! Gatefold it is written down in `benches/samples/samples.toml`. A turn is a process of its own, from the logs on
//! disk to the samples on disk. Before the turns the outputs of Gatefold and polars are compared, row by row.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{BenchOptions, Outcome, median};
use crate::bars::{Bars, Limit};
use crate::onnx_runtime::cache_folder;
use crate::program::{Programs, last_json, number};
use crate::table::{Table, thousands};
use crate::venv;
use crate::workspace::{Workspace, step};

const OURS: &str = "gatefold";
const PEERS: [(&str, &str); 3] =
    [("polars", "job_polars.py"), ("pandas", "job_pandas.py"), ("duckdb", "job_duckdb.py")];
/// Impressions of the logs on which outputs are compared.
const COMPARED: u64 = 100_000;

/// What one competitor took: one JSON object a turn.
struct Competitor {
    name: &'static str,
    turns: Vec<Value>,
}

impl Competitor {
    fn median(&self, key: &str) -> Result<f64> {
        let values: Vec<f64> = self.turns.iter().map(|turn| number(turn, key)).collect::<Result<_>>()?;
        Ok(median(&values))
    }
}

/// The programs, and where they work.
struct Job<'a> {
    programs: &'a Programs,
    root: &'a Path,
    python: PathBuf,
    peers: PathBuf,
    cache: PathBuf,
}

pub(super) fn measure(workspace: &Workspace, programs: &Programs, options: &BenchOptions) -> Result<Outcome> {
    let requirements = workspace.root.join("benches/peers/requirements-samples.txt");
    let job = Job {
        programs,
        root: &workspace.root,
        python: venv::make("samples-peers", &requirements)?,
        peers: peers(&workspace.root)
            .context("shared/bench/samples, which holds the peers, is not beside the checkout")?,
        cache: cache_folder()?.join("bench-samples"),
    };
    job.compare()?;
    let data = job.logs(if options.quick { COMPARED } else { options.impressions })?;
    for file in files(&data)? {
        // Into the page cache, for all of them.
        fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    let mut competitors: Vec<Competitor> = std::iter::once(OURS)
        .chain(PEERS.iter().map(|(name, _)| *name))
        .map(|name| Competitor { name, turns: Vec::new() })
        .collect();
    if let Some(limit) = options.memory_mib {
        return job.within(limit, &data, options.rounds());
    }
    for _ in 0..options.rounds() {
        for competitor in &mut competitors {
            competitor.turns.push(job.turn(competitor.name, &data, &[])?);
        }
    }
    let mut table =
        Table::new(["samples from logs", "wall s (median)", "least", "most", "CPU s", "peak memory, MB"]);
    for competitor in &competitors {
        let walls: Vec<f64> =
            competitor.turns.iter().filter_map(|turn| number(turn, "wall_seconds").ok()).collect();
        table.row([
            competitor.name.to_owned(),
            format!("{:.2}", median(&walls)),
            format!("{:.2}", walls.iter().copied().fold(f64::INFINITY, f64::min)),
            format!("{:.2}", walls.iter().copied().fold(0.0, f64::max)),
            format!("{:.2}", competitor.median("cpu_seconds")?),
            thousands(competitor.median("peak_memory_mb")?),
        ]);
    }
    let mut bars = Bars::default();
    judge(&competitors, &mut bars)?;
    let turns = competitors.iter().map(|competitor| (competitor.name.to_owned(), json!(competitor.turns)));
    let raw = Value::Object(turns.collect());
    Ok(Outcome { table: table.render(), bars, raw })
}

fn judge(competitors: &[Competitor], bars: &mut Bars) -> Result<()> {
    let of = |name: &str, key: &str| {
        let found = competitors.iter().find(|competitor| competitor.name == name);
        found.with_context(|| format!("{name} was not measured"))?.median(key)
    };
    let wall = of(OURS, "wall_seconds")?;
    let mut fastest = f64::INFINITY;
    for (name, _) in PEERS {
        fastest = fastest.min(of(name, "wall_seconds")?);
    }
    bars.bar("wall of the fastest peer over ours", fastest / wall, Limit::AtLeast(1.5));
    bars.bar("wall of DuckDB over ours", of("duckdb", "wall_seconds")? / wall, Limit::AtLeast(3.0));
    let cpu = of("polars", "cpu_seconds")? / of(OURS, "cpu_seconds")?;
    bars.bar("CPU seconds of polars over ours", cpu, Limit::Above(1.0));
    let memory = of(OURS, "peak_memory_mb")? / of("polars", "peak_memory_mb")?;
    bars.bar("our peak memory over that of polars", memory, Limit::AtMost(0.5));
    Ok(())
}

impl Job<'_> {
    /// The logs of so many impressions, made once.
    fn logs(&self, impressions: u64) -> Result<PathBuf> {
        let folder = self.cache.join(impressions.to_string());
        if folder.is_dir() {
            return Ok(folder);
        }
        let partial = self.cache.join(format!("{impressions}.partial"));
        let mut make = self.peer("gen.py");
        make.arg("--out").arg(&partial).args(["--seed", "7", "--impressions", &impressions.to_string()]);
        step("logs", &mut make)?;
        fs::rename(&partial, &folder).with_context(|| format!("cannot write {}", folder.display()))?;
        Ok(folder)
    }

    /// Lets a competitor make samples once, and gives what it took.
    fn turn(&self, name: &str, data: &Path, ours: &[&str]) -> Result<Value> {
        let mut measure = Command::new(&self.python);
        measure.arg(self.root.join("benches/peers/measure.py"));
        let job = self.job(name, data, ours)?;
        let load = fs::read_to_string("/proc/loadavg").ok();
        let load = load.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
        let mut turn = last_json(measure.arg(job.get_program()).args(job.get_args()))?;
        turn["load_before"] = json!(load);
        Ok(turn)
    }

    /// Measures Gatefold alone, within a limit of so many MiB. Peers have none to be held to.
    fn within(&self, limit: u64, data: &Path, rounds: u32) -> Result<Outcome> {
        let memory = format!("{limit}MiB");
        let turns = (0..rounds).map(|_| self.turn(OURS, data, &["--memory", &memory]));
        let ours = Competitor { name: OURS, turns: turns.collect::<Result<_>>()? };
        let mut table = Table::new(["samples from logs", "wall s", "CPU s", "peak memory, MiB"]);
        let peak = ours.median("peak_memory_mb")?;
        table.row([
            format!("{OURS} --memory {memory}"),
            format!("{:.1}", ours.median("wall_seconds")?),
            format!("{:.1}", ours.median("cpu_seconds")?),
            thousands(peak),
        ]);
        let mut bars = Bars::default();
        bars.bar("peak memory over the limit", peak / limit as f64, Limit::AtMost(1.0));
        Ok(Outcome { table: table.render(), bars, raw: json!({ OURS: ours.turns }) })
    }

    /// The command by which a competitor makes samples of `data`, into a folder that holds nothing yet.
    fn job(&self, name: &str, data: &Path, ours: &[&str]) -> Result<Command> {
        let out = self.out(name);
        if out.exists() {
            fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
        }
        if let Some((_, script)) = PEERS.iter().find(|(peer, _)| *peer == name) {
            let mut command = self.peer(script);
            command.arg("--data").arg(data).arg("--out").arg(&out);
            return Ok(command);
        }
        let mut command = self.programs.gatefold();
        command.args(["samples", "build", "--recipe"]).arg(self.root.join("benches/samples/samples.toml"));
        command.arg("--logs").arg(data).arg("--out").arg(&out).args(ours);
        Ok(command)
    }

    fn out(&self, name: &str) -> PathBuf {
        self.cache.join("out").join(name)
    }

    fn peer(&self, script: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.peers.join(script));
        command
    }

    /// Fails unless Gatefold and polars make the same samples of small logs.
    fn compare(&self) -> Result<()> {
        let data = self.logs(COMPARED)?;
        step("polars", self.job("polars", &data, &[])?.arg("--raw"))?;
        let raw = ["--raw", "train", "--raw", "valid", "--raw", "test"];
        step("gatefold", &mut self.job(OURS, &data, &raw)?)?;
        let mut convert = Command::new(&self.python);
        convert.arg(self.root.join("benches/samples/convert.py"));
        let converted = self.out("converted");
        step("convert", convert.arg("--samples").arg(self.out(OURS)).arg("--out").arg(&converted))?;
        step("compare", self.peer("check.py").arg("--compare").arg(self.out("polars")).arg(converted))
    }
}

/// The folder of the peers: beside the checkout, or beside a folder that it is in.
pub(crate) fn peers(root: &Path) -> Option<PathBuf> {
    let mut beside = root.ancestors().map(|folder| folder.join("shared/bench/samples"));
    beside.find(|folder| folder.join("SPEC.md").is_file())
}

/// All files in a folder and those inside.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}
