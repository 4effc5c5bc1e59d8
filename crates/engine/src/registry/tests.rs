use std::sync::Arc;

use super::*;
use crate::{
    EngineSettings, Features, NoObserver, ScoreJob,
    testing::{SharedLoader, TestLoader, encoders, expected, json_request, publish},
};

struct Bench {
    folder: tempfile::TempDir,
    loader: Arc<TestLoader>,
    engine: Engine,
    registry: Registry,
}

impl Bench {
    fn new(poll: Option<Duration>) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let loader = Arc::new(TestLoader::default());
        let settings = EngineSettings { workers: 1, ..EngineSettings::default() };
        let engine =
            Engine::start(settings, Arc::new(SharedLoader(loader.clone())), Arc::new(NoObserver)).unwrap();
        let settings = RegistrySettings { folder: folder.path().to_path_buf(), poll };
        let registry = Registry::new(settings, engine.clone());
        Bench { folder, loader, engine, registry }
    }

    /// Looks at the folder and compares what then takes traffic, and every status.
    #[track_caller]
    fn check(&self, serving: &[&str], status: &[(&str, &str)]) {
        self.registry.refresh().unwrap();
        let models: Vec<String> = self.engine.models().iter().map(|info| info.model.to_string()).collect();
        assert_eq!(models, serving);
        let word = |state: &ModelState| match state {
            ModelState::Loading => "loading".to_owned(),
            ModelState::Serving => "serving".to_owned(),
            ModelState::Draining => "draining".to_owned(),
            ModelState::Retired => "retired".to_owned(),
            ModelState::Refused { reason } => reason.clone(),
        };
        let found: Vec<(String, String)> = self
            .registry
            .status()
            .iter()
            .map(|status| (status.model.to_string(), word(&status.state)))
            .collect();
        assert_eq!(found.len(), status.len(), "{found:?}");
        for ((model, state), (expected_model, expected_state)) in found.iter().zip(status) {
            assert_eq!(model, expected_model);
            assert!(state.contains(expected_state), "{model}: {state}\nlacks {expected_state}");
        }
    }

    fn path(&self, model: &str) -> PathBuf {
        self.folder.path().join(model)
    }

    fn loads(&self) -> usize {
        *self.loader.opened.lock().unwrap()
    }
}

#[test]
fn the_latest_version_of_every_model_is_loaded_once() {
    let bench = Bench::new(None);
    for name in ["shop", "shop", "news"] {
        publish(bench.folder.path(), name);
    }
    fs::create_dir(bench.path("empty")).unwrap();
    fs::write(bench.path("README"), "a file").unwrap();
    let status = [("news/1", "serving"), ("shop/2", "serving")];
    bench.check(&["news/1", "shop/2"], &status);
    bench.check(&["news/1", "shop/2"], &status);
    assert_eq!(bench.loads(), 2, "a second look loads nothing");
}

#[test]
fn a_new_version_is_swapped_in_and_a_bad_one_refused() {
    let bench = Bench::new(None);
    publish(bench.folder.path(), "shop");
    bench.check(&["shop/1"], &[("shop/1", "serving")]);
    publish(bench.folder.path(), "shop");
    bench.check(&["shop/2"], &[("shop/1", "retired"), ("shop/2", "serving")]);

    bench.loader.wrong_versions.lock().unwrap().push(3);
    publish(bench.folder.path(), "shop");
    let refused = [
        ("shop/1", "retired"),
        ("shop/2", "serving"),
        ("shop/3", "(within 0.00001): the graph is not the one"),
    ];
    bench.check(&["shop/2"], &refused);
    let loads = bench.loads();
    bench.check(&["shop/2"], &refused);
    assert_eq!(bench.loads(), loads, "a refused version is not tried again while it is unchanged");

    publish(bench.folder.path(), "shop");
    fs::write(bench.path("shop/4/model.onnx"), "plaim").unwrap();
    let reason = "shop/4/model.onnx was changed: its sha256 is";
    bench.check(&["shop/2"], &[refused[0], refused[1], refused[2], ("shop/4", reason)]);
}

#[test]
fn at_start_the_highest_good_version_serves() {
    let bench = Bench::new(None);
    for _ in 0..3 {
        publish(bench.folder.path(), "shop");
    }
    fs::remove_file(bench.path("shop/3/golden.json")).unwrap();
    bench.check(&["shop/2"], &[("shop/2", "serving"), ("shop/3", "golden.json is missing")]);
}

#[test]
fn removing_a_version_rolls_back_and_removing_the_model_unloads() {
    let bench = Bench::new(None);
    publish(bench.folder.path(), "shop");
    publish(bench.folder.path(), "shop");
    bench.check(&["shop/2"], &[("shop/2", "serving")]);
    fs::remove_dir_all(bench.path("shop/2")).unwrap();
    bench.check(&["shop/1"], &[("shop/1", "serving"), ("shop/2", "retired")]);
    bench.check(&["shop/1"], &[("shop/1", "serving")]);
    fs::remove_dir_all(bench.path("shop")).unwrap();
    bench.check(&[], &[]);
}

#[test]
fn a_bundle_in_a_folder_of_another_name_is_refused() {
    let bench = Bench::new(None);
    publish(bench.folder.path(), "shop");
    fs::rename(bench.path("shop"), bench.path("shoes")).unwrap();
    bench.check(&[], &[("shoes/1", "holds model shop/1")]);
}

#[test]
fn a_missing_folder_is_an_error_that_says_what_to_do() {
    let bench = Bench::new(None);
    fs::remove_dir_all(bench.folder.path()).unwrap();
    let error = bench.registry.refresh().unwrap_err();
    assert!(error.to_string().contains("create it, or give another"), "{error}");
    fs::create_dir(bench.folder.path()).unwrap();
}

#[tokio::test]
async fn the_watcher_finds_what_appears() {
    let mut bench = Bench::new(Some(Duration::from_millis(2)));
    bench.registry.refresh().unwrap();
    bench.registry.watch().unwrap();
    bench.registry.watch().unwrap();
    publish(bench.folder.path(), "shop");
    while bench.engine.models().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let set = encoders();
    let requests = [json_request(31.0, &[1.0])];
    let raw = gatefold_features::RawBatch::from_json(&requests, &set).unwrap();
    let features = Features::Raw(&raw);
    let job = ScoreJob { model: "shop", version: None, features, outputs: &[], deadline: None };
    assert_eq!(bench.engine.score(job).await.unwrap().scores[0], [expected(31.0, 1.0)[0]]);
}

#[test]
fn an_unloaded_model_stays_away_until_it_is_loaded() {
    let bench = Bench::new(None);
    for name in ["news", "shop", "shop"] {
        publish(bench.folder.path(), name);
    }
    bench.check(&["news/1", "shop/2"], &[("news/1", "serving"), ("shop/2", "serving")]);
    bench.registry.unload("shop").unwrap();
    let away = [("news/1", "serving"), ("shop/2", "retired")];
    bench.check(&["news/1"], &away);
    bench.registry.unload("shop").unwrap();
    // A new version does not bring it back.
    publish(bench.folder.path(), "shop");
    bench.check(&["news/1"], &away);
    bench.registry.load("shop").unwrap();
    let back = [("news/1", "serving"), ("shop/2", "retired"), ("shop/3", "serving")];
    bench.check(&["news/1", "shop/3"], &back);
    bench.registry.load("shop").unwrap();
    assert_eq!(bench.loads(), 3, "what is loaded is not loaded again");
}

#[test]
fn what_cannot_be_loaded_or_unloaded_is_named() {
    let bench = Bench::new(None);
    publish(bench.folder.path(), "shop");
    fs::write(bench.path("shop/1/model.onnx"), "other bytes").unwrap();
    let said = |result: Result<(), RegistryError>| result.unwrap_err().to_string();
    let refused = said(bench.registry.load("shop"));
    assert!(refused.starts_with("model 'shop' cannot be loaded: version 1: "), "{refused}");
    assert!(refused.contains("model.onnx"), "{refused}");
    for unknown in [bench.registry.load("../shop"), bench.registry.unload("../shop")] {
        let unknown = said(unknown);
        assert!(unknown.contains("no model '../shop' in "), "{unknown}");
    }
    // Published anew, it is looked at again.
    publish(bench.folder.path(), "shop");
    bench.registry.load("shop").unwrap();
    assert_eq!(bench.engine.models()[0].model.version, 2);
}
