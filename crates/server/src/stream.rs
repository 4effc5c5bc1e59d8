//! Streams of requests: worked on side by side, answered in their order.

use std::future::Future;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Status, Streaming};

/// The replies that `answer` gives to `requests`, in the order of the requests, of which `at_once`
/// are worked on at most. The stream ends with the requests, or once `stop` says true and what is
/// being worked on has been answered. Dropped, so is the work.
pub(crate) fn in_order<Request, Reply, Answer>(
    requests: Streaming<Request>,
    at_once: usize,
    stop: watch::Receiver<bool>,
    answer: impl Fn(Request) -> Answer + Send + 'static,
) -> impl Stream<Item = Result<Reply, Status>> + Send
where
    Request: Send + 'static,
    Reply: Send + 'static,
    Answer: Future<Output = Reply> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(at_once);
    tokio::spawn(read(requests, stop, answer, sender));
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
    answer: impl Fn(Request) -> Answer,
    sender: mpsc::Sender<Pending<Reply>>,
) where
    Reply: Send + 'static,
    Answer: Future<Output = Reply> + Send + 'static,
{
    loop {
        // A place for the reply first, so that no more is read than may be worked on.
        let Ok(place) = sender.reserve().await else { return };
        let message = tokio::select! {
            message = requests.message() => message,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match message {
            Ok(Some(request)) => place.send(Pending::Working(tokio::spawn(answer(request)))),
            Ok(None) => return,
            Err(status) => return place.send(Pending::Broken(status)),
        }
    }
}
