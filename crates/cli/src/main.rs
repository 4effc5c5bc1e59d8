//! The command `gatefold`: the whole loop from event logs to scores.
//!
//! Each command is a file with its arguments and a `run`; this one only lists them and turns
//! their result into an exit code: 0 for success, 1 for a failure (its causes on stderr), 2 for
//! wrong usage, 130 for a training that was interrupted. Data goes to stdout, everything else to
//! stderr.

mod bundle;
mod bundles;
mod compare;
mod console;
mod evaluate;
mod interrupt;
mod load;
mod models;
mod processor;
mod request;
mod samples;
mod score;
mod scoring;
mod serve;
mod synth;
mod train;
mod tune;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gatefold_trainer::TrainError;

use crate::console::{Console, Verbosity};

/// Train multi-task ranking models on event logs, serve them over gRPC, score and compare them.
#[derive(Parser)]
#[command(
    name = "gatefold",
    version,
    after_help = "The whole loop, each step reading what the one before wrote:\n  \
                  gatefold synth --out work/logs\n  \
                  gatefold samples build --recipe training/recipes/synthetic.toml --logs work/logs --out work/samples\n  \
                  gatefold train --recipe training/recipes/synthetic.toml --samples work/samples --out work/models/mmoe\n  \
                  gatefold serve --models work/models"
)]
struct Arguments {
    #[command(flatten)]
    verbosity: Verbosity,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Synth(synth::Args),
    Samples(samples::Args),
    Train(train::Args),
    /// Serve models over gRPC.
    Serve(serve::Args),
    /// Send one request to a server and print its scores.
    Request(request::Args),
    /// Send many requests to a server and report latency and throughput.
    Load(load::Args),
    /// List a server's models, label their versions, roll back, load and unload them.
    Models(models::Args),
    Tune(tune::Args),
    Score(score::Args),
    Evaluate(evaluate::Args),
    Compare(compare::Args),
    Bundle(bundle::Args),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let console = Console::start(&arguments.verbosity, matches!(arguments.command, Command::Serve(_)));
    let result = match arguments.command {
        Command::Synth(args) => synth::run(args, &console),
        Command::Samples(args) => samples::run(args, &console),
        Command::Train(args) => train::run(args, &console),
        Command::Serve(args) => serve::run(args),
        Command::Request(args) => request::run(args, &console),
        Command::Load(args) => load::run(args, &console),
        Command::Models(args) => models::run(args, &console),
        Command::Tune(args) => tune::run(args, &console),
        Command::Score(args) => score::run(args, &console),
        Command::Evaluate(args) => evaluate::run(args, &console),
        Command::Compare(args) => compare::run(args, &console),
        Command::Bundle(args) => bundle::run(args, &console),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console.error(&error);
            let interrupted = error
                .chain()
                .filter_map(|cause| cause.downcast_ref())
                .any(|error| matches!(error, TrainError::Interrupted { .. }));
            if interrupted { ExitCode::from(interrupt::EXIT_CODE) } else { ExitCode::FAILURE }
        }
    }
}
