//! A bound on the scoring requests that the server holds, whatever connections they came by.
//!
//! A call beyond the bound is refused before its message is read; a stream is not read on until
//! there is a place for its next request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Whether `path` is one of the calls that score.
pub(crate) fn scores(path: &str) -> bool {
    const STREAMS: [&str; 2] =
        ["/gatefold.ranking.v1.Ranking/ScoreStream", "/inference.GRPCInferenceService/ModelStreamInfer"];
    holds_a_request(path) || STREAMS.contains(&path)
}

/// Whether the message of a call has become a request, which is then counted as one. It travels with
/// the call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken(Arc<AtomicBool>);

impl Taken {
    /// Notes that it has.
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
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

    /// Counts a message that was answered with `code` before it became a request.
    pub(crate) fn note_unread(&self, code: Code) {
        if let Some(reason) = Rejection::of_unread(code) {
            self.metrics.refused(None, None, code, reason);
            self.refusals.note(reason, None, None, "");
        }
    }

    fn refused(&self) -> Status {
        self.metrics.refused(None, None, Code::ResourceExhausted, Rejection::ServerFull);
        self.refusals.note(Rejection::ServerFull, None, None, "");
        Status::resource_exhausted(format!(
            "the server is overloaded: {} requests are being worked on (limits.requests); try again later or \
             elsewhere",
            self.count
        ))
    }
}

/// Refuses a scoring call for which there is no place.
pub async fn enforce(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    if !holds_a_request(request.uri().path()) {
        return next.run(request).await;
    }
    match gate.places.try_acquire() {
        Ok(_place) => {
            let taken = Taken::default();
            request.extensions_mut().insert(taken.clone());
            let response = next.run(request).await;
            let code = response.headers().get(Status::GRPC_STATUS);
            let code = code.map(|code| Code::from_bytes(code.as_bytes()));
            // A reply that is over a limit is refused by the transport, too.
            if let Some(code) = code.filter(|code| !taken.noted() || *code == Code::OutOfRange) {
                gate.note_unread(code);
            }
            response
        }
        Err(_) => gate.refused().into_http(),
    }
}
