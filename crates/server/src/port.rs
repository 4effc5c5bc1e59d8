//! The gRPC port: what every call passes before its service sees it.

use std::io;
use std::time::Duration;

use axum::middleware::{from_fn, from_fn_with_state};
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::connections::Connection;
use crate::deadline;
use crate::gate::{self, Gate};
use crate::settings::Settings;
use crate::tokens::{self, Guard};
use crate::traces;

/// What calls pass.
pub struct Door {
    /// How many requests are held.
    pub gate: Gate,
    /// Who may call; everybody without it.
    pub guard: Option<Guard>,
}

/// Answers calls of `routes` on `connections` until `stopping` says true and all of them have ended.
pub fn serve<Connections>(
    settings: &Settings,
    connections: Connections,
    mut routes: Routes,
    door: Door,
    mut stopping: watch::Receiver<bool>,
) -> impl Future<Output = Result<(), tonic::transport::Error>> + Send + use<Connections>
where
    Connections: Stream<Item = io::Result<Connection>> + Send + 'static,
{
    let router = std::mem::take(routes.axum_router_mut());
    // The last layer is passed first.
    let patience = Duration::from_secs_f64(settings.limits.request_seconds);
    let mut router = router
        .layer(from_fn_with_state(patience, deadline::enforce))
        .layer(from_fn_with_state(door.gate, gate::enforce))
        .layer(from_fn(traces::enforce));
    if let Some(guard) = door.guard {
        router = router.layer(from_fn_with_state(guard, tokens::enforce));
    }
    *routes.axum_router_mut() = router;
    let server = Server::builder()
        .max_concurrent_streams(settings.limits.connection_calls)
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .add_routes(routes);
    server.serve_with_incoming_shutdown(connections, async move {
        // The sender gone means a stop as well.
        let _ = stopping.wait_for(|stop| *stop).await;
    })
}
