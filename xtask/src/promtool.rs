//! Prometheus's own checker of rules: the one that is installed, or else the one in Debian's package,
//! which is unpacked into the cache folder without being installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::onnx_runtime::cache_folder;
use crate::workspace::step;

/// The program, or why it cannot be had on this machine.
pub(crate) fn ensure() -> Result<Result<PathBuf, String>> {
    if answers("promtool", "--version") {
        return Ok(Ok("promtool".into()));
    }
    let cache = cache_folder()?;
    let program = cache.join("promtool");
    if program.is_file() {
        return Ok(Ok(program));
    }
    if !answers("apt-get", "--version") || !answers("dpkg-deb", "--version") {
        return Ok(Err("promtool is not installed, and apt-get cannot fetch it here".into()));
    }
    let scratch = cache.join(format!(".promtool-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let fetched = fetch(&scratch, &program);
    // What is left in the scratch folder is of no use to anyone, whatever happened.
    let _ = fs::remove_dir_all(&scratch);
    Ok(fetched.map(|()| program).map_err(|error| {
        format!("promtool is not installed, and Debian's package cannot be fetched: {error:#}")
    }))
}

/// Downloads the package, whose signature apt-get checks, and moves the program out of it into place.
fn fetch(scratch: &Path, program: &Path) -> Result<()> {
    step(
        "promtool",
        Command::new("apt-get").args(["download", "--quiet", "prometheus"]).current_dir(scratch),
    )?;
    let package = fs::read_dir(scratch)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get reported success but left no package")?;
    step("unpack", Command::new("dpkg-deb").arg("--extract").arg(&package).arg(scratch))?;
    fs::rename(scratch.join("usr/bin/promtool"), program)
        .with_context(|| format!("cannot move promtool to {}", program.display()))
}

fn answers(program: &str, argument: &str) -> bool {
    let status = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
