//! The `Ranking` service: wire message → engine → wire message.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use gatefold_engine::{ModelInfo, ScoreReply};
use gatefold_proto::ranking::v1 as wire;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use wire::ranking_server::{Ranking, RankingServer};
use wire::score_stream_response::Result as StreamResult;

use crate::compression::limited;
use crate::convert::{self, FieldError, Selection, Wanted};
use crate::deadline::Deadline;
use crate::experiments::Arm;
use crate::fusion::{Formulas, Fusion};
use crate::scorer::{Call, Question, Scorer};
use crate::settings::{Limits, Settings};
use crate::status::Refusal;
use crate::stream;

/// Answers `Ranking` calls. Cheap to clone; all clones are one service.
#[derive(Clone)]
pub struct Service {
    scorer: Arc<Scorer>,
    formulas: Arc<Formulas>,
}

impl Service {
    /// A service that scores by `scorer` and fuses by `formulas`. Once the scorer is told to stop,
    /// streams end when the requests they have read are answered.
    pub fn new(scorer: Arc<Scorer>, formulas: Arc<Formulas>) -> Self {
        Self { scorer, formulas }
    }

    /// The tonic service.
    pub fn into_server(self, settings: &Settings) -> RankingServer<Service> {
        limited!(RankingServer::new(self), settings)
    }

    fn describe(&self, info: &ModelInfo) -> wire::Model {
        convert::model(info, self.scorer.versions(&info.model.name))
    }
}

/// A request and the formulas that it may name.
struct Asked {
    request: wire::ScoreRequest,
    formulas: Arc<Formulas>,
}

impl Call for Asked {
    type Reply = wire::ScoreResponse;
    type Selection = Selection;

    fn request_id(&self) -> &str {
        &self.request.request_id
    }

    fn wanted(&self, limits: &Limits) -> Result<Wanted<'_>, FieldError> {
        let wire::ScoreRequest { model, version, label, experiment, .. } = &self.request;
        convert::wanted((model, *version, label), experiment.as_ref(), limits)
    }

    fn read(&self, model: &ModelInfo, limits: &Limits) -> Result<(Question<'_>, Selection), FieldError> {
        let encoder = model.bundle.encoder();
        let side_of =
            |name: &str| encoder.feature_index(name).map(|index| encoder.set().features[index].feature.side);
        let request = &self.request;
        let formula = self.formulas.wanted(request, &model.model.name)?;
        let mut selection = convert::selection(request, formula.is_some())?;
        let priority = convert::priority(request.priority)?;
        let mut batch = convert::raw_batch(request, side_of, limits)?;
        if let Some(formula) = formula {
            let first = request.user.len() + request.context.len();
            let items = batch.columns.split_off(first);
            let fusion = Fusion::new(formula, &model.bundle, &items)?;
            // What only the formula reads is no feature that the encoder should miss.
            let kept = |name: &str| side_of(name).is_some() || !fusion.names(name);
            batch.columns.extend(items.into_iter().filter(|(name, _)| kept(name)));
            selection.fuse(fusion);
        }
        let outputs = std::mem::take(&mut selection.compute);
        let gates = request.explain_gates;
        Ok((Question { batch, outputs, gates, deadline: None, priority }, selection))
    }

    fn fused(selection: &Selection, reply: &ScoreReply) -> Result<Option<Vec<f64>>, FieldError> {
        selection.fusion.as_ref().map(|fusion| fusion.scores(reply)).transpose()
    }

    fn reply(
        self,
        selection: Selection,
        arm: Option<&Arm>,
        reply: ScoreReply,
        started: Instant,
    ) -> Result<wire::ScoreResponse, FieldError> {
        convert::response(self.request.request_id, arm, &selection, reply, started)
    }
}

/// Answers a request of a stream.
async fn stream_answer(
    scorer: Arc<Scorer>,
    asked: Asked,
    deadline: Option<Deadline>,
) -> wire::ScoreStreamResponse {
    let request_id = asked.request.request_id.clone();
    let result = match scorer.answer(asked, deadline).await {
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
        let formulas = self.formulas.clone();
        self.scorer.answer_call(request, |request| Asked { request, formulas }).await
    }

    async fn score_stream(
        &self,
        request: Request<Streaming<wire::ScoreRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let deadline = request.extensions().get::<Deadline>().copied();
        let (scorer, formulas) = (self.scorer.clone(), self.formulas.clone());
        let answer = move |request| {
            stream_answer(scorer.clone(), Asked { request, formulas: formulas.clone() }, deadline)
        };
        let replies = stream::in_order(request, self.scorer.clone(), answer);
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
        let wire::GetModelRequest { model, version, label, experiment } = request.get_ref();
        let scorer = &self.scorer;
        let wanted = convert::wanted((model, *version, label), experiment.as_ref(), &scorer.limits);
        let route = scorer.experiments.route(wanted.map_err(Refusal::from)?)?;
        let info = scorer.find(&route).map_err(|refusal| refusal.in_arm(route.arm))?;
        Ok(Response::new(self.describe(&info)))
    }
}
