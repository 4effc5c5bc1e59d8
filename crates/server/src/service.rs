//! The `Ranking` service: wire message → engine → wire message.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use gatefold_engine::{Engine, Features, ModelInfo, ScoreError, ScoreJob};
use gatefold_proto::ranking::v1 as wire;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::Instrument;
use wire::ranking_server::{Ranking, RankingServer};
use wire::score_stream_response::Result as StreamResult;

use crate::convert;
use crate::deadline::Deadline;
use crate::metrics::{Answered, Metrics};
use crate::settings::Limits;
use crate::status::Refusal;

/// Answers `Ranking` calls. Cheap to clone; all clones are one service.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    limits: Limits,
    metrics: Arc<Metrics>,
    /// True once the server is stopping.
    stop: watch::Receiver<bool>,
}

impl Service {
    /// A service that scores with `engine`, within `limits`. Once `stop` says true, streams end
    /// when their current requests are answered.
    pub fn new(engine: Engine, limits: Limits, metrics: Arc<Metrics>, stop: watch::Receiver<bool>) -> Self {
        Self { inner: Arc::new(Inner { engine, limits, metrics, stop }) }
    }

    /// The tonic service.
    pub fn into_server(self) -> RankingServer<Service> {
        let bytes = self.inner.limits.message_bytes;
        RankingServer::new(self).max_decoding_message_size(bytes)
    }
}

impl Inner {
    /// Answers one request; counts and logs what became of it.
    async fn answer(
        &self,
        request: wire::ScoreRequest,
        deadline: Option<Deadline>,
    ) -> Result<wire::ScoreResponse, Status> {
        let started = Instant::now();
        let _in_flight = self.metrics.arrived();
        let span = tracing::debug_span!("score", request_id = request.request_id);
        let mut model = None;
        let result = self.score(request, deadline, started, &mut model).instrument(span.clone()).await;
        result.map_err(|refusal| {
            let _entered = span.entered();
            let (name, version) = model.map_or_else(Default::default, |model: ModelInfo| {
                (model.model.name.to_string(), model.model.version)
            });
            self.metrics.finished(&name, refusal.code());
            match refusal.code() {
                Code::Internal => tracing::error!(model = name, version, "{refusal}"),
                _ => tracing::debug!(model = name, version, "{refusal}"),
            }
            refusal.into()
        })
    }

    /// Scores one request; `model` is set as soon as it is known which one it is for.
    async fn score(
        &self,
        request: wire::ScoreRequest,
        deadline: Option<Deadline>,
        started: Instant,
        model: &mut Option<ModelInfo>,
    ) -> Result<wire::ScoreResponse, Refusal> {
        let version = asked(request.version);
        let info = model.insert(self.find(&request.model, version)?);
        let encoder = info.bundle.encoder();
        let side_of =
            |name: &str| encoder.feature_index(name).map(|index| encoder.set().features[index].feature.side);
        let selection = convert::selection(&request)?;
        let batch = convert::raw_batch(&request, side_of, &self.limits)?;
        let candidates = batch.candidates;
        let checked = started.elapsed();
        let job = ScoreJob {
            model: &info.model.name,
            version,
            features: Features::Raw(&batch),
            outputs: &selection.compute,
            deadline: deadline.map(|deadline| deadline.0),
        };
        let mut reply = self.engine.score(job).await?;
        drop(batch);
        reply.timings.encode += checked;
        let (name, version) = (reply.model.name.clone(), reply.model.version);
        let (encode, queue) = (reply.timings.encode, reply.timings.queue);
        let total = started.elapsed();
        let response = convert::response(request.request_id, &selection, reply, total)?;
        self.metrics.answered(&name, version, &Answered { candidates, encode, queue, total });
        Ok(response)
    }

    fn find(&self, name: &str, version: Option<u64>) -> Result<ModelInfo, Refusal> {
        self.engine.model(name, version).map_err(|error| match error {
            ScoreError::UnknownModel { .. } if self.engine.models().is_empty() => Refusal::NoModel,
            error => error.into(),
        })
    }

    /// As the reply to a request of a stream.
    async fn stream_answer(
        &self,
        request: wire::ScoreRequest,
        deadline: Option<Deadline>,
    ) -> wire::ScoreStreamResponse {
        let request_id = request.request_id.clone();
        let result = match self.answer(request, deadline).await {
            Ok(scores) => StreamResult::Scores(scores),
            Err(status) => StreamResult::Error(wire::ScoreError {
                request_id,
                code: status.code().into(),
                message: status.message().to_owned(),
            }),
        };
        wire::ScoreStreamResponse { result: Some(result) }
    }

    /// Loaded versions of a model, ascending.
    fn versions(&self, name: &str) -> Vec<u64> {
        let models = self.engine.models();
        models.iter().filter(|info| *info.model.name == *name).map(|info| info.model.version).collect()
    }

    fn describe(&self, info: &ModelInfo) -> wire::Model {
        convert::model(info.bundle.manifest(), self.versions(&info.model.name))
    }
}

/// A version as the wire has it: 0 is the current one.
fn asked(version: u64) -> Option<u64> {
    (version != 0).then_some(version)
}

/// Replies of a stream.
type Replies = Pin<Box<dyn Stream<Item = Result<wire::ScoreStreamResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Ranking for Service {
    type ScoreStreamStream = Replies;

    async fn score(
        &self,
        request: Request<wire::ScoreRequest>,
    ) -> Result<Response<wire::ScoreResponse>, Status> {
        let deadline = request.extensions().get::<Deadline>().copied();
        self.inner.answer(request.into_inner(), deadline).await.map(Response::new)
    }

    async fn score_stream(
        &self,
        request: Request<Streaming<wire::ScoreRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let deadline = request.extensions().get::<Deadline>().copied();
        let (sender, receiver) = mpsc::channel(self.inner.limits.stream_requests);
        tokio::spawn(read_stream(self.inner.clone(), request.into_inner(), deadline, sender));
        // Requests run side by side; their replies are taken in the order of the requests.
        let replies = ReceiverStream::new(receiver).then(async |pending: Pending| pending.reply().await);
        Ok(Response::new(Box::pin(replies)))
    }

    async fn list_models(
        &self,
        _request: Request<wire::ListModelsRequest>,
    ) -> Result<Response<wire::ListModelsResponse>, Status> {
        let models = self.inner.engine.models();
        let current = models.iter().filter(|info| info.current);
        let models = current.map(|info| self.inner.describe(info)).collect();
        Ok(Response::new(wire::ListModelsResponse { models }))
    }

    async fn get_model(
        &self,
        request: Request<wire::GetModelRequest>,
    ) -> Result<Response<wire::Model>, Status> {
        let request = request.into_inner();
        let info = self.inner.find(&request.model, asked(request.version))?;
        Ok(Response::new(self.inner.describe(&info)))
    }
}

/// A reply that is being worked on; dropped, so is the work.
enum Pending {
    Working(JoinHandle<wire::ScoreStreamResponse>),
    /// The stream itself is broken.
    Broken(Status),
}

impl Pending {
    async fn reply(mut self) -> Result<wire::ScoreStreamResponse, Status> {
        match &mut self {
            Pending::Working(task) => {
                task.await.map_err(|_| Status::internal("the request's task ended without an answer"))
            }
            Pending::Broken(status) => Err(status.clone()),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Pending::Working(task) = self {
            task.abort();
        }
    }
}

/// Reads requests and starts their work, until the stream ends, the caller goes away, or the server
/// stops. The channel's capacity bounds what is worked on at once.
async fn read_stream(
    inner: Arc<Inner>,
    mut requests: Streaming<wire::ScoreRequest>,
    deadline: Option<Deadline>,
    sender: mpsc::Sender<Pending>,
) {
    let mut stop = inner.stop.clone();
    loop {
        // A place for the reply first, so that no more is read than may be worked on.
        let Ok(place) = sender.reserve().await else { return };
        let message = tokio::select! {
            message = requests.message() => message,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match message {
            Ok(Some(request)) => {
                let inner = inner.clone();
                let work = async move { inner.stream_answer(request, deadline).await };
                place.send(Pending::Working(tokio::spawn(work)));
            }
            Ok(None) => return,
            Err(status) => return place.send(Pending::Broken(status)),
        }
    }
}
