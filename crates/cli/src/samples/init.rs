//! `gatefold samples init`: a recipe to start from.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{bundles::WholeFile, console::Console};

/// Write a recipe to start from.
///
/// Without --from it explains every part of a recipe. With it, the files in that folder are looked at, and the recipe
/// has their names, their keys and a feature for each column.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  gatefold samples init --from work/logs --out samples.toml")]
pub(crate) struct Args {
    /// Folder of logs to look at.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// File to write; stdout unless given. A file that is there already stays.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: Args, console: &Console) -> Result<()> {
    let text = gatefold_samples::init(args.from.as_deref()).context("cannot begin a recipe")?;
    let Some(out) = args.out else { return console.print(&text) };
    if out.exists() {
        bail!("{} exists; choose another name or remove it", out.display());
    }
    let mut file = WholeFile::create(&out)?;
    file.write(text.as_bytes())?;
    file.finish()?;
    console.print(&out.display().to_string())
}
