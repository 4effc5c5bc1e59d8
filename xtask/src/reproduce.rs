//! `cargo xtask reproduce NAME`: trains, evaluates, and prints the table beside published figures.
//!
//! The command fails when a bar is missed.

mod experiment;
mod mmoe_paper;
mod picture;
mod real;
mod sampling;
mod statistics;
mod synthetic;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::bars::Bars;
use crate::steps::Steps;
use crate::table;
use crate::workspace::Workspace;

#[derive(Args)]
pub(crate) struct ReproduceOptions {
    /// What to reproduce.
    name: Reproduction,
    /// Seeds that each model is trained with [default: 5; for mmoe-paper 30].
    #[arg(long)]
    seeds: Option<u64>,
    /// Folder of the raw files of a real data set as published, plain or gzipped: for `adult`
    /// `adult.data` and `adult.test`, for `census` `census-income.test`.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Print one JSON object last on stdout.
    #[arg(long)]
    json: bool,
    /// Do every step again, even where its output is there.
    #[arg(long)]
    fresh: bool,
    /// Write the table to `training/results/`.
    #[arg(long)]
    record: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Reproduction {
    /// UCI Adult: income and marital status, on the published test file.
    Adult,
    /// UCI census-income: income and marital status, on a fifth of the published test file.
    Census,
    /// ESMM against a CVR tower on clicks, on synthetic logs of strong selection.
    Esmm,
    /// Shared-bottom, OMoE and MMoE on the synthetic tasks of the MMoE paper.
    MmoePaper,
    /// A fifth of the negatives, made up for by the rate or by weights, beside all of them.
    Sampling,
    /// Synthetic logs of a million impressions, beside the attainable AUC.
    Synthetic,
}

impl Reproduction {
    /// As on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::Adult => "adult",
            Self::Census => "census",
            Self::Esmm => "esmm",
            Self::MmoePaper => "mmoe-paper",
            Self::Sampling => "sampling",
            Self::Synthetic => "synthetic",
        }
    }

    fn default_seeds(self) -> u64 {
        if self == Self::MmoePaper { 30 } else { 5 }
    }
}

/// What a reproduction works with.
struct Job<'a> {
    workspace: &'a Workspace,
    /// Its folder, relative to the workspace.
    folder: String,
    seeds: u64,
    /// Where the raw files lie, if it was said.
    data: Option<PathBuf>,
    fresh: bool,
}

impl Job<'_> {
    /// The steps done so far.
    fn steps(&self) -> Result<Steps> {
        Steps::open(&self.workspace.root.join(&self.folder), self.fresh)
    }
}

/// What came out.
struct Reproduced {
    text: String,
    bars: Bars,
    /// A picture as SVG.
    picture: Option<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &ReproduceOptions) -> Result<()> {
    let name = options.name.name();
    let seeds = options.seeds.unwrap_or(options.name.default_seeds());
    ensure!(seeds > 0, "--seeds must be at least 1");
    let job = Job {
        workspace,
        folder: format!("work/reproduce/{name}"),
        seeds,
        data: options.data.clone(),
        fresh: options.fresh,
    };
    let found = match options.name {
        Reproduction::Adult => real::reproduce(&job, &real::ADULT)?,
        Reproduction::Census => real::reproduce(&job, &real::CENSUS)?,
        Reproduction::Esmm => synthetic::esmm(&job)?,
        Reproduction::MmoePaper => mmoe_paper::reproduce(&job)?,
        Reproduction::Sampling => sampling::sampling(&job)?,
        Reproduction::Synthetic => synthetic::synthetic(&job)?,
    };
    let text = format!("{}\n{}", found.text, found.bars.render());
    table::print(&text);
    if options.record {
        record(workspace, name, seeds, &text, found.picture.as_deref())?;
    }
    if options.json {
        table::print(&found.bars.json().to_string());
    }
    let missed = found.bars.missed();
    if !missed.is_empty() {
        bail!("{} missed: {}", if missed.len() == 1 { "a bar is" } else { "bars are" }, missed.join("; "));
    }
    Ok(())
}

/// Writes the table, its command and the picture to `training/results/`.
fn record(workspace: &Workspace, name: &str, seeds: u64, text: &str, picture: Option<&str>) -> Result<()> {
    let folder = workspace.root.join("training/results");
    let write = |file: String, content: &str| {
        let path = folder.join(file);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("==> written to {}", path.display());
        anyhow::Ok(())
    };
    let shown = picture.map_or_else(String::new, |_| format!("\n![{name}]({name}.svg)\n"));
    let command = format!("cargo xtask reproduce {name} --seeds {seeds}");
    write(
        format!("{name}.md"),
        &format!("# {name}\n\n    {command}\n{shown}\n```text\n{}\n```\n", text.trim_end()),
    )?;
    picture.map_or(Ok(()), |picture| write(format!("{name}.svg"), picture))
}
