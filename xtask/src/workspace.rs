//! Where the workspace and its build output lie, and how cargo is called on it.
//!
//! Every build selects the whole workspace (`--workspace`) and the release profile: features are
//! then unified the same way each time, and the heavy dependencies are compiled once.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The checked-out workspace.
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
}

impl Workspace {
    /// Finds the workspace from what cargo tells the programs it runs, or else from the current folder.
    pub(crate) fn locate() -> Result<Self> {
        let start = match std::env::var_os("CARGO_MANIFEST_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => std::env::current_dir().context("the current folder cannot be read")?,
        };
        let root = start
            .ancestors()
            .find(|folder| folder.join("Cargo.toml").is_file() && folder.join("xtask").is_dir())
            .with_context(|| {
                format!(
                    "no Gatefold workspace above {}: run `cargo xtask` inside the checkout",
                    start.display()
                )
            })?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// A cargo command in the root of the workspace.
    pub(crate) fn cargo(&self) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command.current_dir(&self.root);
        forget_this_package(&mut command);
        command
    }

    /// The folder that holds the built programs, as cargo's own settings decide it.
    pub(crate) fn program_folder(&self) -> Result<PathBuf> {
        let output = self
            .cargo()
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context("cargo metadata cannot be run")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", output.status);
        }
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
            .context("cargo metadata printed something that is not JSON")?;
        let target =
            metadata["target_directory"].as_str().context("cargo metadata names no target_directory")?;
        Ok(Path::new(target).join("release"))
    }

    /// Builds every program of the workspace; cargo shows its progress.
    pub(crate) fn build_programs(&self) -> Result<()> {
        step("build", self.cargo().args(["build", "--release", "--workspace", "--bins"]))
    }
}

/// Takes away the variables by which cargo describes xtask to xtask. Some build scripts (that of
/// `ring`, for one) run again when they change, and with them everything that depends on their
/// crates would be compiled again.
pub(crate) fn forget_this_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
}

/// Runs one named step, with its output passed through, and fails when the step does.
pub(crate) fn step(name: &str, command: &mut Command) -> Result<()> {
    eprintln!("==> {name}: {}", display(command));
    let start = Instant::now();
    let status = command.status().with_context(|| format!("{} cannot be run", display(command)))?;
    if !status.success() {
        bail!("step {name} failed ({status}): {}", display(command));
    }
    eprintln!("==> {name}: done in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// The command line of `command`, for messages.
pub(crate) fn display(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
