//! `cargo xtask test`: every check of the project, in the order in which they fail fastest.

use anyhow::Result;
use clap::Args;

use crate::workspace::{Workspace, step};
use crate::{deploy, onnx_runtime, venv};

#[derive(Args)]
pub(crate) struct TestOptions {
    /// Only the tests whose names contain this.
    filter: Option<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &TestOptions) -> Result<()> {
    let library = onnx_runtime::ensure()?;
    step("format", workspace.cargo().args(["fmt", "--all", "--check"]))?;
    deploy::check(workspace)?;
    // The system tests drive the programs themselves.
    workspace.build_programs()?;
    let mut tests = workspace.cargo();
    tests.args(["test", "--release", "--workspace"]);
    tests.args(options.filter.iter());
    onnx_runtime::set_environment(&mut tests, &library);
    if venv::is_possible() {
        let requirements = workspace.root.join("tests/python/requirements.txt");
        tests.env("TRITONCLIENT_PYTHON", venv::make("tritonclient", &requirements)?);
        let requirements = workspace.root.join("tests/store/requirements.txt");
        tests.env("STORE_PYTHON", venv::make("store", &requirements)?);
    } else {
        eprintln!(
            "==> tests/python and tests/store are left out: python3 with its venv module is not installed"
        );
    }
    if let Some(python) = venv::interpreter("deploy")? {
        tests.env("DEPLOY_PYTHON", python);
    }
    step("tests", &mut tests)
}

/// Clippy on every target, with the lints of the workspace; a warning is an error.
pub(crate) fn lint(workspace: &Workspace) -> Result<()> {
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    step("clippy", &mut clippy)
}
