//! `gatefold samples` from the first recipe to a look at what was built, by the real program.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn gatefold(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gatefold")).args(arguments).output().unwrap()
}

#[track_caller]
fn stdout(arguments: &[&str]) -> String {
    let output = gatefold(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(arguments)).unwrap()
}

#[test]
fn from_logs_to_a_look_at_samples() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    let (logs, recipe, samples) = (path("logs"), path("samples.toml"), path("samples"));
    stdout(&["synth", "--out", &logs, "--impressions", "20000"]);
    stdout(&["samples", "init", "--from", &logs, "--out", &recipe]);
    let again = gatefold(&["samples", "init", "--out", &recipe]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists; choose another name"));

    let shown = stdout(&["samples", "validate", "--recipe", &recipe, "--logs", &logs]);
    let line = |shown: &str, name: &str| {
        let found = shown.lines().find(|line| line.split_whitespace().next() == Some(name));
        found
            .unwrap_or_else(|| panic!("{name} is not in\n{shown}"))
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(line(&shown, "country"), ["country", "user", "users", "country", "str", "vocab"]);
    assert!(shown.trim_end().ends_with("can be built"), "{shown}");

    let build = ["samples", "build", "--recipe", &recipe, "--logs", &logs];
    let with = |more: &[&'static str]| -> Vec<String> {
        build.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
    };
    let run = |arguments: Vec<String>| json(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let outlook = run(with(&["--dry-run", "--json"]));
    let rows = outlook["rows"].as_u64().unwrap();
    assert!(rows >= 20_000, "{outlook}");
    assert!(!Path::new(&samples).exists());

    let built =
        json(&["samples", "build", "--recipe", &recipe, "--logs", &logs, "--out", &samples, "--json"]);
    for file in ["report.json", "report.html", "manifest.json"] {
        assert!(Path::new(&samples).join(file).is_file(), "{file} is missing");
    }
    let train = &built["splits"]["train"];
    let seen = json(&["samples", "inspect", &samples, "--json"]);
    assert_eq!(seen["splits"]["train"], *train);
    assert_eq!(seen["fingerprint"], built["fingerprint"]);
    let shown = stdout(&["samples", "inspect", &samples]);
    assert_eq!(line(&shown, "train")[1..3], [train["rows"].to_string(), train["requests"].to_string()]);

    // Items of the test split may be too rare for the vocabulary; then their ids cannot be read back.
    let rows = json(&["samples", "inspect", &samples, "--rows", "500", "--split", "test", "--json"]);
    let known = |row: &&Value| !row["item_id"].as_str().unwrap().starts_with("out of vocabulary");
    let first = rows.as_array().unwrap().iter().find(known).expect("an item of the test is known");
    let value = |name: &str| first[name].as_str().unwrap().to_owned();
    let mut arguments = with(&["--explain", "--json", "--request"]);
    arguments.extend([value("request_id"), "--item".to_owned(), value("item_id")]);
    let explained = run(arguments);
    assert_eq!((explained["split"].as_str(), explained["user"].is_string()), (Some("test"), true));
    let country =
        explained["features"].as_array().unwrap().iter().find(|feature| feature["feature"] == "country");
    assert_eq!(country.unwrap()["meaning"], first["country"]);
}

#[test]
fn the_schema_and_the_beginning_of_a_recipe_are_printed() {
    assert_eq!(json(&["samples", "schema"])["title"], "Recipe of Gatefold");
    assert!(stdout(&["samples", "init"]).contains("[samples.logs]"));
}

#[test]
fn what_is_missing_for_an_explanation_is_said() {
    let output = gatefold(&["samples", "build", "--recipe", "r", "--logs", "l", "--explain"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("--request <ID>") && text.contains("--item <ID>"), "{text}");
    let output = gatefold(&["samples", "build", "--recipe", "r", "--logs", "l"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--out <DIR>"));
}
