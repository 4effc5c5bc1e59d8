//! The built programs, as the demo and the benches drive them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::onnx_runtime;
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

    /// Starts a server on the folder `models`, sends it a load, and gives what the load measured.
    pub(crate) fn serve_and_load(&self, models: &str, load: &[&str]) -> Result<Value> {
        let (listen, admin) = (free_address()?, free_address()?);
        let mut serve = self.gatefold();
        serve.args(["serve", "--models", models, "--listen", &listen, "--admin", &admin]);
        let server = Background::start(&mut serve, &admin)?;
        let mut command = self.gatefold();
        command.args(["load", "--server", &format!("http://{listen}")]).args(load).arg("--json");
        let result = last_json(&mut command)?;
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

/// Whether `GET /readyz` at `admin` is answered with 200.
fn is_ready(admin: &str) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(admin)?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.split_whitespace().nth(1) == Some("200"))
}

/// An address on this machine whose port is free now.
fn free_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.to_string())
}

/// A program that runs beside this one; it is stopped when this value is dropped.
struct Background {
    child: Child,
}

impl Background {
    /// How long a server may take to load its models.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Starts a server and waits until it says at its admin address that it is ready.
    fn start(command: &mut Command, admin: &str) -> Result<Self> {
        eprintln!("==> {} (in the background)", display(command));
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{} cannot be run", display(command)))?;
        let mut background = Self { child };
        let start = Instant::now();
        while !is_ready(admin) {
            if let Some(status) = background.child.try_wait()? {
                bail!("{} ended before it was ready ({status})", display(command));
            }
            if start.elapsed() > Self::PATIENCE {
                bail!("{} was not ready within {:?}", display(command), Self::PATIENCE);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(background)
    }

    /// Asks the program to end, as an operator would, and waits until it has.
    fn stop(mut self) -> Result<()> {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        if !status.success() {
            bail!("the server could not be told to end");
        }
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the server ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // After `stop` the child is gone already and both calls do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
