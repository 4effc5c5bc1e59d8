//! What the files of `deploy/` ask of a server, held to a real one.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use gatefold_proto::ranking::v1 as wire;
use gatefold_server::client;
use gatefold_tests::{
    World, gatefold, python, run_json,
    server::{Server, get},
    tests_folder,
};

/// Names the interpreter of an environment with `deploy/check/requirements.txt`.
const PYTHON: &str = "DEPLOY_PYTHON";
const DASHBOARD: &str = "grafana/dashboards/gatefold.json";
const ALERTS: &str = "prometheus/alerts.yaml";
/// Settings of a server that has all there is to export.
const EXPERIMENT: &str =
    r#"experiments = { gates = { model = "mmoe", arms = [{ name = "control", share = 0.5 }] } }"#;

fn deploy(file: &str) -> PathBuf {
    tests_folder().join("../deploy").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(deploy(file)).unwrap_or_else(|error| panic!("deploy/{file}: {error}"))
}

/// What `/metrics` of a server answers after it has scored one request and refused another.
fn metrics() -> &'static str {
    static METRICS: OnceLock<String> = OnceLock::new();
    METRICS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = folder.path().join("server.toml");
        fs::write(&settings, EXPERIMENT).expect("it can be written");
        let settings = settings.to_str().expect("UTF-8");
        let server = Server::start(&World::get().path("models"), &["--config", settings]);
        let examples = World::get().path("samples/examples.json");
        run_json(&["request", "--server", &server.url, "--model", "mmoe", "--file", &examples]);
        refuse(&server.url);
        let (code, text) = get(&server.admin, "/metrics").expect("the admin port answers");
        assert_eq!(code, 200);
        text
    })
}

/// Sends a request for a model that there is not.
#[tokio::main(flavor = "current_thread")]
async fn refuse(url: &str) {
    let mut client = client::Client::new(client::connect(url).await.expect("the server answers"));
    let request = wire::ScoreRequest { model: "none".into(), ..wire::ScoreRequest::default() };
    let status = client.score(request).await.expect_err("there is no such model");
    assert_eq!(status.code(), tonic::Code::NotFound, "{status}");
}

/// What `python` on `deploy/check/exported.py` says of these files: `Err` holds its complaints.
fn exported(python: &OsStr, files: &[&Path]) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let scraped = folder.path().join("metrics");
    fs::write(&scraped, metrics()).expect("it can be written");
    let output = Command::new(python)
        .arg("-B")
        .arg(deploy("check/exported.py"))
        .arg(&scraped)
        .args(files)
        .output()
        .expect("Python starts");
    let said = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    if output.status.success() { Ok(said(output.stdout)) } else { Err(said(output.stderr)) }
}

#[test]
fn all_that_the_dashboard_and_the_alerts_ask_for_is_exported() {
    let Some(python) = python(PYTHON, "deploy/check/exported.py") else { return };
    let said =
        exported(&python, &[&deploy(DASHBOARD), &deploy(ALERTS)]).unwrap_or_else(|error| panic!("{error}"));
    assert!(said.contains("queries ask for what is exported"), "{said}");
}

/// The check of the test above finds `wrong` in place of `right`, and says so.
#[track_caller]
fn check_found(python: &OsStr, file: &str, right: &str, wrong: &str, expected: &str) {
    let text = read(file);
    assert!(text.contains(right), "deploy/{file} has no {right}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(deploy(file).file_name().expect("a file"));
    fs::write(&path, text.replacen(right, wrong, 1)).expect("it can be written");
    let said = exported(python, &[&path]).expect_err("the check passes");
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_metric_or_label_that_is_not_exported_is_found() {
    let Some(python) = python(PYTHON, "deploy/check/exported.py") else { return };
    let check_found = |file, right, wrong, expected| check_found(&python, file, right, wrong, expected);
    check_found(DASHBOARD, "gatefold_requests_total", "gatefold_request_total", "gatefold_request_total");
    check_found(ALERTS, "process_open_fds", "process_files", "no server exports process_files");
    check_found(ALERTS, "{state=", "{status=", "gatefold_model_versions has no label status");
    check_found(ALERTS, "|unknown_model", "|no_model", "gatefold_rejections_total has no reason 'no_model'");
    check_found(ALERTS, "by (job, model, output)", "by (job, model, out)", "has a label out");
    check_found(DASHBOARD, "\"{{code}}\"", "\"{{status}}\"", "has a label status");
}

/// `settings`, as a file, is accepted by the server.
#[track_caller]
fn check_settings(settings: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("server.toml");
    fs::write(&path, settings).expect("it can be written");
    let mut check = gatefold(&["serve", "--check", "--config"]);
    let output = check.arg(&path).output().expect("gatefold starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_settings_files_are_accepted() {
    check_settings(&read("container.toml"));
    let manifest = read("kubernetes/configmap.yaml");
    let (_, settings) = manifest.split_once("server.toml: |\n").expect("the settings are in the ConfigMap");
    check_settings(&settings.lines().map(|line| format!("{}\n", line.trim())).collect::<String>());
}

#[test]
fn the_readme_says_what_to_do_on_every_alert() {
    let (alerts, readme) = (read(ALERTS), read("README.md"));
    let alerts: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        assert!(readme.contains(&format!("| `{alert}` |")), "deploy/README.md does not explain {alert}");
    }
}
