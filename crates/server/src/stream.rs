//! Streams of requests: worked on side by side, answered in their order.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Status, Streaming};
use tracing::Instrument;

use crate::gate::Gate;
use crate::scorer::Scorer;

/// The replies that `answer` gives to `requests`, in the order of the requests, of which no more are
/// worked on than the limits of `scorer` and its gate allow. The stream ends with the requests, or
/// once the server stops and what is being worked on has been answered. Dropped, so is the work.
pub(crate) fn in_order<Request, Reply, Answer>(
    requests: Streaming<Request>,
    scorer: Arc<Scorer>,
    answer: impl Fn(Request) -> Answer + Send + 'static,
) -> impl Stream<Item = Result<Reply, Status>> + Send
where
    Request: Send + 'static,
    Reply: Send + 'static,
    Answer: Future<Output = Reply> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(scorer.limits.stream_requests);
    // The caller's span goes with the work.
    tokio::spawn(read(requests, scorer.stop.clone(), scorer.gate.clone(), answer, sender).in_current_span());
    ReceiverStream::new(receiver).then(async |pending: Pending<Reply>| pending.reply().await)
}

/// A reply that is being worked on; dropped, so is the work.
enum Pending<Reply> {
    Working(JoinHandle<Reply>),
    /// The stream itself is broken.
    Broken(Status),
}

impl<Reply> Pending<Reply> {
    async fn reply(mut self) -> Result<Reply, Status> {
        match &mut self {
            Pending::Working(task) => {
                task.await.map_err(|_| Status::internal("the request's task ended without an answer"))
            }
            Pending::Broken(status) => Err(status.clone()),
        }
    }
}

impl<Reply> Drop for Pending<Reply> {
    fn drop(&mut self) {
        if let Pending::Working(task) = self {
            task.abort();
        }
    }
}

/// Reads requests and starts their work, until the stream ends, the caller goes away, or the server
/// stops. The channel's capacity bounds what is worked on at once.
async fn read<Request, Reply, Answer>(
    mut requests: Streaming<Request>,
    mut stop: watch::Receiver<bool>,
    gate: Gate,
    answer: impl Fn(Request) -> Answer,
    sender: mpsc::Sender<Pending<Reply>>,
) where
    Reply: Send + 'static,
    Answer: Future<Output = Reply> + Send + 'static,
{
    loop {
        // A place for the reply first, so that no more is read than may be worked on.
        let Ok(place) = sender.reserve().await else { return };
        let read = async { (requests.message().await, gate.place().await) };
        let (message, held) = tokio::select! {
            read = read => read,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match message {
            Ok(Some(request)) => {
                let answer = answer(request);
                let work = async move {
                    let reply = answer.await;
                    drop(held);
                    reply
                };
                place.send(Pending::Working(tokio::spawn(work.in_current_span())));
            }
            Ok(None) => return,
            Err(status) => return place.send(Pending::Broken(status)),
        }
    }
}
