//! Scores, streams and descriptions of models.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gatefold_proto::ranking::v1 as wire;
use tokio_stream::StreamExt;
use tonic::{Code, Request};
use wire::score_stream_response::Result as StreamResult;

use crate::support::{Running, eventually, formula, gate_weights, publish, request};

#[tokio::test(flavor = "multi_thread")]
async fn scores_are_those_of_the_model_in_the_order_asked_for() {
    let running = Running::start(|_| {}).await;
    let mut client = running.client().await;
    let prices = [10.0, 30.0, 20.0];
    let reply = client.score(request(&prices)).await.unwrap().into_inner();
    assert_eq!((reply.model.as_str(), reply.version, reply.request_id.as_str()), ("demo", 1, "r1"));
    let names: Vec<&str> = reply.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["ctr", "cvr", "ctcvr"]);
    for (at, output) in reply.outputs.iter().enumerate() {
        let expected = prices.map(|price| formula(31.0, price as f32, 0.0)[at]);
        assert_eq!(output.scores, expected, "{}", output.name);
    }
    assert!(reply.candidates.is_empty());
    assert!(reply.timings.unwrap().batch_candidates >= 3);

    let mut asked = request(&prices);
    asked.outputs = vec!["ctcvr".into(), "ctr".into()];
    let reply = client.score(asked).await.unwrap().into_inner();
    let names: Vec<&str> = reply.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["ctcvr", "ctr"]);
    assert_eq!(reply.outputs[1].scores, prices.map(|price| formula(31.0, price as f32, 0.0)[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn top_k_returns_the_best_and_their_places() {
    let running = Running::start(|_| {}).await;
    let mut client = running.client().await;
    let mut asked = request(&[10.0, 30.0, 20.0, 30.0]);
    asked.outputs = vec!["ctr".into()];
    asked.top_k = 3;
    // Ranked by an output that is not returned.
    asked.top_k_by = "cvr".into();
    let reply = client.score(asked.clone()).await.unwrap().into_inner();
    assert_eq!(reply.candidates, [1, 3, 2]);
    assert_eq!(reply.outputs.len(), 1);
    assert_eq!(reply.outputs[0].scores, [30.0, 30.0, 20.0].map(|price| formula(31.0, price, 0.0)[0]));
    // More than there are: all, ranked.
    (asked.top_k, asked.top_k_by) = (9, String::new());
    let reply = client.score(asked).await.unwrap().into_inner();
    assert_eq!(reply.candidates, [1, 3, 2, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn gate_weights_explain_the_returned_rows_where_they_are_asked_for() {
    let running = Running::start(|_| {}).await;
    let mut client = running.client().await;
    let prices = [16.0, 32.0, 24.0];
    let expected = |gate: usize, prices: &[f32]| -> Vec<f32> {
        prices.iter().flat_map(|price| gate_weights(*price)[gate].clone()).collect()
    };
    let mut asked = request(&prices);
    let without = client.score(asked.clone()).await.unwrap().into_inner();
    assert_eq!(without.gates, []);
    asked.explain_gates = true;
    let reply = client.score(asked.clone()).await.unwrap().into_inner();
    assert_eq!(reply.outputs, without.outputs);
    let [ctr, cvr] = &reply.gates[..] else { panic!("a gate for each task: {:?}", reply.gates) };
    assert_eq!((ctr.gate.as_str(), ctr.tasks.as_slice()), ("gate.ctr", &["ctr".to_owned()][..]));
    assert_eq!(ctr.experts, ["expert.ctr.0", "expert.shared.0"]);
    assert_eq!(ctr.weights, expected(0, &[16.0, 32.0, 24.0]));
    assert_eq!((cvr.gate.as_str(), cvr.experts.len()), ("gate.cvr", 3));
    assert_eq!(cvr.weights, expected(1, &[16.0, 32.0, 24.0]));
    // The gate of a single output, for the rows that are returned, in their order.
    (asked.outputs, asked.top_k) = (vec!["cvr".into()], 2);
    let reply = client.score(asked.clone()).await.unwrap().into_inner();
    assert_eq!((reply.candidates.as_slice(), reply.gates.len()), (&[1, 2][..], 1));
    assert_eq!(reply.gates[0].weights, expected(1, &[32.0, 24.0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_values_and_integers_for_floats_are_accepted() {
    let running = Running::start(|_| {}).await;
    let mut client = running.client().await;
    let mut asked = request(&[10.0, f64::NAN]);
    // What stands at a missing row is not looked at.
    asked.items[1].missing = vec![1];
    asked.user[0].values = Some(wire::column::Values::Ints(wire::Ints { values: vec![31] }));
    let reply = client.score(asked).await.unwrap().into_inner();
    assert_eq!(reply.outputs[0].scores, [formula(31.0, 10.0, 0.0)[0], formula(31.0, 0.0, 0.0)[0]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_in_order_and_outlives_a_bad_request() {
    let running = Running::start(|settings| settings.limits.stream_requests = 4).await;
    let mut client = running.client().await;
    let requests = (0..50).map(|at| {
        let mut one = request(&[f64::from(at % 50)]);
        one.request_id = format!("r{at}");
        if at == 7 {
            one.outputs = vec!["nothing".into()];
        }
        one
    });
    let replies = client.score_stream(tokio_stream::iter(requests.collect::<Vec<_>>())).await.unwrap();
    let replies: Vec<_> = replies.into_inner().collect().await;
    assert_eq!(replies.len(), 50);
    for (at, reply) in replies.into_iter().enumerate() {
        match reply.unwrap().result.unwrap() {
            StreamResult::Scores(scores) => {
                assert_eq!(scores.request_id, format!("r{at}"));
                assert_eq!(scores.outputs[0].scores, [formula(31.0, at as f32, 0.0)[0]]);
            }
            StreamResult::Error(error) => {
                assert_eq!((at, error.request_id.as_str()), (7, "r7"));
                assert_eq!(error.code, Code::InvalidArgument as i32);
                assert!(error.message.contains("'nothing'"), "{}", error.message);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_described() {
    let running = Running::start(|_| {}).await;
    publish(running.folder.path(), "other", 0.1);
    let mut client = running.client().await;
    eventually(async || {
        let reply = client.list_models(wire::ListModelsRequest {}).await.unwrap().into_inner();
        reply.models.iter().map(|model| model.name.as_str()).eq(["demo", "other"])
    })
    .await;
    let wanted = wire::GetModelRequest { model: "demo".into(), ..wire::GetModelRequest::default() };
    let model = client.get_model(wanted).await.unwrap().into_inner();
    assert_eq!((model.version, model.versions.as_slice(), model.user_once), (1, &[1][..], false));
    let recent = &model.features[1];
    assert_eq!((recent.name.as_str(), recent.sequence, recent.max_len), ("recent", true, 3));
    assert_eq!((recent.side(), recent.r#type()), (wire::Side::User, wire::ValueType::Int));
    assert_eq!(model.outputs[1].space, "impressions with click = 1");
    // With two models loaded the name is needed.
    let error = client.score(request(&[1.0])).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("demo, other"), "{}", error.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_request_is_answered_deadline_exceeded() {
    let running = Running::start(|_| {}).await;
    running.delay.store(400, Ordering::Relaxed);
    let mut client = running.client().await;
    // The client's own timer may go off first and say CANCELLED: then try again.
    eventually(async || {
        let mut asked = Request::new(request(&[1.0]));
        asked.set_timeout(Duration::from_millis(100));
        let error = client.score(asked).await.expect_err("the model takes four times as long");
        assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&error.code()), "{error}");
        error.code() == Code::DeadlineExceeded
    })
    .await;
    eventually(async || {
        let metrics = running.get("/metrics").await;
        metrics.contains("gatefold_requests_total{model=\"demo\",version=\"1\",code=\"DEADLINE_EXCEEDED\"}")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_and_a_failing_model_are_answered() {
    let running = Running::start(|settings| {
        settings.workers = 1;
        settings.limits.candidates = 4;
        settings.queue_rows = 4;
        settings.row_budget = 4;
    })
    .await;
    let mut client = running.client().await;
    let error = client.score(request(&[66.0])).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert!(error.message().contains("a price of 66"), "{}", error.message());

    running.delay.store(300, Ordering::Relaxed);
    let calls = (0..8).map(|_| {
        let mut client = client.clone();
        tokio::spawn(async move { client.score(request(&[1.0, 2.0])).await.map_err(|error| error.code()) })
    });
    let mut codes = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        codes.push(call.await.unwrap().err());
    }
    // One batch of four runs and four candidates wait; whatever comes then is refused.
    assert!(codes.contains(&Some(Code::ResourceExhausted)), "{codes:?}");
    assert!(codes.contains(&None), "{codes:?}");
    assert!(codes.iter().all(|code| matches!(code, None | Some(Code::ResourceExhausted))), "{codes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_gives_the_place_of_a_low_priority_to_a_high_one() {
    let running = Running::start(|settings| {
        settings.workers = 1;
        settings.limits.candidates = 4;
        settings.queue_rows = 4;
        settings.row_budget = 4;
    })
    .await;
    let client = running.client().await;
    running.delay.store(500, Ordering::Relaxed);
    let ask = |priority| {
        let mut client = client.clone();
        let mut asked = request(&[1.0, 2.0, 3.0, 4.0]);
        asked.priority = priority;
        tokio::spawn(async move {
            client.score(asked).await.map_err(|error| (error.code(), error.message().to_owned()))
        })
    };
    let waiting = async |rows: usize| {
        let line = format!("gatefold_queue_rows{{model=\"demo\",version=\"1\"}} {rows}\n");
        eventually(async || running.get("/metrics").await.contains(&line)).await;
    };
    let in_flight = async |requests: usize| {
        let line = format!("gatefold_requests_in_flight {requests}\n");
        eventually(async || running.get("/metrics").await.contains(&line)).await;
    };
    let first = ask(0);
    in_flight(1).await;
    waiting(0).await;
    let low = ask(1);
    waiting(4).await;
    let high = ask(2);
    let (code, message) = low.await.unwrap().unwrap_err();
    assert_eq!(code, Code::ResourceExhausted);
    assert!(message.contains("a request of a higher priority took this one's place"), "{message}");
    assert!(first.await.unwrap().is_ok() && high.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_cancelled_or_missing_is_counted() {
    let running = Running::start(|settings| {
        settings.limits.candidates = 4;
        settings.limits.message_bytes = 1000;
    })
    .await;
    let mut client = running.client().await;
    assert_eq!(client.score(request(&[1.0; 500])).await.unwrap_err().code(), Code::OutOfRange);
    let mut asked = request(&[10.0, 20.0]);
    asked.items[0].missing = vec![1];
    client.score(asked.clone()).await.unwrap();
    asked.outputs = vec!["nothing".into()];
    client.score(asked.clone()).await.unwrap_err();
    asked.model = "nobody".into();
    client.score(asked).await.unwrap_err();
    client.score(request(&[1.0; 5])).await.unwrap_err();
    running.delay.store(60_000, Ordering::Relaxed);
    let call = tokio::spawn(async move { client.score(request(&[1.0])).await });
    eventually(async || running.get("/metrics").await.contains("gatefold_requests_in_flight 1\n")).await;
    call.abort();
    let cancelled = "{model=\"demo\",version=\"1\",reason=\"cancelled\"} 1\n";
    eventually(async || running.get("/metrics").await.contains(cancelled)).await;
    running.delay.store(0, Ordering::Relaxed);
    let metrics = running.get("/metrics").await;
    let demo = "model=\"demo\",version=\"1\"";
    for line in [
        format!("gatefold_rejections_total{{{demo},reason=\"bad_input\"}} 1"),
        format!("gatefold_rejections_total{{{demo},reason=\"limit\"}} 1"),
        "gatefold_rejections_total{model=\"\",version=\"0\",reason=\"unknown_model\"} 1".to_owned(),
        "gatefold_rejections_total{model=\"\",version=\"0\",reason=\"limit\"} 1".to_owned(),
        format!("gatefold_feature_missing_total{{{demo},feature=\"item_id\"}} 1"),
        format!("gatefold_score_count{{{demo},output=\"cvr\"}} 2"),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn candidates_are_ranked_by_a_fused_score() {
    use crate::support::column;
    use wire::column::Values;
    let formulas = [("revenue".to_owned(), "ctcvr * bid".to_owned())].into();
    let running = Running::start(|settings| settings.formulas = [("demo".to_owned(), formulas)].into()).await;
    let mut client = running.client().await;
    let prices = [10.0, 30.0, 20.0];
    let mut asked = request(&prices);
    asked.outputs = vec!["cvr".into()];
    asked.formula = "ctr ^ 0.5 * price + 2 * item_id".into();
    let reply = client.score(asked.clone()).await.unwrap().into_inner();
    let expected = [0, 1, 2].map(|row| {
        let ctr = formula(31.0, prices[row] as f32, 0.0)[0];
        f64::from(ctr).powf(0.5) * prices[row] + 2.0 * row as f64
    });
    assert_eq!(reply.fused, expected);
    assert_eq!(reply.outputs.len(), 1, "what only the formula needs is computed and not returned");
    assert_eq!(reply.outputs[0].scores, prices.map(|price| formula(31.0, price as f32, 0.0)[1]));

    // A column that is no feature, a missing value, and the formula from the settings.
    let mut bids = column("bid", Values::Ints(wire::Ints { values: vec![9, 1, 8] }));
    asked.items.push(bids.clone());
    (asked.formula, asked.formula_name, asked.top_k) = (String::new(), "revenue".into(), 2);
    let reply = client.score(asked.clone()).await.unwrap().into_inner();
    let ctcvr = prices.map(|price| f64::from(formula(31.0, price as f32, 0.0)[2]));
    assert_eq!((reply.candidates, reply.fused), (vec![2, 0], vec![ctcvr[2] * 8.0, ctcvr[0] * 9.0]));
    assert_eq!(reply.outputs[0].scores, [20.0, 10.0].map(|price| formula(31.0, price, 0.0)[1]));
    bids.missing = vec![1];
    asked.items[2] = bids;
    let error = client.score(asked.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let said = "formula_name: 'revenue' of the server's settings: row 1: 'ctcvr * bid' is not a number where ctcvr is 0.0";
    assert!(error.message().starts_with(said) && error.message().contains("bid is missing"), "{error}");
    (asked.formula, asked.formula_name) = ("coalesce(bid, 0) - ctr".into(), String::new());
    // Ranked by an output all the same.
    asked.top_k_by = "cvr".into();
    let reply = client.score(asked.clone()).await.unwrap().into_inner();
    assert_eq!((reply.candidates, reply.fused.len()), (vec![1, 2], 2));
}
