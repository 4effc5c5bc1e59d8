//! The project's own tool, run as `cargo xtask COMMAND`: set-up, demo, test, bench, reproduce.
//!
//! It has few dependencies, so that it builds in seconds on a fresh machine; whatever needs the
//! heavy crates lives in the programs that it builds and drives (`gatefold`, `gatefold-bench`).
//! Progress goes to stderr, tables and `--json` objects to stdout.

mod bars;
mod bench;
mod demo;
mod deny;
mod deploy;
mod fuzz;
mod onnx_runtime;
mod program;
mod promtool;
mod record;
mod reproduce;
mod server;
mod soak;
mod steps;
mod table;
mod test;
mod venv;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, demo, tests and benchmarks of Gatefold")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch ONNX Runtime into the cache folder, once, and print where the library lies.
    Setup,
    /// Build everything and run the whole loop on synthetic logs; ends with a table.
    Demo(demo::DemoOptions),
    /// Run every check of the project.
    Test(test::TestOptions),
    /// Run clippy on the whole workspace; warnings are errors.
    Lint,
    /// Check licences, bans and sources of all dependencies with cargo-deny.
    Deny,
    /// Send random inputs to everything that reads a client's bytes or a person's files, with cargo-fuzz.
    Fuzz(fuzz::FuzzOptions),
    /// Check the files of deploy/, each by a tool that knows its format.
    Deploy,
    /// Measure speed and print it beside its bars.
    Bench(bench::BenchOptions),
    /// Load one server for minutes and see that its memory and file handles stay flat.
    Soak(soak::SoakOptions),
    /// Train and evaluate published comparisons and print them beside the published figures.
    Reproduce(reproduce::ReproduceOptions),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for (depth, cause) in error.chain().enumerate() {
                eprintln!("{}{cause}", if depth == 0 { "error: " } else { "  because: " });
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let workspace = Workspace::locate()?;
    match command {
        Command::Setup => {
            let library = onnx_runtime::ensure()?;
            table::print(&library.display().to_string());
            Ok(())
        }
        Command::Demo(options) => demo::run(&workspace, &options),
        Command::Test(options) => test::run(&workspace, &options),
        Command::Lint => test::lint(&workspace),
        Command::Deny => deny::run(&workspace),
        Command::Fuzz(options) => fuzz::run(&workspace, &options),
        Command::Deploy => deploy::check(&workspace),
        Command::Bench(options) => bench::run(&workspace, &options),
        Command::Soak(options) => soak::run(&workspace, &options),
        Command::Reproduce(options) => reproduce::run(&workspace, &options),
    }
}
