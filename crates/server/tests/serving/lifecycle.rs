//! Starting, swapping models, probes, reflection and stopping.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gatefold_proto::ranking::v1 as wire;
use tempfile::TempDir;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use wire::admin_client::AdminClient;

use crate::support::{Running, eventually, formula, publish, request};

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_folder_is_waited_on() {
    let running = Running::start_in(TempDir::new().unwrap(), |_| {}).await;
    assert!(running.get("/livez").await.starts_with("HTTP/1.1 200"));
    eventually(async || {
        let reply = running.get("/readyz").await;
        assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
        reply.contains("not ready: no model is loaded")
    })
    .await;
    let mut client = running.client().await;
    assert_eq!(client.score(request(&[1.0])).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(health(&running, "").await, Ok(ServingStatus::NotServing));
    publish(running.folder.path(), "demo", 0.0);
    running.ready().await;
    client.score(request(&[1.0])).await.unwrap();
    eventually(async || health(&running, "").await == Ok(ServingStatus::Serving)).await;
    assert_eq!(health(&running, "demo").await, Ok(ServingStatus::Serving));
    assert_eq!(health(&running, "gatefold.ranking.v1.Ranking").await, Ok(ServingStatus::Serving));
    assert_eq!(health(&running, "inference.GRPCInferenceService").await, Ok(ServingStatus::Serving));
    assert_eq!(health(&running, "dome").await, Err(Code::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_swapped_in_without_a_failed_request() {
    let running = Running::start(|_| {}).await;
    let mut client = running.client().await;
    publish(running.folder.path(), "demo", 0.25);
    eventually(async || {
        let reply = client.score(request(&[10.0])).await.unwrap().into_inner();
        let offset = if reply.version == 2 { 0.25 } else { 0.0 };
        assert_eq!(reply.outputs[0].scores, [formula(31.0, 10.0, offset)[0]]);
        reply.version == 2
    })
    .await;
    let metrics = running.get("/metrics").await;
    assert!(metrics.contains("gatefold_model_version{model=\"demo\"} 2\n"), "{metrics}");
    assert!(
        metrics.contains("gatefold_requests_total{model=\"demo\",version=\"2\",code=\"OK\"}"),
        "{metrics}"
    );
    assert!(metrics.contains("gatefold_infer_seconds_count{model=\"demo\",version=\"2\"}"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_bundle_is_refused_with_its_reason() {
    let folder = TempDir::new().unwrap();
    publish(folder.path(), "demo", 0.0);
    std::fs::write(folder.path().join("demo/1/model.onnx"), "9").unwrap();
    let running = Running::start_in(folder, |_| {}).await;
    let message = format!("{:#}", running.ended().await.unwrap_err());
    assert!(message.contains("none of the models in"), "{message}");
    assert!(message.contains("demo/1") && message.contains("model.onnx"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_good_model_a_damaged_one_is_shown() {
    let folder = TempDir::new().unwrap();
    publish(folder.path(), "demo", 0.0);
    publish(folder.path(), "other", 0.0);
    std::fs::write(folder.path().join("other/1/model.onnx"), "9").unwrap();
    let running = Running::start_in(folder, |_| {}).await;
    running.ready().await;
    eventually(async || {
        let reply = running.get("/readyz").await;
        reply.contains("demo/1: serving\n") && reply.contains("other/1: refused: ")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_folder_is_an_error() {
    let folder = TempDir::new().unwrap();
    let running =
        Running::start_in(folder, |settings| settings.models = settings.models.join("nowhere")).await;
    let message = format!("{:#}", running.ended().await.unwrap_err());
    assert!(message.contains("nowhere: create it, or give another"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_answers_what_is_in_flight_and_refuses_what_is_new() {
    let mut running = Running::start(|settings| settings.drain_seconds = 3600.0).await;
    running.delay.store(500, Ordering::Relaxed);
    let mut client = running.client().await;
    let mut watch = watch_health(&running).await;
    assert_eq!(watch.next().await, Some(ServingStatus::Serving));
    let mut asked = client.clone();
    let in_flight = tokio::spawn(async move { asked.score(request(&[10.0])).await });
    eventually(async || running.get("/metrics").await.contains("gatefold_requests_in_flight 1\n")).await;
    running.stop();
    assert_eq!(watch.next().await, Some(ServingStatus::NotServing));
    let reply = in_flight.await.unwrap().expect("it was in flight before the stop").into_inner();
    assert_eq!(reply.outputs[0].scores, [formula(31.0, 10.0, 0.0)[0]]);
    // The watch does not hold the server up.
    assert_eq!(watch.next().await, None);
    let address = running.address;
    // Long before the limit of an hour.
    running.ended().await.unwrap();
    assert!(client.score(request(&[10.0])).await.is_err());
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the port is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_has_a_limit() {
    let mut running = Running::start(|settings| settings.drain_seconds = 0.2).await;
    // A batch that takes an hour.
    running.delay.store(3_600_000, Ordering::Relaxed);
    let mut client = running.client().await;
    let call = tokio::spawn(async move { client.score(request(&[10.0])).await });
    eventually(async || running.get("/metrics").await.contains("gatefold_requests_in_flight 1\n")).await;
    running.stop();
    running.ended().await.unwrap();
    call.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_shows_the_api() {
    let running = Running::start(|_| {}).await;
    let channel = gatefold_server::client::connect(&format!("http://{}", running.address)).await.unwrap();
    let mut client = ServerReflectionClient::new(channel);
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut replies = client.server_reflection_info(tokio_stream::iter([ask])).await.unwrap().into_inner();
    let reply = replies.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(services)) = reply.message_response else {
        panic!("{reply:?}");
    };
    let names: Vec<&str> = services.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["gatefold.ranking.v1.Ranking", "inference.GRPCInferenceService", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_the_server_stops() {
    let mut running = Running::start(|_| {}).await;
    let mut client = running.client().await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut replies = client.score_stream(requests).await.unwrap().into_inner();
    sender.send(request(&[10.0])).await.unwrap();
    let first = replies.message().await.unwrap().unwrap();
    assert!(matches!(first.result, Some(wire::score_stream_response::Result::Scores(_))), "{first:?}");
    running.stop();
    // The caller keeps its side open; the server ends the stream all the same, and says that what
    // else was sent is to be sent again.
    let end = replies.message().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    assert!(end.message().starts_with("the server is stopping: requests of this stream"), "{end}");
    running.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_sends_to_a_server_that_stops_is_answered_or_refused() {
    let mut running = Running::start(|settings| settings.limits.requests = 1).await;
    running.delay.store(300, Ordering::Relaxed);
    // The caller has ended its side, so the stream ends well after its answers.
    let mut whole = running.client().await;
    let requests = tokio_stream::iter([request(&[1.0])]);
    let mut replies = whole.score_stream(requests).await.unwrap().into_inner();
    eventually(async || running.get("/metrics").await.contains("gatefold_requests_in_flight 1\n")).await;
    // The one place is taken, so this one waits.
    let mut waiting = running.client().await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender.send(request(&[2.0])).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut unanswered = waiting.score_stream(requests).await.unwrap().into_inner();
    running.stop();
    assert!(replies.message().await.unwrap().is_some());
    assert!(replies.message().await.unwrap().is_none());
    let end = unanswered.message().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    running.ended().await.unwrap();
}

async fn health(running: &Running, service: &str) -> Result<ServingStatus, Code> {
    let channel = gatefold_server::client::connect(&format!("http://{}", running.address)).await.unwrap();
    let request = HealthCheckRequest { service: service.into() };
    let reply = HealthClient::new(channel).check(request).await.map_err(|status| status.code())?;
    Ok(reply.into_inner().status())
}

async fn watch_health(running: &Running) -> impl tokio_stream::Stream<Item = ServingStatus> + Unpin + use<> {
    let channel = gatefold_server::client::connect(&format!("http://{}", running.address)).await.unwrap();
    let request = HealthCheckRequest { service: "demo".into() };
    // The engine's news reaches the health service a moment after the model is ready.
    loop {
        if let Ok(stream) = HealthClient::new(channel.clone()).watch(request.clone()).await {
            return Box::pin(stream.into_inner().map_while(|reply| reply.ok().map(|reply| reply.status())));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_answer_while_a_version_loads_and_while_the_server_drains() {
    let mut running = Running::start(|settings| settings.drain_seconds = 3600.0).await;
    // The golden rows of the next version take their time.
    running.delay.store(300, Ordering::Relaxed);
    publish(running.folder.path(), "demo", 0.25);
    eventually(async || {
        let reply = running.get("/readyz").await;
        assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("demo/1: serving\n"), "{reply}");
        reply.contains("demo/2: loading\n")
    })
    .await;
    let metrics = running.get("/metrics").await;
    assert!(metrics.contains("gatefold_model_versions{model=\"demo\",state=\"loading\"} 1\n"), "{metrics}");
    running.delay.store(0, Ordering::Relaxed);
    eventually(async || running.get("/readyz").await.contains("demo/2: serving\n")).await;

    running.delay.store(1000, Ordering::Relaxed);
    let mut client = running.client().await;
    let in_flight = tokio::spawn(async move { client.score(request(&[10.0])).await });
    eventually(async || running.get("/metrics").await.contains("gatefold_requests_in_flight 1\n")).await;
    running.stop();
    eventually(async || {
        let reply = running.get("/readyz").await;
        reply.starts_with("HTTP/1.1 503") && reply.contains("stopping\n")
    })
    .await;
    assert!(running.get("/livez").await.starts_with("HTTP/1.1 200"));
    assert!(running.get("/metrics").await.contains("gatefold_requests_in_flight 1\n"));
    in_flight.await.unwrap().expect("it was in flight before the stop");
    running.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_version_is_counted_beside_the_one_that_serves() {
    let folder = TempDir::new().unwrap();
    publish(folder.path(), "demo", 0.0);
    publish(folder.path(), "demo", 0.5);
    std::fs::write(folder.path().join("demo/2/model.onnx"), "9").unwrap();
    let running = Running::start_in(folder, |_| {}).await;
    running.ready().await;
    let reply = running.get("/readyz").await;
    assert!(reply.contains("demo/1: serving\n") && reply.contains("demo/2: refused: "), "{reply}");
    let metrics = running.get("/metrics").await;
    for (state, count) in [("serving", 1), ("refused", 1)] {
        let line = format!("gatefold_model_versions{{model=\"demo\",state=\"{state}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_has_lost_its_backends_is_seen_everywhere() {
    let running = Running::start(|settings| settings.workers = 1).await;
    let mut client = running.client().await;
    let mut admin = AdminClient::new(running.channel().await);
    running.broken.store(true, Ordering::Relaxed);
    let failed = client.score(request(&[99.0])).await.unwrap_err();
    assert_eq!(failed.code(), Code::Internal, "{failed}");
    eventually(async || health(&running, "demo").await == Ok(ServingStatus::NotServing)).await;
    assert_eq!(health(&running, "").await, Ok(ServingStatus::NotServing));
    let ready = running.get("/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    let reason =
        "its backends panicked and cannot be opened again (the device is gone): load the model again";
    assert!(ready.contains(&format!("demo/1: refused: {reason}")), "{ready}");
    let status = admin.list_versions(wire::ListVersionsRequest::default()).await.unwrap().into_inner();
    assert_eq!(status.versions[0].state(), wire::VersionState::Refused);
    assert!(status.versions[0].reason.starts_with(reason), "{status:?}");
    let metrics = running.get("/metrics").await;
    assert!(metrics.contains("gatefold_model_versions{model=\"demo\",state=\"refused\"} 1\n"), "{metrics}");
    let mut named = request(&[1.0]);
    named.model = "demo".into();
    let lost = client.score(named).await.unwrap_err();
    assert_eq!(lost.code(), Code::Unavailable, "{lost}");
    assert!(lost.message().starts_with("model 'demo/1' has failed and takes no traffic"), "{lost}");
    // Loading it again is tried, and works once the device is there.
    let load = || wire::LoadModelRequest { model: "demo".into() };
    let refused = admin.load_model(load()).await.unwrap_err();
    assert!(refused.message().contains("demo/1 is refused: the device is gone"), "{refused}");
    running.broken.store(false, Ordering::Relaxed);
    admin.load_model(load()).await.unwrap();
    client.score(request(&[1.0])).await.unwrap();
    eventually(async || health(&running, "demo").await == Ok(ServingStatus::Serving)).await;
}
