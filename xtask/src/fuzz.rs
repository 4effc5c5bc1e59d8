//! `cargo xtask fuzz`: the fuzz targets of `fuzz/`, for a while each, by cargo-fuzz.
//!
//! They run without a sanitizer, so that the compiler of the workspace is enough: what is not `unsafe`
//! needs none, and overflow checks and debug assertions are on.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::onnx_runtime::cache_folder;
use crate::workspace::{Workspace, step};

/// Seconds that one input may take.
const SLOWEST: u32 = 10;

#[derive(Args)]
pub(crate) struct FuzzOptions {
    /// The target (a file of fuzz/fuzz_targets); all of them unless given.
    target: Option<String>,
    /// Seconds for each.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

pub(crate) fn run(workspace: &Workspace, options: &FuzzOptions) -> Result<()> {
    if let Some(missing) = missing() {
        bail!("{missing}, then this again");
    }
    let targets = targets(&workspace.root)?;
    let targets = match &options.target {
        None => targets,
        Some(target) if targets.contains(target) => vec![target.clone()],
        Some(target) => bail!("there is no fuzz target '{target}'; there are {}", targets.join(", ")),
    };
    for target in &targets {
        fuzz(workspace, target, options.seconds)?;
    }
    Ok(())
}

/// Every target for a few seconds, where what it takes is installed.
pub(crate) fn briefly(workspace: &Workspace) -> Result<()> {
    match missing() {
        None => run(workspace, &FuzzOptions { target: None, seconds: 10 }),
        Some(missing) => {
            eprintln!("==> fuzz is left out: {missing}");
            Ok(())
        }
    }
}

/// What has to be installed first, if anything.
fn missing() -> Option<&'static str> {
    let answers = |program: &str| {
        let mut asked = Command::new(program);
        asked.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        asked.status().is_ok_and(|status| status.success())
    };
    if !answers("cargo-fuzz") {
        return Some("cargo-fuzz is not installed: run `cargo install --locked cargo-fuzz`");
    }
    // libFuzzer is compiled from its sources.
    (!answers("c++")).then_some("there is no C++ compiler: install g++ or clang++")
}

/// The targets' names.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in folder.read_dir().with_context(|| format!("{} cannot be read", folder.display()))? {
        names.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// One target. What it finds worth keeping stays in the cache folder, from where the next run goes on; an
/// input that fails is left in `fuzz/artifacts`.
fn fuzz(workspace: &Workspace, target: &str, seconds: u32) -> Result<()> {
    let folder = cache_folder()?.join("fuzz");
    let corpus = folder.join("corpus").join(target);
    std::fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
    let mut command = workspace.cargo();
    command.args(["fuzz", "run", "--sanitizer", "none", "--codegen-units", "16", "--target-dir"]);
    command.arg(folder.join("target")).arg(target).arg(corpus);
    command.args(["--", &format!("-max_total_time={seconds}"), &format!("-timeout={SLOWEST}")]);
    command.args(["-print_final_stats=1", "-verbosity=0"]);
    step("fuzz", &mut command)
}
