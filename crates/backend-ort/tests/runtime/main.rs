//! A small model through the real ONNX Runtime, against arithmetic done by hand.

mod model;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use gatefold_backend_ort::{Device, OrtLoader, OrtSettings};
use gatefold_engine::{
    Backend, BatchScorer, Bundle, Engine, EngineSettings, Features, GraphForm, NoObserver, ScoreJob,
    VersionChoice, WarmUp, golden,
};
use gatefold_features::{FeatureBatch, FeatureColumn, RawBatch, Strictness};
use gatefold_schema::GateOutput;
use model::{Model, expected, golden_requests};

/// Largest difference between a 32-bit computation in the runtime and one in 64 bits by hand.
const TOLERANCE: f64 = 1e-6;

fn loader() -> OrtLoader {
    OrtLoader::new(OrtSettings::default()).unwrap()
}

/// Three requests with 2, 1 and 3 candidates.
fn batch() -> FeatureBatch {
    FeatureBatch {
        requests: 3,
        candidates: 6,
        request_of: vec![0, 0, 1, 2, 2, 2],
        columns: vec![
            FeatureColumn::Numbers(vec![0.5, -0.25, 0.125]),
            FeatureColumn::Codes { width: 3, data: vec![4, 2, 0, 0, 0, 0, 3, 3, 3] },
            FeatureColumn::Numbers(vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
            FeatureColumn::Codes { width: 1, data: vec![2, 3, 4, 1, 2, 0] },
        ],
    }
}

/// The one-candidate rows of `batch`, each as a request of its own.
fn one_candidate_a_request(batch: &FeatureBatch) -> FeatureBatch {
    let expand = |column: &FeatureColumn| {
        if column.rows() == batch.candidates { column.clone() } else { column.take(&batch.request_of) }
    };
    FeatureBatch {
        requests: batch.candidates,
        candidates: batch.candidates,
        request_of: (0..batch.candidates as u32).collect(),
        columns: batch.columns.iter().map(expand).collect(),
    }
}

#[track_caller]
fn check(batch: &FeatureBatch, outputs: &[usize], scores: &[Vec<f32>]) {
    assert_eq!(scores.len(), outputs.len());
    let wanted = expected(batch);
    for (output, column) in outputs.iter().zip(scores) {
        assert_eq!(column.len(), batch.candidates);
        for (candidate, score) in column.iter().enumerate() {
            let difference = (f64::from(*score) - wanted[candidate][*output]).abs();
            assert!(difference < TOLERANCE, "output {output}, candidate {candidate}: {score}, {wanted:?}");
        }
    }
}

#[test]
fn both_forms_give_the_scores_computed_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = Model::default().publish(folder.path());
    for form in [GraphForm::UserOnce, GraphForm::Plain] {
        let mut backend = loader().open_backend(&bundle, form).unwrap();
        let several = batch();
        let alone = one_candidate_a_request(&several);
        // Twice, and larger and smaller in turn: buffers are used again.
        for batch in [&several, &alone, &several] {
            for outputs in [vec![0, 1, 2], vec![2, 0], vec![1], vec![0], vec![0, 1, 2]] {
                check(batch, &outputs, &backend.run(batch, &outputs).unwrap());
            }
        }
    }
}

#[test]
fn a_tower_that_nobody_asked_for_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = Model::default().publish(folder.path());
    let mut backend = loader().open_backend(&bundle, GraphForm::UserOnce).unwrap();
    assert!(format!("{backend:?}").contains("sessions: 2"), "one for `ctr`, one for all: {backend:?}");
    // Only the tower of output 1 reads the table of 5 rows; code 9 is beyond it.
    let mut beyond = batch();
    beyond.columns[3] = FeatureColumn::Codes { width: 1, data: vec![9; 6] };
    check(&beyond, &[0], &backend.run(&beyond, &[0]).unwrap());
    let error = backend.run(&beyond, &[0, 1]).unwrap_err().to_string();
    assert!(error.contains("running the model failed"), "{error}");
    check(&batch(), &[0, 1], &backend.run(&batch(), &[0, 1]).unwrap());
}

#[test]
fn a_batch_that_does_not_fit_is_refused_and_the_session_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = Model::default().publish(folder.path());
    for form in [GraphForm::UserOnce, GraphForm::Plain] {
        let mut backend = loader().open_backend(&bundle, form).unwrap();
        let changes: [&dyn Fn(&mut FeatureBatch); 5] = [
            &|batch| batch.columns.truncate(3),
            &|batch| batch.columns[0] = FeatureColumn::Codes { width: 1, data: vec![1; 3] },
            &|batch| batch.columns[1] = FeatureColumn::Codes { width: 2, data: vec![1; 6] },
            &|batch| batch.columns[2] = FeatureColumn::Numbers(vec![0.5; 4]),
            &|batch| batch.request_of[5] = 7,
        ];
        for change in changes {
            let mut wrong = batch();
            change(&mut wrong);
            assert!(backend.run(&wrong, &[0, 1, 2]).is_err());
        }
        assert!(backend.run(&batch(), &[3]).is_err(), "there is no fourth output");
        check(&batch(), &[0, 1, 2], &backend.run(&batch(), &[0, 1, 2]).unwrap());
    }
}

/// Publishes a changed model and expects that it is refused with these words.
#[track_caller]
fn refuse(change: impl FnOnce(&mut Model), form: GraphForm, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    change(&mut model);
    let bundle = model.publish(folder.path());
    let error = loader().open_backend(&bundle, form).expect_err("the model opens");
    for word in words {
        assert!(error.to_string().contains(word), "{error}\nlacks {word}");
    }
}

#[test]
fn a_graph_that_does_not_fit_its_manifest_is_refused() {
    let plain = GraphForm::Plain;
    refuse(
        |model| model.plain_bytes = Some(b"not a model".to_vec()),
        plain,
        &["shop/1/model.onnx: not an ONNX model", "export the model again"],
    );
    refuse(|model| model.plain_bytes = Some(Vec::new()), plain, &["shop/1/model.onnx: not an ONNX model"]);
    refuse(
        |model| model.manifest.plain.inputs[0].name = "years".into(),
        plain,
        &[
            "model.onnx: the manifest lists the input 'years' but the graph has only [age, history, price, item]",
        ],
    );
    refuse(
        |model| drop(model.manifest.plain.inputs.remove(2)),
        plain,
        &[
            "the graph has the input 'price', which the manifest does not list (it lists [age, history, item])",
        ],
    );
    refuse(
        |model| model.history_width = 4,
        plain,
        &[
            "input 'history': found a tensor of i32 with shape [-1, 4], expected a tensor of i32 with shape [rows, 3]",
        ],
    );
    refuse(
        |model| model.wide_age = true,
        plain,
        &["input 'age': found a tensor of f64 with shape [-1], expected a tensor of f32 with shape [rows]"],
    );
    refuse(
        |model| model.cvr_name = "cvrr".into(),
        plain,
        &["the manifest lists the output 'cvr' but the graph has only [ctr, cvrr, ctcvr]"],
    );
    refuse(
        |model| {
            let experts = vec!["expert.0".into(), "expert.1".into()];
            let gate = GateOutput { name: "gate.ctr".into(), tasks: vec!["ctr".into()], experts };
            model.manifest.gate_outputs = vec![gate];
        },
        plain,
        &["the manifest lists the output 'gate.ctr' but the graph has only [ctr, cvr, ctcvr]"],
    );
    refuse(|model| model.manifest.user_once = None, GraphForm::UserOnce, &["has no user-once graph"]);
    refuse(
        |model| model.manifest.user_once.as_mut().unwrap().request_of = Some("row_of".into()),
        GraphForm::UserOnce,
        &["model.user_once.onnx: the manifest lists the input 'row_of'"],
    );
}

#[test]
fn golden_rows_pass_in_both_forms_and_a_changed_weight_fails() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = Model::default().publish(folder.path());
    for form in [GraphForm::UserOnce, GraphForm::Plain] {
        let mut backend = loader().open_backend(&bundle, form).unwrap();
        let report = golden::check(&bundle, &mut backend).unwrap();
        assert_eq!((report.requests, report.candidates), (2, 4));
        assert!(f64::from(report.largest_difference) < TOLERANCE);
    }
    let mut changed = Model::default();
    changed.weight += 0.001;
    let bundle = changed.publish(folder.path());
    let mut backend = loader().open_backend(&bundle, GraphForm::Plain).unwrap();
    let error = golden::check(&bundle, &mut backend).unwrap_err().to_string();
    assert!(error.contains("golden request 0, candidate 0: ctr is "), "{error}");
}

#[test]
fn batch_scoring_and_a_direct_run_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = Model::default().publish(folder.path());
    let requests: Vec<_> = golden_requests().into_iter().map(|golden| golden.request).collect();
    let raw = RawBatch::from_json(&requests, bundle.encoder().set()).unwrap();
    let batch = bundle.encoder().encode(&raw, Strictness::Refuse).unwrap();
    let mut backend = loader().open_backend(&bundle, GraphForm::UserOnce).unwrap();
    let direct = backend.run(&batch, &[0, 1, 2]).unwrap();
    check(&batch, &[0, 1, 2], &direct);
    let mut scorer = BatchScorer::open(bundle, &loader(), GraphForm::UserOnce, 2).unwrap();
    assert_eq!(scorer.score(&batch).unwrap(), direct);
}

fn engine(bundle: Bundle, workers: usize) -> Engine {
    let settings = EngineSettings { workers, ..EngineSettings::default() };
    let engine = Engine::start(settings, Arc::new(loader()), Arc::new(NoObserver)).unwrap();
    engine.install(engine.prepare(bundle).unwrap());
    engine
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn the_engine_joins_requests_into_batches_and_each_gets_its_own_scores() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(Model::default().publish(folder.path()), 2);
    block_on(async {
        let tasks: Vec<_> = (0..64)
            .map(|seed: u32| {
                let engine = engine.clone();
                tokio::spawn(async move {
                    let mut own = batch();
                    own.columns[0] = FeatureColumn::Numbers(vec![seed as f32 / 64.0, 0.5, 0.25]);
                    let features = Features::Encoded(own.clone());
                    let job = ScoreJob {
                        model: "shop",
                        version: VersionChoice::Current,
                        features,
                        outputs: &[],
                        gates: false,
                        deadline: None,
                        priority: 0,
                    };
                    check(&own, &[0, 1, 2], &engine.score(job).await.unwrap().scores);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert!(engine.shutdown(Duration::from_secs(60)).complete);
}

#[test]
fn a_new_version_is_warmed_by_recorded_requests_and_refused_where_it_fails_on_them() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(Model::default().publish(folder.path()), 2);
    let bundle = engine.model("shop", VersionChoice::Current).unwrap().bundle;
    // The second item is missing: its code, 1, is one that golden rows do not use.
    let mut request = golden_requests().remove(0).request;
    request.items.get_mut("item").unwrap()[1] = Default::default();
    let raw = RawBatch::from_json(std::slice::from_ref(&request), bundle.encoder().set()).unwrap();
    let job = ScoreJob {
        model: "shop",
        version: VersionChoice::Current,
        features: Features::Raw(&raw),
        outputs: &[],
        gates: false,
        deadline: None,
        priority: 0,
    };
    block_on(engine.score(job)).unwrap();
    let prepared = engine.prepare(Model::default().publish(folder.path())).unwrap();
    assert_eq!(*prepared.warm_up(), WarmUp { requests: 1, candidates: 3, ..WarmUp::default() });
    let mut diverged = Model::default();
    diverged.table[1] = f32::NAN;
    let error = engine.prepare(diverged.publish(folder.path())).unwrap_err().to_string();
    assert!(error.starts_with("cvr is NaN for candidate 1 of requests that were scored before"), "{error}");
}

#[test]
fn telemetry_is_off_and_another_library_is_refused() {
    let loader = loader();
    assert_eq!(std::env::var("ORT_DISABLE_TELEMETRY").as_deref(), Ok("1"));
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("libonnxruntime.so");
    std::fs::write(&copy, "another").unwrap();
    let error = OrtLoader::new(OrtSettings { library: Some(copy), ..OrtSettings::default() })
        .unwrap_err()
        .to_string();
    assert!(error.contains("already runs ONNX Runtime from"), "{error}");
    let again = OrtSettings { library: Some(loader.library().to_path_buf()), ..OrtSettings::default() };
    assert_eq!(OrtLoader::new(again).unwrap().library(), loader.library());
    let none = OrtSettings { library: Some(Path::new("/nowhere.so").into()), ..OrtSettings::default() };
    let error = OrtLoader::new(none).unwrap_err().to_string();
    assert!(
        error.contains("/nowhere.so, which is no file") && error.contains("cargo xtask setup"),
        "{error}"
    );
    let zero = OrtSettings { intra_threads: 0, ..OrtSettings::default() };
    assert!(OrtLoader::new(zero).unwrap_err().to_string().contains("intra_threads must be at least 1"));
}

#[test]
fn a_gpu_that_is_not_there_is_refused_with_what_to_do() {
    // A number that no machine has, whatever build of ONNX Runtime this is.
    let settings = OrtSettings { device: Device::Cuda(999), ..OrtSettings::default() };
    let error = OrtLoader::new(settings).unwrap_err().to_string();
    let library = loader().library().display().to_string();
    for part in ["cuda:999 cannot run models: ", "onnxruntime-gpu 1.31.1", &library, "set device to cpu"] {
        assert!(error.contains(part), "{error}\nlacks {part}");
    }
}

#[test]
fn a_deadline_that_has_passed_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(Model::default().publish(folder.path()), 1);
    let deadline = Some(Instant::now());
    let features = Features::Encoded(batch());
    let job = ScoreJob {
        model: "shop",
        version: VersionChoice::Version(1),
        features,
        outputs: &[],
        gates: false,
        deadline,
        priority: 0,
    };
    assert_eq!(block_on(engine.score(job)).unwrap_err().reason(), "deadline_exceeded");
}
