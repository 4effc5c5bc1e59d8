//! The repository extension over the registry: what is there, load, unload.

use gatefold_engine::{ModelState, ModelStatus, Registry};
use gatefold_proto::inference as wire;
use tonic::Status;
use wire::repository_index_response::ModelIndex;

use crate::operator::Operator;

/// Every model version that the registry has looked at.
///
/// # Errors
/// A repository by name.
pub(super) fn index(
    registry: &Registry,
    request: &wire::RepositoryIndexRequest,
) -> Result<wire::RepositoryIndexResponse, Status> {
    only_repository(&request.repository_name)?;
    let statuses = registry.status();
    let wanted = statuses.iter().filter(|status| !request.ready || status.state == ModelState::Serving);
    Ok(wire::RepositoryIndexResponse { models: wanted.map(entry).collect() })
}

fn entry(status: &ModelStatus) -> ModelIndex {
    let (state, reason) = match &status.state {
        ModelState::Serving => ("READY", ""),
        ModelState::Loading => ("LOADING", ""),
        ModelState::Draining => ("UNLOADING", ""),
        ModelState::Unloaded => ("UNAVAILABLE", "unloaded"),
        ModelState::Refused { reason } => ("UNAVAILABLE", reason.as_str()),
    };
    ModelIndex {
        name: status.model.name.to_string(),
        version: status.model.version.to_string(),
        state: state.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Looks at the models folder and answers when the model takes traffic.
///
/// # Errors
/// A repository by name, parameters, and a model that is not there or not good.
pub(super) async fn load(
    operator: &Operator,
    request: wire::RepositoryModelLoadRequest,
) -> Result<(), Status> {
    only_repository(&request.repository_name)?;
    if let Some(name) = request.parameters.keys().next() {
        return Err(Status::unimplemented(format!(
            "load parameter '{name}' is not supported: publish a bundle with what it should say"
        )));
    }
    operator.ask(move |registry| registry.load(&request.model_name)).await
}

/// Takes the model out of traffic until it is loaded again.
///
/// # Errors
/// A repository by name, and a model that is not there.
pub(super) async fn unload(
    operator: &Operator,
    request: wire::RepositoryModelUnloadRequest,
) -> Result<(), Status> {
    only_repository(&request.repository_name)?;
    operator.ask(move |registry| registry.unload(&request.model_name)).await
}

fn only_repository(name: &str) -> Result<(), Status> {
    match name {
        "" => Ok(()),
        name => Err(Status::unimplemented(format!(
            "repository_name '{name}' is not supported: the server has one repository, leave it empty"
        ))),
    }
}
