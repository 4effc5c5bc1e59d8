//! The gRPC port: connections, and what every call passes before its service sees it.

use std::time::Duration;

use axum::middleware::{from_fn, from_fn_with_state};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::deadline;
use crate::gate::{self, Gate};
use crate::settings::Settings;

/// Answers calls of `routes` on `listener` until `stopping` says true and all connections have ended.
pub fn serve(
    settings: &Settings,
    listener: TcpListener,
    mut routes: Routes,
    gate: Gate,
    mut stopping: watch::Receiver<bool>,
) -> impl Future<Output = Result<(), tonic::transport::Error>> + Send + use<> {
    let router = std::mem::take(routes.axum_router_mut());
    // The last one is passed first.
    *routes.axum_router_mut() =
        router.layer(from_fn(deadline::enforce)).layer(from_fn_with_state(gate, gate::enforce));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder()
        .max_concurrent_streams(settings.limits.connection_calls)
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .add_routes(routes);
    server.serve_with_incoming_shutdown(incoming, async move {
        // The sender gone means a stop as well.
        let _ = stopping.wait_for(|stop| *stop).await;
    })
}
