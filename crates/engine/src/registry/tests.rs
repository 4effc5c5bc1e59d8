mod callers;
mod wishes;

use std::sync::Arc;

use super::*;
use crate::{
    EngineSettings, Features, NoObserver, Observer, ScoreError, ScoreJob, ScoreReply, VersionPolicy,
    testing::{
        ODD_PRICE, PANICKING_PRICE, SharedLoader, TestLoader, encoders, expected, json_request, publish,
        publish_without_ctcvr,
    },
};

struct Bench {
    folder: tempfile::TempDir,
    loader: Arc<TestLoader>,
    engine: Engine,
    registry: Registry,
}

impl Bench {
    fn new(poll: Option<Duration>) -> Bench {
        Self::with(tempfile::tempdir().unwrap(), poll, &[])
    }

    fn with(folder: tempfile::TempDir, poll: Option<Duration>, policies: &[(&str, VersionPolicy)]) -> Bench {
        Self::observed(folder, poll, policies, Arc::new(NoObserver))
    }

    fn observed(
        folder: tempfile::TempDir,
        poll: Option<Duration>,
        policies: &[(&str, VersionPolicy)],
        observer: Arc<dyn Observer>,
    ) -> Bench {
        Self::pinning(folder, poll, policies, BTreeMap::new(), observer)
    }

    fn pinning(
        folder: tempfile::TempDir,
        poll: Option<Duration>,
        policies: &[(&str, VersionPolicy)],
        pinned: BTreeMap<String, BTreeSet<u64>>,
        observer: Arc<dyn Observer>,
    ) -> Bench {
        let loader = Arc::new(TestLoader::default());
        let settings = EngineSettings { workers: 1, ..EngineSettings::default() };
        let engine = Engine::start(settings, Arc::new(SharedLoader(loader.clone())), observer).unwrap();
        let policies = policies.iter().map(|(model, policy)| ((*model).to_owned(), policy.clone())).collect();
        let settings = RegistrySettings { folder: folder.path().to_path_buf(), poll, policies, pinned };
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
            ModelState::Unloaded => "unloaded".to_owned(),
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

    /// The version that a request without one gets, and each label's.
    #[track_caller]
    fn check_routes(&self, current: u64, labels: &[(&str, u64)]) {
        let version = |choice| self.engine.model("shop", choice).map(|info| info.model.version);
        assert_eq!(version(VersionChoice::Current).unwrap(), current);
        for (label, expected) in labels {
            assert_eq!(version(VersionChoice::Label(label)).unwrap(), *expected, "{label}");
        }
    }

    /// The model's answer to a request of one candidate.
    fn score(&self, version: VersionChoice<'_>, price: f32) -> Result<ScoreReply, ScoreError> {
        self.ask(version, price, &[])
    }

    /// As [`score`](Self::score), for these outputs.
    fn ask(
        &self,
        version: VersionChoice<'_>,
        price: f32,
        outputs: &[String],
    ) -> Result<ScoreReply, ScoreError> {
        let set = encoders();
        let requests = [json_request(31.0, &[price])];
        let raw = gatefold_features::RawBatch::from_json(&requests, &set).unwrap();
        let job = ScoreJob {
            model: "shop",
            version,
            features: Features::Raw(&raw),
            outputs,
            gates: false,
            deadline: None,
            priority: 0,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.engine.score(job))
    }

    /// Lets the version that serves lose its backend, and waits until it serves no more.
    fn lose(&self) {
        *self.loader.closed.lock().unwrap() = true;
        self.score(VersionChoice::Current, PANICKING_PRICE).unwrap_err();
        while !self.engine.models().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        *self.loader.closed.lock().unwrap() = false;
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
    let status = [("news/1", "serving"), ("shop/1", "unloaded"), ("shop/2", "serving")];
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
    bench.check(&["shop/2"], &[("shop/1", "unloaded"), ("shop/2", "serving")]);

    bench.loader.wrong_versions.lock().unwrap().push(3);
    publish(bench.folder.path(), "shop");
    let refused = [
        ("shop/1", "unloaded"),
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
    let status = [("shop/1", "unloaded"), ("shop/2", "serving"), ("shop/3", "golden.json is missing")];
    bench.check(&["shop/2"], &status);
}

#[test]
fn removing_a_version_rolls_back_and_removing_the_model_unloads() {
    let bench = Bench::new(None);
    publish(bench.folder.path(), "shop");
    publish(bench.folder.path(), "shop");
    bench.check(&["shop/2"], &[("shop/1", "unloaded"), ("shop/2", "serving")]);
    fs::remove_dir_all(bench.path("shop/2")).unwrap();
    bench.check(&["shop/1"], &[("shop/1", "serving")]);
    fs::remove_dir_all(bench.path("shop")).unwrap();
    bench.check(&[], &[]);
}

#[test]
fn a_bundle_in_a_folder_of_another_name_is_refused() {
    let bench = Bench::new(None);
    publish(bench.folder.path(), "shop");
    fs::rename(bench.path("shop"), bench.path("shoes")).unwrap();
    bench.check(&[], &[("shoes/1", "holds model shop/1: name the folder models/<name>/<version>")]);
}

#[test]
fn a_bundle_in_a_folder_of_another_number_is_refused() {
    let bench = Bench::new(None);
    publish(bench.folder.path(), "shop");
    fs::rename(bench.path("shop/1"), bench.path("shop/2")).unwrap();
    let reason = "holds model shop/1: the folder of a version has the number in its manifest, here 1; what \
                  publishes a bundle gives it the next number";
    bench.check(&[], &[("shop/2", reason)]);
}

#[test]
fn a_missing_folder_is_an_error_that_says_what_to_do() {
    let bench = Bench::new(None);
    fs::remove_dir_all(bench.folder.path()).unwrap();
    let error = bench.registry.refresh().unwrap_err();
    assert!(error.to_string().contains("create it, or give another"), "{error}");
    fs::create_dir(bench.folder.path()).unwrap();
}

#[test]
fn the_watcher_finds_what_appears() {
    let mut bench = Bench::new(Some(Duration::from_millis(2)));
    bench.registry.refresh().unwrap();
    bench.registry.watch().unwrap();
    bench.registry.watch().unwrap();
    publish(bench.folder.path(), "shop");
    while bench.engine.models().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let reply = bench.score(VersionChoice::Current, 1.0).unwrap();
    assert_eq!(reply.scores[0], [expected(31.0, 1.0)[0]]);
}

#[test]
fn a_policy_says_which_versions_are_loaded() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["shop", "shop", "shop", "news", "news", "news"] {
        publish(folder.path(), name);
    }
    let policies = [("shop", VersionPolicy::Latest(2)), ("news", VersionPolicy::Named(vec![1, 2, 9]))];
    let bench = Bench::with(folder, None, &policies);
    let models = ["news/1", "news/2", "shop/2", "shop/3"];
    let status = [
        ("news/1", "serving"),
        ("news/2", "serving"),
        ("news/3", "unloaded"),
        ("shop/1", "unloaded"),
        ("shop/2", "serving"),
        ("shop/3", "serving"),
    ];
    bench.check(&models, &status);
    bench.check_routes(3, &[]);
    publish(bench.folder.path(), "shop");
    bench.loader.wrong_versions.lock().unwrap().push(5);
    publish(bench.folder.path(), "shop");
    bench.registry.refresh().unwrap();
    bench.check_routes(4, &[("stable", 4)]);
    assert_eq!(bench.engine.models().len(), 4, "a refused version takes no place of the latest two");
}

#[test]
fn a_pinned_version_stays_loaded_beside_newer_ones_and_takes_nothing_that_names_none() {
    let folder = tempfile::tempdir().unwrap();
    let pinned = [("shop".to_owned(), BTreeSet::from([1, 9]))].into();
    let bench = Bench::pinning(folder, None, &[], pinned, Arc::new(NoObserver));
    publish(bench.folder.path(), "shop");
    bench.check(&["shop/1"], &[("shop/1", "serving")]);
    bench.check_routes(1, &[]);
    publish(bench.folder.path(), "shop");
    publish(bench.folder.path(), "shop");
    let status = [("shop/1", "serving"), ("shop/2", "unloaded"), ("shop/3", "serving")];
    bench.check(&["shop/1", "shop/3"], &status);
    bench.check_routes(3, &[]);
    bench.score(VersionChoice::Version(1), 1.0).unwrap();
    bench.registry.unload("shop").unwrap();
    bench.check(&[], &["shop/1", "shop/2", "shop/3"].map(|version| (version, "unloaded")));
    bench.registry.load("shop").unwrap();
    bench.check(&["shop/1", "shop/3"], &status);
}

/// What the engine loses under a model gives way to the version below, until somebody asks again.
#[test]
fn a_version_that_loses_its_backends_is_refused_and_the_one_below_serves() {
    let bench = Bench::new(None);
    publish(bench.folder.path(), "shop");
    publish(bench.folder.path(), "shop");
    bench.check(&["shop/2"], &[("shop/1", "unloaded"), ("shop/2", "serving")]);
    bench.lose();
    // Before anybody looks at the folder.
    let state = bench.registry.status().remove(1).state;
    assert!(matches!(&state, ModelState::Refused { reason } if reason.starts_with("its backends panicked")));
    bench.check(&["shop/1"], &[("shop/1", "serving"), ("shop/2", "its backends panicked")]);
    bench.registry.load("shop").unwrap();
    bench.check(&["shop/2"], &[("shop/1", "unloaded"), ("shop/2", "serving")]);
    // An unloaded model is not one that was lost.
    bench.lose();
    bench.registry.unload("shop").unwrap();
    let error = bench.engine.model("shop", VersionChoice::Current).unwrap_err();
    assert_eq!(error.reason(), "unknown_model");
}

/// Asks, whenever a version begins to serve, which one then gets the requests that name none.
#[derive(Default)]
struct Asker {
    engine: std::sync::OnceLock<Engine>,
    seen: Mutex<Vec<(u64, Option<u64>)>>,
}

impl Observer for Asker {
    fn model(&self, model: &ModelVersion, state: &ModelState) {
        if *state == ModelState::Serving
            && let Some(engine) = self.engine.get()
        {
            let current = engine.model("shop", VersionChoice::Current).ok().map(|info| info.model.version);
            self.seen.lock().unwrap().push((model.version, current));
        }
    }
}

#[test]
fn a_canary_takes_no_unnamed_traffic_while_the_models_are_loaded() {
    #[track_caller]
    fn check(
        wrong: &[u64],
        policies: &[(&str, VersionPolicy)],
        state: &str,
        expected: &[(u64, Option<u64>)],
    ) {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            publish(folder.path(), "shop");
        }
        fs::write(folder.path().join(STATE_FILE), state).unwrap();
        let asker = Arc::new(Asker::default());
        let bench = Bench::observed(folder, None, policies, asker.clone());
        bench.loader.wrong_versions.lock().unwrap().extend(wrong);
        asker.engine.set(bench.engine.clone()).ok().unwrap();
        bench.registry.refresh().unwrap();
        assert_eq!(*asker.seen.lock().unwrap(), expected);
    }
    let labels = r#"{"shop": {"labels": {"stable": 2, "canary": 3}}}"#;
    check(&[], &[], labels, &[(2, Some(2)), (3, Some(2))]);
    // Nothing good up to the label `stable`: the canary is the only version.
    check(&[1, 2], &[], labels, &[(3, None)]);
    let policy = [("shop", VersionPolicy::Named(vec![9]))];
    check(&[], &policy, r#"{"shop": {"labels": {"canary": 3}}}"#, &[(3, None)]);
    check(&[], &[], "{}", &[(3, Some(3))]);
}
