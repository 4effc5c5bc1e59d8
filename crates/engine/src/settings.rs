//! Settings of the engine and of the registry; each says why one would change it.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::GraphForm;

/// How requests are admitted, batched and run.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSettings {
    /// Threads that run models, shared by all of them; each model version has as many backends, so
    /// more threads cost memory. One a core (divided by a backend's own threads) keeps all cores
    /// busy without two batches taking each other's.
    pub workers: usize,
    /// Whether each worker stays on a core of its own, where nothing else should run. Threads that a
    /// backend starts by itself are not pinned.
    pub pin_workers: bool,
    /// Candidates that may wait in one model's queue. Higher rides out longer bursts, and lets a
    /// request wait longer before it is refused.
    pub queue_rows: usize,
    /// Candidates one request may have; it must fit the queue.
    pub request_rows: usize,
    /// A batch takes further requests up to this many candidates; a larger request runs alone.
    /// Higher gains throughput where requests are small, until a batch's values no longer fit the
    /// cache, and lengthens the tail: those in a batch wait for each other.
    pub batch_rows: usize,
    /// How long a request may wait for others to fill its batch while a worker is free. Zero is
    /// best unless requests are tiny: under load batches fill by themselves.
    pub batch_delay: Duration,
    /// Of the requests to a model, how many of the last are kept, one a second at most, so that a new
    /// version is warmed by them. They are held in memory alone, in bounded space; 0 keeps none.
    pub warm_up_requests: usize,
    /// The graph to run; a bundle without a user-once graph is run by its plain one.
    pub form: GraphForm,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            // Respects the processor share a container is given.
            workers: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            pin_workers: false,
            queue_rows: 32_768,
            request_rows: 10_000,
            batch_rows: 256,
            batch_delay: Duration::ZERO,
            warm_up_requests: 16,
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

/// Where models are, which of their versions are loaded, and how often to look for new ones.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistrySettings {
    /// Folder of `<name>/<version>` bundles.
    pub folder: PathBuf,
    /// Time between two looks at the folder; `None` looks once, at start.
    pub poll: Option<Duration>,
    /// Which versions are loaded, by model; the newest alone where a model is not listed.
    pub policies: BTreeMap<String, VersionPolicy>,
    /// Versions that are loaded beside those, by model: requests name them. They take no traffic that
    /// names no version.
    pub pinned: BTreeMap<String, BTreeSet<u64>>,
}

impl RegistrySettings {
    /// The policy of one model.
    pub fn policy(&self, model: &str) -> VersionPolicy {
        self.policies.get(model).cloned().unwrap_or_default()
    }

    /// Checks the policies.
    ///
    /// # Errors
    /// A sentence that names the model, what was found and what to do.
    pub fn check(&self) -> Result<(), SettingsError> {
        for (model, policy) in &self.policies {
            let problem = match policy {
                VersionPolicy::Latest(0) => "latest is 0: keep at least 1 version",
                VersionPolicy::Named(versions) if versions.is_empty() => {
                    "named lists no version: list at least one, or use latest"
                }
                VersionPolicy::Named(versions) if versions.contains(&0) => {
                    "named lists version 0: versions begin with 1"
                }
                _ => continue,
            };
            return Err(SettingsError(format!("versions of model '{model}': {problem}")));
        }
        Ok(())
    }
}

/// Which versions of a model are loaded, beside those that a label names and pinned ones. The highest of them takes
/// the traffic that names neither version nor label. The label `stable` is a ceiling: no version
/// above it is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionPolicy {
    /// So many of the highest good versions. More than one keeps older versions ready for requests
    /// that name them and for a rollback at once, and costs their memory.
    Latest(usize),
    /// These, where they are good.
    Named(Vec<u64>),
}

impl Default for VersionPolicy {
    fn default() -> Self {
        VersionPolicy::Latest(1)
    }
}

impl VersionPolicy {
    /// Of the versions `found`, those that may be taken up to `ceiling`, best first.
    pub(crate) fn candidates(&self, found: impl Iterator<Item = u64>, ceiling: Option<u64>) -> Vec<u64> {
        let allowed = |version: &u64| {
            let named = match self {
                VersionPolicy::Latest(_) => true,
                VersionPolicy::Named(versions) => versions.contains(version),
            };
            named && ceiling.is_none_or(|ceiling| *version <= ceiling)
        };
        let mut candidates: Vec<u64> = found.filter(allowed).collect();
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        candidates
    }

    /// How many of the candidates are taken.
    pub(crate) fn count(&self) -> usize {
        match self {
            VersionPolicy::Latest(count) => *count,
            VersionPolicy::Named(_) => usize::MAX,
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub(crate) String);
