//! What is served, and what is asked of it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::program::{Programs, last_json, number};
use crate::venv;
use crate::workspace::{Workspace, step};

/// Requests of one kind.
pub(super) struct Workload {
    /// As tables call it.
    pub(super) name: &'static str,
    /// In the folder of the world.
    file: &'static str,
    /// Candidates of each request; as in the file where `None`.
    candidates: Option<&'static str>,
}

/// The mixed requests have a heavy tail: half have at most 80 candidates, one in a hundred over 800.
pub(super) const WORKLOADS: [Workload; 4] = [
    Workload { name: "50", file: "requests.json", candidates: Some("50") },
    Workload { name: "200", file: "requests.json", candidates: Some("200") },
    Workload { name: "1000", file: "requests.json", candidates: Some("1000") },
    Workload { name: "mix", file: "mix.json", candidates: None },
];

/// The published bundles and the requests for them.
pub(super) struct World {
    folder: PathBuf,
    /// The plain graph as PyTorch exports it, where PyTorch is.
    pub(super) pytorch: Option<PathBuf>,
    /// The Python of the serving peers, where they are.
    pub(super) peers: Option<PathBuf>,
    mixed_candidates: f64,
}

impl World {
    /// Publishes the model with and without its user-once graph and in int8, and exports it from PyTorch where
    /// there is an environment with it (`with_peers` makes one).
    pub(super) fn build(workspace: &Workspace, programs: &Programs, with_peers: bool) -> Result<Self> {
        let folder = workspace.root.join("work/bench/serve");
        // Publishing would otherwise add a version each time.
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let bench = |arguments: &[&str]| last_json(programs.command("gatefold-bench").args(arguments));
        let of = |name: &str| folder.join(name).display().to_string();
        let published = bench(&[
            "bundle",
            "--model",
            &of("user-once/mmoe"),
            "--requests",
            &folder.display().to_string(),
        ])?;
        bench(&["copy", "--model", &of("user-once/mmoe"), "--to", &of("plain/mmoe"), "--plain-only"])?;
        bench(&["copy", "--model", &of("user-once/mmoe"), "--to", &of("int8/mmoe"), "--int8"])?;
        let mixed_candidates = number(&published, "mixed_candidates")?;

        let environment = |name: &str, requirements: &str| match with_peers {
            true => venv::make(name, &workspace.root.join(requirements)).map(Some),
            false => venv::interpreter(name),
        };
        let python = environment("reference", "training/reference/requirements.txt")?;
        let peers = environment("serving-peers", "benches/peers/requirements-serving.txt")?;
        let pytorch = match python {
            Some(python) => {
                let file = folder.join("pytorch.onnx");
                let mut export = Command::new(python);
                export.arg(workspace.root.join("training/reference/bundle.py")).arg("export");
                export.arg(folder.join("user-once/mmoe/1")).arg("--out").arg(&file);
                // Its table is the last line of stdout; what it prints goes to stderr with the rest.
                step("export from PyTorch", export.stdout(std::io::stderr()))?;
                Some(file)
            }
            None => {
                eprintln!(
                    "==> no PyTorch here: the bare loop runs Gatefold's plain graph; --with-peers makes the \
                     environment"
                );
                None
            }
        };
        Ok(Self { folder, pytorch, peers, mixed_candidates })
    }

    /// A path in the world's folder.
    pub(super) fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The flags by which `gatefold load` and `gatefold-bench raw` are told the requests.
    pub(super) fn requests(&self, workload: &Workload) -> Vec<String> {
        let mut flags = vec!["--requests".to_owned(), self.path(workload.file)];
        if let Some(candidates) = workload.candidates {
            flags.extend(["--candidates".to_owned(), candidates.to_owned()]);
        }
        flags
    }

    /// Candidates of a request, on average.
    pub(super) fn candidates(&self, workload: &Workload) -> f64 {
        workload.candidates.and_then(|count| count.parse().ok()).unwrap_or(self.mixed_candidates)
    }
}
