//! `gatefold score`: the scores of a table, by the encoder and graphs of the server.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail};
use gatefold_backend_ort::Device;
use gatefold_engine::{BatchScorer, Bundle, GraphForm};
use gatefold_features::Strictness;
use gatefold_formula::Formula;
use gatefold_samples::{RawRows, RawTable, ScoreFile};
use serde_json::json;

use crate::{bundles, console::Console, interrupt::Interrupt};

/// Score the rows of a Parquet file.
///
/// The file has a column for each feature of the model, one
/// row a candidate, the rows of a request together; columns that are no features, such as
/// request_id, are carried over beside the scores.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  gatefold score --model work/models/mmoe --input work/samples/raw-test.parquet \
                        --out work/scores.parquet --fuse \"ctr ^ 0.6 * ctcvr\""
)]
pub(crate) struct Args {
    /// Folder of a model (its latest version is used) or of one version.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Rows to score (Parquet).
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Scores (Parquet); appears when it is complete.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What computes: cpu, or a GPU such as cuda:0, with ORT_DYLIB_PATH naming a build for GPUs.
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Cpu)]
    device: Device,
    /// Threads, each with a session of its own [default: one per core, one on a GPU].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
    /// Rows scored at a time; a request is not divided unless it is longer.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    batch_rows: u32,
    /// Add a column `fused`: a formula over outputs and the int and float columns of candidates.
    #[arg(long, value_name = "FORMULA")]
    fuse: Option<String>,
    /// Use the graph that computes every input for each row anew.
    #[arg(long)]
    plain: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, console: &Console) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    let bundle = Bundle::open_latest(&args.model)
        .with_context(|| format!("cannot open the model {}", args.model.display()))?;
    let mut table = RawTable::open(&args.input, bundle.encoder().set())
        .with_context(|| format!("cannot score {}", args.input.display()))?;
    let outputs: Vec<String> = bundle.manifest().outputs.iter().map(|output| output.name.clone()).collect();
    let name = format!("{} v{}", bundle.manifest().name, bundle.manifest().version);
    let threads = match (args.threads, args.device) {
        (Some(threads), _) => threads as usize,
        (None, Device::Cpu) => bundles::all_cores(),
        (None, Device::Cuda(_)) => 1,
    };
    let form = if args.plain { GraphForm::Plain } else { GraphForm::UserOnce };
    let mut scorer = BatchScorer::open(bundle, &bundles::loader_on(args.device)?, form, threads)
        .with_context(|| format!("cannot run the model {}", args.model.display()))?;
    let formula = args.fuse.as_deref().map(Formula::parse).transpose().context("--fuse")?;
    let mut file = ScoreFile::create(&args.out, &table, &outputs, formula.is_some())
        .with_context(|| format!("cannot write {}", args.out.display()))?;

    let rows = table.rows();
    let bar = console.bar(rows as u64, "rows");
    bar.set_prefix(name);
    let started = Instant::now();
    let chunks = std::iter::from_fn(|| {
        let next = interrupt.check().and_then(|()| Ok(table.next_rows(args.batch_rows as usize)?));
        next.transpose()
    });
    let mut done = 0;
    let scored = scorer.run(
        chunks,
        |encoder, rows| Ok(encoder.encode(&rows.batch()?, Strictness::Lenient)?),
        |rows, scores| {
            let fused = formula.as_ref().map(|formula| fuse(formula, &outputs, &rows, &scores, done));
            file.write(&rows, &scores, fused.transpose()?.as_deref())?;
            done += rows.rows();
            bar.inc(rows.rows() as u64);
            anyhow::Ok(())
        },
    );
    bar.finish_and_clear();
    scored.with_context(|| format!("cannot score {}", args.input.display()))?;
    file.finish().with_context(|| format!("cannot write {}", args.out.display()))?;

    let seconds = started.elapsed().as_secs_f64();
    let rows_per_second = rows as f64 / seconds;
    if args.json {
        return console.print_json(&json!({
            "rows": rows,
            "rows_per_second": rows_per_second,
            "seconds": seconds,
            "out": args.out,
        }));
    }
    console
        .print(&format!("{rows} rows, {rows_per_second:.0} rows/s, {seconds:.1} s\n{}", args.out.display()))
}

/// The fused score of each row, by the names that the server knows: outputs first, then columns of
/// candidates. `done` rows came before these.
fn fuse(
    formula: &Formula,
    outputs: &[String],
    rows: &RawRows,
    scores: &[Vec<f32>],
    done: usize,
) -> Result<Vec<f64>> {
    let mut columns = Vec::with_capacity(formula.names().len());
    for name in formula.names() {
        let output = outputs.iter().position(|output| output == name);
        let output = output.map(|place| scores[place].iter().copied().map(f64::from).collect());
        let Some(column) = output.or_else(|| rows.numbers(name)) else {
            bail!(
                "--fuse: '{name}' is neither an output ({}) nor an int or float column of candidates",
                outputs.join(", ")
            );
        };
        columns.push(column);
    }
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let fused = formula.evaluate(rows.rows(), &columns);
    fused.with_context(|| format!("--fuse: rows are counted from row {done} of the file"))
}
