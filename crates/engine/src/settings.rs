//! Settings of the engine and of the registry; each says why one would change it.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use crate::GraphForm;

/// How requests are admitted, batched and run.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSettings {
    /// Threads that run models, shared by all of them; each model version has as many backends, so
    /// more threads cost memory. One a core (divided by a backend's own threads) keeps all cores
    /// busy without two batches taking each other's.
    pub workers: usize,
    /// Candidates that may wait in one model's queue. Higher rides out longer bursts, and lets a
    /// request wait longer before it is refused.
    pub queue_rows: usize,
    /// Candidates one request may have; it must fit the queue.
    pub request_rows: usize,
    /// A batch takes further requests up to this many candidates; a larger request runs alone.
    /// Higher gains throughput under load, and lengthens the tail.
    pub batch_rows: usize,
    /// How long a request may wait for others to fill its batch while a worker is free. Zero is
    /// best unless requests are tiny: under load batches fill by themselves.
    pub batch_delay: Duration,
    /// The graph to run; a bundle without a user-once graph is run by its plain one.
    pub form: GraphForm,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            // Respects the processor share a container is given.
            workers: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            queue_rows: 32_768,
            request_rows: 10_000,
            batch_rows: 1024,
            batch_delay: Duration::ZERO,
            form: GraphForm::UserOnce,
        }
    }
}

impl EngineSettings {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// A sentence that names the setting, what was found and what to do.
    pub fn check(&self) -> Result<(), SettingsError> {
        let positive = [
            ("workers", self.workers),
            ("queue_rows", self.queue_rows),
            ("request_rows", self.request_rows),
            ("batch_rows", self.batch_rows),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(SettingsError(format!("{name} must be at least 1, found 0")));
        }
        if self.request_rows > self.queue_rows {
            return Err(SettingsError(format!(
                "request_rows ({}) is larger than queue_rows ({}), so that such a request could never be \
                 queued: raise queue_rows or lower request_rows",
                self.request_rows, self.queue_rows
            )));
        }
        Ok(())
    }
}

/// Where models are and how often to look for new ones.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistrySettings {
    /// Folder of `<name>/<version>` bundles.
    pub folder: PathBuf,
    /// Time between two looks at the folder; `None` looks once, at start.
    pub poll: Option<Duration>,
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub(crate) String);
