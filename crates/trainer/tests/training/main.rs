//! Training and publishing on a small set whose rule is known.

mod calibration;
mod feedback;
mod gates;
mod mixture;
mod parts;
mod resume;
mod tiny;

use std::{collections::BTreeMap, path::Path};

use gatefold_backend_ort::{OrtLoader, OrtSettings};
use gatefold_engine::{Backend, BackendError, BackendLoader, Bundle, GraphForm};
use gatefold_features::{FeatureBatch, FeatureColumn};
use gatefold_schema::{ModelKind, OptimizerConfig};
use gatefold_trainer::{Event, Progress, Silent, TrainOptions, Trained, TrainingData, publish, train};

use tiny::{recipe, sample};

const ONE_THREAD: TrainOptions = TrainOptions { threads: 1, checkpoints: None, warm_start: None };

fn loader() -> OrtLoader {
    OrtLoader::new(OrtSettings { intra_threads: 1, ..OrtSettings::default() }).unwrap()
}

fn trained(kind: ModelKind, data: &TrainingData, threads: usize) -> Trained {
    train(&recipe(kind), data, &TrainOptions::new(threads), &mut Silent).unwrap()
}

#[test]
fn every_model_learns_the_rule() {
    let data = sample();
    let truth = tiny::oracle(&tiny::rows(&data.valid));
    for kind in ModelKind::ALL {
        let trained = trained(kind, &data, 2);
        for (output, oracle) in trained.evaluation.outputs.iter().zip(&truth) {
            let auc = output.figures.auc.unwrap();
            assert!(
                auc > oracle - 0.03,
                "{}: AUC of {} is {auc:.3}, the true probabilities reach {oracle:.3}",
                kind.name(),
                output.output
            );
        }
        assert_eq!(trained.evaluation.outputs[1].space, "impressions with click = 1");
        assert!(trained.evaluation.outputs[1].figures.rows < data.valid.rows());
    }
}

#[test]
fn one_seed_gives_one_bundle_for_any_number_of_threads() {
    let data = sample();
    for kind in ModelKind::ALL {
        let bundles: Vec<BTreeMap<String, Vec<u8>>> = [1, 2]
            .into_iter()
            .map(|threads| {
                let folder = tempfile::tempdir().unwrap();
                let trained = trained(kind, &data, threads);
                let model = folder.path().join("tiny");
                let published =
                    publish(&recipe(kind), &data, &trained, &model, &loader(), &mut Silent).unwrap();
                assert_eq!((published.version, &published.folder), (1, &model.join("1")));
                files(&published.folder)
            })
            .collect();
        let names: Vec<&String> = bundles[0].keys().collect();
        assert_eq!(
            names,
            [
                "golden.json",
                "manifest.json",
                "model.onnx",
                "model.user_once.onnx",
                "vocab/item.json",
                "weights.bin"
            ]
        );
        for (name, bytes) in &bundles[0] {
            assert!(bundles[1][name] == *bytes, "{}: {name} differs between 1 and 2 threads", kind.name());
        }
    }
    let other = {
        let mut recipe = recipe(ModelKind::Mmoe);
        recipe.train.seed += 1;
        train(&recipe, &data, &ONE_THREAD, &mut Silent).unwrap()
    };
    assert_ne!(other.parameters, trained(ModelKind::Mmoe, &data, 1).parameters, "the seed must matter");
}

#[test]
fn the_bundle_gives_the_trainers_scores() {
    let data = sample();
    let folder = tempfile::tempdir().unwrap();
    let trained = trained(ModelKind::Mmoe, &data, 1);
    let model = folder.path().join("tiny");
    let mut events = Events::default();
    let recipe = recipe(ModelKind::Mmoe);
    let first = publish(&recipe, &data, &trained, &model, &loader(), &mut events).unwrap();
    assert_eq!(events.verified, ["plain", "user-once"]);
    let second = publish(&recipe, &data, &trained, &model, &loader(), &mut Silent).unwrap();
    assert_eq!((first.version, second.version), (1, 2));

    let bundle = Bundle::open(&second.folder).unwrap();
    let manifest = bundle.manifest();
    assert_eq!(manifest.fingerprint, data.encoders.fingerprint());
    assert_eq!(Some(manifest.metrics["cvr auc"]), trained.evaluation.metric("cvr", "auc"));
    assert_eq!(
        manifest.outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(),
        ["ctr", "cvr", "ctcvr"]
    );
    let user_once = manifest.user_once.as_ref().unwrap();
    assert_eq!(user_once.request_of.as_deref(), Some("request_of"));
    // The product is the product: the derived output of every golden row is ctr · cvr.
    for request in &bundle.golden().requests {
        let scores = &request.scores;
        assert_eq!(scores["ctr"].len(), request.request.candidates());
        for ((ctr, cvr), ctcvr) in scores["ctr"].iter().zip(&scores["cvr"]).zip(&scores["ctcvr"]) {
            assert!((ctr * cvr - ctcvr).abs() < 1e-6);
        }
    }
}

#[test]
fn a_model_whose_export_gives_other_scores_is_not_published() {
    let data = sample();
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(ModelKind::Mmoe);
    let trained = trained(ModelKind::Mmoe, &data, 1);
    let model = folder.path().join("tiny");
    // After the three outputs come the gates, of three experts each: value 3 is on row 1.
    for (output, from_rows, expected) in [
        (0, 0, "user-once graph does not give the trainer's scores"),
        (0, 100, "on validation row 3"),
        (4, 100, "on validation row 1"),
    ] {
        let shifted = Shifted { inner: loader(), from_rows, output };
        let error = publish(&recipe, &data, &trained, &model, &shifted, &mut Silent).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(files(&model).len(), 0, "nothing may be left behind");
    }
}

#[test]
fn a_loss_that_is_not_finite_names_the_batch_and_its_features() {
    let mut data = sample();
    let mut train_rows = tiny::rows(&data.train);
    // A clicked row of the first batch, so that it counts for both tasks.
    let row = train_rows.labels["click"].iter().position(|click| *click == 1.0).unwrap();
    let FeatureColumn::Numbers(ages) = &mut train_rows.columns[1] else {
        panic!("the second feature is a number")
    };
    ages[row] = f32::INFINITY;
    data.train = train_rows.into();
    let mut recipe = recipe(ModelKind::SharedBottom);
    recipe.train.shuffle = false;
    recipe.train.request_batches = false;
    let error = train(&recipe, &data, &ONE_THREAD, &mut Silent).unwrap_err().to_string();
    for part in [
        "the loss of ctr, cvr is NaN at epoch 1, step 1",
        "age: -1.",
        "to inf, 1 not finite",
        "item: codes 3 to",
    ] {
        assert!(error.contains(part), "{error}\ndoes not contain\n{part}");
    }
}

#[test]
fn a_stopped_training_says_so() {
    let data = sample();
    let mut events = Events { stop_after: 3, ..Events::default() };
    let error = train(&recipe(ModelKind::Mmoe), &data, &ONE_THREAD, &mut events).unwrap_err();
    assert_eq!(error.to_string(), "training was interrupted after step 3; nothing was published");
    assert_eq!(events.steps, 3);
}

#[test]
fn patience_ends_a_training_that_gets_no_better() {
    let data = sample();
    let mut recipe = recipe(ModelKind::SharedBottom);
    // Steps too small to change any order of scores.
    recipe.train.learning_rate = 1e-12;
    recipe.train.embedding_learning_rate = None;
    recipe.train.epochs = 50;
    recipe.train.patience = 2;
    let trained = train(&recipe, &data, &ONE_THREAD, &mut Silent).unwrap();
    let steps_per_epoch = data.train.rows() / recipe.train.batch_size;
    assert_eq!(trained.report.best_step, steps_per_epoch);
    assert_eq!(trained.report.steps, 3 * steps_per_epoch);
    assert_eq!(trained.report.rows, 3 * data.train.rows());
}

#[test]
fn the_best_parameters_are_kept_and_not_the_last() {
    let data = sample();
    let mut recipe = recipe(ModelKind::SharedBottom);
    recipe.train.epochs = 30;
    recipe.train.learning_rate = 0.03;
    recipe.train.embedding_learning_rate = None;
    recipe.train.evaluate_every = 4;
    let mut events = Events::default();
    let trained = train(&recipe, &data, &ONE_THREAD, &mut events).unwrap();
    let best = events.qualities.iter().copied().fold(0.0, f64::max);
    assert_eq!(trained.evaluation.quality(), best);
    assert!(*events.qualities.last().unwrap() < best, "a training this long and fast overfits");
    // The parameters are those of that evaluation.
    let mut forward = gatefold_trainer::Forward::new(&recipe, &data.encoders, 1).unwrap();
    let scores = forward.score_rows(&trained.parameters, &data.valid).unwrap();
    let labels = data.valid_observed(&recipe).unwrap().labels;
    let auc = gatefold_metrics::auc(&scores[0], &labels["click"], None).unwrap();
    assert_eq!(Some(auc), trained.evaluation.metric("ctr", "auc"));
}

#[test]
fn whole_requests_train_the_same_model_as_their_rows() {
    let data = sample();
    for kind in ModelKind::ALL {
        let losses = |request_batches: bool| {
            let mut recipe = recipe(kind);
            recipe.train.epochs = 1;
            // Multiples of the five rows of a request, so that both forms are cut alike.
            recipe.train.batch_size = 200;
            recipe.train.shuffle = false;
            recipe.train.request_batches = request_batches;
            recipe.train.optimizer = OptimizerConfig::Sgd { momentum: 0.0 };
            let mut events = Events::default();
            let trained = train(&recipe, &data, &ONE_THREAD, &mut events).unwrap();
            (events.losses, trained.parameters)
        };
        let (rows, by_rows) = losses(false);
        let (requests, by_requests) = losses(true);
        assert_eq!(rows.len(), data.train.rows() / 200);
        assert_eq!(requests.len(), rows.len());
        for (step, (rows, requests)) in rows.iter().zip(&requests).enumerate() {
            assert!((rows - requests).abs() < 1e-5, "{}, {step}: {rows}, {requests}", kind.name());
        }
        for ((declared, rows), (_, requests)) in by_rows.iter().zip(by_requests.iter()) {
            let far = rows.iter().zip(requests).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-5, "{}: {} is {far} apart", kind.name(), declared.name);
        }
        assert!(by_rows != by_requests, "{}: the request level was not apart", kind.name());
    }
}

#[test]
fn requests_that_are_longer_than_a_batch_are_refused() {
    let mut recipe = recipe(ModelKind::SharedBottom);
    recipe.train.request_batches = true;
    recipe.train.batch_size = 4;
    let error = train(&recipe, &sample(), &ONE_THREAD, &mut Silent).unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(source.contains("a request of 5 rows does not fit a batch of 4: raise batch_size"), "{source}");
}

#[test]
fn samples_of_other_features_are_refused() {
    let check = |change: &dyn Fn(&mut gatefold_schema::Recipe), expected: &str| {
        let mut recipe = recipe(ModelKind::SharedBottom);
        change(&mut recipe);
        let error = train(&recipe, &sample(), &ONE_THREAD, &mut Silent).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\ndoes not contain\n{expected}");
    };
    check(
        &|recipe| recipe.features[0].name = "member".into(),
        "the samples have no feature 'member', which the recipe uses: rebuild the samples with this recipe",
    );
    check(&|recipe| recipe.features[0].embedding = Some(3), "another definition of feature 'user'");
    check(
        &|recipe| drop(recipe.features.remove(1)),
        "the samples have a feature 'age' that the recipe does not",
    );
    check(&|recipe| recipe.features.swap(0, 1), "in another order");
    check(&|recipe| recipe.tasks[1].label = "purchase".into(), "no label column 'purchase', which cvr needs");
}

#[test]
fn a_split_without_positives_is_refused_before_training() {
    let mut data = sample();
    let mut valid = tiny::rows(&data.valid);
    valid.labels.get_mut("conversion").unwrap().fill(0.0);
    data.valid = valid.into();
    let error = train(&recipe(ModelKind::Esmm), &data, &ONE_THREAD, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("task 'cvr' has no positive among the"), "{error}");
    assert!(error.contains("of split 'valid'"), "{error}");
}

/// Collects what a training reports, and can stop it.
#[derive(Default)]
struct Events {
    steps: usize,
    losses: Vec<f32>,
    stop_after: usize,
    qualities: Vec<f64>,
    verified: Vec<&'static str>,
}

impl Progress for Events {
    fn report(&mut self, event: &Event<'_>) {
        match event {
            Event::Stepped { step, loss, .. } => {
                self.steps = *step;
                self.losses.push(*loss);
            }
            Event::Evaluated { evaluation, .. } => self.qualities.push(evaluation.quality()),
            Event::Verified { form, .. } => self.verified.push(form),
            _ => {}
        }
    }

    fn cancelled(&self) -> bool {
        self.stop_after > 0 && self.steps >= self.stop_after
    }
}

/// A runtime whose user-once graph is a little off in row 3 of batches of at least `from_rows` rows.
struct Shifted {
    inner: OrtLoader,
    from_rows: usize,
    output: usize,
}

struct ShiftedBackend {
    inner: Box<dyn Backend>,
    from_rows: usize,
    output: usize,
}

impl BackendLoader for Shifted {
    fn open(&self, bundle: &Bundle, form: GraphForm) -> Result<Box<dyn Backend>, BackendError> {
        let inner = self.inner.open(bundle, form)?;
        Ok(match form {
            GraphForm::Plain => inner,
            GraphForm::UserOnce => {
                Box::new(ShiftedBackend { inner, from_rows: self.from_rows, output: self.output })
            }
        })
    }
}

impl Backend for ShiftedBackend {
    fn run(&mut self, batch: &FeatureBatch, outputs: &[usize]) -> Result<Vec<Vec<f32>>, BackendError> {
        let mut scores = self.inner.run(batch, outputs)?;
        if batch.candidates >= self.from_rows
            && let Some(place) = outputs.iter().position(|output| *output == self.output)
            && let Some(score) = scores[place].get_mut(3)
        {
            *score += 1e-4;
        }
        Ok(scores)
    }
}

/// Every file under `folder`, hidden ones too, by its path there.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn collect(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                collect(&entry.path(), &format!("{name}/"), found);
            } else {
                found.insert(name, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(folder, "", &mut found);
    found
}
