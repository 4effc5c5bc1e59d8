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
use crate::refusals::Refusals;

/// Whether a call to `path` holds one request from its beginning to its end.
pub(crate) fn holds_a_request(path: &str) -> bool {
    ["/gatefold.ranking.v1.Ranking/Score", "/inference.GRPCInferenceService/ModelInfer"].contains(&path)
}

/// Places for requests. Cheap to clone; all clones share the places.
#[derive(Clone)]
pub struct Gate {
    places: Arc<Semaphore>,
    count: usize,
    metrics: Arc<Metrics>,
    refusals: Arc<Refusals>,
}

impl Gate {
    /// A gate of `count` places, whose refusals are counted in `metrics` and noted in `refusals`.
    pub fn new(count: usize, metrics: Arc<Metrics>, refusals: Arc<Refusals>) -> Self {
        Self { places: Arc::new(Semaphore::new(count)), count, metrics, refusals }
    }

    /// Waits for a place, held until dropped.
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // Nobody closes it.
        self.places.clone().acquire_owned().await.ok()
    }

    /// Counts a message that is larger than `limits.message_bytes`: the transport refuses it, and
    /// alone answers with this code.
    fn note_size(&self, response: &Response) {
        let code = response.headers().get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()));
        if code == Some(Code::OutOfRange) {
            self.metrics.refused(None, Code::OutOfRange, Rejection::Limit);
            self.refusals.note(Rejection::Limit, None, "");
        }
    }

    fn refused(&self) -> Status {
        self.metrics.refused(None, Code::ResourceExhausted, Rejection::ServerFull);
        self.refusals.note(Rejection::ServerFull, None, "");
        Status::resource_exhausted(format!(
            "the server is overloaded: {} requests are being worked on (limits.requests); try again later or \
             elsewhere",
            self.count
        ))
    }
}

/// Refuses a scoring call for which there is no place.
pub async fn enforce(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    if !holds_a_request(request.uri().path()) {
        return next.run(request).await;
    }
    match gate.places.try_acquire() {
        Ok(_place) => {
            let response = next.run(request).await;
            gate.note_size(&response);
            response
        }
        Err(_) => gate.refused().into_http(),
    }
}
