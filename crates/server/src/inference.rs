//! The Open Inference Protocol: what clients of KServe and Triton speak, over the same path as
//! `Ranking`.
//!
//! - [`tensor`], [`rows`], [`request`]: tensors → raw columns. [`reply`]: scores and totals → messages.
//! - [`describe`]: metadata and configuration of a model. [`repository`]: index, load, unload.
//!
//! What a model's inputs are is said in `proto/inference/grpc_service.proto`.

mod describe;
mod reply;
mod repository;
mod request;
mod rows;
mod tensor;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use gatefold_engine::{ModelInfo, Registry, ScoreReply};
use gatefold_proto::inference as wire;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use wire::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};

use crate::compression::limited;
use crate::convert::{FieldError, Wanted};
use crate::deadline::Deadline;
use crate::experiments::{Arm, Route};
use crate::metrics::code_name;
use crate::operator::Operator;
use crate::readiness::Readiness;
use crate::scorer::{Call, Question, Scorer};
use crate::settings::{Limits, Settings};
use crate::status::Refusal;
use crate::stream;

pub use request::batch as raw_batch;

/// Answers the calls of the Open Inference Protocol. Cheap to clone; all clones are one service.
#[derive(Clone)]
pub struct InferenceService {
    scorer: Arc<Scorer>,
    registry: Arc<Registry>,
    operator: Operator,
    readiness: Arc<Readiness>,
}

/// The extensions of the protocol that are there, by the names that Triton gives them.
const EXTENSIONS: [&str; 6] = [
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "schedule_policy",
    "statistics",
];

impl InferenceService {
    /// A service that scores by `scorer`, lists the models of `registry` and has `operator` change
    /// them.
    pub fn new(
        scorer: Arc<Scorer>,
        registry: Arc<Registry>,
        operator: Operator,
        readiness: Arc<Readiness>,
    ) -> Self {
        Self { scorer, registry, operator, readiness }
    }

    /// The tonic service.
    pub fn into_server(self, settings: &Settings) -> GrpcInferenceServiceServer<InferenceService> {
        limited!(GrpcInferenceServiceServer::new(self), settings)
    }

    fn find(&self, name: &str, version: &str) -> Result<ModelInfo, Status> {
        let version = request::version(version).map_err(Refusal::Field)?;
        Ok(self.scorer.find(&Route { model: name, version, arm: None })?)
    }
}

impl Call for wire::ModelInferRequest {
    type Reply = wire::ModelInferResponse;
    type Selection = ();

    fn request_id(&self) -> &str {
        &self.id
    }

    fn wanted(&self, _limits: &Limits) -> Result<Wanted<'_>, FieldError> {
        Ok(Wanted::Model(&self.model_name, request::version(&self.model_version)?))
    }

    fn read(&self, model: &ModelInfo, limits: &Limits) -> Result<(Question<'_>, ()), FieldError> {
        Ok((request::question(self, model, limits)?, ()))
    }

    fn reply(
        self,
        _selection: (),
        _arm: Option<&Arm>,
        reply: ScoreReply,
        _started: Instant,
    ) -> Result<wire::ModelInferResponse, FieldError> {
        Ok(reply::scores(self.id, reply))
    }
}

/// Answers a request of a stream.
async fn stream_answer(
    scorer: Arc<Scorer>,
    request: wire::ModelInferRequest,
    deadline: Option<Deadline>,
) -> wire::ModelStreamInferResponse {
    let (id, model_name) = (request.id.clone(), request.model_name.clone());
    match scorer.answer(request, deadline).await {
        Ok(scores) => reply::of_stream(scores),
        Err(status) => {
            let empty = wire::ModelInferResponse { id, model_name, ..wire::ModelInferResponse::default() };
            let error_message = format!("{}: {}", code_name(status.code()), status.message());
            wire::ModelStreamInferResponse { error_message, ..reply::of_stream(empty) }
        }
    }
}

/// Replies of a stream.
type Replies = Pin<Box<dyn Stream<Item = Result<wire::ModelStreamInferResponse, Status>> + Send>>;

#[tonic::async_trait]
impl GrpcInferenceService for InferenceService {
    type ModelStreamInferStream = Replies;

    async fn server_live(
        &self,
        _request: Request<wire::ServerLiveRequest>,
    ) -> Result<Response<wire::ServerLiveResponse>, Status> {
        Ok(Response::new(wire::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _request: Request<wire::ServerReadyRequest>,
    ) -> Result<Response<wire::ServerReadyResponse>, Status> {
        Ok(Response::new(wire::ServerReadyResponse { ready: self.readiness.state().ready() }))
    }

    async fn model_ready(
        &self,
        request: Request<wire::ModelReadyRequest>,
    ) -> Result<Response<wire::ModelReadyResponse>, Status> {
        let request = request.into_inner();
        let version = request::version(&request.version).map_err(Refusal::Field)?;
        let ready = self.scorer.engine.model(&request.name, version).is_ok();
        Ok(Response::new(wire::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _request: Request<wire::ServerMetadataRequest>,
    ) -> Result<Response<wire::ServerMetadataResponse>, Status> {
        Ok(Response::new(wire::ServerMetadataResponse {
            name: "gatefold".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<wire::ModelMetadataRequest>,
    ) -> Result<Response<wire::ModelMetadataResponse>, Status> {
        let request = request.into_inner();
        let info = self.find(&request.name, &request.version)?;
        let versions = match request.version.as_str() {
            "" => self.scorer.versions(&info.model.name),
            _ => vec![info.model.version],
        };
        Ok(Response::new(describe::metadata(&info, &versions)))
    }

    async fn model_infer(
        &self,
        request: Request<wire::ModelInferRequest>,
    ) -> Result<Response<wire::ModelInferResponse>, Status> {
        self.scorer.answer_call(request, |request| request).await
    }

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<wire::ModelInferRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let deadline = request.extensions().get::<Deadline>().copied();
        let scorer = self.scorer.clone();
        let answer = move |request| stream_answer(scorer.clone(), request, deadline);
        let replies = stream::in_order(request, self.scorer.clone(), answer);
        Ok(Response::new(Box::pin(replies)))
    }

    async fn model_config(
        &self,
        request: Request<wire::ModelConfigRequest>,
    ) -> Result<Response<wire::ModelConfigResponse>, Status> {
        let request = request.into_inner();
        let info = self.find(&request.name, &request.version)?;
        let config = describe::config(&info, self.scorer.engine.settings());
        Ok(Response::new(wire::ModelConfigResponse { config: Some(config) }))
    }

    async fn model_statistics(
        &self,
        request: Request<wire::ModelStatisticsRequest>,
    ) -> Result<Response<wire::ModelStatisticsResponse>, Status> {
        let request = request.into_inner();
        let models = match (request.name.as_str(), request.version.as_str()) {
            ("", "") => self.scorer.engine.models(),
            (name, version) => {
                let found = self.find(name, version)?;
                let mut models = self.scorer.engine.models();
                models.retain(|info| info.model.name == found.model.name);
                models.retain(|info| version.is_empty() || info.model == found.model);
                models
            }
        };
        let totals = |info: &ModelInfo| {
            let counts = self.scorer.statistics.of(&info.model)?;
            Some(reply::statistics(&info.model, &counts))
        };
        let model_stats = models.iter().filter_map(totals).collect();
        Ok(Response::new(wire::ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<wire::RepositoryIndexRequest>,
    ) -> Result<Response<wire::RepositoryIndexResponse>, Status> {
        repository::index(&self.registry, request.get_ref()).map(Response::new)
    }

    async fn repository_model_load(
        &self,
        request: Request<wire::RepositoryModelLoadRequest>,
    ) -> Result<Response<wire::RepositoryModelLoadResponse>, Status> {
        repository::load(&self.operator, request.into_inner()).await?;
        Ok(Response::new(wire::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<wire::RepositoryModelUnloadRequest>,
    ) -> Result<Response<wire::RepositoryModelUnloadResponse>, Status> {
        repository::unload(&self.operator, request.into_inner()).await?;
        Ok(Response::new(wire::RepositoryModelUnloadResponse {}))
    }
}
