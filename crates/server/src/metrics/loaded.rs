//! The models as they stand at the moment of a collection.

use std::time::{Duration, SystemTime};

use gatefold_engine::{ModelState, ModelStatus, ModelVersion};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::ModelGauge;
use super::labels::{ByModel, ByState, ByVersion};

type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

/// Gauges of the models.
#[derive(Debug, Default)]
pub(super) struct LoadedModels {
    version: Family<ByModel, Gauge>,
    waiting: Family<ByVersion, Gauge>,
    age: Family<ByVersion, Seconds>,
    serving: Family<ByVersion, Seconds>,
    states: Family<ByState, Gauge>,
}

impl LoadedModels {
    /// Registers the gauges.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let gauges = Self::default();
        registry.register("queue_rows", "Candidates waiting in the queue", gauges.waiting.clone());
        registry.register(
            "model_version",
            "Version that takes the traffic which names none",
            gauges.version.clone(),
        );
        registry.register_with_unit(
            "model_age",
            "Time since a loaded version was published (its manifest.json was written)",
            Unit::Seconds,
            gauges.age.clone(),
        );
        registry.register_with_unit(
            "model_serving",
            "Time since a loaded version began to take traffic",
            Unit::Seconds,
            gauges.serving.clone(),
        );
        registry.register(
            "model_versions",
            "Versions in the models folder by state: loading, serving, draining, unloaded, refused",
            gauges.states.clone(),
        );
        gauges
    }

    /// Replaces what is shown; `published` says when a version was.
    pub(super) fn show(
        &self,
        models: &[ModelGauge<'_>],
        status: &[ModelStatus],
        published: impl Fn(&ModelVersion) -> Option<SystemTime>,
    ) {
        self.version.clear();
        self.waiting.clear();
        self.age.clear();
        self.serving.clear();
        self.states.clear();
        for info in models {
            let version = ByVersion::new(info.model);
            self.waiting.get_or_create(&version).set(info.waiting_rows as i64);
            self.age.get_or_create(&version).set(since(published(info.model).unwrap_or(info.since)));
            self.serving.get_or_create(&version).set(since(info.since));
            if info.current {
                self.version.get_or_create(&ByModel::new(info.model)).set(info.model.version as i64);
            }
        }
        for status in status {
            self.states.get_or_create(&ByState::new(&status.model, state(&status.state))).inc();
        }
    }
}

/// Seconds since `time`; 0 where the clock was set back.
fn since(time: SystemTime) -> f64 {
    time.elapsed().unwrap_or(Duration::ZERO).as_secs_f64()
}

fn state(state: &ModelState) -> &'static str {
    match state {
        ModelState::Loading => "loading",
        ModelState::Serving => "serving",
        ModelState::Draining => "draining",
        ModelState::Unloaded => "unloaded",
        ModelState::Refused { .. } => "refused",
    }
}
