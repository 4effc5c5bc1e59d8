//! Python environments for the parts that compare Gatefold with Python libraries, or are checked by
//! tools that PyPI holds.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::onnx_runtime::cache_folder;
use crate::workspace::step;

/// The interpreter of the environment `name` in the cache folder, if it has been made.
pub(crate) fn interpreter(name: &str) -> Result<Option<PathBuf>> {
    let python = folder(name)?.join("bin/python");
    Ok(python.is_file().then_some(python))
}

/// Makes the environment `name` from a requirements file, or brings it up to date.
pub(crate) fn make(name: &str, requirements: &Path) -> Result<PathBuf> {
    if !requirements.is_file() {
        bail!("{} is missing from the checkout", requirements.display());
    }
    let folder = folder(name)?;
    let python = folder.join("bin/python");
    if !python.is_file() {
        step("venv", Command::new("python3").args(["-m", "venv"]).arg(&folder))
            .context("python3 with its venv module is needed")?;
    }
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--requirement"]);
    step("pip", install.arg(requirements))?;
    Ok(python)
}

/// Whether a Python is installed that can make environments.
pub(crate) fn is_possible() -> bool {
    let found = Command::new("python3").args(["-c", "import ensurepip, venv"]).output();
    found.is_ok_and(|output| output.status.success())
}

fn folder(name: &str) -> Result<PathBuf> {
    Ok(cache_folder()?.join(format!("venv-{name}")))
}
