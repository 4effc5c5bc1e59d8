//! What the whole-system tests share: the real `gatefold` binary, and one small world (logs,
//! samples, three trained models) that is made once a test run by driving it.

use std::{
    ffi::OsString,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

pub mod server;

/// The `gatefold` binary that `cargo test --workspace` built beside this test.
pub fn gatefold_binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in target/<profile>/deps");
    let binary = folder.join("gatefold");
    assert!(
        binary.exists(),
        "{} is missing: run the tests with `cargo xtask test`, which builds it first",
        binary.display()
    );
    binary
}

/// The Python interpreter that the environment names in `variable`, as `cargo xtask test` sets it. Where
/// it does not, a line says that `suite` is left out.
pub fn python(variable: &str, suite: &str) -> Option<OsString> {
    let python = std::env::var_os(variable);
    if python.is_none() {
        // Past the test harness, which keeps to itself what a passing test prints.
        let said = format!("{suite} is left out: {variable} is not set, as cargo xtask test sets it\n");
        std::io::stderr().write_all(said.as_bytes()).expect("stderr can be written");
    }
    python
}

/// A command that runs `gatefold` with these arguments.
pub fn gatefold(arguments: &[&str]) -> Command {
    let mut command = Command::new(gatefold_binary());
    command.args(arguments).stdin(Stdio::null()).env("RUST_LOG", "warn");
    command
}

/// Runs `gatefold` and returns the JSON object it prints last.
///
/// # Panics
/// When the command fails or prints no JSON.
#[track_caller]
pub fn run_json(arguments: &[&str]) -> serde_json::Value {
    let output = gatefold(arguments).arg("--json").output().expect("gatefold starts");
    assert!(
        output.status.success(),
        "gatefold {} failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("stdout is UTF-8");
    let last = text.lines().last().expect("a JSON line on stdout");
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error} in {last:?}"))
}

/// Runs `gatefold`, which must fail, and returns what it says on stderr.
#[track_caller]
pub fn run_failing(arguments: &[&str]) -> String {
    let output: Output = gatefold(arguments).output().expect("gatefold starts");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success(),
        "gatefold {} should fail, but printed {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(!stderr.contains("panicked"), "an error is no panic: {stderr}");
    stderr
}

/// Folder of this crate: recipes and golden files.
pub fn tests_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Data that is handed out beside the checkout, or beside a folder that it is in, if it is there.
pub fn shared_folder() -> Option<PathBuf> {
    tests_folder().ancestors().map(|folder| folder.join("shared")).find(|shared| shared.is_dir())
}

/// Copies a folder and what is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a new folder");
    for entry in fs::read_dir(from).expect("a readable folder") {
        let entry = entry.expect("a readable entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// Logs, samples and trained models of one small synthetic world.
pub struct World {
    folder: tempfile::TempDir,
}

/// The kinds of model that the world holds, as `models/<kind>`.
pub const KINDS: [&str; 3] = ["shared-bottom", "esmm", "mmoe"];

impl World {
    /// The world of this test run, made on first use.
    pub fn get() -> &'static World {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| {
            let world = World { folder: tempfile::tempdir().expect("a temporary folder") };
            world.make();
            world
        })
    }

    /// A path inside the world, as text.
    pub fn path(&self, relative: &str) -> String {
        self.folder.path().join(relative).to_str().expect("temporary paths are UTF-8").to_owned()
    }

    /// The recipe of the world.
    pub fn recipe() -> String {
        tests_folder().join("recipes/small.toml").to_str().expect("UTF-8 path").to_owned()
    }

    fn make(&self) {
        let logs = self.path("logs");
        let samples = self.path("samples");
        run_json(&["synth", "--out", &logs, "--impressions", "30000", "--seed", "7"]);
        run_json(&[
            "samples",
            "build",
            "--recipe",
            &Self::recipe(),
            "--logs",
            &logs,
            "--out",
            &samples,
            "--raw",
            "test",
        ]);
        for kind in KINDS {
            run_json(&[
                "train",
                "--recipe",
                &Self::recipe(),
                "--samples",
                &samples,
                "--model",
                kind,
                "--out",
                &self.path(&format!("models/{kind}")),
                "--threads",
                "2",
            ]);
        }
    }
}
