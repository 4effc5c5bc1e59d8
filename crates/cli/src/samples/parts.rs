//! `gatefold samples plan`, `run` and `finalize`: one sample set made by several processes.

use std::{path::PathBuf, str::FromStr, time::Instant};

use anyhow::{Context, Result, bail};
use gatefold_samples::{
    BuildOptions, Progress,
    parts::{self, Plan, PlanOptions},
};
use gatefold_schema::OnBadRow;
use serde_json::json;

use super::build::summary;
use crate::{bundles, console::Console};

/// Divide logs into parts that several processes or machines make samples of.
///
/// Reads every log once and writes it in parts by a hash of the user, with what a part needs to know of the others.
/// Then `gatefold samples run` makes the samples of each part, in any order, again if need be, and
/// `gatefold samples finalize` the sample set: the same as that of `gatefold samples build`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  gatefold samples plan --recipe samples.toml --logs work/logs --shards 4 --plan work/plan\n  \
                        for i in 0 1 2 3; do gatefold samples run --plan work/plan --shard $i/4 & done; wait\n  \
                        gatefold samples finalize --plan work/plan --out work/samples"
)]
pub(crate) struct PlanArgs {
    /// Recipe (TOML).
    #[arg(long, value_name = "FILE")]
    recipe: PathBuf,
    /// Folder of the source files that the recipe names.
    #[arg(long, value_name = "DIR")]
    logs: PathBuf,
    /// Folder to write. It holds the logs once more: what is read of them.
    #[arg(long, value_name = "DIR")]
    plan: PathBuf,
    /// Number of parts.
    #[arg(long, value_name = "N")]
    shards: usize,
    /// What becomes of rows that cannot be used: drop, fail or quarantine. Overrides `on_bad_row` of the recipe.
    #[arg(long, value_name = "WHAT")]
    on_bad_row: Option<OnBadRow>,
    /// Replace an earlier plan.
    #[arg(long)]
    overwrite: bool,
    /// Print one JSON object instead of a line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn plan(args: &PlanArgs, console: &Console) -> Result<()> {
    let started = Instant::now();
    let recipe = bundles::read_recipe(&args.recipe)?;
    let options = PlanOptions { shards: args.shards, overwrite: args.overwrite, on_bad_row: args.on_bad_row };
    let plan = parts::plan(&recipe, &args.logs, &args.plan, &options, &mut console.steps())
        .with_context(|| format!("cannot plan samples in {}", args.plan.display()))?;
    let (shards, rows, seconds) = (plan.shards(), plan.rows(), started.elapsed().as_secs_f64());
    if args.json {
        let plan = &args.plan;
        return console
            .print_json(&json!({ "plan": plan, "shards": shards, "impressions": rows, "seconds": seconds }));
    }
    console.print(&format!(
        "{rows} impressions in {shards} shards, 0/{shards} to {}/{shards}, {seconds:.1} s\n{}",
        shards - 1,
        args.plan.display()
    ))
}

/// A part of a plan, as `3/16`: the fourth of sixteen.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shard {
    index: usize,
    of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let numbers =
            written.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((index, of)) if index < of => Ok(Self { index, of }),
            _ => Err("is no shard; write its number from 0 and the number of shards: of four, 0/4 to 3/4"
                .to_owned()),
        }
    }
}

/// Make the samples of one part of a plan.
///
/// May be run again: the part is replaced when it is complete.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  gatefold samples run --plan work/plan --shard 0/4")]
pub(crate) struct RunArgs {
    /// Folder of the plan.
    #[arg(long, value_name = "DIR")]
    plan: PathBuf,
    /// The part: its number from 0, and the number of parts of the plan.
    #[arg(long, value_name = "I/N")]
    shard: Shard,
    /// Print one JSON object instead of a line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &RunArgs, console: &Console) -> Result<()> {
    let started = Instant::now();
    let plan = Plan::read(&args.plan)?;
    let Shard { index, of } = args.shard;
    if plan.shards() != of {
        bail!("--shard {index}/{of}: the plan has {} shards, not {of}", plan.shards());
    }
    console.steps().start("joining the part", None);
    let rows =
        parts::run(&plan, &args.plan, index).with_context(|| format!("cannot make shard {index}/{of}"))?;
    let seconds = started.elapsed().as_secs_f64();
    if args.json {
        return console
            .print_json(&json!({ "shard": index, "shards": of, "rows": rows, "seconds": seconds }));
    }
    console.print(&format!("shard {index}/{of}: {rows} rows, {seconds:.1} s"))
}

/// Make the sample set of a plan of which every part has been made.
///
/// Fits the encoders to the training split of all parts, and writes the samples in the order of time.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  gatefold samples finalize --plan work/plan --out work/samples")]
pub(crate) struct FinalizeArgs {
    /// Folder of the plan.
    #[arg(long, value_name = "DIR")]
    plan: PathBuf,
    /// Folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Also write the raw rows of a split (train, valid or test); may be given several times.
    #[arg(long, value_name = "SPLIT")]
    raw: Vec<String>,
    /// Use the fitted encoders of a sample set or a bundle instead of fitting them on the training split.
    #[arg(long, value_name = "DIR")]
    encoders_from: Option<PathBuf>,
    /// Replace samples that an earlier run wrote there.
    #[arg(long)]
    overwrite: bool,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

pub(crate) fn finalize(args: FinalizeArgs, console: &Console) -> Result<()> {
    let started = Instant::now();
    let encoders = args.encoders_from.as_deref().map(bundles::read_encoders).transpose()?;
    let options =
        BuildOptions { raw: args.raw, overwrite: args.overwrite, encoders, ..BuildOptions::default() };
    let manifest = parts::finalize(&args.plan, &args.out, &options, &mut console.steps())
        .with_context(|| format!("cannot make {} of the plan {}", args.out.display(), args.plan.display()))?;
    summary(&args.out, &manifest, started, args.json, console)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_counted_from_0() {
        assert_eq!("3/16".parse(), Ok(Shard { index: 3, of: 16 }));
        for wrong in ["16/16", "3", "a/4", "-1/4", "0/0", ""] {
            assert!(wrong.parse::<Shard>().unwrap_err().contains("0/4 to 3/4"), "{wrong}");
        }
    }
}
