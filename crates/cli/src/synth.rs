//! `gatefold synth`: event logs whose truth is known.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result};
use gatefold_samples::synth::{self, SynthConfig};
use serde_json::json;

use crate::console::Console;

/// Write synthetic event logs whose true probabilities are known.
///
/// Writes the event logs of an invented shop as Parquet: users, items, impressions, clicks and
/// conversions, with the flaws of real logs (duplicates, late events, missing values, unseen users
/// and items on the last day). The true probabilities stand beside them, so that every task's
/// attainable AUC is known.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  gatefold synth --out work/logs --impressions 1000000 --correlation 0.8")]
pub(crate) struct Args {
    /// Folder to write; created, or replaced with --overwrite.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Impressions.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    impressions: usize,
    /// Users [default: one for 20 impressions].
    #[arg(long, value_name = "N")]
    users: Option<usize>,
    /// Items [default: one for 50 impressions].
    #[arg(long, value_name = "N")]
    items: Option<usize>,
    /// How alike clicks and conversions are, from -1 to 1.
    #[arg(long, value_name = "P", default_value_t = 0.8, allow_negative_numbers = true)]
    correlation: f64,
    /// How strongly the features decide what is clicked, 1 being the usual: the more, the less the
    /// clicked impressions resemble all of them.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    selection: f64,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Replace logs that an earlier run wrote there.
    #[arg(long)]
    overwrite: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, console: &Console) -> Result<()> {
    let started = Instant::now();
    let defaults = SynthConfig::new(args.impressions, args.seed);
    let config = SynthConfig {
        users: args.users.unwrap_or(defaults.users),
        items: args.items.unwrap_or(defaults.items),
        correlation: args.correlation,
        selection: args.selection,
        ..defaults
    };
    let auc = |scores: &[f32], labels: &[f32]| gatefold_metrics::auc(scores, labels, None).ok();
    let report = synth::write(&args.out, &config, args.overwrite, &auc, &mut console.steps())
        .with_context(|| format!("cannot write logs into {}", args.out.display()))?;
    let seconds = started.elapsed().as_secs_f64();
    if args.json {
        return console.print_json(&json!({
            "impressions": report.impressions,
            "requests": report.requests,
            "clicks": report.clicks,
            "conversions": report.conversions,
            "oracle": report.oracle,
            "seconds": seconds,
        }));
    }
    let oracle = &report.oracle;
    let attainable = [
        ("ctr", oracle.ctr),
        ("cvr", oracle.cvr),
        ("ctcvr", oracle.ctcvr),
        ("cvr on all impressions", oracle.cvr_all),
    ];
    let attainable: Vec<String> =
        attainable.into_iter().filter_map(|(output, auc)| Some(format!("{output} {:.4}", auc?))).collect();
    console.print(&format!(
        "{} impressions in {} requests, {} clicks, {} conversions, in {seconds:.1} s\nattainable AUC: {}\n{}",
        report.impressions,
        report.requests,
        report.clicks,
        report.conversions,
        attainable.join(", "),
        args.out.display()
    ))
}
