//! What people get wrong: each ends with a message that names the place and the remedy, a non-zero
//! exit, and nothing half-written. (What a `Score` request can get wrong is in `crates/server`.)

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use gatefold_tests::{World, copy_folder, gatefold, run_failing, server::Server};

fn text(path: &Path) -> String {
    path.to_str().expect("temporary paths are UTF-8").to_owned()
}

#[track_caller]
fn check_said(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "the message should name {part:?}: {said}");
    }
}

/// A copy of the world's logs, to be spoilt.
fn logs() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let logs = folder.path().join("logs");
    copy_folder(Path::new(&World::get().path("logs")), &logs);
    (folder, logs)
}

/// `samples build` on spoilt logs fails, says `parts`, and leaves no output.
#[track_caller]
fn check_build(folder: &tempfile::TempDir, logs: &Path, recipe: &str, parts: &[&str]) {
    let out = folder.path().join("samples");
    let said =
        run_failing(&["samples", "build", "--recipe", recipe, "--logs", &text(logs), "--out", &text(&out)]);
    check_said(&said, parts);
    assert!(!out.exists(), "nothing is half-written");
}

#[test]
fn a_missing_log_is_named() {
    let (folder, logs) = logs();
    fs::remove_file(logs.join("clicks.parquet")).expect("it is there");
    check_build(&folder, &logs, &World::recipe(), &["clicks.parquet"]);
}

#[test]
fn a_truncated_log_is_named() {
    let (folder, logs) = logs();
    let file = logs.join("impressions.parquet");
    let bytes = fs::read(&file).expect("it is there");
    fs::write(&file, &bytes[..bytes.len() / 2]).expect("it can be written");
    check_build(&folder, &logs, &World::recipe(), &["impressions.parquet"]);
}

#[test]
fn a_column_of_the_wrong_type_is_named() {
    let (folder, logs) = logs();
    let recipe = fs::read_to_string(World::recipe()).expect("the recipe is there");
    let wrong = recipe.replacen(
        "name = \"gender\"\nside = \"user\"\nkind = \"categorical\"\ntype = \"text\"",
        "name = \"gender\"\nside = \"user\"\nkind = \"categorical\"\ntype = \"int\"",
        1,
    );
    assert_ne!(recipe, wrong, "the recipe has the feature");
    let file = folder.path().join("wrong.toml");
    fs::write(&file, wrong).expect("it can be written");
    check_build(&folder, &logs, &text(&file), &["gender", "int"]);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_key() {
    let (folder, logs) = logs();
    let recipe = fs::read_to_string(World::recipe()).expect("the recipe is there");
    let wrong = recipe.replacen("batch_size", "batch_sise", 1);
    let line = 1 + wrong[..wrong.find("batch_sise").expect("replaced")].matches('\n').count();
    let file = folder.path().join("typo.toml");
    fs::write(&file, wrong).expect("it can be written");
    check_build(
        &folder,
        &logs,
        &text(&file),
        &[&format!("typo.toml:{line}"), "batch_sise", "did you mean `batch_size`"],
    );
}

#[test]
fn a_truncated_shard_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let samples = folder.path().join("samples");
    copy_folder(Path::new(&World::get().path("samples")), &samples);
    let shard = samples.join("train-00000.parquet");
    let bytes = fs::read(&shard).expect("it is there");
    fs::write(&shard, &bytes[..bytes.len() - 100]).expect("it can be written");
    let models = folder.path().join("models/m");
    let said = run_failing(&[
        "train",
        "--recipe",
        &World::recipe(),
        "--samples",
        &text(&samples),
        "--out",
        &text(&models),
    ]);
    check_said(&said, &["train-00000.parquet"]);
    assert!(!models.join("1").exists(), "nothing is published");
}

#[test]
fn scoring_a_file_that_is_no_parquet_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (input, out) = (folder.path().join("rows.parquet"), folder.path().join("scores.parquet"));
    fs::write(&input, "request_id,item_id\n1,2\n").expect("it can be written");
    let model = World::get().path("models/mmoe");
    let said = run_failing(&["score", "--model", &model, "--input", &text(&input), "--out", &text(&out)]);
    check_said(&said, &["rows.parquet"]);
    assert!(!out.exists(), "nothing is half-written");
}

/// A copy of the world's MMoE bundle, to be spoilt.
fn bundle() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = folder.path().join("models/mmoe");
    copy_folder(Path::new(&World::get().path("models/mmoe")), &model);
    (folder, model)
}

#[track_caller]
fn check_bundle(folder: &tempfile::TempDir, model: &Path, parts: &[&str]) {
    let out = folder.path().join("scores.parquet");
    let raw = World::get().path("samples/raw-test.parquet");
    let said = run_failing(&["score", "--model", &text(model), "--input", &raw, "--out", &text(&out)]);
    check_said(&said, parts);
    assert!(!out.exists(), "nothing is half-written");
}

#[test]
fn a_bundle_with_a_changed_byte_is_refused() {
    let (folder, model) = bundle();
    let weights = model.join("1/weights.bin");
    let mut bytes = fs::read(&weights).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, bytes).expect("it can be written");
    check_bundle(&folder, &model, &["weights.bin"]);
}

#[test]
fn a_file_that_is_no_onnx_is_refused() {
    let (folder, model) = bundle();
    fs::write(model.join("1/model.onnx"), "this is no ONNX").expect("it can be written");
    check_bundle(&folder, &model, &["model.onnx"]);
}

#[test]
fn a_server_refuses_a_bad_bundle_and_keeps_the_good_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let models = folder.path().join("models");
    copy_folder(Path::new(&World::get().path("models")), &models);
    let server = Server::start(&text(&models), &["--poll-seconds", "0.2"]);
    // A second version whose weights do not match its manifest.
    copy_folder(&models.join("mmoe/1"), &folder.path().join("next"));
    fs::write(folder.path().join("next/model.onnx"), "this is no ONNX").expect("it can be written");
    fs::rename(folder.path().join("next"), models.join("mmoe/2")).expect("a rename");
    std::thread::sleep(Duration::from_secs(1));
    let examples = World::get().path("samples/examples.json");
    let reply = gatefold_tests::run_json(&[
        "request",
        "--server",
        &server.url,
        "--model",
        "mmoe",
        "--file",
        &examples,
    ]);
    assert_eq!(reply["version"], 1, "the old version stays");
    let models = |arguments: &[&str]| {
        let asked = [&["models"], arguments, &["--server", &server.url]].concat();
        gatefold_tests::run_json(&asked)["versions"].clone()
    };
    let listed = models(&["list", "mmoe"]);
    assert_eq!((&listed[0]["state"], &listed[0]["labels"][0]), (&"serving".into(), &"stable".into()));
    assert_eq!(listed[1]["state"], "refused");
    assert!(listed[1]["reason"].as_str().is_some_and(|reason| reason.contains("model.onnx")), "{listed}");
    let said = run_failing(&["models", "label", "mmoe", "stable", "2", "--server", &server.url]);
    assert!(
        said.contains("FAILED_PRECONDITION: mmoe/2 is refused: ") && said.contains("model.onnx"),
        "{said}"
    );
    assert_eq!(
        models(&["label", "mmoe", "canary", "1"])[0]["labels"],
        serde_json::json!(["canary", "stable"])
    );
    assert_eq!(models(&["unload", "mmoe"])[0]["state"], "unloaded");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("a bound address").to_string();
    let models = World::get().path("models");
    let said = run_failing(&["serve", "--models", &models, "--listen", &address, "--admin", "127.0.0.1:0"]);
    check_said(&said, &[&address, "in use"]);
}

#[test]
fn a_killed_training_leaves_no_bundle() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = folder.path().join("models/m");
    let (recipe, samples, out) = (World::recipe(), World::get().path("samples"), text(&model));
    // Enough epochs that the kill comes in the middle.
    let arguments = ["train", "--recipe", &recipe, "--samples", &samples, "--out", &out, "--epochs", "500"];
    let mut child =
        gatefold(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("gatefold starts");
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        assert!(child.try_wait().expect("a child can be asked").is_none(), "500 epochs take longer");
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert!(!model.join("1").exists(), "no version appears");
    // The folder is as good as new: the next training publishes version 1.
    let report =
        gatefold_tests::run_json(&["train", "--recipe", &recipe, "--samples", &samples, "--out", &out]);
    assert_eq!(report["version"], 1, "{report}");
}
