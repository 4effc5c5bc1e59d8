//! The graphs that compute the request level once.

use gatefold_graph::{Graph, passes};
use gatefold_schema::{EncoderSet, Level, Recipe};

use crate::error::TrainError;

/// The graph whose request-level inputs have one row a request; none where no feature stands at
/// that level.
pub(crate) fn user_once(encoders: &EncoderSet, plain: &Graph) -> Result<Option<Graph>, TrainError> {
    let is_request = |input: &str| {
        let mut of_request =
            encoders.features.iter().filter(|fitted| fitted.feature.side.level() == Level::Request);
        of_request.any(|fitted| fitted.feature.name == input)
    };
    if !plain.inputs().any(|(name, _)| is_request(name)) {
        return Ok(None);
    }
    Ok(Some(passes::user_once(plain, &is_request)?))
}

/// The graph with losses that the recipe trains, before it is differentiated: with the request
/// level apart where batches are of whole requests.
pub(crate) fn training(recipe: &Recipe, encoders: &EncoderSet) -> Result<Graph, TrainError> {
    let plain = gatefold_nn::training(&encoders.features, &recipe.tasks, &recipe.derived, &recipe.model)?;
    let split = if recipe.train.request_batches { user_once(encoders, &plain)? } else { None };
    Ok(split.unwrap_or(plain))
}
