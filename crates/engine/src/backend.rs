//! The whole contract between the engine and what runs a model.

use std::path::PathBuf;

use gatefold_features::FeatureBatch;

use crate::Bundle;

/// Runs one model. Owned by one thread at a time; never shared.
pub trait Backend: Send {
    /// Scores every candidate of `batch`.
    ///
    /// `outputs` are positions in the manifest's output list, each at most once; those beyond it
    /// go on through its list of gates. What is not listed need not be computed. The result holds
    /// one vector for each of them, in that order: `batch.candidates` probabilities, or of a gate
    /// as many rows of one weight an expert.
    ///
    /// # Errors
    /// When the batch does not fit the graph, or the runtime fails. The backend stays usable.
    fn run(&mut self, batch: &FeatureBatch, outputs: &[usize]) -> Result<Vec<Vec<f32>>, BackendError>;
}

/// Opens backends for bundles.
pub trait BackendLoader: Send + Sync {
    /// Opens one backend on a bundle's graph; every call gives an independent one.
    ///
    /// # Errors
    /// When the graph cannot be read, or does not fit the manifest.
    fn open(&self, bundle: &Bundle, form: GraphForm) -> Result<Box<dyn Backend>, BackendError>;
}

/// Which of a bundle's graphs to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GraphForm {
    /// Request-level inputs have one row a request: what depends on the user alone is computed once.
    UserOnce,
    /// Every input has one row a candidate.
    Plain,
}

/// A model that could not be opened or run.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The graph file cannot be used.
    #[error("{file}: {reason}")]
    Load {
        /// The file.
        file: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The bundle has no graph of that form.
    #[error("{bundle} has no user-once graph: use the plain one, or publish the model again")]
    NoUserOnce {
        /// The bundle's folder.
        bundle: PathBuf,
    },
    /// The runtime itself cannot be used.
    #[error("{0}")]
    Unavailable(String),
    /// The batch does not fit the graph.
    #[error("the batch does not fit the model: {0}")]
    Batch(String),
    /// The runtime failed while running the graph.
    #[error("running the model failed: {0}")]
    Run(String),
}
