//! A server that runs beside this program, as the demo and the benches drive it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace::display;

/// How long a server may take to load its models.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running `gatefold-server`; it is stopped when this value is dropped.
pub(crate) struct Server {
    process: Background,
    listen: String,
    admin: String,
}

impl Server {
    /// Starts a server on free ports and waits until it says that it is ready.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let (listen, admin) = (free_address()?, free_address()?);
        command.args(["--listen", &listen, "--admin", &admin]);
        let process =
            Background::start(command, || get(&admin, "/readyz").is_ok_and(|answer| is_ok(&answer)))?;
        Ok(Self { process, listen, admin })
    }

    /// Where it answers gRPC.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// The running program.
    pub(crate) fn process(&self) -> &Background {
        &self.process
    }

    /// The sum of a metric over its labels. `name` is what its lines begin with.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        let text = get(&self.admin, "/metrics").context("the server's metrics cannot be read")?;
        let lines = text.lines().filter(|line| line.starts_with(name));
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum())
    }

    /// Ends the server; it is an error if it does not end well.
    pub(crate) fn stop(self) -> Result<()> {
        self.process.stop()
    }
}

/// An address on this machine whose port is free now.
pub(crate) fn free_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.to_string())
}

/// The answer to `GET path` at `address`, with its status line and headers.
fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn is_ok(answer: &str) -> bool {
    answer.split_whitespace().nth(1) == Some("200")
}

/// A program that runs beside this one; it is stopped when this value is dropped.
pub(crate) struct Background {
    child: Child,
}

impl Background {
    /// Starts a program and waits until `ready`.
    pub(crate) fn start(command: &mut Command, ready: impl Fn() -> bool) -> Result<Self> {
        eprintln!("==> {} (in the background)", display(command));
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{} cannot be run", display(command)))?;
        let mut background = Self { child };
        let start = Instant::now();
        while !ready() {
            if let Some(status) = background.child.try_wait()? {
                bail!("{} ended before it was ready ({status})", display(command));
            }
            if start.elapsed() > PATIENCE {
                bail!("{} was not ready within {PATIENCE:?}", display(command));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(background)
    }

    /// Process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Processor time of all its threads so far, in user and system mode, in seconds, as Linux
    /// counts it (in hundredths).
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        // The second field, the program's name in parentheses, may hold spaces; the 14th and 15th
        // are `utime` and `stime`.
        let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: Vec<f64> = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("{path} is not as Linux writes it"))?;
        Ok(ticks.iter().sum::<f64>() / 100.0)
    }

    /// Memory of this process: pages that it shares, or has mapped several times, count once.
    pub(crate) fn resident_mb(&self) -> Result<f64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        Ok(kilobytes.with_context(|| format!("{path} is not as Linux writes it"))? / 1e3)
    }

    /// Asks the program to end, as an operator would, and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
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
