//! `gatefold tune`: the batcher's settings with which this machine scores the most candidates of a
//! bundle within a latency goal.
//!
//! The real engine with the real backend runs in this process. For each setting the highest load is
//! searched that keeps the goal; requests arrive at random times as page views do, and each latency
//! counts from the intended arrival. Settings on a coarse grid come first, then those around the
//! best. What a server adds (the wire, and what else runs on the machine) is not in the figures.

mod grid;
mod requests;
mod search;
mod trial;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use gatefold_backend_ort::Device;
use gatefold_engine::Bundle;
use serde_json::{Value, json};

use self::grid::Setting;
use self::requests::Requests;
use self::search::{Row, Search};
use crate::bundles;
use crate::console::{self, Console};
use crate::interrupt::Interrupt;

/// Choose the batcher's settings of a server for a latency goal.
///
/// Measures this machine with the bundle's own graph and prints lines for the server's settings
/// file. Run it where the server will run, with nothing else beside it.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  gatefold tune work/models/mmoe --p99-ms 20 --candidates 200\n  \
                        gatefold tune work/models/mmoe --p99-ms 20 --from-log /var/log/gatefold/requests")]
pub(crate) struct Args {
    /// Folder of a model (its latest version is used) or of one version.
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// The goal: 99 of 100 requests are answered within so many milliseconds.
    #[arg(long, value_name = "MS", value_parser = goal)]
    p99_ms: f64,
    /// Candidates a request; the bundle's golden requests are cut or repeated [default: 200].
    #[arg(long, value_name = "N", conflicts_with = "from_log", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    candidates: Option<u32>,
    /// Take the newest requests of a server's request log, with the candidates that they had.
    #[arg(long, value_name = "DIR")]
    from_log: Option<PathBuf>,
    /// What computes: cpu, or a GPU such as cuda:0, with ORT_DYLIB_PATH naming a build for GPUs.
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu)]
    device: Device,
    /// About how long to measure; longer finds the tail more surely.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(5..=86_400))]
    seconds: u32,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

fn goal(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(goal) if (0.01..=60_000.0).contains(&goal) => Ok(goal),
        _ => Err("give milliseconds between 0.01 and 60000".into()),
    }
}

/// Measures and prints what was found.
///
/// # Errors
/// A bundle or log that cannot be used, a backend that fails, and a goal that no setting reaches.
pub(crate) fn run(args: Args, console: &Console) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    let bundle = Bundle::open_latest(&args.bundle)
        .with_context(|| format!("cannot open the model {}", args.bundle.display()))?;
    let requests = match &args.from_log {
        Some(folder) => Requests::of_log(folder, &bundle)?,
        None => Requests::golden(&bundle, args.candidates.unwrap_or(200) as usize)?,
    };
    let about = About {
        model: format!("{} v{}", bundle.manifest().name, bundle.manifest().version),
        goal: args.p99_ms,
        requests: requests.description().to_owned(),
        cores: bundles::all_cores(),
        device: args.device,
    };
    let search = Search::new(bundle, requests, args.device, args.p99_ms, f64::from(args.seconds))?;
    let bar = console.bar(search.runs() as u64, "runs");
    bar.set_prefix(about.model.clone());
    let rows = search.run(&bar, &interrupt);
    bar.finish_and_clear();
    let rows = rows.with_context(|| format!("cannot measure {}", args.bundle.display()))?;
    let Some(chosen) = search::best(&rows) else { bail!(about.missed(&rows)) };
    match args.json {
        true => console.print_json(&about.json(&rows, chosen)),
        false => console.print(&about.text(&rows, chosen)),
    }
}

/// What was asked.
struct About {
    model: String,
    goal: f64,
    requests: String,
    cores: usize,
    device: Device,
}

impl About {
    /// Why nothing was chosen.
    fn missed(&self, rows: &[Row]) -> String {
        let Some(nearest) = rows.iter().min_by(|a, b| a.measured.p99_ms.total_cmp(&b.measured.p99_ms)) else {
            return "nothing was measured".into();
        };
        let (Setting { workers, intra_threads, .. }, found) = (nearest.setting, &nearest.measured);
        format!(
            "no setting answers {} of {} within {} ms at p99: the nearest (workers = {workers}, intra_threads = \
             {intra_threads}) takes {:.2} ms with one request at a time. Raise the goal to what the model takes \
             here, send fewer candidates, or make it faster (`gatefold bundle quantize`, more cores, a GPU)",
            self.requests, self.model, self.goal, found.p99_ms
        )
    }

    /// The lines for the server's settings file.
    fn toml(&self, chosen: &Row) -> String {
        let Setting { workers, intra_threads, row_budget, batch_delay_us } = chosen.setting;
        let device = match self.device {
            Device::Cpu => String::new(),
            device => format!("device = \"{device}\"\n"),
        };
        format!(
            "# {}, {}, {} cores: {:.0} candidates/s with p99 {:.1} ms (goal {} ms), by `gatefold tune`.\n\
             {device}workers = {workers}\n\
             intra_threads = {intra_threads}\n\
             row_budget = {row_budget}\n\
             batch_delay_us = {batch_delay_us}\n",
            self.model,
            self.requests,
            self.cores,
            chosen.measured.candidates_per_second,
            chosen.measured.p99_ms,
            self.goal
        )
    }

    fn text(&self, rows: &[Row], chosen: &Row) -> String {
        let columns = [
            "workers",
            "intra_threads",
            "row_budget",
            "batch_delay_us",
            "candidates/s",
            "p50, ms",
            "p99, ms",
            "CPU s a million",
        ];
        let mut table = console::table(columns.map(str::to_owned).to_vec());
        for Row { setting, measured, keeps } in rows {
            let most = keeps.then(|| format!("{:.0}", measured.candidates_per_second));
            table.add_row([
                setting.workers.to_string(),
                setting.intra_threads.to_string(),
                setting.row_budget.to_string(),
                setting.batch_delay_us.to_string(),
                most.unwrap_or_else(|| "-".into()),
                format!("{:.2}", measured.p50_ms),
                format!("{:.2}", measured.p99_ms),
                format!("{:.2}", measured.cpu_seconds_a_million),
            ]);
        }
        let missed = match rows.iter().all(|row| row.keeps) {
            true => "",
            false => "(-: the goal is not kept; latency is that of one request at a time)\n",
        };
        format!(
            "{}, {}: the highest load that each setting answers within {} ms at p99\n\n{table}\n{missed}\n{}",
            self.model,
            self.requests,
            self.goal,
            self.toml(chosen)
        )
    }

    fn json(&self, rows: &[Row], chosen: &Row) -> Value {
        json!({
            "model": self.model,
            "requests": self.requests,
            "goal_p99_ms": self.goal,
            "cores": self.cores,
            "settings": rows.iter().map(Row::json).collect::<Vec<_>>(),
            "chosen": chosen.json(),
            "toml": self.toml(chosen),
        })
    }
}
