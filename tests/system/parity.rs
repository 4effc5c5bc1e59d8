//! One model, every runtime: the trainer's forward pass, both ONNX graphs, `gatefold score` and
//! `Score` over gRPC give the same numbers. And one seed, the same bytes, for any number of threads.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use gatefold_backend_ort::{OrtLoader, OrtSettings};
use gatefold_dataset::{SampleSet, Split};
use gatefold_engine::{BackendLoader, Bundle, GraphForm};
use gatefold_schema::{ModelKind, Recipe};
use gatefold_tests::{KINDS, World, run_json, server::Server};
use gatefold_trainer::{Forward, Silent, TrainOptions, TrainingData, gates, publish, train};
use polars::prelude::{ParquetReader, SerReader};

/// What the project promises between any two runtimes.
const TOLERANCE: f32 = 1e-5;

/// A model trained in this process, with the scores its own forward pass gives the test split.
struct Native {
    names: Vec<String>,
    scores: Vec<Vec<f32>>,
    split: Split,
}

fn recipe_of(kind: &str) -> Recipe {
    let path = World::recipe();
    let text = std::fs::read_to_string(&path).expect("the recipe is there");
    let mut recipe = Recipe::parse(&text, &path).expect("the recipe is good");
    let found = ModelKind::ALL.into_iter().find(|model| model.name() == kind);
    recipe.model.kind = found.expect("a kind of model");
    recipe
}

fn loader() -> OrtLoader {
    OrtLoader::new(OrtSettings::default()).expect("ONNX Runtime is set up")
}

/// Trains with one thread (the world's models were trained with two), publishes beside, and scores
/// the test split.
fn native(kind: &str, models: &Path) -> Native {
    let recipe = recipe_of(kind);
    let samples = SampleSet::open(Path::new(&World::get().path("samples"))).expect("samples open");
    let data = TrainingData::load(&recipe, &samples).expect("samples fit the recipe");
    let mut trained = train(&recipe, &data, &TrainOptions::new(1), &mut Silent).expect("training works");
    gates::inspect(&recipe, &data, 1, &mut trained).expect("the model can be looked into");
    publish(&recipe, &data, &trained, &models.join(kind), &loader(), &mut Silent).expect("publishing works");
    let shards = samples.shards("test").expect("a test split");
    let mut forward = Forward::new(&recipe, &samples.encoders, 1).expect("the model can be run");
    let scores = forward.score_rows(&trained.parameters, &shards).expect("the split fits");
    let split = samples.load("test").expect("a test split");
    let names = forward.output_names().map(str::to_owned).collect();
    Native { names, scores, split }
}

#[track_caller]
fn check_near(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= TOLERANCE, "{what}, row {row}: {found}, natively {expected}");
    }
}

/// Every file below `folder`, by its path inside it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let inside = path.strip_prefix(folder).expect("below the folder").to_string_lossy().into_owned();
            found.insert(inside, std::fs::read(&path).expect("a readable file"));
        }
    }
    found
}

/// Columns of f32 by name, from a Parquet file.
fn columns(path: &str, names: &[String]) -> Vec<Vec<f32>> {
    let file = std::fs::File::open(path).expect("the scores were written");
    let frame = ParquetReader::new(file).finish().expect("a Parquet file");
    let column = |name: &String| {
        let column = frame.column(name).expect("one column an output");
        column.f32().expect("scores are f32").into_no_null_iter().collect()
    };
    names.iter().map(column).collect()
}

#[track_caller]
fn check(kind: &str) {
    let world = World::get();
    let beside = tempfile::tempdir().expect("a temporary folder");
    let native = native(kind, beside.path());

    // The same seed with one thread here and two threads there: the same bytes.
    let bundle_folder = world.path(&format!("models/{kind}/1"));
    let (theirs, ours) = (files(Path::new(&bundle_folder)), files(&beside.path().join(kind).join("1")));
    assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
    for (name, bytes) in &ours {
        assert!(theirs[name] == *bytes, "{kind}: {name} differs between one and two threads");
    }

    // Both graphs in ONNX Runtime, on the requests of the test split.
    let bundle = Bundle::open(&bundle_folder).expect("the bundle opens");
    let batch = native.split.request_batch(0..native.split.rows);
    assert!(batch.requests < batch.candidates, "requests have several candidates");
    let outputs: Vec<usize> = (0..native.names.len()).collect();
    for form in [GraphForm::Plain, GraphForm::UserOnce] {
        let mut backend = loader().open(&bundle, form).expect("the graph opens");
        let scores = backend.run(&batch, &outputs).expect("the graph runs");
        for ((name, found), expected) in native.names.iter().zip(&scores).zip(&native.scores) {
            check_near(&format!("{kind} {form:?} {name}"), found, expected);
        }
    }

    // Batch scoring of the raw rows.
    let raw = world.path("samples/raw-test.parquet");
    let out = beside.path().join("scores.parquet").to_str().expect("UTF-8").to_owned();
    let model = world.path(&format!("models/{kind}"));
    run_json(&["score", "--model", &model, "--input", &raw, "--out", &out, "--fuse", FORMULA]);
    for ((name, found), expected) in native.names.iter().zip(columns(&out, &native.names)).zip(&native.scores)
    {
        check_near(&format!("{kind} gatefold score {name}"), &found, expected);
    }
    let frame = ParquetReader::new(std::fs::File::open(&out).expect("the scores were written")).finish();
    let frame = frame.expect("a Parquet file");
    let fused = frame.column("fused").expect("a fused score").f64().expect("of f64");
    check_served(kind, &raw, &native, &fused.into_no_null_iter().collect::<Vec<f64>>());
}

/// A fused score of two outputs and an item column.
const FORMULA: &str = "ctr ^ 0.6 * ctcvr * coalesce(price, 1)";

/// `Score` over gRPC, on raw rows of requests all over the test split.
fn check_served(kind: &str, raw: &str, native: &Native, fused: &[f64]) {
    let server = Server::start(&World::get().path("models"), &[]);
    let starts = native.split.request_starts();
    let picked: Vec<usize> = (0..starts.len()).step_by(starts.len().div_ceil(12)).collect();
    assert!(picked.len() >= 8, "requests all over the split");
    for request in picked {
        let (start, row) = (starts[request], starts[request].to_string());
        let end = starts.get(request + 1).copied().unwrap_or(native.split.rows);
        let asked = ["--server", &server.url, "--model", kind, "--parquet", raw, "--row", &row];
        let reply = run_json(&[&["request"], &asked[..], &["--formula", FORMULA]].concat());
        for (name, expected) in native.names.iter().zip(&native.scores) {
            let list = reply["scores"][name].as_array().expect("one list an output");
            let found: Vec<f32> = list.iter().map(|score| score.as_f64().expect("a number") as f32).collect();
            check_near(&format!("{kind} Score {name} of request {request}"), &found, &expected[start..end]);
        }
        let list = reply["fused"].as_array().expect("one number a candidate");
        let found = list.iter().map(|score| score.as_f64().expect("a number"));
        for (row, (found, expected)) in found.zip(&fused[start..end]).enumerate() {
            let near = (found - expected).abs() <= 1e-5 + 1e-4 * expected.abs();
            assert!(near, "{kind} request {request}, candidate {row}: fused {found}, offline {expected}");
        }
        assert_eq!(list.len(), end - start);
    }
}

#[test]
fn shared_bottom_is_one_model_in_every_runtime() {
    check("shared-bottom");
}

#[test]
fn esmm_is_one_model_in_every_runtime() {
    check("esmm");
}

#[test]
fn mmoe_is_one_model_in_every_runtime() {
    check("mmoe");
}

/// What several sessions share is the manifest's word: every kind is there and serves.
#[test]
fn every_model_of_the_folder_is_served() {
    let server = Server::start(&World::get().path("models"), &[]);
    let loader: Arc<dyn BackendLoader> = Arc::new(loader());
    for kind in KINDS {
        let bundle = Bundle::open_latest(World::get().path(&format!("models/{kind}"))).expect("a bundle");
        assert!(loader.open(&bundle, GraphForm::UserOnce).is_ok());
        let examples = World::get().path("samples/examples.json");
        let reply = run_json(&[
            "request",
            "--server",
            &server.url,
            "--model",
            kind,
            "--file",
            &examples,
            "--top-k",
            "3",
            "--output",
            "ctr",
        ]);
        assert_eq!(reply["model"], kind);
        let scores = reply["scores"]["ctr"].as_array().expect("scores of ctr");
        assert_eq!(scores.len(), 3);
        assert!(scores.windows(2).all(|pair| pair[0].as_f64() >= pair[1].as_f64()), "best first");
    }
}
