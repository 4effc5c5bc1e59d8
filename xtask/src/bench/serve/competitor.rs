//! Those who score the same requests: bare loops and servers.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::world::{Workload, World};
use crate::program::{Programs, last_json, number};
use crate::server::{Background, Server, free_address};

/// One of those compared.
pub(super) struct Competitor {
    /// The letter that bars and figures call it by.
    pub(super) letter: &'static str,
    /// What it is.
    pub(super) name: String,
    kind: Kind,
}

enum Kind {
    /// A loop around ONNX Runtime over this graph.
    Loop { graph: String },
    /// A server, which runs all the time.
    Server(Server),
    /// MLServer, which runs all the time.
    MlServer { process: Background, address: String, python: PathBuf, load: PathBuf },
}

/// What a turn measured.
pub(super) struct Turn {
    /// Candidates scored a second.
    pub(super) candidates_per_second: f64,
    /// Processor seconds of the competitor a million candidates.
    pub(super) cpu_seconds: f64,
    /// Everything that was printed.
    pub(super) raw: Value,
}

impl Competitor {
    /// Starts all of them.
    pub(super) fn all(programs: &Programs, world: &World) -> Result<Vec<Self>> {
        let (plain, exporter) = match &world.pytorch {
            Some(file) => (file.display().to_string(), "as PyTorch exports it"),
            None => (world.path("user-once/mmoe/1/model.onnx"), "as Gatefold exports it: no PyTorch here"),
        };
        let user_once = world.path("user-once/mmoe/1/model.user_once.onnx");
        let server =
            |folder: &str| Ok::<_, anyhow::Error>(Kind::Server(programs.serve(&world.path(folder), &[])?));
        let competitor = |letter, name: &str, kind| Self { letter, name: name.to_owned(), kind };
        let mut all = vec![
            competitor(
                "a",
                &format!("bare loop, plain graph {exporter}"),
                Kind::Loop { graph: plain.clone() },
            ),
            competitor("b", "bare loop, user-once graph", Kind::Loop { graph: user_once }),
            competitor("c", "gatefold-server over gRPC, plain bundle", server("plain")?),
            competitor("d", "gatefold-server over gRPC, user-once bundle", server("user-once")?),
            competitor("f", "gatefold-server over gRPC, user-once bundle in int8", server("int8")?),
        ];
        match &world.peers {
            Some(python) => {
                let peer = Kind::ml_server(python, programs, &plain)?;
                all.insert(4, competitor("e", "MLServer over gRPC, the graph of (a)", peer));
            }
            None => eprintln!("==> no MLServer here, so no (e); --with-peers makes its environment"),
        }
        Ok(all)
    }

    /// The server, where it is one that `gatefold load` can call.
    pub(super) fn server(&self) -> Option<&Server> {
        match &self.kind {
            Kind::Server(server) => Some(server),
            Kind::Loop { .. } | Kind::MlServer { .. } => None,
        }
    }

    /// As many candidates as it can score, for `seconds`.
    pub(super) fn turn(
        &self,
        programs: &Programs,
        world: &World,
        workload: &Workload,
        seconds: f64,
    ) -> Result<Turn> {
        let requests = world.requests(workload);
        let raw = match &self.kind {
            Kind::Loop { graph } => {
                let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
                let mut command = programs.command("gatefold-bench");
                command.args(["raw", "--graph", graph, "--model", &world.path("user-once/mmoe")]);
                command.args(requests).args(["--threads", &threads, "--seconds", &seconds.to_string()]);
                last_json(&mut command)?
            }
            Kind::Server(server) => {
                let duration = format!("{seconds}s");
                let mut flags: Vec<&str> = requests.iter().map(String::as_str).collect();
                flags.extend(["--rate", "max", "--in-flight", "4", "--duration", &duration]);
                loaded(programs, server, &flags)?
            }
            Kind::MlServer { process, address, python, load } => {
                let before = process.cpu_seconds()?;
                let mut command = Command::new(python);
                command.arg(load).args(["--server", address]).args(requests);
                let mut raw = last_json(command.args(["--seconds", &seconds.to_string()]))?;
                let candidates = number(&raw, "candidates_per_second")? * number(&raw, "seconds")?;
                raw["cpu_seconds_a_million"] = json!((process.cpu_seconds()? - before) / candidates * 1e6);
                raw
            }
        };
        Ok(Turn {
            candidates_per_second: number(&raw, "candidates_per_second")?,
            cpu_seconds: number(&raw, "cpu_seconds_a_million")?,
            raw,
        })
    }

    /// Ends it.
    pub(super) fn stop(self) -> Result<()> {
        match self.kind {
            Kind::Server(server) => server.stop(),
            // It is killed: where it is asked to end, it ends by the signal.
            Kind::MlServer { process, .. } => {
                drop(process);
                Ok(())
            }
            Kind::Loop { .. } => Ok(()),
        }
    }
}

impl Kind {
    /// Starts MLServer on a graph.
    fn ml_server(python: &std::path::Path, programs: &Programs, graph: &str) -> Result<Self> {
        let peers = programs.root().join("benches/peers");
        let (address, http, metrics) = (free_address()?, free_address()?, free_address()?);
        let port = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
        let mut command = Command::new(python);
        command.arg(peers.join("serve_mlserver.py")).args(["--graph", graph, "--port", &port(&address)]);
        command.args(["--http-port", &port(&http), "--metrics-port", &port(&metrics)]);
        let process = Background::start(&mut command, || TcpStream::connect(&address).is_ok())?;
        Ok(Self::MlServer {
            process,
            address,
            python: python.to_owned(),
            load: peers.join("load_inference.py"),
        })
    }
}

/// Sends a load without warm-up, and adds the server's processor time to what it measured.
pub(super) fn loaded(programs: &Programs, server: &Server, flags: &[&str]) -> Result<Value> {
    let before = server.process().cpu_seconds()?;
    let mut raw = programs.load(server, &[flags, &["--warmup", "0s"]].concat())?;
    let used = server.process().cpu_seconds()? - before;
    let candidates = number(&raw, "candidates_per_second")? * number(&raw, "seconds")?;
    raw["cpu_seconds"] = json!(used);
    raw["cpu_seconds_a_million"] = json!(used / candidates * 1e6);
    Ok(raw)
}
