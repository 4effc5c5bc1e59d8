//! The series of each loaded model version: made when it is loaded, so that a request looks up one
//! entry and then only counts, and removed some time after it has gone.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use gatefold_engine::{BatchEvent, ModelVersion};
use gatefold_features::Tally;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;

use super::labels::{ByCode, ByFeature, ByOutput, ByReason, ByVersion};
use super::scores::ScoreHistogram;
use super::{Answered, Installed, Rejection};

/// How long the series of a version that has gone are still shown: several collections.
const KEEP: Duration = Duration::from_secs(600);

type Histograms = Family<ByVersion, Histogram, fn() -> Histogram>;

/// Metrics that have a series for each model version.
#[derive(Debug)]
pub(super) struct Families {
    requests: Family<ByCode, Counter>,
    rejections: Family<ByReason, Counter>,
    candidates: Family<ByVersion, Counter>,
    total: Histograms,
    encode: Histograms,
    queue: Histograms,
    infer: Histograms,
    batch: Histograms,
    failed_batches: Family<ByVersion, Counter>,
    values: Family<ByFeature, Counter>,
    missing: Family<ByFeature, Counter>,
    unknown: Family<ByFeature, Counter>,
    scores: Family<ByOutput, ScoreHistogram>,
}

/// The series of one model version.
#[derive(Debug)]
pub(super) struct ModelSeries {
    model: ModelVersion,
    /// When the version was published.
    pub(super) published: SystemTime,
    requests: Counter,
    candidates: Counter,
    total: Histogram,
    encode: Histogram,
    queue: Histogram,
    infer: Histogram,
    batch: Histogram,
    failed_batches: Counter,
    /// In the order of the manifest, as the outputs.
    features: Vec<FeatureSeries>,
    outputs: Vec<(Arc<str>, ScoreHistogram)>,
}

#[derive(Debug)]
struct FeatureSeries {
    name: Arc<str>,
    values: Counter,
    missing: Counter,
    unknown: Counter,
}

/// The series of every version that is loaded or was a short time ago.
#[derive(Debug)]
pub(super) struct Served {
    families: Families,
    versions: RwLock<HashMap<ModelVersion, Version>>,
}

#[derive(Debug)]
struct Version {
    series: Arc<ModelSeries>,
    left: Option<Instant>,
}

/// 50 µs to 3.3 s.
fn time_buckets() -> Histogram {
    Histogram::new(exponential_buckets(50e-6, 2.0, 17))
}

/// 1 to 16,384 candidates.
fn size_buckets() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 15))
}

impl Families {
    /// Registers the metrics; `requests` and `rejections` are registered already.
    pub(super) fn register(
        registry: &mut Registry,
        requests: Family<ByCode, Counter>,
        rejections: Family<ByReason, Counter>,
    ) -> Self {
        let mut seconds = |name: &str, help: &str| {
            let family = Family::new_with_constructor(time_buckets as fn() -> Histogram);
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
            family
        };
        let total = seconds("request", "Time from the decoded message to the finished reply");
        let encode = seconds("encode", "Time to check and encode a request");
        let queue = seconds("queue", "Time a request waited for its batch to start");
        let infer = seconds("infer", "Time to run the model on a batch");
        let batch = Family::new_with_constructor(size_buckets as fn() -> Histogram);
        registry.register("batch_candidates", "Candidates in a batch", batch.clone());
        let families = Self {
            requests,
            rejections,
            candidates: Family::default(),
            total,
            encode,
            queue,
            infer,
            batch,
            failed_batches: Family::default(),
            values: Family::default(),
            missing: Family::default(),
            unknown: Family::default(),
            scores: Family::default(),
        };
        let mut counter = |name: &str, help: &str, family: &Family<ByVersion, Counter>| {
            registry.register(name, help, family.clone());
        };
        counter("candidates", "Candidates scored", &families.candidates);
        counter("failed_batches", "Batches that the model failed on", &families.failed_batches);
        let mut counter = |name: &str, help: &str, family: &Family<ByFeature, Counter>| {
            registry.register(name, help, family.clone());
        };
        counter(
            "feature_values",
            "Values of a feature that requests had, missing ones included; each element of a sequence is one",
            &families.values,
        );
        counter("feature_missing", "Values of a feature that were missing", &families.missing);
        counter(
            "feature_unknown",
            "Values of a feature that were not in its vocabulary; 0 for one that has none",
            &families.unknown,
        );
        registry.register("score", "Scores of an output", families.scores.clone());
        families
    }

    fn series(&self, model: &ModelVersion, installed: &Installed<'_>) -> ModelSeries {
        let by = ByVersion::new(model);
        let feature = |name: &str| {
            let by = ByFeature::new(model, name);
            FeatureSeries {
                name: name.into(),
                values: self.values.get_or_create_owned(&by),
                missing: self.missing.get_or_create_owned(&by),
                unknown: self.unknown.get_or_create_owned(&by),
            }
        };
        let output = |name: &str| (name.into(), self.scores.get_or_create_owned(&ByOutput::new(model, name)));
        ModelSeries {
            model: model.clone(),
            published: installed.published,
            requests: self.requests.get_or_create_owned(&ByCode::new(Some(model), Code::Ok)),
            candidates: self.candidates.get_or_create_owned(&by),
            total: self.total.get_or_create_owned(&by),
            encode: self.encode.get_or_create_owned(&by),
            queue: self.queue.get_or_create_owned(&by),
            infer: self.infer.get_or_create_owned(&by),
            batch: self.batch.get_or_create_owned(&by),
            failed_batches: self.failed_batches.get_or_create_owned(&by),
            features: installed.features.iter().map(|name| feature(name)).collect(),
            outputs: installed.outputs.iter().map(|name| output(name)).collect(),
        }
    }

    fn remove(&self, series: &ModelSeries) {
        let model = &series.model;
        let by = ByVersion::new(model);
        for code in (0..=16).map(Code::from_i32) {
            self.requests.remove(&ByCode::new(Some(model), code));
        }
        for reason in Rejection::ALL {
            self.rejections.remove(&ByReason::new(Some(model), reason));
        }
        for counter in [&self.candidates, &self.failed_batches] {
            counter.remove(&by);
        }
        for histogram in [&self.total, &self.encode, &self.queue, &self.infer, &self.batch] {
            histogram.remove(&by);
        }
        for feature in &series.features {
            let by = ByFeature::new(model, &feature.name);
            for counter in [&self.values, &self.missing, &self.unknown] {
                counter.remove(&by);
            }
        }
        for (output, _) in &series.outputs {
            self.scores.remove(&ByOutput::new(model, output));
        }
    }
}

impl ModelSeries {
    /// Counts the values of a request; `tallies` has one entry a feature.
    pub(super) fn encoded(&self, tallies: &[Tally]) {
        for (feature, tally) in self.features.iter().zip(tallies) {
            feature.values.inc_by(tally.values);
            feature.missing.inc_by(tally.missing);
            feature.unknown.inc_by(tally.unknown);
        }
    }

    /// Counts the scores of a request, output by output.
    pub(super) fn scored(&self, names: &[String], scores: &[Vec<f32>]) {
        for (name, scores) in names.iter().zip(scores) {
            if let Some((_, histogram)) = self.outputs.iter().find(|(output, _)| **output == **name) {
                histogram.observe(scores);
            }
        }
    }

    /// Counts an answered request.
    pub(super) fn answered(&self, answered: &Answered) {
        self.requests.inc();
        self.candidates.inc_by(answered.candidates as u64);
        self.total.observe(answered.total.as_secs_f64());
        self.encode.observe(answered.encode.as_secs_f64());
        self.queue.observe(answered.queue.as_secs_f64());
    }

    /// Counts a run of the model.
    pub(super) fn batch(&self, event: &BatchEvent<'_>) {
        self.infer.observe(event.infer.as_secs_f64());
        self.batch.observe(event.rows as f64);
        if !event.ok {
            self.failed_batches.inc();
        }
    }
}

impl Served {
    pub(super) fn new(families: Families) -> Self {
        Self { families, versions: RwLock::default() }
    }

    /// The series of a version, unless it is not loaded.
    pub(super) fn get(&self, model: &ModelVersion) -> Option<Arc<ModelSeries>> {
        let versions = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        versions.get(model).map(|version| version.series.clone())
    }

    /// Makes the series of a version; one that was loaded before, from another bundle maybe, starts
    /// again.
    pub(super) fn add(&self, model: &ModelVersion, installed: &Installed<'_>) {
        self.sweep();
        let mut versions = self.versions.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = versions.remove(model) {
            self.families.remove(&old.series);
        }
        let series = Arc::new(self.families.series(model, installed));
        versions.insert(model.clone(), Version { series, left: None });
    }

    /// Notes that a version has gone.
    pub(super) fn leave(&self, model: &ModelVersion) {
        let mut versions = self.versions.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(version) = versions.get_mut(model) {
            version.left = Some(Instant::now());
        }
    }

    /// Removes the series of versions that have gone long ago.
    pub(super) fn sweep(&self) {
        self.sweep_older_than(KEEP);
    }

    pub(super) fn sweep_older_than(&self, age: Duration) {
        let mut versions = self.versions.write().unwrap_or_else(PoisonError::into_inner);
        versions.retain(|_, version| {
            let stays = version.left.is_none_or(|left| left.elapsed() < age);
            if !stays {
                self.families.remove(&version.series);
            }
            stays
        });
    }
}
