//! The real program: its help, its exit codes, and what it says when it cannot go on.

use std::path::Path;
use std::process::{Command, Output};

fn gatefold(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gatefold")).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn check_failure(arguments: &[&str], code: i32, expected: &[&str]) {
    let output = gatefold(arguments);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(
        output.stdout.is_empty(),
        "{arguments:?} wrote data: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    for part in expected {
        assert!(text.contains(part), "{arguments:?} says\n{text}\nwhich does not contain\n{part}");
    }
}

#[test]
fn every_help_shows_an_example() {
    for command in [
        "synth",
        "samples init",
        "samples validate",
        "samples schema",
        "samples build",
        "samples inspect",
        "train",
        "serve",
        "request",
        "load",
        "models",
        "tune",
        "score",
        "compare",
        "bundle import",
    ] {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.push("--help");
        let output = gatefold(&arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(text.contains(&format!("gatefold {command} ")), "{command} --help shows no example:\n{text}");
        assert!(text.to_lowercase().contains("example"), "{command} --help:\n{text}");
    }
    let output = gatefold(&["--help"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("gatefold samples build --recipe"));
}

#[test]
fn wrong_usage_ends_with_two() {
    check_failure(&[], 2, &["Usage: gatefold"]);
    check_failure(&["trian"], 2, &["unrecognized subcommand 'trian'", "train"]);
    check_failure(&["train", "--recipe", "r.toml"], 2, &["--samples <DIR>", "--out <DIR>"]);
    check_failure(
        &["train", "--recipe", "r", "--samples", "s", "--out", "o", "--model", "mmeo"],
        2,
        &[
            "invalid value 'mmeo'",
            "single-task, shared-bottom, l2-sharing, trace-norm, cross-stitch, omoe, mmoe",
        ],
    );
    check_failure(
        &["train", "--quiet", "-v", "--recipe", "r", "--samples", "s", "--out", "o"],
        2,
        &["--quiet"],
    );
    check_failure(&["models", "label", "mmoe", "canary"], 2, &["<VERSION>"]);
    check_failure(&["models", "label", "mmoe", "canary", "3", "--remove"], 2, &["--remove"]);
    check_failure(&["compare", "--samples", "s", "--out", "r.html"], 2, &["<MODEL>"]);
}

#[test]
fn missing_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let recipe = path("recipe.toml");
    check_failure(
        &["train", "--recipe", &recipe, "--samples", "s", "--out", "o"],
        1,
        &["error: cannot read the recipe", &recipe, "because: No such file"],
    );
    std::fs::write(&recipe, RECIPE).unwrap();
    let samples = path("samples");
    check_failure(
        &["train", "--recipe", &recipe, "--samples", &samples, "--out", &path("models/m")],
        1,
        &["error: cannot open the samples", &samples],
    );
    check_failure(
        &["samples", "build", "--recipe", &recipe, "--logs", &path("logs"), "--out", &samples],
        1,
        &["error: ", "adult.data"],
    );
    check_failure(
        &[
            "score",
            "--model",
            &path("models/m"),
            "--input",
            &path("rows.parquet"),
            "--out",
            &path("scores.parquet"),
        ],
        1,
        &["error: ", &path("models/m")],
    );
    check_failure(
        &["compare", "--samples", &samples, "--out", &path("report.html"), &path("models/m")],
        1,
        &["error: ", &samples],
    );
    check_failure(
        &["compare", "--samples", &samples, "--out", &path("nowhere/report.html"), &path("models/m")],
        1,
        &["error: cannot write into the folder of", &path("nowhere/report.html"), "because: No such file"],
    );
    assert_eq!(names_in(folder.path()), ["recipe.toml"], "nothing may be left behind");
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = folder.path().join("recipe.toml");
    std::fs::write(&recipe, RECIPE.replace("batch_size = 256", "batch_sise = 256")).unwrap();
    let recipe = recipe.display().to_string();
    let line = 1 + RECIPE[..RECIPE.find("batch_size").unwrap()].matches('\n').count();
    check_failure(
        &["train", "--recipe", &recipe, "--samples", "s", "--out", "o"],
        1,
        &[&format!("recipe.toml:{line}: unknown field `batch_sise`"), "did you mean `batch_size`?"],
    );
}

#[test]
fn a_model_that_does_not_suit_the_tasks_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = folder.path().join("recipe.toml");
    std::fs::write(&recipe, RECIPE).unwrap();
    check_failure(
        &[
            "train",
            "--recipe",
            &recipe.display().to_string(),
            "--samples",
            "s",
            "--out",
            "o",
            "--model",
            "esmm",
        ],
        1,
        &["error: cannot use", "because: [model]: esmm needs exactly two tasks"],
    );
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

const RECIPE: &str = r#"
name = "tiny"

[samples]
adult = { train = "adult.data", test = "adult.test" }

[[feature]]
name = "age"
side = "user"
kind = "numeric"
type = "float"
encoder = { kind = "standardize" }

[[task]]
name = "income"
label = "income"

[model]
kind = "shared-bottom"
bottom = [8]
tower = [4]

[train]
epochs = 1
batch_size = 256
"#;
