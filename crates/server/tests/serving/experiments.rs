//! Experiments: each unit is scored by its arm, and replies, metrics and the request log say which.

use std::collections::BTreeMap;

use gatefold_proto::ranking::v1 as wire;
use gatefold_server::client;
use gatefold_server::settings::{ArmSettings, ExperimentSettings};
use parquet::record::Field;
use tempfile::TempDir;
use tokio_stream::StreamExt;
use tonic::Code;
use wire::admin_client::AdminClient;
use wire::score_stream_response::Result as StreamResult;

use crate::request_log::{files, logging, rows, text};
use crate::support::{Running, eventually, formula, publish, request};

/// The arms of `user-0` to `user-19`: `control` where `point < 0.4`, `treatment` where it is below 0.8, with
/// `point = int.from_bytes(hashlib.sha256(f"gates-2026-11:{unit}".encode()).digest()[:8], "big") / 2**64`.
const ARMS: [&str; 20] = [
    "treatment",
    "treatment",
    "control",
    "control",
    "treatment",
    "",
    "treatment",
    "control",
    "",
    "control",
    "control",
    "treatment",
    "treatment",
    "",
    "",
    "control",
    "treatment",
    "",
    "treatment",
    "treatment",
];

pub(crate) fn arm(name: &str, share: f64) -> ArmSettings {
    ArmSettings { name: name.into(), share, model: None, version: None, label: None }
}

/// `gates`: control, and the canary, of 0.4 each.
fn gates() -> BTreeMap<String, ExperimentSettings> {
    let treatment = ArmSettings { label: Some("canary".into()), ..arm("treatment", 0.4) };
    let gates = ExperimentSettings {
        model: "demo".into(),
        salt: Some("gates-2026-11".into()),
        arms: vec![arm("control", 0.4), treatment],
    };
    [("gates".to_owned(), gates)].into()
}

/// A request of the unit `user-<user>`.
fn of_user(user: usize) -> wire::ScoreRequest {
    let experiment = wire::ExperimentUnit { name: "gates".into(), unit: format!("user-{user}") };
    wire::ScoreRequest {
        request_id: format!("r{user}"),
        experiment: Some(experiment),
        ..request(&[10.0 + user as f64, 20.0])
    }
}

/// Lets the label name the version.
async fn label(running: &Running, label: &str, version: u64) {
    let request = wire::SetLabelRequest { model: "demo".into(), label: label.into(), version };
    AdminClient::new(running.channel().await).set_label(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_unit_is_scored_by_its_arm() {
    let (models, log) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    publish(models.path(), "demo", 0.0);
    publish(models.path(), "demo", 0.25);
    let mut running = Running::start_in(models, |settings| {
        logging(log.path())(settings);
        settings.experiments = gates();
    })
    .await;
    running.ready().await;
    label(&running, "stable", 1).await;
    label(&running, "canary", 2).await;
    let mut client = running.client().await;

    // By a stream, and one by one.
    let requests: Vec<_> = (0..ARMS.len()).map(of_user).collect();
    let replies = client.score_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut scored: Vec<wire::ScoreResponse> = replies
        .map(|reply| match reply.unwrap().result {
            Some(StreamResult::Scores(scores)) => scores,
            other => panic!("{other:?}"),
        })
        .collect()
        .await;
    for user in 0..ARMS.len() {
        scored.push(client.score(of_user(user)).await.unwrap().into_inner());
    }
    for (at, reply) in scored.iter().enumerate() {
        let user = at % ARMS.len();
        assert_eq!((reply.experiment.as_str(), reply.arm.as_str()), ("gates", ARMS[user]), "{user}");
        let version = if ARMS[user] == "treatment" { 2 } else { 1 };
        assert_eq!((reply.model.as_str(), reply.version), ("demo", version), "{user}");
        // As by naming the version, and as worked out by hand.
        let named = wire::ScoreRequest { experiment: None, version, ..of_user(user) };
        let named = client.score(named).await.unwrap().into_inner();
        assert_eq!((&named.outputs, named.experiment.as_str(), named.arm.as_str()), (&reply.outputs, "", ""));
        let offset = if version == 2 { 0.25 } else { 0.0 };
        let expected = [10.0 + user as f32, 20.0].map(|price| formula(31.0, price, offset)[0]);
        assert_eq!(reply.outputs[0].scores, expected);
    }

    let model = wire::GetModelRequest { experiment: of_user(0).experiment, ..Default::default() };
    let model = client.get_model(model).await.unwrap().into_inner();
    assert_eq!((model.name.as_str(), model.version), ("demo", 2));

    let metrics = running.get("/metrics").await;
    for name in ["control", "treatment", ""] {
        let count = 2 * ARMS.iter().filter(|arm| **arm == name).count();
        let line = format!(
            "gatefold_experiment_requests_total{{experiment=\"gates\",arm=\"{name}\",code=\"OK\"}} {count}\n"
        );
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    running.stop();
    running.ended().await.unwrap();
    let logged: Vec<_> = files(&log.path().join("demo")).iter().flat_map(|file| rows(file)).collect();
    assert_eq!(logged.len(), 2 * 4 * ARMS.len());
    for row in logged {
        let Field::Str(id) = &row["request_id"] else { panic!("{row:?}") };
        let user: usize = id.strip_prefix('r').unwrap().parse().unwrap();
        match &row["experiment"] {
            // The version was named.
            Field::Null => assert_eq!(row["arm"], Field::Null),
            experiment => {
                let arm = if ARMS[user].is_empty() { Field::Null } else { text(ARMS[user]) };
                assert_eq!((experiment, &row["arm"]), (&text("gates"), &arm), "{user}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arm_that_is_not_loaded_is_named_and_counted() {
    let running = Running::start(|settings| settings.experiments = gates()).await;
    let mut client = running.client().await;
    let error = client.score(of_user(0)).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    let expected = "experiment 'gates', arm 'treatment': model 'demo' has no version labelled 'canary'; labels: stable (1)";
    assert_eq!((error.message(), client::arm(&error).as_deref()), (expected, Some("treatment")));
    // The other arms answer.
    client.score(of_user(2)).await.unwrap();
    client.score(of_user(5)).await.unwrap();
    let metrics = running.get("/metrics").await;
    for (arm, code, count) in
        [("treatment", "NOT_FOUND", 1), ("treatment", "OK", 0), ("control", "OK", 1), ("", "OK", 1)]
    {
        let series = format!("{{experiment=\"gates\",arm=\"{arm}\",code=\"{code}\"}} {count}\n");
        assert!(
            metrics.contains(&format!("gatefold_experiment_requests_total{series}")),
            "{series}{metrics}"
        );
    }
    let rejected = "gatefold_rejections_total{model=\"demo\",version=\"0\",reason=\"unknown_model\"} 1\n";
    assert!(metrics.contains(rejected), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arm_may_be_another_model_or_a_version_which_stays_when_a_newer_one_comes() {
    let models = TempDir::new().unwrap();
    publish(models.path(), "demo", 0.0);
    publish(models.path(), "other", 0.5);
    let running = Running::start_in(models, |settings| {
        settings.experiments = gates();
        let arms = &mut settings.experiments.get_mut("gates").unwrap().arms;
        (arms[0].version, arms[1].model, arms[1].label) = (Some(1), Some("other".into()), None);
    })
    .await;
    running.ready().await;
    publish(running.folder.path(), "demo", 0.25);
    let mut client = running.client().await;
    let newest = || wire::GetModelRequest { model: "demo".into(), ..Default::default() };
    eventually(async || client.get_model(newest()).await.unwrap().into_inner().version == 2).await;
    for (user, expected) in
        [(0, ("other", 1, "treatment")), (2, ("demo", 1, "control")), (5, ("demo", 2, ""))]
    {
        let reply = client.score(of_user(user)).await.unwrap().into_inner();
        assert_eq!((reply.model.as_str(), reply.version, reply.arm.as_str()), expected);
    }
}
