//! More than the server can do: what is refused, how, and what becomes of the rest.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gatefold_server::client::Client;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request};

use crate::support::{Bytes, Running, eventually, request};

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_bound_are_refused_before_they_are_read() {
    let running = Running::start(|settings| settings.limits.requests = 2).await;
    running.delay.store(3_600_000, Ordering::Relaxed);
    let mut client = running.client().await;
    let mut held = JoinSet::new();
    for _ in 0..2 {
        let mut client = client.clone();
        held.spawn(async move { client.score(request(&[1.0])).await });
    }
    eventually(async || running.get("/metrics").await.contains("gatefold_requests_in_flight 2\n")).await;
    // A message that would be refused for what it says is refused for the lack of a place.
    let mut bad = request(&[1.0]);
    bad.model = "no such model".into();
    let error = client.score(bad).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    assert!(error.message().contains("2 requests are being worked on (limits.requests)"), "{error}");
    // Calls that score nothing have their way, and a place that is given back is used.
    client.list_models(gatefold_proto::ranking::v1::ListModelsRequest {}).await.unwrap();
    held.shutdown().await;
    eventually(async || running.get("/metrics").await.contains("gatefold_requests_in_flight 0\n")).await;
    running.delay.store(0, Ordering::Relaxed);
    let mut bad = request(&[1.0]);
    bad.model = "no such model".into();
    assert_eq!(client.score(bad).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_never_sends_its_message_keeps_no_place() {
    let running = Running::start(|settings| {
        settings.limits.requests = 1;
        settings.limits.request_seconds = 1.0;
    })
    .await;
    let mut client = running.client().await;
    let mut grpc = tonic::client::Grpc::new(running.channel().await);
    let silent = tokio::spawn(async move {
        loop {
            grpc.ready().await.unwrap();
            let silence = Request::new(tokio_stream::pending::<Vec<u8>>());
            let path = PathAndQuery::from_static("/gatefold.ranking.v1.Ranking/Score");
            let error = grpc.client_streaming(silence, path, Bytes).await.expect_err("it asks nothing");
            // Its place may be the other caller's at first.
            if error.code() != Code::ResourceExhausted {
                return error;
            }
        }
    });
    eventually(async || {
        let scored = client.score(request(&[1.0])).await;
        scored.is_err_and(|error| error.code() == Code::ResourceExhausted) || silent.is_finished()
    })
    .await;
    let late = silent.await.unwrap();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    client.score(request(&[1.0])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_wait_for_places_and_lose_nothing() {
    let running = Running::start(|settings| settings.limits.requests = 1).await;
    let mut streams = JoinSet::new();
    for _ in 0..4 {
        let mut client = running.client().await;
        streams.spawn(async move {
            let requests = tokio_stream::iter((0..20).map(|_| request(&[1.0])));
            let replies = client.score_stream(requests).await.unwrap().into_inner();
            replies.map(|reply| assert!(reply.unwrap().result.is_some())).collect::<Vec<_>>().await.len()
        });
    }
    while let Some(replies) = streams.join_next().await {
        assert_eq!(replies.unwrap(), 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_that_is_silent_holds_no_place() {
    let running = Running::start(|settings| settings.limits.requests = 1).await;
    let mut client = running.client().await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut replies = client.score_stream(requests).await.unwrap().into_inner();
    for _ in 0..3 {
        sender.send(request(&[1.0])).await.unwrap();
        assert!(replies.message().await.unwrap().is_some());
        // The place is given back a moment after the reply.
        eventually(async || client.score(request(&[1.0])).await.is_ok()).await;
    }
}

/// Batches of one request that take 20 ms each, asked for three times as fast by callers that wait
/// 200 ms. No assertion looks at a clock: what is refused says why, what is admitted is answered by
/// the thousands of milliseconds that the machine may take beside it.
#[tokio::test(flavor = "multi_thread")]
async fn under_three_times_the_load_callers_are_answered_or_told_to_go_elsewhere() {
    let running = Running::start(|settings| {
        settings.workers = 1;
        settings.row_budget = 1;
    })
    .await;
    running.delay.store(20, Ordering::Relaxed);
    let client = running.client().await;
    // The engine learns how long a batch takes.
    for _ in 0..3 {
        client.clone().score(request(&[1.0])).await.unwrap();
    }
    let ask = |mut client: Client| async move {
        let mut asked = Request::new(request(&[1.0]));
        asked.set_timeout(Duration::from_millis(200));
        client.score(asked).await
    };
    let mut calls = JoinSet::new();
    for _ in 0..150 {
        calls.spawn(ask(client.clone()));
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    let (mut answered, mut refused, mut late) = (0, 0, 0);
    while let Some(result) = calls.join_next().await {
        match result.unwrap() {
            Ok(_) => answered += 1,
            Err(error) if error.code() == Code::ResourceExhausted => {
                assert!(error.message().contains("an answer would take about"), "{error}");
                refused += 1;
            }
            Err(error) => {
                assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&error.code()), "{error}");
                late += 1;
            }
        }
    }
    assert_eq!(answered + refused + late, 150);
    assert!(answered > 0 && refused > 0, "{answered} answered, {refused} refused, {late} late");
}
