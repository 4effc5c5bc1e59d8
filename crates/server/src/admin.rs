//! The admin port: probes and metrics over plain HTTP.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::metrics::{Metrics, ModelGauge};
use crate::readiness::Readiness;

/// What the admin port shows.
#[derive(Clone)]
pub struct Shown {
    /// What Prometheus collects.
    pub metrics: Arc<Metrics>,
    /// Whether the server can take traffic.
    pub readiness: Arc<Readiness>,
}

/// Routes of the admin port.
///
/// - `/livez`: 200 while the process runs.
/// - `/readyz`: 200 once the models that were there at the start are loaded, while at least one
///   takes traffic and the server is not stopping; 503 otherwise. The text lists every model with
///   its state.
/// - `/metrics`: OpenMetrics text.
pub fn routes(shown: Shown) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shown)
}

async fn ready(State(shown): State<Shown>) -> impl IntoResponse {
    let state = shown.readiness.state();
    let code = if state.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut text = String::new();
    let word = match &state {
        state if state.stopping => "stopping",
        state if state.ready() => "ready",
        state if !state.looked => "not ready: models are being loaded",
        _ => "not ready: no model is loaded",
    };
    // Writing into a String does not fail.
    let _ = writeln!(text, "{word}");
    for (model, line) in &state.models {
        let _ = writeln!(text, "{model}: {line}");
    }
    (code, text)
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    let (models, status) = shown.readiness.models();
    let gauges: Vec<ModelGauge<'_>> = models.iter().map(ModelGauge::from).collect();
    shown.metrics.models(&gauges, &status);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shown.metrics.text())
}
