//! `gatefold tune` on a real bundle, with golden requests and with those that a server has logged. How
//! fast anything is is no matter here: the goals are those that any machine keeps, or none.

use gatefold_server::Settings;
use gatefold_tests::{World, run_failing, run_json, server::Server};
use serde_json::Value;

/// Milliseconds that every machine keeps.
const EASY: &str = "5000";

#[track_caller]
fn check(found: &Value, requests: &str) {
    assert_eq!(found["requests"], requests);
    let settings = found["settings"].as_array().expect("a list of settings");
    let cores = std::thread::available_parallelism().expect("a number of cores").get() as u64;
    assert!(settings.len() > 4, "{settings:?}");
    for row in settings {
        let count = |name: &str| row[name].as_u64().unwrap_or_else(|| panic!("no {name} in {row}"));
        let number = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("no {name} in {row}"));
        assert!(count("workers") * count("intra_threads") <= cores, "{row}");
        assert!(count("row_budget") > 0 && number("candidates_per_second") > 0.0, "{row}");
        // Processor time is accounted in hundredths of a second.
        assert!(number("p50_ms") > 0.0 && number("cpu_seconds_a_million") >= 0.0, "{row}");
        // One that is without an answer in time does not keep the goal.
        let keeps = row["p99_ms"].as_f64().is_some_and(|p99| p99 <= 5000.0);
        assert_eq!(row["keeps_goal"], keeps, "{row}");
    }
    assert!(settings.iter().any(|row| row["batch_delay_us"] != 0), "delays are tried: {settings:?}");
    let chosen = &found["chosen"];
    assert!(settings.contains(chosen), "{chosen} is none of {settings:?}");
    assert_eq!(chosen["keeps_goal"], true);
    let toml = found["toml"].as_str().expect("lines for the settings file");
    let settings = Settings::from_toml(toml, "server.toml").expect("lines that a server reads");
    settings.check().expect("settings that fit each other");
    let names = ["workers", "intra_threads", "row_budget"];
    for (name, value) in names.iter().zip([settings.workers, settings.intra_threads, settings.row_budget]) {
        assert_eq!(chosen[name], value, "{toml}");
    }
    assert_eq!(chosen["batch_delay_us"], settings.batch_delay_us, "{toml}");
}

#[test]
fn the_setting_chosen_keeps_the_goal_and_is_one_that_a_server_reads() {
    let model = World::get().path("models/mmoe");
    let asked = ["tune", &model, "--p99-ms", EASY, "--candidates", "50", "--seconds", "5"];
    check(&run_json(&asked), "requests of 50 candidates");
}

#[test]
fn logged_requests_are_tuned_for_as_they_came() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (log, config) = (folder.path().join("log"), folder.path().join("server.toml"));
    std::fs::write(&config, format!("[request_log]\nfolder = {log:?}\nshare = 1.0\n"))
        .expect("the settings are written");
    let world = World::get();
    let (model, raw) = (world.path("models/esmm"), world.path("samples/raw-test.parquet"));
    let server = Server::start(&world.path("models"), &["--config", config.to_str().expect("UTF-8")]);
    let mut candidates = 0;
    for row in ["0", "100"] {
        let asked = ["request", "--server", &server.url, "--model", "esmm", "--parquet", &raw, "--row", row];
        let reply = run_json(&asked);
        candidates += reply["scores"]["ctr"].as_array().expect("scores").len();
    }
    assert!(server.terminate().success());
    let log = log.to_str().expect("UTF-8");
    let found = run_json(&["tune", &model, "--p99-ms", EASY, "--from-log", log, "--seconds", "5"]);
    check(&found, &format!("2 logged requests of {} candidates on average", candidates / 2));
}

#[test]
fn what_cannot_be_tuned_for_is_said() {
    let model = World::get().path("models/mmoe");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = run_failing(&["tune", &model, "--p99-ms", "0.01", "--seconds", "5"]);
    assert!(
        text.contains("no setting answers requests of 200 candidates of mmoe v1 within 0.01 ms at p99"),
        "{text}"
    );
    let empty = folder.path().to_str().expect("UTF-8");
    let text = run_failing(&["tune", &model, "--p99-ms", "20", "--from-log", empty]);
    assert!(text.contains("holds no request"), "{text}");
    let text = run_failing(&["tune", empty, "--p99-ms", "20"]);
    assert!(text.contains("cannot open the model"), "{text}");
    let text = run_failing(&["tune", &model, "--p99-ms", "0"]);
    assert!(text.contains("give milliseconds between 0.01 and 60000"), "{text}");
}
