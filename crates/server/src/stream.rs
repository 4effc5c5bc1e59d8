//! Streams of requests: worked on side by side, answered in their order.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Status, Streaming};
use tracing::Instrument;

use crate::gate::Gate;
use crate::scorer::Scorer;
use crate::tokens::Pass;

/// The replies that `answer` gives to the messages of `requests`, in their order, of which no more are
/// worked on than the limits of `scorer` and its gate allow. The stream ends with the requests; before
/// that once its caller's token is none any more, or once the server stops: then what was read has
/// been answered, and the status says that the rest has not. Dropped, so is the work.
pub(crate) fn in_order<Message, Reply, Answer>(
    requests: Request<Streaming<Message>>,
    scorer: Arc<Scorer>,
    answer: impl Fn(Message) -> Answer + Send + 'static,
) -> impl Stream<Item = Result<Reply, Status>> + Send
where
    Message: Send + 'static,
    Reply: Send + 'static,
    Answer: Future<Output = Reply> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(scorer.limits.stream_requests);
    let (_, mut extensions, messages) = requests.into_parts();
    let reader = Reader { messages, scorer, pass: extensions.remove() };
    // The caller's span goes with the work.
    tokio::spawn(reader.read(answer, sender).in_current_span());
    ReceiverStream::new(receiver).then(async |pending: Pending<Reply>| pending.reply().await)
}

/// A reply that is being worked on; dropped, so is the work.
enum Pending<Reply> {
    Working(JoinHandle<Reply>),
    /// The stream ends with this.
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

/// The caller's side of a stream.
struct Reader<Message> {
    messages: Streaming<Message>,
    scorer: Arc<Scorer>,
    /// What the caller's token allows, where the server asks for one.
    pass: Option<Pass>,
}

impl<Message: Send> Reader<Message> {
    /// Reads requests and starts their work, until the stream ends or the caller goes away. The
    /// channel's capacity bounds what is worked on at once.
    async fn read<Reply, Answer>(
        mut self,
        answer: impl Fn(Message) -> Answer,
        sender: mpsc::Sender<Pending<Reply>>,
    ) where
        Reply: Send + 'static,
        Answer: Future<Output = Reply> + Send + 'static,
    {
        loop {
            // A place for the reply first, so that no more is read than may be worked on.
            let Ok(place) = sender.reserve().await else { return };
            match self.next().await {
                Ok(Some((request, held))) => {
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

    /// The next request with a place for it; `None` where the caller has sent its last.
    async fn next(&mut self) -> Result<Option<(Message, Option<OwnedSemaphorePermit>)>, Status> {
        let mut stop = self.scorer.stop.clone();
        let next = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            next = next_in_place(&mut self.messages, &self.scorer.gate) => Some(next),
        };
        let Some((message, held)) = next else { return self.stopped().await };
        match message {
            Some(Ok(request)) => {
                self.pass.as_ref().map_or(Ok(()), Pass::check)?;
                Ok(Some((request, held)))
            }
            Some(Err(status)) => {
                self.scorer.gate.note_unread(status.code());
                Err(status)
            }
            None => Ok(None),
        }
    }

    /// The end of the stream when the server stops: a good one only if the caller has ended it, too.
    async fn stopped<T>(&mut self) -> Result<Option<T>, Status> {
        let rest = poll_fn(|context| Poll::Ready(Pin::new(&mut self.messages).poll_next(context))).await;
        match rest {
            Poll::Ready(None) => Ok(None),
            _ => Err(Status::unavailable(
                "the server is stopping: requests of this stream that have no answer were not worked on; send \
                 them again, on a new stream",
            )),
        }
    }
}

/// The next of `messages` and a place at `gate`. A message is decoded only once there is a place for
/// it, and while none comes no place is held.
async fn next_in_place<Message>(
    messages: &mut Streaming<Message>,
    gate: &Gate,
) -> (Option<Result<Message, Status>>, Option<OwnedSemaphorePermit>) {
    let mut place = pin!(gate.place());
    poll_fn(|context| {
        let held = ready!(place.as_mut().poll(context));
        let message = Pin::new(&mut *messages).poll_next(context);
        if message.is_pending() {
            // Given back; what comes next wakes this task, which then asks again.
            place.set(gate.place());
        }
        message.map(|message| (message, held))
    })
    .await
}
