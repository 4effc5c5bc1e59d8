//! The built programs, as the demo and the benches drive them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::onnx_runtime;
use crate::server::Server;
use crate::workspace::{Workspace, display, forget_this_package};

/// The folder of built programs and the ONNX Runtime that they load.
pub(crate) struct Programs {
    folder: PathBuf,
    library: PathBuf,
    root: PathBuf,
}

impl Programs {
    /// Sets up ONNX Runtime and builds everything.
    pub(crate) fn build(workspace: &Workspace) -> Result<Self> {
        let library = onnx_runtime::ensure()?;
        workspace.build_programs()?;
        Ok(Self { folder: workspace.program_folder()?, library, root: workspace.root.clone() })
    }

    /// The folder that programs run in.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A command that runs one of the programs in the root of the workspace.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command.current_dir(&self.root);
        forget_this_package(&mut command);
        onnx_runtime::set_environment(&mut command, &self.library);
        command
    }

    /// The command `gatefold`.
    pub(crate) fn gatefold(&self) -> Command {
        self.command("gatefold")
    }

    /// Starts a server on the folder `models`.
    pub(crate) fn serve(&self, models: &str, flags: &[&str]) -> Result<Server> {
        let mut command = self.command("gatefold-server");
        Server::start(command.args(["--models", models]).args(flags))
    }

    /// Sends a load to a server and gives what the load measured.
    pub(crate) fn load(&self, server: &Server, arguments: &[&str]) -> Result<Value> {
        let mut command = self.gatefold();
        last_json(command.args(["load", "--server", &server.url()]).args(arguments).arg("--json"))
    }

    /// Starts a server on the folder `models`, sends it a load, and gives what the load measured.
    pub(crate) fn serve_and_load(&self, models: &str, load: &[&str]) -> Result<Value> {
        let server = self.serve(models, &[])?;
        let result = self.load(&server, load)?;
        server.stop()?;
        Ok(result)
    }
}

/// Runs a program to its end and gives the JSON object on its last line of stdout.
///
/// Its stderr is passed through.
pub(crate) fn last_json(command: &mut Command) -> Result<Value> {
    eprintln!("==> {}", display(command));
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{} cannot be run", display(command)))?;
    if !output.status.success() {
        bail!("{} failed ({})", display(command), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str(line)
        .with_context(|| format!("the last line of {} is not JSON: {line:?}", display(command)))
}

/// The number at `path` (keys joined by `/`) in `value`.
pub(crate) fn number(value: &Value, path: &str) -> Result<f64> {
    value
        .pointer(&format!("/{path}"))
        .and_then(Value::as_f64)
        .with_context(|| format!("no number at {path} in {value}"))
}
