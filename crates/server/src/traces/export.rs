//! Sends ended spans to the collector.

use std::time::{Duration, Instant};

use gatefold_proto::opentelemetry as otlp;
use otlp::any_value::Value;
use otlp::trace_service_client::TraceServiceClient;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::{Channel, Endpoint};

use super::context::Sampling;
use super::layer::TraceLayer;
use crate::settings::TraceSettings;

/// Spans that may wait; beyond it they are lost.
const QUEUE: usize = 8192;
/// Spans sent together at most.
const BATCH: usize = 512;
/// How long a span waits for others to be sent with.
const DELAY: Duration = Duration::from_secs(1);
/// How long the collector has to take them.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two complaints about the collector.
const QUIET: Duration = Duration::from_secs(60);

/// Sends spans from a queue until it is told to stop.
#[derive(Debug)]
pub struct Exporter {
    endpoint: Endpoint,
    spans: mpsc::Receiver<otlp::Span>,
}

impl Exporter {
    /// The layer that fills the queue, and the exporter that empties it; `None` where the settings
    /// name no collector.
    ///
    /// # Errors
    /// An endpoint that is none.
    pub fn new(settings: &TraceSettings) -> Result<Option<(TraceLayer, Exporter)>, tonic::transport::Error> {
        let Some(endpoint) = &settings.endpoint else { return Ok(None) };
        let endpoint = Endpoint::from_shared(endpoint.clone())?.timeout(TIMEOUT).connect_timeout(TIMEOUT);
        let (sender, spans) = mpsc::channel(QUEUE);
        Ok(Some((TraceLayer::new(Sampling::new(settings.share), sender), Exporter { endpoint, spans })))
    }

    /// Sends what ends until `stop` completes, then what is left.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut client = TraceServiceClient::new(self.endpoint.connect_lazy());
        let mut complained: Option<Instant> = None;
        let mut lost = 0;
        let mut stopping = false;
        while !stopping {
            let mut spans = Vec::new();
            // The first one is waited for, the others for a moment.
            tokio::select! {
                _ = self.spans.recv_many(&mut spans, BATCH) => {}
                _ = &mut stop => stopping = true,
            }
            if !stopping && spans.len() < BATCH {
                stopping = tokio::time::timeout(DELAY, &mut stop).await.is_ok();
            }
            while let Ok(span) = self.spans.try_recv() {
                spans.push(span);
                if spans.len() >= BATCH && !stopping {
                    break;
                }
            }
            for spans in spans.chunks(BATCH) {
                let Err(status) = send(&mut client, spans).await else { continue };
                lost += spans.len();
                if complained.is_none_or(|last| last.elapsed() >= QUIET) {
                    tracing::warn!(
                        spans = lost,
                        "the collector of traces takes no spans: {}",
                        status.message()
                    );
                    (complained, lost) = (Some(Instant::now()), 0);
                }
            }
        }
    }
}

async fn send(client: &mut TraceServiceClient<Channel>, spans: &[otlp::Span]) -> Result<(), tonic::Status> {
    let attribute = |key: &str, value: String| otlp::KeyValue {
        key: key.to_owned(),
        value: Some(otlp::AnyValue { value: Some(Value::StringValue(value)) }),
    };
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let resource = otlp::Resource {
        attributes: vec![
            attribute("service.name", "gatefold-server".to_owned()),
            attribute("service.version", version.clone()),
            attribute("process.pid", std::process::id().to_string()),
        ],
    };
    let scope = otlp::Scope { name: "gatefold-server".to_owned(), version };
    let request = otlp::ExportTraceServiceRequest {
        resource_spans: vec![otlp::ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![otlp::ScopeSpans { scope: Some(scope), spans: spans.to_vec() }],
        }],
    };
    let reply = client.export(request).await?.into_inner();
    match reply.partial_success {
        Some(partial) if partial.rejected_spans > 0 => Err(tonic::Status::invalid_argument(format!(
            "{} of {} spans refused: {}",
            partial.rejected_spans,
            spans.len(),
            partial.error_message
        ))),
        _ => Ok(()),
    }
}
