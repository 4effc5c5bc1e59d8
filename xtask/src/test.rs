//! `cargo xtask test`: every check of the project, in the order in which they fail fastest.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::workspace::{Workspace, step};
use crate::{bench, deploy, fuzz, onnx_runtime, venv};

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
    recipes(workspace)?;
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
    if bench::samples_peers(&workspace.root).is_some() && venv::is_possible() {
        let requirements = workspace.root.join("benches/peers/requirements-samples.txt");
        tests.env("SAMPLES_PYTHON", venv::make("samples-peers", &requirements)?);
    }
    if let Some(python) = venv::interpreter("deploy")? {
        tests.env("DEPLOY_PYTHON", python);
    }
    step("tests", &mut tests)?;
    if options.filter.is_none() { fuzz::briefly(workspace) } else { Ok(()) }
}

/// The recipes by the schema that editors are given.
fn recipes(workspace: &Workspace) -> Result<()> {
    let Some(python) = venv::interpreter("deploy")? else { return Ok(()) };
    let folder = workspace.program_folder()?;
    let printed = Command::new(folder.join("gatefold")).args(["samples", "schema"]).output();
    let printed = printed.context("gatefold samples schema cannot be run")?;
    let schema = folder.join("recipe.schema.json");
    fs::write(&schema, printed.stdout).with_context(|| format!("cannot write {}", schema.display()))?;
    let mut check = Command::new(python.with_file_name("check-jsonschema"));
    check.arg("--schemafile").arg(&schema);
    for entry in
        fs::read_dir(workspace.root.join("training/recipes")).context("training/recipes cannot be read")?
    {
        check.arg(entry?.path());
    }
    step("recipes", &mut check)
}

/// Clippy on every target, with the lints of the workspace; a warning is an error.
pub(crate) fn lint(workspace: &Workspace) -> Result<()> {
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    step("clippy", &mut clippy)
}
