//! The `Ranking` service: wire message → engine → wire message.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use gatefold_engine::{ModelInfo, ScoreReply, VersionChoice};
use gatefold_proto::ranking::v1 as wire;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use wire::ranking_server::{Ranking, RankingServer};
use wire::score_stream_response::Result as StreamResult;

use crate::convert::{self, FieldError, Selection};
use crate::deadline::Deadline;
use crate::scorer::{Call, Question, Scorer};
use crate::settings::Limits;
use crate::status::Refusal;
use crate::stream;

/// Answers `Ranking` calls. Cheap to clone; all clones are one service.
#[derive(Clone)]
pub struct Service {
    scorer: Arc<Scorer>,
}

impl Service {
    /// A service that scores by `scorer`. Once that is told to stop, streams end when their current
    /// requests are answered.
    pub fn new(scorer: Arc<Scorer>) -> Self {
        Self { scorer }
    }

    /// The tonic service.
    pub fn into_server(self) -> RankingServer<Service> {
        let bytes = self.scorer.limits.message_bytes;
        RankingServer::new(self).max_decoding_message_size(bytes)
    }

    fn describe(&self, info: &ModelInfo) -> wire::Model {
        convert::model(info, self.scorer.versions(&info.model.name))
    }
}

impl Call for wire::ScoreRequest {
    type Reply = wire::ScoreResponse;
    type Selection = Selection;

    fn request_id(&self) -> &str {
        &self.request_id
    }

    fn model(&self) -> Result<(&str, VersionChoice<'_>), FieldError> {
        Ok((&self.model, convert::version(self.version, &self.label)?))
    }

    fn read(&self, model: &ModelInfo, limits: &Limits) -> Result<(Question<'_>, Selection), FieldError> {
        let encoder = model.bundle.encoder();
        let side_of =
            |name: &str| encoder.feature_index(name).map(|index| encoder.set().features[index].feature.side);
        let mut selection = convert::selection(self)?;
        let batch = convert::raw_batch(self, side_of, limits)?;
        let priority = convert::priority(self.priority)?;
        let outputs = std::mem::take(&mut selection.compute);
        Ok((Question { batch, outputs, deadline: None, priority }, selection))
    }

    fn reply(
        self,
        selection: Selection,
        reply: ScoreReply,
        started: Instant,
    ) -> Result<wire::ScoreResponse, FieldError> {
        convert::response(self.request_id, &selection, reply, started.elapsed())
    }
}

/// Answers a request of a stream.
async fn stream_answer(
    scorer: Arc<Scorer>,
    request: wire::ScoreRequest,
    deadline: Option<Deadline>,
) -> wire::ScoreStreamResponse {
    let request_id = request.request_id.clone();
    let result = match scorer.answer(request, deadline).await {
        Ok(scores) => StreamResult::Scores(scores),
        Err(status) => StreamResult::Error(wire::ScoreError {
            request_id,
            code: status.code().into(),
            message: status.message().to_owned(),
        }),
    };
    wire::ScoreStreamResponse { result: Some(result) }
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
        self.scorer.answer(request.into_inner(), deadline).await.map(Response::new)
    }

    async fn score_stream(
        &self,
        request: Request<Streaming<wire::ScoreRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let deadline = request.extensions().get::<Deadline>().copied();
        let scorer = self.scorer.clone();
        let answer = move |request| stream_answer(scorer.clone(), request, deadline);
        let replies = stream::in_order(request.into_inner(), self.scorer.clone(), answer);
        Ok(Response::new(Box::pin(replies)))
    }

    async fn list_models(
        &self,
        _request: Request<wire::ListModelsRequest>,
    ) -> Result<Response<wire::ListModelsResponse>, Status> {
        let models = self.scorer.engine.models();
        let current = models.iter().filter(|info| info.current);
        let models = current.map(|info| self.describe(info)).collect();
        Ok(Response::new(wire::ListModelsResponse { models }))
    }

    async fn get_model(
        &self,
        request: Request<wire::GetModelRequest>,
    ) -> Result<Response<wire::Model>, Status> {
        let request = request.into_inner();
        let version = convert::version(request.version, &request.label).map_err(Refusal::from)?;
        let info = self.scorer.find(&request.model, version)?;
        Ok(Response::new(self.describe(&info)))
    }
}
