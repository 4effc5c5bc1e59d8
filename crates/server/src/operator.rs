//! The `Admin` service: what an operator asks of the registry.
//!
//! Its calls may last as long as a model takes to load, so they run on blocking tasks; one whose
//! caller goes away is finished all the same.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use gatefold_engine::{ModelState, ModelStatus, Registry, RegistryError};
use gatefold_proto::ranking::v1 as wire;
use tonic::{Request, Response, Status};
use wire::admin_server::{Admin, AdminServer};

use crate::compression::limited;
use crate::settings::Settings;
use crate::status::registry_status;

/// Answers `Admin` calls. Cheap to clone; all clones are one service.
#[derive(Clone)]
pub struct Operator {
    registry: Arc<Registry>,
}

impl Operator {
    /// A service over `registry`.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// The tonic service.
    pub fn into_server(self, settings: &Settings) -> AdminServer<Operator> {
        limited!(AdminServer::new(self), settings)
    }

    /// What the registry answers, from a blocking task.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Registry) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, Status> {
        let registry = self.registry.clone();
        let answer = tokio::task::spawn_blocking(move || ask(&registry)).await;
        let answer =
            answer.map_err(|_| Status::internal("the call ended without an answer; the log says why"))?;
        answer.map_err(|error| registry_status(&error))
    }
}

#[tonic::async_trait]
impl Admin for Operator {
    async fn list_versions(
        &self,
        request: Request<wire::ListVersionsRequest>,
    ) -> Result<Response<wire::ListVersionsResponse>, Status> {
        let model = request.into_inner().model;
        let status = self.registry.status().into_iter();
        let asked = status.filter(|status| model.is_empty() || *status.model.name == *model);
        Ok(Response::new(wire::ListVersionsResponse { versions: asked.map(version).collect() }))
    }

    async fn set_label(
        &self,
        request: Request<wire::SetLabelRequest>,
    ) -> Result<Response<wire::SetLabelResponse>, Status> {
        let wire::SetLabelRequest { model, label, version } = request.into_inner();
        let version = (version != 0).then_some(version);
        self.ask(move |registry| registry.set_label(&model, &label, version)).await?;
        Ok(Response::new(wire::SetLabelResponse {}))
    }

    async fn rollback(
        &self,
        request: Request<wire::RollbackRequest>,
    ) -> Result<Response<wire::RollbackResponse>, Status> {
        let model = request.into_inner().model;
        let moved = self.ask(move |registry| registry.rollback(&model)).await?;
        Ok(Response::new(wire::RollbackResponse { from_version: moved.from, version: moved.to }))
    }

    async fn load_model(
        &self,
        request: Request<wire::LoadModelRequest>,
    ) -> Result<Response<wire::LoadModelResponse>, Status> {
        let model = request.into_inner().model;
        self.ask(move |registry| registry.load(&model)).await?;
        Ok(Response::new(wire::LoadModelResponse {}))
    }

    async fn unload_model(
        &self,
        request: Request<wire::UnloadModelRequest>,
    ) -> Result<Response<wire::UnloadModelResponse>, Status> {
        let model = request.into_inner().model;
        self.ask(move |registry| registry.unload(&model)).await?;
        Ok(Response::new(wire::UnloadModelResponse {}))
    }
}

fn version(status: ModelStatus) -> wire::VersionStatus {
    let (state, reason) = match status.state {
        ModelState::Loading => (wire::VersionState::Loading, String::new()),
        ModelState::Serving => (wire::VersionState::Serving, String::new()),
        ModelState::Draining => (wire::VersionState::Draining, String::new()),
        ModelState::Unloaded => (wire::VersionState::Unloaded, String::new()),
        ModelState::Refused { reason } => (wire::VersionState::Refused, reason),
    };
    wire::VersionStatus {
        model: status.model.name.to_string(),
        version: status.model.version,
        state: state.into(),
        reason,
        labels: status.labels,
        since_ms: milliseconds(status.since),
    }
}

fn milliseconds(time: SystemTime) -> i64 {
    // A clock before 1970 has no better answer.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
