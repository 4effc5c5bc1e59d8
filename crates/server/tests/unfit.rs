//! What the settings name and no loaded model has is said, as the log tells. In a process of its own:
//! logging is started once a process.

#[path = "serving/log.rs"]
mod log;
#[path = "serving/support.rs"]
#[expect(dead_code, reason = "what the other tests need")]
mod support;

use gatefold_proto::ranking::v1 as wire;
use gatefold_server::settings::{ArmSettings, ExperimentSettings};

use log::Log;
use support::{Running, eventually, publish, request};

/// Checks the texts under `keys` of the lines of a message, once there are as many as expected.
async fn check(log: &Log, message: &str, keys: [&str; 4], expected: &[[&str; 4]]) {
    eventually(async || log.lines(message).len() >= expected.len()).await;
    let lines = log.lines(message);
    let found: Vec<_> = lines.iter().map(|line| keys.map(|key| line[key].as_str().unwrap_or(""))).collect();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn arms_without_a_model_and_formulas_that_do_not_fit_are_said_and_so_is_what_they_refuse() {
    let log = Log::start(tracing::Level::INFO);
    let running = Running::start(|settings| {
        let arm = |name: &str, share, label: Option<&str>| ArmSettings {
            name: name.into(),
            share,
            model: None,
            version: None,
            label: label.map(str::to_owned),
        };
        let arms = vec![arm("control", 0.5, None), arm("treatment", 0.5, Some("canary"))];
        let gates = ExperimentSettings { model: "demo".into(), salt: None, arms };
        let other =
            ExperimentSettings { model: "other".into(), salt: None, arms: vec![arm("all", 1.0, None)] };
        settings.experiments = [("gates".to_owned(), gates), ("other".to_owned(), other)].into();
        let formulas = [("good", "ctcvr * price"), ("old", "ctvr * age"), ("bids", "ctr * bid")];
        let formulas = formulas.map(|(name, text)| (name.to_owned(), text.to_owned()));
        settings.formulas = [("demo".to_owned(), formulas.into())].into();
    })
    .await;
    let arms = ["experiment", "arm", "model", "problem"];
    let without = "an arm has no loaded model";
    let canary =
        ["gates", "treatment", "demo", "model 'demo' has no version labelled 'canary'; labels: stable (1)"];
    check(
        &log,
        without,
        arms,
        &[canary, ["other", "all", "other", "no model is named 'other'; loaded: demo"]],
    )
    .await;
    let formulas = ["formula", "model", "problem", ""];
    let wanted = "requests must have it as an int or float column of items";
    let names = "is neither an output (ctr, cvr, ctcvr) nor a feature";
    let bid = format!("'bid' {names}: {wanted}");
    let ctvr = format!("'ctvr' {names}: {wanted}; did you mean 'ctcvr'?");
    let age = "'age' is no feature of items: a formula takes outputs, and int and float columns of items";
    let said = |model| [["bids", model, &bid, ""], ["old", model, age, ""], ["old", model, &ctvr, ""]];
    let unfit = "a formula of the settings";
    check(&log, unfit, formulas, &said("demo/1")).await;

    // A request of such an arm: its point is 0.75, by the line of Python in `assignment`.
    let experiment = Some(wire::ExperimentUnit { name: "gates".into(), unit: "user-1".into() });
    let asked = wire::ScoreRequest { experiment, ..request(&[10.0]) };
    running.client().await.score(asked).await.unwrap_err();
    let refusal = &log.lines("a request is refused")[0];
    let found = ["experiment", "arm", "model", "label"].map(|key| refusal[key].as_str().unwrap());
    assert_eq!(found, ["gates", "treatment", "demo", "canary"]);

    // A new version is looked at again.
    publish(running.folder.path(), "demo", 0.0);
    check(&log, unfit, formulas, &[said("demo/1"), said("demo/2")].concat()).await;
}
