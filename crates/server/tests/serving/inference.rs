//! The Open Inference Protocol: scores, streams, descriptions, the repository and statistics.
//!
//! `tests/python` drives the same calls by Triton's own client; what that client would not send is
//! here, what is refused in the table of `refusals`.

mod anything;

use std::sync::atomic::Ordering;
use std::time::Duration;

use gatefold_proto::inference as wire;
use gatefold_server::client::Link;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use wire::grpc_inference_service_client::GrpcInferenceServiceClient;
use wire::infer_parameter::ParameterChoice;
use wire::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use wire::{InferTensorContents, ModelInferRequest, ModelInferResponse};

use crate::support::{Running, eventually, formula, publish};

async fn client(running: &Running) -> GrpcInferenceServiceClient<Link> {
    let address = format!("http://{}", running.address);
    GrpcInferenceServiceClient::new(gatefold_server::client::connect(&address).await.unwrap())
}

pub(crate) fn input(
    name: &str,
    datatype: &str,
    shape: &[i64],
    contents: InferTensorContents,
) -> InferInputTensor {
    InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        contents: Some(contents),
        ..InferInputTensor::default()
    }
}

pub(crate) fn int64s(values: &[i64]) -> InferTensorContents {
    InferTensorContents { int64_contents: values.to_vec(), ..InferTensorContents::default() }
}

pub(crate) fn fp32s(values: &[f32]) -> InferTensorContents {
    InferTensorContents { fp32_contents: values.to_vec(), ..InferTensorContents::default() }
}

pub(crate) fn texts(values: &[&str]) -> InferTensorContents {
    let bytes_contents = values.iter().map(|text| text.as_bytes().to_vec()).collect();
    InferTensorContents { bytes_contents, ..InferTensorContents::default() }
}

/// A request of user age 31 and candidates of these prices, with typed contents.
pub(crate) fn request(prices: &[f32]) -> ModelInferRequest {
    let rows = prices.len() as i64;
    ModelInferRequest {
        model_name: "demo".into(),
        id: "r1".into(),
        inputs: vec![
            input("age", "FP32", &[1], fp32s(&[31.0])),
            input("recent", "INT64", &[1, 2], int64s(&[7, 8])),
            input("country", "BYTES", &[1], texts(&["de"])),
            input("item_id", "INT64", &[rows], int64s(&(0..rows).collect::<Vec<_>>())),
            input("price", "FP32", &[rows], fp32s(prices)),
        ],
        ..ModelInferRequest::default()
    }
}

/// The same request with raw contents.
pub(crate) fn raw(mut request: ModelInferRequest) -> ModelInferRequest {
    for input in &mut request.inputs {
        let contents = input.contents.take().unwrap_or_default();
        let mut bytes = Vec::new();
        bytes.extend(contents.bool_contents.iter().map(|flag| u8::from(*flag)));
        bytes.extend(contents.int64_contents.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(contents.fp32_contents.iter().flat_map(|value| value.to_le_bytes()));
        for text in &contents.bytes_contents {
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text);
        }
        request.raw_input_contents.push(bytes.into());
    }
    request
}

/// Scores of the output at `place`, from the raw contents.
fn scores(reply: &ModelInferResponse, place: usize) -> Vec<f32> {
    let (chunks, rest) = reply.raw_output_contents[place].as_chunks();
    assert!(rest.is_empty());
    chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

pub(crate) fn parameter(number: i64) -> wire::InferParameter {
    wire::InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(number)) }
}

fn ctr(prices: &[f32]) -> Vec<f32> {
    prices.iter().map(|&price| formula(31.0, price, 0.0)[0]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_and_typed_contents_get_the_scores_of_the_model() {
    let running = Running::start(|_| {}).await;
    let mut client = client(&running).await;
    let prices = [10.0, 30.0, 20.0];
    for asked in [request(&prices), raw(request(&prices))] {
        let reply = client.model_infer(asked).await.unwrap().into_inner();
        let said = (reply.model_name.as_str(), reply.model_version.as_str(), reply.id.as_str());
        assert_eq!(said, ("demo", "1", "r1"));
        let outputs: Vec<_> = reply.outputs.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(outputs, ["ctr", "cvr", "ctcvr"]);
        for (place, output) in reply.outputs.iter().enumerate() {
            assert_eq!((output.datatype.as_str(), output.shape.as_slice()), ("FP32", &[3][..]));
            assert!(output.contents.is_none());
            assert_eq!(scores(&reply, place), prices.map(|price| formula(31.0, price, 0.0)[place]));
        }
    }
    let mut asked = request(&prices);
    asked.model_version = "1".into();
    for name in ["ctcvr", "ctr"] {
        asked.outputs.push(InferRequestedOutputTensor { name: name.into(), ..Default::default() });
    }
    let reply = client.model_infer(asked).await.unwrap().into_inner();
    let outputs: Vec<_> = reply.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(outputs, ["ctcvr", "ctr"]);
    assert_eq!(scores(&reply, 1), ctr(&prices));
    // The version that takes traffic has the label `stable`.
    let mut asked = request(&prices);
    asked.model_version = "stable".into();
    assert_eq!(client.model_infer(asked).await.unwrap().into_inner().model_version, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_and_datatype_of_a_feature_is_taken() {
    let running = Running::start(|_| {}).await;
    let mut client = client(&running).await;
    let contents = InferTensorContents::default;
    let int32s = |values: &[i32]| InferTensorContents { int_contents: values.to_vec(), ..contents() };
    let uint64s = |values: &[u64]| InferTensorContents { uint64_contents: values.to_vec(), ..contents() };
    let uints = |values: &[u32]| InferTensorContents { uint_contents: values.to_vec(), ..contents() };
    let fp64s = |values: &[f64]| InferTensorContents { fp64_contents: values.to_vec(), ..contents() };
    let alternatives = [
        input("age", "FP32", &[1, 1], fp32s(&[31.0])),
        input("age", "FP64", &[1], fp64s(&[31.0])),
        input("age", "INT8", &[1], int32s(&[31])),
        input("age", "FP32", &[2], fp32s(&[31.0, 31.0])),
        input("age", "INT64", &[2, 1], int64s(&[31, 31])),
        input("recent", "INT64", &[2], int64s(&[7, 8])),
        input("recent", "INT32", &[2, 3], int32s(&[7, 8, 9, 7, 8, 9])),
        input("recent", "INT64", &[1, 0], contents()),
        input("country", "BYTES", &[2, 1], texts(&["de", "de"])),
        input("item_id", "INT64", &[2, 1], int64s(&[1, 2])),
        input("item_id", "INT16", &[2], int32s(&[-32768, 32767])),
        input("item_id", "UINT8", &[2], uints(&[0, 255])),
        input("item_id", "UINT64", &[2], uint64s(&[0, i64::MAX as u64])),
        input("price", "UINT32", &[2], uints(&[10, 20])),
        input("price", "FP64", &[2], fp64s(&[10.0, 20.0])),
    ];
    for alternative in alternatives {
        let mut asked = request(&[10.0, 20.0]);
        let place = asked.inputs.iter().position(|input| input.name == alternative.name).unwrap();
        asked.inputs[place] = alternative.clone();
        let reply =
            client.model_infer(asked).await.unwrap_or_else(|error| panic!("{error}: {alternative:?}"));
        assert_eq!(scores(&reply.into_inner(), 0), ctr(&[10.0, 20.0]), "{alternative:?}");
    }
    // The same widths as raw bytes; order of inputs does not matter.
    let cases: [(&str, &[u8]); 8] = [
        ("INT8", &[10, 20]),
        ("UINT8", &[10, 20]),
        ("INT16", &[10, 0, 20, 0]),
        ("UINT16", &[10, 0, 20, 0]),
        ("INT32", &[10, 0, 0, 0, 20, 0, 0, 0]),
        ("UINT32", &[10, 0, 0, 0, 20, 0, 0, 0]),
        ("UINT64", &[10, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0]),
        ("FP64", &[0, 0, 0, 0, 0, 0, 0x24, 0x40, 0, 0, 0, 0, 0, 0, 0x34, 0x40]),
    ];
    for (datatype, bytes) in cases {
        let mut asked = raw(request(&[10.0, 20.0]));
        asked.inputs[4].datatype = datatype.into();
        asked.raw_input_contents[4] = bytes.to_vec().into();
        asked.inputs.reverse();
        asked.raw_input_contents.reverse();
        let reply = client.model_infer(asked).await.unwrap_or_else(|error| panic!("{error}: {datatype}"));
        assert_eq!(scores(&reply.into_inner(), 0), ctr(&[10.0, 20.0]), "{datatype}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_may_hold_several_users() {
    let running = Running::start(|_| {}).await;
    let mut client = client(&running).await;
    let mut asked = request(&[10.0, 20.0, 30.0]);
    asked.inputs[0] = input("age", "FP32", &[3], fp32s(&[31.0, 31.0, 77.0]));
    for asked in [asked.clone(), raw(asked)] {
        let reply = client.model_infer(asked).await.unwrap().into_inner();
        let expected =
            [(31.0, 10.0), (31.0, 20.0), (77.0, 30.0)].map(|(age, price)| formula(age, price, 0.0)[0]);
        assert_eq!(scores(&reply, 0), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_values_and_short_rows_have_inputs_of_their_own() {
    let running = Running::start(|_| {}).await;
    let mut client = client(&running).await;
    let mut asked = request(&[10.0, f32::NAN]);
    let flags = InferTensorContents { bool_contents: vec![false, true], ..InferTensorContents::default() };
    asked.inputs.push(input("price.missing", "BOOL", &[2], flags));
    // Three elements are the feature's limit; only the first two of four count.
    asked.inputs[1] = input("recent", "INT64", &[1, 4], int64s(&[7, 8, 0, 0]));
    asked.inputs.push(input("recent.length", "INT64", &[1], int64s(&[2])));
    for asked in [asked.clone(), raw(asked)] {
        let reply = client.model_infer(asked).await.unwrap().into_inner();
        assert_eq!(scores(&reply, 0), ctr(&[10.0, 0.0]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_in_order_and_outlives_a_bad_request() {
    let mut running = Running::start(|settings| settings.limits.stream_requests = 4).await;
    let mut client = client(&running).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    let mut replies = client.model_stream_infer(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for at in 0..40 {
        let mut one = raw(request(&[at as f32]));
        one.id = format!("r{at}");
        if at == 7 {
            one.model_version = "9".into();
        }
        sender.send(one).await.unwrap();
    }
    for at in 0..40 {
        let reply = replies.next().await.unwrap().unwrap();
        let scored = reply.infer_response.unwrap();
        assert_eq!(scored.id, format!("r{at}"));
        let last = &scored.parameters["triton_final_response"];
        assert_eq!(last.parameter_choice, Some(ParameterChoice::BoolParam(true)));
        if at == 7 {
            assert_eq!(reply.error_message, "NOT_FOUND: model 'demo' has no version 9 loaded; loaded: 1");
        } else {
            assert_eq!(reply.error_message, "");
            assert_eq!(scores(&scored, 0), ctr(&[at as f32]));
        }
    }
    running.stop();
    // The caller keeps its side open; the server ends the stream all the same.
    assert_eq!(replies.message().await.unwrap_err().code(), Code::Unavailable);
    running.ended().await.unwrap();
    drop(sender);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_that_of_the_call_or_of_the_request() {
    let running = Running::start(|settings| settings.workers = 1).await;
    let mut client = client(&running).await;
    running.delay.store(400, Ordering::Relaxed);
    let mut asked = request(&[1.0]);
    asked.parameters.insert("timeout".into(), parameter(50_000));
    let error = client.model_infer(asked.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    // The client's own timer may go off first and say CANCELLED: then try again.
    eventually(async || {
        let mut asked = Request::new(request(&[1.0]));
        asked.set_timeout(Duration::from_millis(50));
        let error = client.model_infer(asked).await.unwrap_err();
        assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&error.code()), "{error}");
        error.code() == Code::DeadlineExceeded
    })
    .await;
    running.delay.store(0, Ordering::Relaxed);
    // 0 is no timeout, and a time that no clock reaches is none either.
    for micros in [0, i64::MAX] {
        asked.parameters.insert("timeout".into(), parameter(micros));
        client.model_infer(asked.clone()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_gives_its_place_in_the_queue_back() {
    let running = Running::start(|settings| {
        settings.workers = 1;
        settings.limits.candidates = 4;
        settings.queue_rows = 4;
        settings.row_budget = 4;
    })
    .await;
    let client = client(&running).await;
    running.delay.store(500, Ordering::Relaxed);
    let call = |rows: usize| {
        let mut client = client.clone();
        tokio::spawn(async move { client.model_infer(request(&vec![1.0; rows])).await })
    };
    let waiting = async |rows: usize| {
        let line = format!("gatefold_queue_rows{{model=\"demo\",version=\"1\"}} {rows}\n");
        eventually(async || running.get("/metrics").await.contains(&line)).await;
    };
    // The first runs, so the second fills the queue.
    let first = call(4);
    eventually(async || running.get("/metrics").await.contains("gatefold_requests_in_flight 1\n")).await;
    waiting(0).await;
    let second = call(4);
    waiting(4).await;
    let refused = call(1).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    second.abort();
    waiting(0).await;
    call(1).await.unwrap().unwrap();
    first.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_and_its_models_are_described() {
    let running = Running::start(|settings| settings.batch_delay_us = 250).await;
    let mut client = client(&running).await;
    assert!(client.server_live(wire::ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(wire::ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let server = client.server_metadata(wire::ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!((server.name.as_str(), server.version.as_str()), ("gatefold", env!("CARGO_PKG_VERSION")));
    assert!(server.extensions.iter().any(|name| name == "statistics"), "{server:?}");
    for (name, version, ready) in
        [("demo", "", true), ("demo", "1", true), ("demo", "2", false), ("x", "", false)]
    {
        let asked = wire::ModelReadyRequest { name: name.into(), version: version.into() };
        assert_eq!(client.model_ready(asked).await.unwrap().into_inner().ready, ready, "{name} {version}");
    }
    let asked = wire::ModelMetadataRequest { name: "demo".into(), version: String::new() };
    let model = client.model_metadata(asked).await.unwrap().into_inner();
    assert_eq!((model.name.as_str(), model.platform.as_str()), ("demo", "gatefold"));
    assert_eq!(model.versions, ["1"]);
    let line = |tensor: &wire::model_metadata_response::TensorMetadata| {
        format!("{} {} {:?}", tensor.name, tensor.datatype, tensor.shape)
    };
    let inputs: Vec<String> = model.inputs.iter().map(line).collect();
    let expected = [
        "age FP64 [1]",
        "recent INT64 [1, -1]",
        "country BYTES [1]",
        "item_id INT64 [-1]",
        "price FP64 [-1]",
    ];
    assert_eq!(inputs, expected);
    let outputs: Vec<String> = model.outputs.iter().map(line).collect();
    assert_eq!(outputs, ["ctr FP32 [-1]", "cvr FP32 [-1]", "ctcvr FP32 [-1]"]);

    let asked = wire::ModelConfigRequest { name: "demo".into(), version: "1".into() };
    let config = client.model_config(asked).await.unwrap().into_inner().config.unwrap();
    assert_eq!((config.max_batch_size, config.backend.as_str()), (0, "gatefold"));
    let inputs = config.input.iter().map(|input| (input.name.as_str(), input.optional)).collect::<Vec<_>>();
    assert_eq!(inputs[..3], [("age", false), ("age.missing", true), ("recent", false)]);
    assert_eq!(inputs[3..5], [("recent.length", true), ("recent.missing", true)]);
    assert_eq!(config.input[2].data_type(), wire::DataType::TypeInt64);
    assert_eq!(config.parameters["space.cvr"].string_value, "impressions with click = 1");
    assert_eq!(config.default_model_filename, "model.onnx");
    let Some(wire::model_config::SchedulingChoice::DynamicBatching(batching)) = config.scheduling_choice
    else {
        panic!("{:?}", config.scheduling_choice);
    };
    assert_eq!(batching.max_queue_delay_microseconds, 250);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_loaded_and_unloaded() {
    // Nothing is looked at unless it is asked for.
    let running = Running::start(|settings| settings.poll_seconds = 0.0).await;
    let mut client = client(&running).await;
    let mut index = async |ready| {
        let asked = wire::RepositoryIndexRequest { repository_name: String::new(), ready };
        let reply = client.repository_index(asked).await.unwrap().into_inner();
        let line = |model: &wire::repository_index_response::ModelIndex| {
            format!("{}/{} {} {}", model.name, model.version, model.state, model.reason)
        };
        reply.models.iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(index(false).await, ["demo/1 READY "]);
    let mut repository = self::client(&running).await;
    let mut scoring = self::client(&running).await;
    let load =
        |name: &str| wire::RepositoryModelLoadRequest { model_name: name.into(), ..Default::default() };
    let unload =
        |name: &str| wire::RepositoryModelUnloadRequest { model_name: name.into(), ..Default::default() };
    publish(running.folder.path(), "demo", 0.25);
    repository.repository_model_load(load("demo")).await.unwrap();
    let reply = scoring.model_infer(request(&[1.0])).await.unwrap().into_inner();
    assert_eq!(reply.model_version, "2");
    assert_eq!(index(true).await, ["demo/2 READY "]);

    repository.repository_model_unload(unload("demo")).await.unwrap();
    assert_eq!(index(true).await, [""; 0]);
    assert_eq!(index(false).await, ["demo/1 UNAVAILABLE unloaded", "demo/2 UNAVAILABLE unloaded"]);
    let error = scoring.model_infer(request(&[1.0])).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(!scoring.server_ready(wire::ServerReadyRequest {}).await.unwrap().into_inner().ready);
    repository.repository_model_load(load("demo")).await.unwrap();
    scoring.model_infer(request(&[1.0])).await.unwrap();

    // A bad version: the answer says why, and the good one goes on.
    publish(running.folder.path(), "demo", 0.5);
    std::fs::write(running.folder.path().join("demo/3/model.onnx"), "9").unwrap();
    let error = repository.repository_model_load(load("demo")).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    assert!(error.message().contains("demo/3") && error.message().contains("model.onnx"), "{error}");
    let lines = index(false).await;
    assert!(lines[2].starts_with("demo/3 UNAVAILABLE ") && lines[2].contains("model.onnx"), "{lines:?}");
    assert_eq!(scoring.model_infer(request(&[1.0])).await.unwrap().into_inner().model_version, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_count_what_was_done() {
    let running = Running::start(|_| {}).await;
    publish(running.folder.path(), "other", 0.0);
    let mut client = client(&running).await;
    running.delay.store(20, Ordering::Relaxed);
    for _ in 0..3 {
        client.model_infer(request(&[1.0, 2.0, 3.0])).await.unwrap();
    }
    // The other protocol counts as well, and so does what is refused.
    let mut score = crate::support::request(&[1.0]);
    score.model = "demo".into();
    running.client().await.score(score).await.unwrap();
    let mut bad = request(&[1.0]);
    bad.inputs.pop();
    client.model_infer(bad).await.unwrap_err();

    let asked = wire::ModelStatisticsRequest { name: "demo".into(), version: String::new() };
    let reply = client.model_statistics(asked).await.unwrap().into_inner();
    let [demo] = reply.model_stats.as_slice() else { panic!("{reply:?}") };
    assert_eq!((demo.name.as_str(), demo.version.as_str()), ("demo", "1"));
    assert_eq!((demo.inference_count, demo.execution_count), (10, 4));
    assert!(demo.last_inference > 1_700_000_000_000, "{}", demo.last_inference);
    let stats = demo.inference_stats.unwrap();
    let count = |total: Option<wire::StatisticDuration>| total.unwrap().count;
    let ms = |total: Option<wire::StatisticDuration>| total.unwrap().ns / 1_000_000;
    assert_eq!((count(stats.success), count(stats.fail), count(stats.compute_input)), (4, 1, 4));
    assert!(ms(stats.compute_infer) >= 80 && ms(stats.success) >= ms(stats.compute_infer), "{stats:?}");
    let parts = [stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output];
    assert_eq!(parts.map(|part| part.unwrap().ns).iter().sum::<u64>(), stats.success.unwrap().ns);
    let batches: Vec<(u64, u64)> =
        demo.batch_stats.iter().map(|batch| (batch.batch_size, count(batch.compute_infer))).collect();
    assert_eq!(batches, [(1, 1), (4, 3)]);

    eventually(async || {
        let all =
            client.model_statistics(wire::ModelStatisticsRequest::default()).await.unwrap().into_inner();
        all.model_stats.iter().map(|model| model.name.as_str()).eq(["demo", "other"])
    })
    .await;
}
