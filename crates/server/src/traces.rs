//! Traces of requests through queue and batch, sent to an OpenTelemetry collector (OTLP over gRPC).
//!
//! ```text
//! <method of the call> ─ score ┬ encode
//!  (the caller's trace)        ├ queue
//!                              ├ run ······ batch   (a trace of its own, linked with the requests in it)
//!                              └ reply
//! ```
//!
//! The spans are those of `tracing`, which the engine writes anyway; [`TraceLayer`] gives them ids and
//! times, and an [`Exporter`] sends them from a bounded queue. A caller that sends a W3C `traceparent`
//! decides whether its request is traced; of the others a share is. What is not traced costs a look
//! at its parent.
//!
//! This is written here because the OpenTelemetry SDK would bring nine crates for what are a few
//! messages and one call.

mod context;
mod export;
mod layer;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

pub use context::{Context, Sampling};
pub use export::Exporter;
pub use layer::TraceLayer;

/// Begins the trace of a scoring call, or takes part in the caller's.
pub async fn enforce(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if !["/gatefold.", "/inference."].iter().any(|start| path.starts_with(start)) {
        return next.run(request).await;
    }
    let parent =
        request.headers().get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let method = &path[1..];
    let span = tracing::debug_span!("call", otel.name = method, otel.kind = "server", traceparent = parent);
    next.run(request).instrument(span).await
}
