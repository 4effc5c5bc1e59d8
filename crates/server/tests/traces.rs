//! Traces of a running server as a real collector gets them, over gRPC. In a process of its own:
//! tracing is started once a process.

#[path = "serving/support.rs"]
#[expect(dead_code, reason = "what the other tests need")]
mod support;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gatefold_proto::opentelemetry as otlp;
use gatefold_proto::ranking::v1::ExperimentUnit;
use gatefold_server::Settings;
use gatefold_server::settings::TraceSettings;
use gatefold_server::traces::Exporter;
use otlp::any_value::Value;
use otlp::trace_service_server::{TraceService, TraceServiceServer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tracing_subscriber::layer::SubscriberExt;

use support::{Running, eventually, request};

/// Keeps the spans it gets.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<otlp::Span>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<otlp::ExportTraceServiceRequest>,
    ) -> Result<Response<otlp::ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let name = &resource.resource.as_ref().unwrap().attributes[0];
            assert_eq!((name.key.as_str(), text(name)), ("service.name", Some("gatefold-server")));
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.lock().unwrap().extend(spans);
        }
        Ok(Response::new(otlp::ExportTraceServiceResponse::default()))
    }
}

fn text(attribute: &otlp::KeyValue) -> Option<&str> {
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

impl Collector {
    /// The spans of a trace, by name.
    fn of(&self, trace: &[u8]) -> BTreeMap<String, otlp::Span> {
        let spans = self.spans.lock().unwrap();
        spans
            .iter()
            .filter(|span| span.trace_id == trace)
            .map(|span| (span.name.clone(), span.clone()))
            .collect()
    }

    fn named(&self, name: &str) -> Vec<otlp::Span> {
        self.spans.lock().unwrap().iter().filter(|span| span.name == name).cloned().collect()
    }
}

const CALL: &str = "gatefold.ranking.v1.Ranking/Score";

/// A request with the id `id` whose caller's trace is `trace`.
fn traced(id: &str, trace: u128, sampled: bool) -> Request<gatefold_proto::ranking::v1::ScoreRequest> {
    let mut asked = request(&[10.0, 20.0]);
    asked.request_id = id.to_owned();
    let mut asked = Request::new(asked);
    let header = format!("00-{trace:032x}-00f067aa0ba902b7-0{}", u8::from(sampled));
    asked.metadata_mut().insert("traceparent", header.parse().unwrap());
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_sees_requests_through_queue_and_batch() {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = TraceSettings {
        endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
        // Only callers decide.
        share: 0.0,
    };
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let (layer, exporter) = Exporter::new(&settings).unwrap().unwrap();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    let (stop, stopped) = oneshot::channel();
    let exporting = tokio::spawn(exporter.run(stopped));

    let running = Running::start(|settings| {
        let experiment = "experiments = { gates = { model = 'demo', arms = [{ name = 'all', share = 1 }] } }";
        settings.experiments = Settings::from_toml(experiment, "test").unwrap().experiments;
        settings.workers = 1;
    })
    .await;
    let mut client = running.client().await;
    client.score(traced("unsampled", 7, false)).await.unwrap();
    client.score(request(&[10.0])).await.unwrap();

    // While a first batch runs, two requests wait, and make the second batch together.
    running.delay.store(200, Ordering::Relaxed);
    let ask = |id: &'static str, trace| {
        let mut client = client.clone();
        let mut asked = traced(id, trace, true);
        if id == "second" {
            asked.get_mut().experiment = Some(ExperimentUnit { name: "gates".into(), unit: "user-1".into() });
        }
        tokio::spawn(async move { client.score(asked).await.unwrap() })
    };
    let first = ask("first", 1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (second, third) = (ask("second", 2), ask("third", 3));
    for call in [first, second, third] {
        call.await.unwrap();
    }
    running.delay.store(0, Ordering::Relaxed);
    let mut refused = traced("refused", 4, true);
    refused.get_mut().outputs = vec!["nothing".into()];
    client.score(refused).await.unwrap_err();
    eventually(async || (1..=4_u128).all(|trace| collector.of(&trace.to_be_bytes()).contains_key(CALL)))
        .await;
    drop(stop);
    exporting.await.unwrap();

    let trace = collector.of(&2_u128.to_be_bytes());
    assert_eq!(
        trace.keys().map(String::as_str).collect::<Vec<_>>(),
        ["encode", CALL, "queue", "reply", "run", "score"]
    );
    let parent = |name: &str| trace[name].parent_span_id.clone();
    assert_eq!(parent(CALL), 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(trace[CALL].kind, i32::from(otlp::span::Kind::Server));
    assert_eq!(parent("score"), trace[CALL].span_id);
    for name in ["encode", "queue", "run", "reply"] {
        assert_eq!(parent(name), trace["score"].span_id, "{name}");
    }
    // One after the other, within their parent, with the wait for the first batch in the queue.
    let bounds = |name: &str| (trace[name].start_time_unix_nano, trace[name].end_time_unix_nano);
    for pair in ["encode", "queue", "run", "reply"].windows(2) {
        // The clock of the beginnings may be set a little while a request runs.
        assert!(bounds(pair[0]).1 <= bounds(pair[1]).0 + 1_000_000, "{pair:?} {trace:?}");
    }
    assert!(bounds("score").0 <= bounds("encode").0 && bounds("queue").1 - bounds("queue").0 > 20_000_000);
    assert!(bounds("run").1 - bounds("run").0 >= 200_000_000);
    let attributes: BTreeMap<&str, &otlp::KeyValue> =
        trace["score"].attributes.iter().map(|attribute| (attribute.key.as_str(), attribute)).collect();
    assert_eq!(text(attributes["request_id"]), Some("second"));
    assert_eq!(text(attributes["model"]), Some("demo"));
    assert_eq!((text(attributes["experiment"]), text(attributes["arm"])), (Some("gates"), Some("all")));
    assert_eq!(attributes["candidates"].value.as_ref().unwrap().value, Some(Value::IntValue(2)));

    // The second and the third shared a batch, which is a trace of its own.
    let batches = collector.named("batch");
    let links = |span: &otlp::Span| -> Vec<(Vec<u8>, Vec<u8>)> {
        span.links.iter().map(|link| (link.trace_id.clone(), link.span_id.clone())).collect()
    };
    let [link] = links(&trace["run"]).try_into().unwrap();
    let shared =
        batches.iter().find(|batch| (batch.trace_id.clone(), batch.span_id.clone()) == link).unwrap();
    assert!(shared.parent_span_id.is_empty());
    let score = |number: u128| {
        let score = &collector.of(&number.to_be_bytes())["score"];
        (score.trace_id.clone(), score.span_id.clone())
    };
    let mut linked = links(shared);
    linked.sort();
    assert_eq!(linked, [score(2), score(3)]);
    assert_eq!(links(&collector.of(&3_u128.to_be_bytes())["run"]), [link]);
    assert_eq!(batches.len(), 2, "the batches of requests that are not traced are not, either");

    let trace = collector.of(&4_u128.to_be_bytes());
    let status = trace["score"].status.as_ref().unwrap();
    assert_eq!((status.code, status.message.as_str()), (otlp::status::Code::Error.into(), "bad_input"));
    assert!(collector.of(&7_u128.to_be_bytes()).is_empty());
    assert_eq!(collector.named("score").len(), 4);
}
