//! `gatefold samples build`: a recipe and logs in, a sample set out.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use bytesize::ByteSize;
use gatefold_experiment::data::DataReport;
use gatefold_samples::{BuildOptions, REPORT, Skew, build};
use gatefold_schema::{OnBadRow, SampleManifest};
use serde_json::json;

use super::{dry_run, explain};
use crate::{
    bundles,
    console::{Console, table},
};

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
pub(crate) struct Args {
    /// Recipe (TOML).
    #[arg(long, value_name = "FILE")]
    recipe: PathBuf,
    /// Folder of the source files that the recipe names.
    #[arg(long, value_name = "DIR")]
    logs: PathBuf,
    /// Folder to write.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["dry_run", "explain"])]
    out: Option<PathBuf>,
    /// Also write the raw rows of a split (train, valid or test), which `gatefold score` and
    /// `gatefold request` read; may be given several times.
    #[arg(long, value_name = "SPLIT")]
    raw: Vec<String>,
    /// Use the fitted encoders of a sample set or a bundle instead of fitting them on the training split. The
    /// recipe must declare the same features.
    #[arg(long, value_name = "DIR")]
    encoders_from: Option<PathBuf>,
    /// What becomes of rows that cannot be used: drop, fail or quarantine. Overrides `on_bad_row` of the recipe.
    #[arg(long, value_name = "WHAT")]
    on_bad_row: Option<OnBadRow>,
    /// Stay below so much memory, such as 2GiB: logs that need more are divided by their users, kept in parts beside
    /// the output, and read part by part. The samples are the same.
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with_all = ["dry_run", "explain"])]
    memory: Option<ByteSize>,
    /// Replace samples that an earlier run wrote there.
    #[arg(long)]
    overwrite: bool,
    /// Show what would be read, done and written; read no row and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Follow one impression through every stage, and write nothing.
    #[arg(long, requires_all = ["request", "item"], conflicts_with = "dry_run")]
    explain: bool,
    /// The request of the impression to explain.
    #[arg(long, value_name = "ID", requires = "explain", allow_negative_numbers = true)]
    request: Option<String>,
    /// Its item.
    #[arg(long, value_name = "ID", requires = "explain", allow_negative_numbers = true)]
    item: Option<String>,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, console: &Console) -> Result<()> {
    let started = Instant::now();
    let recipe = bundles::read_recipe(&args.recipe)?;
    let encoders = args.encoders_from.as_deref().map(bundles::read_encoders).transpose()?;
    if args.dry_run {
        return dry_run::run(&recipe, &args.logs, args.json, console);
    }
    if let (Some(request), Some(item)) = (&args.request, &args.item) {
        return explain::run(&recipe, &args.logs, encoders, (request, item), args.json, console);
    }
    let Some(out) = args.out else { bail!("--out is missing: name the folder to write") };
    let options = BuildOptions {
        raw: args.raw,
        overwrite: args.overwrite,
        encoders,
        on_bad_row: args.on_bad_row,
        memory: args.memory.map(|size| size.as_u64()),
    };
    let manifest = build(&recipe, &args.logs, &out, &options, &mut console.steps())
        .with_context(|| format!("cannot build samples into {}", out.display()))?;
    summary(&out, &manifest, started, args.json, console)
}

fn size(written: &str) -> Result<ByteSize, String> {
    written.parse().map_err(|_| "is no size; write one such as 2GiB".to_owned())
}

/// Says what a sample set holds that was just made.
pub(super) fn summary(
    out: &Path,
    manifest: &SampleManifest,
    started: Instant,
    json: bool,
    console: &Console,
) -> Result<()> {
    let report = std::fs::read(out.join(REPORT)).context("the report cannot be read again")?;
    let report: DataReport = serde_json::from_slice(&report).context("the report cannot be read again")?;
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
    let skew = Skew::read(out)?;
    let seconds = started.elapsed().as_secs_f64();
    if json {
        return console.print_json(&json!({
            "samples": out,
            "fingerprint": manifest.fingerprint,
            "splits": manifest.splits,
            "dropped": manifest.dropped,
            "skew": skew,
            "warnings": report.warnings,
            "seconds": seconds,
        }));
    }
    let mut header = vec!["split".to_owned(), "rows".to_owned(), "requests".to_owned()];
    header.extend(manifest.tasks.iter().map(|task| format!("{} = 1", task.label)));
    let mut table = table(header);
    for name in ["train", "valid", "test"] {
        let Some(split) = manifest.splits.get(name) else { continue };
        let mut row = vec![name.to_owned(), split.rows.to_string(), split.requests.to_string()];
        let positives = |label: &String| split.positives.get(label).map_or_else(String::new, u64::to_string);
        row.extend(manifest.tasks.iter().map(|task| positives(&task.label)));
        table.add_row(row);
    }
    let dropped: Vec<String> =
        manifest.dropped.iter().map(|(reason, rows)| format!("{reason}: {rows}")).collect();
    let dropped = if dropped.is_empty() { "none".to_owned() } else { dropped.join(", ") };
    let skew = skew.map_or_else(String::new, |skew| format!("{}\n", skew_text(&skew)));
    console.print(&format!("{table}\nrows left out: {dropped}\n{skew}{seconds:.1} s\n{}", out.display()))
}

/// The features that were served otherwise than the logs say, and a line about all.
fn skew_text(skew: &Skew) -> String {
    let differing: Vec<_> = skew.features.iter().filter(|(_, feature)| feature.differing > 0).collect();
    let line = format!(
        "features as served for {} of {} impressions; {} of {} features differ from what the logs give (skew.json)",
        skew.served,
        skew.impressions,
        differing.len(),
        skew.features.len()
    );
    if differing.is_empty() {
        return line;
    }
    let header = ["feature", "compared", "differ", "largest difference", "such as"];
    let mut rows = table(header.map(str::to_owned).to_vec());
    for (name, feature) in differing {
        let largest = feature.largest_difference.map_or_else(String::new, |largest| largest.to_string());
        let example = feature.examples.first().map_or_else(String::new, |example| {
            let item = example.item.as_ref().map_or_else(String::new, |item| format!(", item {item}"));
            format!(
                "request {}{item}: {} served, {} computed",
                example.request, example.served, example.computed
            )
        });
        rows.add_row([
            name.clone(),
            feature.compared.to_string(),
            feature.differing.to_string(),
            largest,
            example,
        ]);
    }
    format!("{rows}\n{line}")
}
