//! `gatefold samples inspect`: what a sample set is.

use std::path::PathBuf;

use anyhow::{Context, Result};
use bytesize::ByteSize;
use comfy_table::CellAlignment;
use gatefold_dataset::SampleSet;
use gatefold_samples::decoded_rows;
use gatefold_schema::{EncoderState, FittedFeature, Instant, LATE_COLUMN, SampleManifest, Task};
use serde_json::{Map, Value, json};

use crate::console::{Console, table};

/// Show what a sample set holds.
///
/// Splits with rows, times and outcomes, shards, features with what their encoders have learned, rows left out; with
/// --rows the first rows of a split, codes turned back into values.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  gatefold samples inspect work/samples --rows 5 --split valid")]
pub(crate) struct Args {
    /// The sample set.
    #[arg(value_name = "DIR")]
    samples: PathBuf,
    /// Show this many rows instead.
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// The split that rows are shown of.
    #[arg(long, value_name = "SPLIT", default_value = "train", requires = "rows")]
    split: String,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, console: &Console) -> Result<()> {
    let set = SampleSet::open(&args.samples)
        .with_context(|| format!("cannot open the samples {}", args.samples.display()))?;
    if let Some(count) = args.rows {
        return rows(&args, &set, count, console);
    }
    let manifest = &set.manifest;
    if args.json {
        let features: Vec<Value> = manifest
            .features
            .iter()
            .map(|fitted| json!({ "feature": fitted.feature, "state": fitted.state, "codes": fitted.code_count() }))
            .collect();
        let mut all = json!(manifest);
        all["features"] = json!(features);
        return console.print_json(&all);
    }
    let dropped: Vec<String> = manifest.dropped.iter().map(|(why, rows)| format!("{why}: {rows}")).collect();
    let dropped = if dropped.is_empty() { "none".to_owned() } else { dropped.join(", ") };
    console.print(&format!(
        "{}  {}\n\n{}\n\n{}\n\nrows left out: {dropped}\nencoders: {}",
        manifest.name,
        args.samples.display(),
        splits(manifest),
        features(manifest),
        manifest.fingerprint
    ))
}

/// The first rows of a split.
fn rows(args: &Args, set: &SampleSet, count: usize, console: &Console) -> Result<()> {
    let found = decoded_rows(&args.samples, &set.manifest, &set.encoders, &args.split, count)?;
    if args.json {
        let named = |row: &Vec<String>| {
            found.columns.iter().cloned().zip(row.iter().map(|text| json!(text))).collect::<Map<_, _>>()
        };
        let rows: Vec<_> = found.rows.iter().map(named).collect();
        return console.print_json(&rows);
    }
    let mut table = table(found.columns.clone());
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Left));
    for row in found.rows {
        table.add_row(row);
    }
    console.print(&table.to_string())
}

/// The rows of a task's sample space: those where the task it is given is positive, with late ones where it learns
/// from them.
fn space(manifest: &SampleManifest, task: &Task, split: &str) -> Option<u64> {
    let info = manifest.splits.get(split)?;
    let late = info.positives.get(LATE_COLUMN).copied().unwrap_or(0);
    let others = match &task.given {
        None => info.rows.saturating_sub(late),
        Some(given) => {
            let given = manifest.tasks.iter().find(|other| other.name == *given)?;
            info.positives.get(&given.label).copied()?
        }
    };
    Some(others + if task.fake_negatives.is_some() { late } else { 0 })
}

fn splits(manifest: &SampleManifest) -> comfy_table::Table {
    let mut header: Vec<String> =
        ["split", "rows", "requests", "first", "last", "shards", "size"].map(str::to_owned).into();
    for task in &manifest.tasks {
        header.extend([format!("{} = 1", task.label), format!("{} rate", task.name)]);
    }
    let mut table = table(header);
    for name in ["train", "valid", "test"] {
        let Some(split) = manifest.splits.get(name) else { continue };
        let time = |time: Option<i64>| {
            time.map_or_else(|| "–".to_owned(), |time| Instant::from_micros(time).to_string())
        };
        let mut row = vec![name.to_owned(), split.rows.to_string(), split.requests.to_string()];
        row.extend([time(split.time_min), time(split.time_max), split.shards.len().to_string()]);
        row.push(ByteSize(split.shards.iter().map(|shard| shard.bytes).sum()).to_string());
        for task in &manifest.tasks {
            let positives = split.positives.get(&task.label).copied();
            row.push(positives.map_or_else(|| "–".to_owned(), |positives| positives.to_string()));
            let rate = positives.zip(space(manifest, task, name).filter(|rows| *rows > 0));
            row.push(rate.map_or_else(
                || "–".to_owned(),
                |(positives, rows)| format!("{:.4}", positives as f64 / rows as f64),
            ));
        }
        table.add_row(row);
    }
    table
}

fn features(manifest: &SampleManifest) -> comfy_table::Table {
    let mut table =
        table(["feature", "side", "kind", "encoder", "codes", "learned"].map(str::to_owned).into());
    for (place, column) in table.column_iter_mut().enumerate() {
        column.set_cell_alignment(if place == 4 { CellAlignment::Right } else { CellAlignment::Left });
    }
    for fitted in &manifest.features {
        let feature = &fitted.feature;
        let kind = json!(feature.kind).as_str().unwrap_or_default().to_owned();
        let codes = fitted.code_count().map_or_else(String::new, |codes| codes.to_string());
        let encoder = feature.encoder.name().to_owned();
        table.add_row([
            feature.name.clone(),
            feature.side.name().to_owned(),
            kind,
            encoder,
            codes,
            learned(fitted),
        ]);
    }
    table
}

/// What an encoder has learned, in words.
fn learned(fitted: &FittedFeature) -> String {
    match &fitted.state {
        EncoderState::Vocab { size } => {
            let table = fitted.feature.table_name();
            let shared =
                if table == fitted.feature.name { String::new() } else { format!(" of table {table}") };
            format!("{size} values{shared}")
        }
        EncoderState::Standardize { mean, std } => format!("mean {mean:.6}, deviation {std:.6}"),
        EncoderState::MinMax { min, max } => format!("from {min} to {max}"),
        EncoderState::Edges { edges } => format!("{} edges", edges.len()),
        EncoderState::Target { prior, size } => format!("prior {prior:.6}, {size} values"),
        EncoderState::Stateless => String::new(),
    }
}
