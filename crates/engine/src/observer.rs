//! What the engine tells about itself, for whoever counts: a few calls on plain values, so that
//! the engine knows no metrics library.

use std::time::Duration;

use gatefold_features::{FeatureBatch, RawBatch};

use crate::{Bundle, ModelState, ModelVersion, ScoreError, ScoreReply};

/// Listens to the engine. Calls come from many threads and on the path of a request: they must be
/// quick and must not block.
pub trait Observer: Send + Sync {
    /// A model version is about to take traffic: nothing else is told of it before.
    fn installed(&self, model: &ModelVersion, bundle: &Bundle) {
        let _ = (model, bundle);
    }
    /// The raw values of a job were encoded.
    fn encoded(&self, model: &ModelVersion, bundle: &Bundle, raw: &RawBatch<'_>, batch: &FeatureBatch) {
        let _ = (model, bundle, raw, batch);
    }
    /// A job was scored.
    fn scored(&self, reply: &ScoreReply, candidates: usize) {
        let _ = (reply, candidates);
    }
    /// A job was refused or failed; `model` is the loaded model's name, or empty where there is
    /// none of the name asked for.
    fn failed(&self, model: &str, error: &ScoreError) {
        let _ = (model, error);
    }
    /// A batch was run.
    fn batch(&self, event: &BatchEvent<'_>) {
        let _ = event;
    }
    /// A model version changed its state.
    fn model(&self, model: &ModelVersion, state: &ModelState) {
        let _ = (model, state);
    }
}

/// One run of a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchEvent<'a> {
    /// The model.
    pub model: &'a ModelVersion,
    /// Jobs in the batch.
    pub jobs: usize,
    /// Candidates in the batch.
    pub rows: usize,
    /// Time the backend took.
    pub infer: Duration,
    /// Whether it succeeded.
    pub ok: bool,
}

/// Listens to nothing.
pub struct NoObserver;

impl Observer for NoObserver {}
