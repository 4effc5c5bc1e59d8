//! Labels, rollback, loading and unloading through the `Admin` service.

use gatefold_proto::ranking::v1 as wire;
use tonic::Code;
use wire::admin_client::AdminClient;

use crate::support::{Running, eventually, publish, request};

/// `version state labels` of every version.
async fn listed(admin: &mut AdminClient<gatefold_server::client::Link>) -> Vec<String> {
    let reply = admin.list_versions(wire::ListVersionsRequest { model: "demo".into() }).await.unwrap();
    let line = |status: wire::VersionStatus| {
        assert!(status.since_ms > 1_500_000_000_000 && status.model == "demo");
        let state = status.state().as_str_name().trim_start_matches("VERSION_STATE_").to_lowercase();
        format!("{} {state} {}", status.version, status.labels.join(",")).trim_end().to_owned()
    };
    reply.into_inner().versions.into_iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_one_call_that_a_restart_keeps() {
    let folder = tempfile::TempDir::new().unwrap();
    publish(folder.path(), "demo", 0.0);
    publish(folder.path(), "demo", 0.25);
    let mut running = Running::start_in(folder, |_| {}).await;
    running.ready().await;
    let mut admin = AdminClient::new(running.channel().await);
    assert_eq!(listed(&mut admin).await, ["1 unloaded", "2 serving stable"]);
    let moved = admin.rollback(wire::RollbackRequest { model: "demo".into() }).await.unwrap().into_inner();
    assert_eq!((moved.from_version, moved.version), (2, 1));
    let mut client = running.client().await;
    assert_eq!(client.score(request(&[1.0])).await.unwrap().into_inner().version, 1);
    eventually(async || listed(&mut admin).await == ["1 serving stable", "2 unloaded"]).await;

    running.stop();
    let folder = running.ended_in().await;
    let running = Running::start_in(folder, |_| {}).await;
    running.ready().await;
    let mut client = running.client().await;
    assert_eq!(client.score(request(&[1.0])).await.unwrap().into_inner().version, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_takes_the_requests_that_name_it() {
    let folder = tempfile::TempDir::new().unwrap();
    publish(folder.path(), "demo", 0.0);
    let running = Running::start_in(folder, |settings| settings.poll_seconds = 0.0).await;
    running.ready().await;
    let mut admin = AdminClient::new(running.channel().await);
    let mut set = async |label: &str, version| {
        let request = wire::SetLabelRequest { model: "demo".into(), label: label.into(), version };
        admin
            .set_label(request)
            .await
            .map(|_| ())
            .map_err(|status| (status.code(), status.message().to_owned()))
    };
    set("stable", 1).await.unwrap();
    publish(running.folder.path(), "demo", 0.25);
    set("canary", 2).await.unwrap();
    let mut client = running.client().await;
    let mut asked = request(&[1.0]);
    assert_eq!(client.score(asked.clone()).await.unwrap().into_inner().version, 1);
    asked.label = "canary".into();
    let reply = client.score(asked.clone()).await.unwrap().into_inner();
    assert_eq!((reply.version, reply.labels), (2, vec!["canary".to_owned()]));
    let described = wire::GetModelRequest { label: "canary".into(), ..wire::GetModelRequest::default() };
    let described = client.get_model(described).await.unwrap().into_inner();
    assert_eq!(
        (described.version, described.versions, described.labels),
        (2, vec![1, 2], vec!["canary".to_owned()])
    );
    asked.label = "blue".into();
    let error = client.score(asked.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(
        error.message().ends_with("no version labelled 'blue'; labels: stable (1), canary (2)"),
        "{error}"
    );

    // A bad version is refused, and the old one stays.
    publish(running.folder.path(), "demo", 0.5);
    std::fs::write(running.folder.path().join("demo/3/model.onnx"), "9").unwrap();
    let (code, message) = set("stable", 3).await.unwrap_err();
    assert_eq!(code, Code::FailedPrecondition);
    assert!(message.starts_with("demo/3 is refused: ") && message.contains("model.onnx"), "{message}");
    assert_eq!(client.score(request(&[1.0])).await.unwrap().into_inner().version, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_unloaded_and_loaded() {
    let running = Running::start(|_| {}).await;
    let mut admin = AdminClient::new(running.channel().await);
    let mut client = running.client().await;
    admin.unload_model(wire::UnloadModelRequest { model: "demo".into() }).await.unwrap();
    assert_eq!(client.score(request(&[1.0])).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(listed(&mut admin).await, ["1 unloaded"]);
    let error = admin.rollback(wire::RollbackRequest { model: "demo".into() }).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::FailedPrecondition, "model 'demo' is not loaded: load it first")
    );
    admin.load_model(wire::LoadModelRequest { model: "demo".into() }).await.unwrap();
    client.score(request(&[1.0])).await.unwrap();
}
