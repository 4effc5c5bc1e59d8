//! `gatefold bundle`: what is done with model bundles beside training, serving and scoring.

mod encoders;
mod golden;
mod import;
mod quantize;
mod tensors;
mod trial;
mod user_once;

use anyhow::Result;

use crate::console::Console;

/// Make model bundles of models from elsewhere, and of other bundles.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Import(import::Args),
    Quantize(quantize::Args),
}

pub(crate) fn run(args: Args, console: &Console) -> Result<()> {
    match args.command {
        Command::Import(args) => import::run(args, console),
        Command::Quantize(args) => quantize::run(args, console),
    }
}
