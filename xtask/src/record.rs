//! Keeps a measured run: `benches/runs/<date>-<name>-<commit>/` with command, commit, machine and raw data.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::workspace::Workspace;

/// Writes one run and gives its folder. `raw` is whatever the bench measured, before any summary.
pub(crate) fn write(
    workspace: &Workspace,
    name: &str,
    table: &str,
    result: &Value,
    raw: &Value,
) -> Result<PathBuf> {
    let git =
        |arguments: &[&str]| output_of(Command::new("git").current_dir(&workspace.root).args(arguments));
    let commit = git(&["rev-parse", "--short=10", "HEAD"]).unwrap_or_else(|_| "uncommitted".to_owned());
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).map_or(true, |text| !text.is_empty());
    let date = output_of(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let runs = workspace.root.join("benches/runs");
    let run = json!({
        "command": format!("cargo xtask {}", std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
        "commit": commit,
        "uncommitted_changes": changed,
        "date": date,
        "machine": machine(),
        "result": result,
    });
    let folder = runs.join(format!("{date}-{name}-{commit}"));
    let scratch = runs.join(format!(".{name}-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    fs::write(scratch.join("run.json"), format!("{run:#}\n"))?;
    fs::write(scratch.join("raw.json"), format!("{raw}\n"))?;
    fs::write(scratch.join("table.txt"), table)?;
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    fs::rename(&scratch, &folder).with_context(|| format!("cannot write {}", folder.display()))?;
    Ok(folder)
}

/// The lines of `lscpu` that decide speed.
fn machine() -> Value {
    let Ok(text) = output_of(Command::new("lscpu").env("LC_ALL", "C")) else {
        return Value::Null;
    };
    let wanted =
        ["Architecture", "CPU(s)", "Model name", "Thread(s) per core", "L1d cache", "L2 cache", "L3 cache"];
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(key, _)| wanted.contains(&key.trim()))
        .map(|(key, value)| (key.trim().to_owned(), json!(value.trim())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn output_of(command: &mut Command) -> Result<String> {
    let name = crate::workspace::display(command);
    let output = command.output().with_context(|| format!("{name} cannot be run"))?;
    if !output.status.success() {
        bail!("{name} failed ({})", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
