//! `gatefold samples`: from event logs to sample shards.

mod build;
mod dry_run;
mod explain;
mod init;
mod inspect;
mod parts;
mod validate;

use anyhow::Result;

use crate::console::Console;

/// Make samples from event logs: write a recipe, check it, build, look at what was built.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Init(init::Args),
    Validate(validate::Args),
    /// Print the JSON schema of a recipe, by which editors complete and explain its keys.
    #[command(after_help = "Example:\n  gatefold samples schema > recipe.schema.json")]
    Schema,
    Build(build::Args),
    Plan(parts::PlanArgs),
    Run(parts::RunArgs),
    Finalize(parts::FinalizeArgs),
    Inspect(inspect::Args),
}

pub(crate) fn run(args: Args, console: &Console) -> Result<()> {
    match args.command {
        Command::Init(args) => init::run(args, console),
        Command::Validate(args) => validate::run(args, console),
        Command::Schema => console.print(&gatefold_schema::recipe::json_schema()),
        Command::Build(args) => build::run(args, console),
        Command::Plan(args) => parts::plan(&args, console),
        Command::Run(args) => parts::run(&args, console),
        Command::Finalize(args) => parts::finalize(args, console),
        Command::Inspect(args) => inspect::run(args, console),
    }
}
