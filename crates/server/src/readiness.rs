//! Whether the server can take traffic, as probes ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gatefold_engine::{Engine, ModelInfo, ModelState, ModelStatus, Registry};

/// The server's state, looked up when it is asked for.
pub struct Readiness {
    engine: Engine,
    registry: Arc<Registry>,
    looked: AtomicBool,
    stopping: AtomicBool,
}

/// The server's state at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Whether the server is stopping.
    pub stopping: bool,
    /// Whether every model that was there at the start has been looked at.
    pub looked: bool,
    /// Whether a model takes traffic.
    pub serving: bool,
    /// Every known model version with a line on its state.
    pub models: BTreeMap<String, String>,
}

impl State {
    /// Whether the server can take traffic: not before all models of the start are there, so that
    /// no caller misses one of them.
    pub fn ready(&self) -> bool {
        self.serving && self.looked && !self.stopping
    }
}

impl Readiness {
    /// The readiness of a server of these models.
    pub fn new(engine: Engine, registry: Arc<Registry>) -> Self {
        Self { engine, registry, looked: AtomicBool::new(false), stopping: AtomicBool::new(false) }
    }

    /// Notes that every model that was there at the start has been looked at.
    pub fn looked(&self) {
        self.looked.store(true, Ordering::Relaxed);
    }

    /// Whether every model that was there at the start has been looked at.
    pub fn has_looked(&self) -> bool {
        self.looked.load(Ordering::Relaxed)
    }

    /// Notes that the server is stopping; there is no way back.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The state now.
    pub fn state(&self) -> State {
        let line = |state: &ModelState| match state {
            ModelState::Loading => "loading".to_owned(),
            ModelState::Serving => "serving".to_owned(),
            ModelState::Draining => "draining".to_owned(),
            ModelState::Unloaded => "unloaded".to_owned(),
            ModelState::Refused { reason } => format!("refused: {reason}"),
        };
        let status = self.registry.status();
        State {
            stopping: self.stopping.load(Ordering::Relaxed),
            looked: self.has_looked(),
            serving: !self.engine.models().is_empty(),
            models: status.iter().map(|model| (model.model.to_string(), line(&model.state))).collect(),
        }
    }

    /// The versions that take traffic, and the state of all that are known.
    pub fn models(&self) -> (Vec<ModelInfo>, Vec<ModelStatus>) {
        (self.engine.models(), self.registry.status())
    }
}
