//! A bound on the scoring requests that the server holds, whatever connections they came by.
//!
//! A call beyond the bound is refused before its message is read; a stream is not read on until
//! there is a place for its next request.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};

use crate::metrics::{Metrics, Rejection};

/// Calls that hold one request from their beginning to their end.
const UNARY: [&str; 2] = ["/gatefold.ranking.v1.Ranking/Score", "/inference.GRPCInferenceService/ModelInfer"];

/// Places for requests. Cheap to clone; all clones share the places.
#[derive(Clone)]
pub struct Gate {
    places: Arc<Semaphore>,
    count: usize,
    metrics: Arc<Metrics>,
}

impl Gate {
    /// A gate of `count` places, whose refusals are counted in `metrics`.
    pub fn new(count: usize, metrics: Arc<Metrics>) -> Self {
        Self { places: Arc::new(Semaphore::new(count)), count, metrics }
    }

    /// Waits for a place, held until dropped.
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // Nobody closes it.
        self.places.clone().acquire_owned().await.ok()
    }

    fn refused(&self) -> Status {
        self.metrics.refused(None, Code::ResourceExhausted, Rejection::ServerFull);
        Status::resource_exhausted(format!(
            "the server is overloaded: {} requests are being worked on (limits.requests); try again later or \
             elsewhere",
            self.count
        ))
    }
}

/// Refuses a scoring call for which there is no place.
pub async fn enforce(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    if !UNARY.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    match gate.places.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => gate.refused().into_http(),
    }
}
