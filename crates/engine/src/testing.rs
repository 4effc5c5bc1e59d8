//! A model small enough to work out by hand, and a backend whose runs a test can hold and watch.
//!
//! `ctr = age / 1000 + price / 1000`, `cvr = price / 100`, `ctcvr = ctr · cvr`, where `age` is a
//! user feature and `price` an item feature. Its gates have two experts and three.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Condvar, Mutex},
};

use gatefold_features::{FeatureBatch, FeatureColumn};
use gatefold_schema::{
    BundleManifest, Derived, Encoder, EncoderSet, EncoderState, Feature, FittedFeature, GateOutput, Golden,
    GoldenRequest, GraphFile, GraphInput, JsonRequest, Kind, Loss, Pooling, Side, Task, ValueType,
    Vocabulary, VocabularyValues, manifest::BUNDLE_FORMAT, task,
};

use crate::{Backend, BackendError, BackendLoader, Bundle, BundleWriter, GraphForm};

/// Prices at which the backend misbehaves.
pub(crate) const FAILING_PRICE: f32 = 6.66;
pub(crate) const PANICKING_PRICE: f32 = 9.99;
/// A price for which [`TestLoader::odd`] says what a version gives as `cvr`.
pub(crate) const ODD_PRICE: f32 = 7.77;

fn numeric(name: &str, side: Side) -> FittedFeature {
    FittedFeature {
        feature: Feature {
            name: name.into(),
            side,
            kind: Kind::Numeric,
            value_type: ValueType::Float,
            column: None,
            cross: Vec::new(),
            clip: None,
            fit: true,
            encoder: Encoder::None,
            embedding: None,
            table: None,
            max_len: None,
            pooling: Pooling::Mean,
            query: None,
        },
        state: EncoderState::Stateless,
    }
}

/// `age` (user), `country` (user, vocabulary `de`, `fr`), `price` (item).
pub(crate) fn encoders() -> EncoderSet {
    let country = FittedFeature {
        feature: Feature {
            kind: Kind::Categorical,
            value_type: ValueType::Text,
            encoder: Encoder::Vocab { min_count: 1, oov_buckets: 1 },
            embedding: Some(4),
            ..numeric("country", Side::User).feature
        },
        state: EncoderState::Vocab { size: 2 },
    };
    let values = VocabularyValues::Text(vec!["de".into(), "fr".into()]);
    let vocabulary = Vocabulary { table: "country".into(), values };
    EncoderSet {
        features: vec![numeric("age", Side::User), country, numeric("price", Side::Item)],
        vocabularies: BTreeMap::from([("country".into(), vocabulary)]),
        ..EncoderSet::default()
    }
}

/// What the model gives for one candidate.
pub(crate) fn expected(age: f32, price: f32) -> [f32; 3] {
    let ctr = age / 1000.0 + price / 1000.0;
    let cvr = price / 100.0;
    [ctr, cvr, ctr * cvr]
}

/// What its gates `gate.ctr` and `gate.cvr` give for one candidate.
pub(crate) fn gate_weights(price: f32) -> [Vec<f32>; 2] {
    let first = price / 8.0;
    [vec![first, 1.0 - first], vec![first, 0.5, 0.5 - first]]
}

pub(crate) fn json_request(age: f32, prices: &[f32]) -> JsonRequest {
    JsonRequest {
        request_id: "test".into(),
        user: BTreeMap::from([("age".into(), age.into()), ("country".into(), "fr".into())]),
        context: BTreeMap::new(),
        items: BTreeMap::from([("price".into(), prices.iter().map(|price| (*price).into()).collect())]),
    }
}

pub(crate) fn golden_request(age: f32, prices: &[f32]) -> GoldenRequest {
    let mut scores: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for price in prices {
        for (name, score) in ["ctr", "cvr", "ctcvr"].into_iter().zip(expected(age, *price)) {
            scores.entry(name.into()).or_default().push(score);
        }
    }
    GoldenRequest { request: json_request(age, prices), scores }
}

pub(crate) fn manifest() -> BundleManifest {
    let task = |name: &str, given: Option<&str>| Task {
        name: name.into(),
        label: format!("label_{name}"),
        given: given.map(Into::into),
        weight: 1.0,
        loss: Loss::CrossEntropy,
        fake_negatives: None,
        potential_label: None,
        oracle: None,
    };
    let tasks = vec![task("ctr", None), task("cvr", Some("ctr"))];
    let product = vec!["ctr".into(), "cvr".into()];
    let derived = vec![Derived { name: "ctcvr".into(), product, label: "label_cvr".into() }];
    let gate = |name: &str, task: &str, experts: usize| GateOutput {
        name: name.into(),
        tasks: vec![task.into()],
        experts: (0..experts).map(|expert| format!("expert.{task}.{expert}")).collect(),
    };
    let set = encoders();
    let graph = |file: &str, once: bool| GraphFile {
        file: file.into(),
        inputs: set
            .features
            .iter()
            .map(|fitted| GraphInput {
                name: fitted.feature.name.clone(),
                feature: fitted.feature.name.clone(),
                level: if once { fitted.feature.side.level() } else { gatefold_schema::Level::Candidate },
            })
            .collect(),
        request_of: once.then(|| gatefold_schema::REQUEST_OF.into()),
    };
    BundleManifest {
        format: BUNDLE_FORMAT,
        name: String::new(),
        version: 0,
        model: None,
        fingerprint: set.fingerprint(),
        outputs: task::outputs(&tasks, &derived),
        tasks,
        derived,
        plain: graph("model.onnx", false),
        user_once: Some(graph("model.user_once.onnx", true)),
        features: set.features,
        vocabularies: vec!["country".into()],
        metrics: BTreeMap::new(),
        calibrations: Vec::new(),
        gates: None,
        gate_outputs: vec![gate("gate.ctr", "ctr", 2), gate("gate.cvr", "cvr", 3)],
        golden_tolerance: None,
        provenance: BTreeMap::new(),
        files: BTreeMap::new(),
    }
}

/// A writer that has everything but the manifest.
pub(crate) fn filled_writer(model_folder: &Path) -> BundleWriter {
    writer_with(model_folder, golden_requests())
}

fn writer_with(model_folder: &Path, requests: Vec<GoldenRequest>) -> BundleWriter {
    let mut writer = BundleWriter::create(model_folder).unwrap();
    writer.write("model.onnx", b"plain").unwrap();
    writer.write("model.user_once.onnx", b"user once").unwrap();
    writer.write_vocabulary(&encoders().vocabularies["country"]).unwrap();
    writer.write_golden(&Golden { requests }).unwrap();
    writer
}

fn golden_requests() -> Vec<GoldenRequest> {
    vec![golden_request(31.0, &[1.0, 2.5]), golden_request(50.0, &[0.5])]
}

/// Publishes the model's next version under `models/<name>`.
pub(crate) fn publish(models: &Path, name: &str) -> Bundle {
    filled_writer(&models.join(name)).publish(manifest(), |_| Ok(())).unwrap()
}

/// As [`publish`], with the outputs `ctr` and `cvr` alone.
pub(crate) fn publish_without_ctcvr(models: &Path, name: &str) -> Bundle {
    let mut requests = golden_requests();
    for request in &mut requests {
        request.scores.remove("ctcvr");
    }
    let mut manifest = manifest();
    manifest.derived.clear();
    manifest.outputs = task::outputs(&manifest.tasks, &[]);
    writer_with(&models.join(name), requests).publish(manifest, |_| Ok(())).unwrap()
}

/// One run of a test backend.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) model: String,
    pub(crate) requests: usize,
    pub(crate) rows: usize,
    pub(crate) outputs: Vec<usize>,
}

/// Opens test backends, and watches and holds their runs.
#[derive(Default)]
pub(crate) struct TestLoader {
    pub(crate) runs: Mutex<Vec<Run>>,
    pub(crate) opened: Mutex<usize>,
    /// While true, runs wait.
    held: Mutex<bool>,
    released: Condvar,
    /// Added to every score of the versions named, so that golden rows fail.
    pub(crate) wrong_versions: Mutex<Vec<u64>>,
    /// A version, and what it gives as `cvr` for [`ODD_PRICE`].
    pub(crate) odd: Mutex<Option<(u64, f32)>>,
    /// While true, no backend can be opened.
    pub(crate) closed: Mutex<bool>,
}

impl TestLoader {
    pub(crate) fn hold(&self) {
        *self.held.lock().unwrap() = true;
    }

    pub(crate) fn release(&self) {
        *self.held.lock().unwrap() = false;
        self.released.notify_all();
    }

    pub(crate) fn take_runs(&self) -> Vec<Run> {
        std::mem::take(&mut self.runs.lock().unwrap())
    }

    /// Waits until a run has begun since the last [`take_runs`](Self::take_runs), letting other
    /// tasks of the test's runtime go on.
    pub(crate) async fn wait_for_a_run(&self) {
        while self.runs.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

/// The loader as the engine wants it, and as a test watches it.
pub(crate) struct SharedLoader(pub(crate) Arc<TestLoader>);

impl BackendLoader for SharedLoader {
    fn open(&self, bundle: &Bundle, form: GraphForm) -> Result<Box<dyn Backend>, BackendError> {
        assert_eq!(form, GraphForm::UserOnce);
        if *self.0.closed.lock().unwrap() {
            return Err(BackendError::Run("no backend can be opened".into()));
        }
        *self.0.opened.lock().unwrap() += 1;
        let wrong = self.0.wrong_versions.lock().unwrap().contains(&bundle.manifest().version);
        let manifest = bundle.manifest();
        let odd = self.0.odd.lock().unwrap().filter(|(version, _)| *version == manifest.version);
        Ok(Box::new(TestBackend {
            model: format!("{}/{}", manifest.name, manifest.version),
            offset: if wrong { 0.01 } else { 0.0 },
            odd: odd.map(|(_, score)| score),
            watch: self.0.clone(),
        }))
    }
}

struct TestBackend {
    model: String,
    offset: f32,
    /// `cvr` of [`ODD_PRICE`].
    odd: Option<f32>,
    watch: Arc<TestLoader>,
}

impl Backend for TestBackend {
    fn run(&mut self, batch: &FeatureBatch, outputs: &[usize]) -> Result<Vec<Vec<f32>>, BackendError> {
        self.watch.runs.lock().unwrap().push(Run {
            model: self.model.clone(),
            requests: batch.requests,
            rows: batch.candidates,
            outputs: outputs.to_vec(),
        });
        drop(self.watch.released.wait_while(self.watch.held.lock().unwrap(), |held| *held).unwrap());
        let (FeatureColumn::Numbers(ages), FeatureColumn::Numbers(prices)) =
            (&batch.columns[0], &batch.columns[2])
        else {
            return Err(BackendError::Batch("columns".into()));
        };
        if prices.contains(&FAILING_PRICE) {
            return Err(BackendError::Run("a price that fails".into()));
        }
        assert!(!prices.contains(&PANICKING_PRICE), "a price that panics");
        let score = |candidate: usize, output: usize| match self.odd {
            Some(odd) if output == 1 && prices[candidate] == ODD_PRICE => odd,
            _ => {
                expected(ages[batch.request_of[candidate] as usize], prices[candidate])[output] + self.offset
            }
        };
        let column = |output: &usize| match *output {
            gate @ 3.. => prices.iter().flat_map(|price| gate_weights(*price)[gate - 3].clone()).collect(),
            output => (0..batch.candidates).map(|candidate| score(candidate, output)).collect(),
        };
        Ok(outputs.iter().map(column).collect())
    }
}
