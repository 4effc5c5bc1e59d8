//! Runs an imported graph before there is a bundle, and judges what it gives.

use anyhow::{Context, Result, bail, ensure};
use gatefold_backend_ort::OpenGraph;
use gatefold_engine::{GOLDEN_TOLERANCE, GraphForm};
use gatefold_features::{Encoder, FeatureBatch, RawBatch, Strictness};
use gatefold_schema::{Golden, GoldenRequest, ImportMap, JsonRequest, Loss};

use super::{golden as requests, tensors};

/// Raw requests as a bundle encodes them.
pub(super) fn encode(encoder: &Encoder, requests: &[JsonRequest]) -> Result<FeatureBatch> {
    let raw = RawBatch::from_json(requests, encoder.set())?;
    Ok(encoder.encode(&raw, Strictness::Refuse)?)
}

/// Runs the model before there is a bundle.
pub(super) struct Trial<'a> {
    pub(super) map: &'a ImportMap,
    pub(super) encoder: &'a Encoder,
}

impl Trial<'_> {
    /// The requests with the scores that the graph gives them, which must be those that came with them,
    /// and probabilities where the task's loss says so.
    pub(super) fn golden(&self, graph: &mut OpenGraph, given: Vec<requests::Given>) -> Result<Golden> {
        let names = self.map.outputs();
        let mut golden = Golden::default();
        for (index, entry) in given.into_iter().enumerate() {
            let request = format!("golden request {index}");
            let batch =
                encode(self.encoder, std::slice::from_ref(&entry.request)).context(request.clone())?;
            let inputs = tensors::inputs(&self.encoder.set().features, &batch, GraphForm::Plain);
            let scores = tensors::scores(graph, &inputs, batch.candidates, &names).with_context(|| {
                format!(
                    "the graph failed on {request}: is the number of codes of every feature that of its table?"
                )
            })?;
            for (name, found) in names.iter().zip(&scores) {
                self.judge(name, found, entry.scores.get(name), &request)?;
            }
            if let Some(unknown) = entry.scores.keys().find(|name| !names.contains(name)) {
                bail!(
                    "{request} has scores of '{unknown}', which is no output; those are: {}",
                    names.join(", ")
                );
            }
            let scores = names.iter().cloned().zip(scores).collect();
            golden.requests.push(GoldenRequest { request: entry.request, scores });
        }
        Ok(golden)
    }

    /// Scores must be finite, probabilities where they are said to be, and those that were given.
    fn judge(&self, name: &str, found: &[f32], given: Option<&Vec<f32>>, request: &str) -> Result<()> {
        let number = self.map.tasks.iter().any(|task| task.name == name && task.loss == Loss::SquaredError);
        for (candidate, score) in found.iter().enumerate() {
            let place = format!("{request}, candidate {candidate}: {name} is {score}");
            ensure!(score.is_finite(), "{place}: the model gives no number for it");
            ensure!(
                number || (-GOLDEN_TOLERANCE..=1.0 + GOLDEN_TOLERANCE).contains(score),
                "{place}, no probability: set sigmoid = true where the graph gives a logit, or loss = \
                 \"squared-error\" where it gives any number"
            );
            if let Some(given) = given {
                let expected = given.get(candidate).copied();
                let near = expected.is_some_and(|expected| (expected - score).abs() <= GOLDEN_TOLERANCE);
                ensure!(
                    near && given.len() == found.len(),
                    "{place}, expected {expected:?} (within {GOLDEN_TOLERANCE}): are the features mapped to the \
                     right inputs and columns, with the values that the model was trained on?"
                );
            }
        }
        Ok(())
    }
}
