//! `gatefold-bench`: the measuring that `cargo xtask bench` drives, and the experiments of papers
//! that `cargo xtask reproduce` does; each command prints one JSON object on stdout.
//!
//! It stands apart from `xtask`, which must build in seconds, and uses the same public interfaces
//! as the `gatefold` command.

mod cuda;
mod mmoe_paper;
mod peak;
mod raw;
mod reading;
mod resources;
mod shards;
mod train;
mod variant;
mod world;

use std::{io::Write, path::PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{cuda::CudaOptions, raw::RawOptions, shards::Shape, train::Workload};

#[derive(Parser)]
#[command(about = "Measures the parts of Gatefold; driven by `cargo xtask bench`")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Publish a large MMoE with a request level, and example requests for it.
    Bundle {
        /// The model's folder.
        #[arg(long)]
        model: PathBuf,
        /// Folder that gets `requests.json` and `mix.json`, whose candidates have a heavy tail.
        #[arg(long)]
        requests: PathBuf,
        /// Rows of each of the 26 tables.
        #[arg(long, default_value_t = 40_000)]
        buckets: u32,
        /// Requests in `requests.json`.
        #[arg(long, default_value_t = 16)]
        count: usize,
        /// Candidates of each of them.
        #[arg(long, default_value_t = 200)]
        candidates: usize,
    },
    /// Publish a bundle again under another name.
    Copy {
        /// Bundle or model folder.
        #[arg(long)]
        model: PathBuf,
        /// The other model's folder.
        #[arg(long)]
        to: PathBuf,
        /// Without the user-once graph.
        #[arg(long)]
        plain_only: bool,
        /// With its layers in 8-bit integers.
        #[arg(long, conflicts_with = "plain_only")]
        int8: bool,
    },
    /// Run an ONNX file in a bare loop and count its processor time.
    Raw(RawOptions),
    /// Compare the scores of a GPU with those of the processor, and their speeds.
    Cuda(CudaOptions),
    /// Write the data that all trainers of the training bench read.
    TrainData {
        /// Folder that gets `ids.i32`, `labels.f32` and `shape.json`.
        #[arg(long)]
        out: PathBuf,
        /// Which workload.
        #[arg(long, value_enum)]
        workload: Workload,
        /// Batches to write.
        #[arg(long, default_value_t = 24)]
        batches: usize,
    },
    /// Measure the speed of one large matrix product.
    Peak {
        /// Threads.
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Turns; the best is printed.
        #[arg(long, default_value_t = 5)]
        turns: usize,
    },
    /// Train in turns from shards on disk and from the same shards in memory.
    Read {
        #[command(flatten)]
        shape: Shape,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Turns that each takes; the ratio is that of medians.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Train in turns on whole requests and on single rows.
    Requests {
        #[command(flatten)]
        shape: Shape,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Turns that each takes; the ratio is that of medians.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Train from shards on disk and count the memory.
    Memory {
        #[command(flatten)]
        shape: Shape,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        threads: usize,
    },
    /// Train one epoch of that data.
    Train {
        /// Folder written by `train-data`.
        #[arg(long)]
        data: PathBuf,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        threads: usize,
    },
    /// Train shared-bottom, OMoE and MMoE on the synthetic tasks of the MMoE paper.
    MmoePaper {
        /// Trainings of each model at each correlation.
        #[arg(long, default_value_t = 30)]
        runs: usize,
        /// Trainings by which each learning rate is chosen, on tasks of their own.
        #[arg(long, default_value_t = 3)]
        search_runs: usize,
        /// Batches of a training.
        #[arg(long, default_value_t = 8_000)]
        steps: usize,
        /// Trainings side by side, each on one thread.
        #[arg(long, default_value_t = 2)]
        threads: usize,
    },
}

fn main() -> Result<()> {
    let figures = match Arguments::parse().command {
        Command::Bundle { model, requests, buckets, count, candidates } => {
            world::publish(&model, &requests, buckets, count, candidates)?
        }
        Command::Copy { model, to, int8: true, .. } => variant::int8(&model, &to)?,
        Command::Copy { model, to, plain_only, .. } => variant::copy(&model, &to, plain_only)?,
        Command::Raw(options) => raw::measure(&options)?,
        Command::Cuda(options) => cuda::measure(&options)?,
        Command::TrainData { out, workload, batches } => train::write_data(&out, workload, batches)?,
        Command::Peak { threads, turns } => peak::measure(threads, turns)?,
        Command::Read { shape, threads, rounds } => reading::disk_against_memory(&shape, threads, rounds)?,
        Command::Requests { shape, threads, rounds } => {
            reading::requests_against_rows(&shape, threads, rounds)?
        }
        Command::Memory { shape, threads } => reading::memory(&shape, threads)?,
        Command::Train { data, threads } => train::measure(&data, threads)?,
        Command::MmoePaper { runs, search_runs, steps, threads } => {
            mmoe_paper::reproduce(&mmoe_paper::Plan { runs, search_runs, steps, threads })?
        }
    };
    writeln!(std::io::stdout().lock(), "{figures}")?;
    Ok(())
}
