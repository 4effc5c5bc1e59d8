//! What callers asked warms the next version, as the log tells, and keeps one out that has no scores for
//! it. In a process of its own: logging is started once a process.

#[path = "serving/log.rs"]
mod log;
#[path = "serving/support.rs"]
#[expect(dead_code, reason = "what the other tests need")]
mod support;

use std::path::Path;
use std::time::Duration;

use gatefold_proto::ranking::v1 as wire;
use gatefold_schema::task;
use gatefold_server::client::Link;
use wire::admin_client::AdminClient;

use log::Log;
use support::{Running, column, eventually, publish, publish_changed, request};

/// What was said when this version was loaded, once it is: recorded requests, their rows, and those that
/// did not fit.
async fn loaded(log: &Log, model: &str) -> [u64; 3] {
    let line = || log.lines("the model is loaded").into_iter().find(|fields| fields["model"] == model);
    eventually(async || line().is_some()).await;
    let fields = line().unwrap();
    ["recorded_requests", "recorded_rows", "recorded_unfit"].map(|name| fields[name].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_warmed_by_what_callers_asked() {
    let log = Log::start(tracing::Level::DEBUG);
    let running = Running::start(|_| {}).await;
    assert_eq!(loaded(&log, "demo/1").await, [0, 0, 0], "nobody has asked yet");

    let mut client = running.client().await;
    let mut asked = request(&[10.0, 20.0, 30.0]);
    asked.context = vec![column(
        "country",
        wire::column::Values::Texts(wire::Texts { values: vec!["a caller's text".into()] }),
    )];
    client.score(asked).await.unwrap();
    publish(running.folder.path(), "demo", 0.0);
    assert_eq!(loaded(&log, "demo/2").await, [1, 3, 0]);

    // One request a second is kept.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    client.score(request(&[77.0, 10.0])).await.unwrap();
    publish(running.folder.path(), "demo", 0.25);
    let mut admin = AdminClient::new(running.channel().await);
    let refused = refusal(&mut admin, 3).await;
    let expected =
        "ctr is NaN for candidate 0 of requests that were scored before (1 recorded, in one batch)";
    assert!(refused.starts_with(expected), "{refused}");
    assert_eq!(client.score(request(&[77.0])).await.unwrap().into_inner().version, 2);

    // Of both requests one asks for all outputs, and the other for one that is gone.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut asked = request(&[10.0]);
    asked.outputs = vec!["ctcvr".into()];
    client.score(asked.clone()).await.unwrap();
    publish_without_ctcvr(running.folder.path());
    let counts = loaded(&log, "demo/4").await;
    assert_eq!(counts[2], 1, "{counts:?}");
    let misfits = "some of the last requests do not fit";
    eventually(async || log.text().contains(misfits)).await;
    let text = log.text();
    let warning = text.lines().find(|line| line.contains(misfits)).unwrap();
    let warning: serde_json::Value = serde_json::from_str(warning).unwrap();
    let misfit = "it asks for output 'ctcvr', which this version does not have; it has: ctr, cvr";
    assert_eq!((&warning["level"], &warning["fields"]["first"]), (&"WARN".into(), &misfit.into()));
    assert_eq!(
        (&warning["fields"]["recorded_unfit"], &warning["fields"]["model"]),
        (&1.into(), &"demo/4".into())
    );
    assert!(!text.contains("a caller's text"), "{text}");
    drop(running);

    // Where no request fits, it is loaded by wish alone.
    let running = Running::start(|_| {}).await;
    let mut client = running.client().await;
    let mut admin = AdminClient::new(running.channel().await);
    client.score(asked).await.unwrap();
    publish_without_ctcvr(running.folder.path());
    let refused = refusal(&mut admin, 2).await;
    let expected = format!(
        "none of the 1 requests that were kept of those scored before fits this version (the first: {misfit}): \
         change the callers first, or take it all the same by `gatefold models load demo`"
    );
    assert!(refused.starts_with(&expected), "{refused}");
    assert_eq!(client.score(request(&[1.0])).await.unwrap().into_inner().version, 1);
    admin.load_model(wire::LoadModelRequest { model: "demo".into() }).await.unwrap();
    assert_eq!(client.score(request(&[1.0])).await.unwrap().into_inner().version, 2);
}

/// Publishes the next version of `demo`, without the output `ctcvr`.
fn publish_without_ctcvr(models: &Path) {
    publish_changed(models, "demo", 0.0, |manifest, golden| {
        manifest.derived.clear();
        manifest.outputs = task::outputs(&manifest.tasks, &[]);
        golden.scores.remove("ctcvr");
    });
}

/// Why a version of `demo` is refused, once it is.
async fn refusal(admin: &mut AdminClient<Link>, version: u64) -> String {
    let mut reason = String::new();
    eventually(async || {
        let listed = admin.list_versions(wire::ListVersionsRequest { model: "demo".into() }).await.unwrap();
        let found = listed.into_inner().versions.into_iter().find(|status| status.version == version);
        reason = found.map(|status| status.reason).unwrap_or_default();
        !reason.is_empty()
    })
    .await;
    reason
}
