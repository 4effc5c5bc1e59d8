//! Those who score the same requests: bare loops and servers.

use anyhow::Result;
use serde_json::{Value, json};

use super::world::{Workload, World};
use crate::program::{Programs, last_json, number};
use crate::server::Server;

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
        Ok(vec![
            competitor("a", &format!("bare loop, plain graph {exporter}"), Kind::Loop { graph: plain }),
            competitor("b", "bare loop, user-once graph", Kind::Loop { graph: user_once }),
            competitor("c", "gatefold-server over gRPC, plain bundle", server("plain")?),
            competitor("d", "gatefold-server over gRPC, user-once bundle", server("user-once")?),
        ])
    }

    /// The server, where it is one that `gatefold load` can call.
    pub(super) fn server(&self) -> Option<&Server> {
        match &self.kind {
            Kind::Server(server) => Some(server),
            Kind::Loop { .. } => None,
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
            Kind::Loop { .. } => Ok(()),
        }
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
