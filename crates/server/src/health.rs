//! gRPC health: the server as a whole, each scoring service, and each model by its name.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gatefold_engine::{BatchEvent, Bundle, Engine, ModelState, ModelVersion, Observer, ScoreReply};
use gatefold_features::{FeatureBatch, RawBatch};
use gatefold_proto::inference::grpc_inference_service_server;
use gatefold_proto::ranking::v1::ranking_server;
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::metrics::{Installed, Metrics};
use crate::readiness::Readiness;
use crate::statistics::Statistics;

/// What is not a model: the server as a whole, and the services that need one.
const SERVICES: [&str; 3] = ["", ranking_server::SERVICE_NAME, grpc_inference_service_server::SERVICE_NAME];

/// Time that watchers have to learn that the server stops serving.
const TIME_TO_TELL: Duration = Duration::from_millis(200);

/// Listens to the engine: counts its batches, and tells [`Health`] when models come and go.
pub struct EngineListener {
    metrics: Arc<Metrics>,
    statistics: Arc<Statistics>,
    changed: watch::Sender<()>,
}

impl EngineListener {
    /// A listener that counts into `metrics` and `statistics`, and tells `changed` of changed models.
    pub fn new(metrics: Arc<Metrics>, statistics: Arc<Statistics>, changed: watch::Sender<()>) -> Self {
        Self { metrics, statistics, changed }
    }
}

impl Observer for EngineListener {
    fn batch(&self, event: &BatchEvent<'_>) {
        self.metrics.batch(event);
        self.statistics.batch(event.model, event.rows, event.infer);
    }

    fn installed(&self, model: &ModelVersion, bundle: &Bundle) {
        let manifest = bundle.manifest();
        let written = std::fs::metadata(bundle.path().join("manifest.json")).and_then(|file| file.modified());
        let installed = Installed {
            features: manifest.features.iter().map(|fitted| fitted.feature.name.as_str()).collect(),
            outputs: manifest.outputs.iter().map(|output| output.name.as_str()).collect(),
            published: written.unwrap_or_else(|_| SystemTime::now()),
        };
        self.metrics.installed(model, &installed);
    }

    fn encoded(&self, model: &ModelVersion, bundle: &Bundle, raw: &RawBatch<'_>, batch: &FeatureBatch) {
        self.metrics.encoded(model, &bundle.encoder().tally(raw, batch));
    }

    fn scored(&self, reply: &ScoreReply, _candidates: usize) {
        self.metrics.scored(reply);
    }

    fn model(&self, model: &ModelVersion, state: &ModelState) {
        self.statistics.model(model, state);
        if matches!(state, ModelState::Unloaded | ModelState::Refused { .. }) {
            self.metrics.unloaded(model);
        }
        self.changed.send_replace(());
    }
}

/// Keeps the health service equal to the engine's models.
pub struct Health {
    reporter: HealthReporter,
    engine: Engine,
    readiness: Arc<Readiness>,
    /// Models reported so far.
    reported: BTreeSet<String>,
}

impl Health {
    /// Reports to `reporter`; nothing serves until [`Health::follow`] finds a model.
    pub async fn new(reporter: HealthReporter, engine: Engine, readiness: Arc<Readiness>) -> Self {
        for service in SERVICES {
            reporter.set_service_status(service, ServingStatus::NotServing).await;
        }
        Self { reporter, engine, readiness, reported: BTreeSet::new() }
    }

    /// Reports at every change until told to `stop`; then reports everything as not serving, and
    /// shortly after ends the streams of those who watch, which would keep their connections open.
    pub async fn follow(mut self, mut changed: watch::Receiver<()>, mut stop: watch::Receiver<bool>) {
        loop {
            self.report().await;
            tokio::select! {
                result = changed.changed() => if result.is_err() { break },
                // The sender gone means a stop as well.
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        let services: Vec<String> = self.services().map(str::to_owned).collect();
        for service in &services {
            self.reporter.set_service_status(service, ServingStatus::NotServing).await;
        }
        tokio::time::sleep(TIME_TO_TELL).await;
        for service in &services {
            self.reporter.clear_service_status(service).await;
        }
    }

    async fn report(&mut self) {
        let loaded: BTreeSet<String> =
            self.engine.models().iter().map(|info| info.model.name.to_string()).collect();
        let ready = self.readiness.state().ready();
        let status = |serving| if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.reporter.set_service_status(service, status(ready)).await;
        }
        self.reported.extend(loaded.iter().cloned());
        for model in &self.reported {
            self.reporter.set_service_status(model, status(loaded.contains(model))).await;
        }
    }

    fn services(&self) -> impl Iterator<Item = &str> {
        SERVICES.into_iter().chain(self.reported.iter().map(String::as_str))
    }
}
