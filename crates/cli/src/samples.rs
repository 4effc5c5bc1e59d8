//! `gatefold samples`: from event logs to sample shards.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result};
use clap::Subcommand;
use gatefold_samples::{BuildOptions, build};
use serde_json::json;

use crate::{
    bundles,
    console::{Console, table},
};

/// Build sample shards from event logs.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Build(BuildArgs),
}

/// Build a sample set from logs.
///
/// Joins the logs, labels every impression, splits by time, fits the encoders on the training
/// split, and writes encoded shards, vocabularies, example requests and a manifest. The folder
/// appears when it is complete.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  gatefold samples build --recipe training/recipes/synthetic.toml --logs work/logs \
                        --out work/samples --raw test"
)]
struct BuildArgs {
    /// Recipe (TOML).
    #[arg(long, value_name = "FILE")]
    recipe: PathBuf,
    /// Folder of the source files that the recipe names.
    #[arg(long, value_name = "DIR")]
    logs: PathBuf,
    /// Folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Also write the raw rows of a split (train, valid or test), which `gatefold score` and
    /// `gatefold request` read; may be given several times.
    #[arg(long, value_name = "SPLIT")]
    raw: Vec<String>,
    /// Use the fitted encoders of a sample set or a bundle instead of fitting them on the training split. The
    /// recipe must declare the same features.
    #[arg(long, value_name = "DIR")]
    encoders_from: Option<PathBuf>,
    /// Replace samples that an earlier run wrote there.
    #[arg(long)]
    overwrite: bool,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, console: &Console) -> Result<()> {
    let Command::Build(args) = args.command;
    let started = Instant::now();
    let recipe = bundles::read_recipe(&args.recipe)?;
    let encoders = args.encoders_from.as_deref().map(bundles::read_encoders).transpose()?;
    let options = BuildOptions { raw: args.raw, overwrite: args.overwrite, encoders };
    let manifest = build(&recipe, &args.logs, &args.out, &options, &mut console.steps())
        .with_context(|| format!("cannot build samples into {}", args.out.display()))?;
    let seconds = started.elapsed().as_secs_f64();
    if args.json {
        return console.print_json(&json!({
            "samples": args.out,
            "fingerprint": manifest.fingerprint,
            "splits": manifest.splits,
            "dropped": manifest.dropped,
            "seconds": seconds,
        }));
    }
    let mut header = vec!["split".to_owned(), "rows".to_owned(), "requests".to_owned()];
    header.extend(recipe.tasks.iter().map(|task| format!("{} = 1", task.label)));
    let mut table = table(header);
    for name in ["train", "valid", "test"] {
        let Some(split) = manifest.splits.get(name) else { continue };
        let mut row = vec![name.to_owned(), split.rows.to_string(), split.requests.to_string()];
        let positives = |label: &String| split.positives.get(label).map_or_else(String::new, u64::to_string);
        row.extend(recipe.tasks.iter().map(|task| positives(&task.label)));
        table.add_row(row);
    }
    let dropped: Vec<String> =
        manifest.dropped.iter().map(|(reason, rows)| format!("{reason}: {rows}")).collect();
    let dropped = if dropped.is_empty() { "none".to_owned() } else { dropped.join(", ") };
    console.print(&format!("{table}\nrows left out: {dropped}\n{seconds:.1} s\n{}", args.out.display()))
}
