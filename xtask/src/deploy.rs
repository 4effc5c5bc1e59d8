//! Checks of `deploy/`: each file by a tool that knows its format. What PyPI holds is pinned in
//! `deploy/check/requirements.txt`; systemd's and Prometheus's own tools are used where they can be
//! had, and a line says so where not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::{Workspace, display, step};
use crate::{promtool, venv};

/// The version of Kubernetes whose schemas the manifests are held to.
const KUBERNETES: &str = "1.37.0";

/// The unit's exposure by `systemd-analyze security`, in tenths, must not be above this.
const EXPOSURE: u32 = 15;

const UNIT: &str = "gatefold-server.service";
/// The schema of a settings file.
const SETTINGS: &str = "server.schema.json";
const DASHBOARD: &str = "grafana/dashboards/gatefold.json";
const DATA_SOURCES: &str = "grafana/provisioning/datasources/prometheus.yaml";

/// Runs every check that this machine has the tools for.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let folder = workspace.root.join("deploy");
    if venv::is_possible() {
        let python = venv::make("deploy", &folder.join("check/requirements.txt"))?;
        from_pypi(&Tools { folder: folder.clone(), python })?;
    } else {
        skip("the tools of PyPI", "python3 with its venv module is not installed");
    }
    prometheus(&folder)?;
    systemd(&folder)
}

/// The folder `deploy/` and the Python environment of its checks.
struct Tools {
    folder: PathBuf,
    python: PathBuf,
}

impl Tools {
    /// A program of the environment.
    fn program(&self, name: &str) -> Command {
        self.run(&self.python.with_file_name(name))
    }

    /// A check of our own.
    fn script(&self, name: &str) -> Command {
        let mut command = self.run(&self.python);
        command.arg("-B").arg(Path::new("check").join(name));
        command
    }

    fn run(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder);
        command
    }
}

fn from_pypi(tools: &Tools) -> Result<()> {
    step("yamllint", tools.program("yamllint").args(["--strict", "."]))?;
    step("hadolint", tools.program("hadolint").arg("Containerfile"))?;
    let mut compose = tools.program("check-jsonschema");
    step("compose", compose.args(["--builtin-schema", "vendor.compose-spec", "compose.yaml"]))?;
    let mut settings = tools.program("check-jsonschema");
    step("settings", settings.args(["--schemafile", SETTINGS, "container.toml", "server.toml"]))?;
    kubernetes(tools)?;
    step("dashboard", tools.script("dashboard.py").args([DASHBOARD, DATA_SOURCES]))
}

/// Every manifest by the schema of its kind, and all of them together. The ServiceMonitor has no schema
/// in Kubernetes itself.
fn kubernetes(tools: &Tools) -> Result<()> {
    let mut manifests = Vec::new();
    for entry in fs::read_dir(tools.folder.join("kubernetes")).context("deploy/kubernetes cannot be read")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            manifests.push(path);
        }
    }
    manifests.sort();
    let mut validate = tools.program("kubernetes-validate");
    validate.args(["--strict", "--quiet", "-k", KUBERNETES]);
    step("kubernetes", validate.args(manifests))?;
    step("manifests", tools.script("manifests.py").args(["kubernetes", SETTINGS]))
}

/// The configuration, the rules, and the rules on series that are made up for the purpose.
fn prometheus(folder: &Path) -> Result<()> {
    let promtool = match promtool::ensure()? {
        Ok(promtool) => promtool,
        Err(reason) => {
            skip("promtool", &reason);
            return Ok(());
        }
    };
    let promtool = || {
        let mut command = Command::new(&promtool);
        command.current_dir(folder);
        command
    };
    step("prometheus", promtool().args(["check", "config", "prometheus/prometheus.yaml"]))?;
    step("alerts", promtool().args(["test", "rules", "prometheus/alerts_test.yaml"]))
}

/// The unit, with a program in place that every machine has, as the real one is not installed here.
fn systemd(folder: &Path) -> Result<()> {
    const SINCE: u32 = 250;
    if systemd_version().is_none_or(|version| version < SINCE) {
        skip("systemd", &format!("systemd-analyze of version {SINCE} or later is not installed"));
        return Ok(());
    }
    let unit =
        fs::read_to_string(folder.join("systemd").join(UNIT)).context("the systemd unit cannot be read")?;
    let scratch = std::env::temp_dir().join(format!("gatefold-unit-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let path = scratch.join(UNIT);
    let result = fs::write(&path, unit.replace("/usr/local/bin/gatefold-server", "/bin/true"))
        .with_context(|| format!("cannot write {}", path.display()))
        .and_then(|()| verify(&path))
        .and_then(|()| {
            let mut security = Command::new("systemd-analyze");
            security.args(["security", "--offline=true", "--no-pager", &format!("--threshold={EXPOSURE}")]);
            step("exposure", security.arg(&path).stdout(Stdio::null()))
        });
    // What is left in the scratch folder is of no use to anyone, whatever happened.
    let _ = fs::remove_dir_all(&scratch);
    result
}

/// systemd ignores what it does not know, and says so: here that is an error.
fn verify(unit: &Path) -> Result<()> {
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(unit);
    eprintln!("==> systemd: {}", display(&verify));
    let output = verify.output().context("systemd-analyze cannot be run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> = said.lines().filter(|line| line.contains(UNIT)).collect();
    if !output.status.success() || !complaints.is_empty() {
        bail!("{UNIT} is not a good unit ({}): {}", output.status, complaints.join("; "));
    }
    Ok(())
}

/// The version of the installed systemd-analyze, if there is one.
fn systemd_version() -> Option<u32> {
    let output = Command::new("systemd-analyze").arg("--version").output().ok()?;
    // "systemd 252 (252.39-1~deb12u2)"
    String::from_utf8_lossy(&output.stdout).split_whitespace().nth(1)?.parse().ok()
}

fn skip(name: &str, reason: &str) {
    eprintln!("==> {name}: skipped: {reason}");
}
