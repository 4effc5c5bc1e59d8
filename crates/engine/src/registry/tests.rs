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
fn a_version_that_would_refuse_every_caller_is_taken_by_those_alone_who_ask_for_it() {
    let bench = Bench::new(None);
    publish(bench.folder.path(), "shop");
    bench.registry.refresh().unwrap();
    bench.ask(VersionChoice::Current, 1.0, &["ctcvr".to_owned()]).unwrap();
    publish_without_ctcvr(bench.folder.path(), "shop");
    let reason = "none of the 1 requests that were kept of those scored before fits this version (the first: \
                  it asks for output 'ctcvr', which this version does not have; it has: ctr, cvr): change the \
                  callers first, or take it all the same by `gatefold models load shop`, or for callers that \
                  name it by `gatefold models label shop LABEL 2` while `stable` is a lower version";
    let refused = [("shop/1", "serving"), ("shop/2", reason)];
    bench.check(&["shop/1"], &refused);
    // These labels would give it all of the traffic.
    for label in ["stable", "canary"] {
        let error = bench.registry.set_label("shop", label, Some(2)).unwrap_err().to_string();
        assert!(error.starts_with("shop/2 is refused: none of the 1 requests"), "{error}");
        bench.check(&["shop/1"], &refused);
    }
    bench.registry.set_label("shop", "stable", Some(1)).unwrap();
    bench.registry.set_label("shop", "canary", Some(2)).unwrap();
    let serving = [("shop/1", "serving"), ("shop/2", "serving")];
    bench.check(&["shop/1", "shop/2"], &serving);
    bench.check_routes(1, &[("canary", 2)]);

    // Another server that reads the same folder has refused it, and follows the labels.
    fs::remove_file(bench.path(STATE_FILE)).unwrap();
    let other = Bench::with(bench.folder, None, &[]);
    fs::rename(other.path("shop/2"), other.path(".2")).unwrap();
    other.registry.refresh().unwrap();
    other.ask(VersionChoice::Current, 1.0, &["ctcvr".to_owned()]).unwrap();
    fs::rename(other.path(".2"), other.path("shop/2")).unwrap();
    other.check(&["shop/1"], &refused);
    fs::write(other.path(STATE_FILE), r#"{"shop": {"labels": {"canary": 2}}}"#).unwrap();
    other.check(&["shop/1"], &refused);
    fs::write(other.path(STATE_FILE), r#"{"shop": {"labels": {"canary": 2, "stable": 1}}}"#).unwrap();
    other.check(&["shop/1", "shop/2"], &serving);
    other.check_routes(1, &[("canary", 2)]);
}

#[test]
fn a_version_that_would_refuse_every_caller_is_taken_where_it_is_loaded_by_wish() {
    let bench = Bench::new(None);
    publish(bench.folder.path(), "shop");
    bench.registry.refresh().unwrap();
    bench.ask(VersionChoice::Current, 1.0, &["ctcvr".to_owned()]).unwrap();
    publish_without_ctcvr(bench.folder.path(), "shop");
    bench.check(&["shop/1"], &[("shop/1", "serving"), ("shop/2", "none of the 1 requests")]);
    bench.registry.load("shop").unwrap();
    bench.check(&["shop/2"], &[("shop/1", "unloaded"), ("shop/2", "serving")]);
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

#[test]
fn labels_point_to_versions_and_stay_after_a_restart() {
    let bench = Bench::new(None);
    for _ in 0..3 {
        publish(bench.folder.path(), "shop");
    }
    bench.registry.refresh().unwrap();
    bench.registry.set_label("shop", "stable", Some(2)).unwrap();
    bench.registry.set_label("shop", "canary", Some(3)).unwrap();
    let status = [("shop/1", "unloaded"), ("shop/2", "serving"), ("shop/3", "serving")];
    bench.check(&["shop/2", "shop/3"], &status);
    bench.check_routes(2, &[("stable", 2), ("canary", 3)]);
    let labels: Vec<Vec<String>> = bench.registry.status().into_iter().map(|status| status.labels).collect();
    assert_eq!(labels, [vec![], vec!["stable".to_owned()], vec!["canary".to_owned()]]);

    publish(bench.folder.path(), "shop");
    let bench = Bench::with(bench.folder, None, &[]);
    bench.check(&["shop/2", "shop/3"], &[status[0], status[1], status[2], ("shop/4", "unloaded")]);
    bench.check_routes(2, &[("stable", 2), ("canary", 3)]);

    bench.registry.set_label("shop", "canary", None).unwrap();
    bench.registry.set_label("shop", "stable", None).unwrap();
    bench.registry.refresh().unwrap();
    bench.check_routes(4, &[("stable", 4)]);
    assert!(bench.engine.model("shop", VersionChoice::Label("canary")).is_err());
    assert_eq!(fs::read_to_string(bench.path(STATE_FILE)).unwrap(), "{}\n");
}

#[test]
fn a_rollback_takes_the_next_lower_good_version() {
    let bench = Bench::new(None);
    bench.loader.wrong_versions.lock().unwrap().push(2);
    for _ in 0..3 {
        publish(bench.folder.path(), "shop");
    }
    bench.registry.refresh().unwrap();
    bench.check_routes(3, &[]);
    assert_eq!(bench.registry.rollback("shop").unwrap(), Rollback { from: 3, to: 1 });
    publish(bench.folder.path(), "shop");
    let refused = ("shop/2", "expected");
    let status = [("shop/1", "serving"), refused, ("shop/3", "unloaded"), ("shop/4", "unloaded")];
    bench.check(&["shop/1"], &status);
    bench.check_routes(1, &[("stable", 1)]);
    let error = bench.registry.rollback("shop").unwrap_err().to_string();
    assert!(error.contains("model 'shop' has no good version below 1"), "{error}");
    bench.registry.set_label("shop", "stable", None).unwrap();
    bench.registry.refresh().unwrap();
    bench.check_routes(4, &[]);
}

#[test]
fn a_rollback_undoes_a_move_of_the_label() {
    let bench = Bench::new(None);
    for _ in 0..4 {
        publish(bench.folder.path(), "shop");
    }
    let label = |bench: &Bench, label: &str, version| {
        bench.registry.set_label("shop", label, Some(version)).unwrap();
        bench.registry.refresh().unwrap();
    };
    fs::write(bench.path(STATE_FILE), r#"{"shop": {"labels": {"stable": 2}}}"#).unwrap();
    bench.registry.refresh().unwrap();
    // Version 3 answers those alone who name it.
    for (name, version) in [("canary", 3), ("stable", 4), ("stable", 4)] {
        label(&bench, name, version);
    }
    // A restart knows it.
    let bench = Bench::with(bench.folder, None, &[]);
    bench.registry.refresh().unwrap();
    bench.check_routes(4, &[]);
    assert_eq!(bench.registry.rollback("shop").unwrap(), Rollback { from: 4, to: 2 });
    bench.check_routes(2, &[]);
    // Never to a higher one.
    assert_eq!(bench.registry.rollback("shop").unwrap(), Rollback { from: 2, to: 1 });
    // The one before is gone, and then refused: the next lower.
    label(&bench, "stable", 2);
    label(&bench, "stable", 4);
    fs::rename(bench.path("shop/2"), bench.path(".2")).unwrap();
    assert_eq!(bench.registry.rollback("shop").unwrap(), Rollback { from: 4, to: 3 });
    fs::rename(bench.path(".2"), bench.path("shop/2")).unwrap();
    label(&bench, "stable", 2);
    label(&bench, "stable", 4);
    bench.loader.wrong_versions.lock().unwrap().push(2);
    assert_eq!(bench.registry.rollback("shop").unwrap(), Rollback { from: 4, to: 3 });
    // Version 4 took it from 3 by itself, not from 2.
    bench.loader.wrong_versions.lock().unwrap().clear();
    label(&bench, "stable", 2);
    bench.registry.set_label("shop", "stable", None).unwrap();
    bench.registry.refresh().unwrap();
    bench.check_routes(4, &[]);
    assert_eq!(bench.registry.rollback("shop").unwrap(), Rollback { from: 4, to: 3 });
}

#[test]
fn a_rollback_to_a_loaded_version_does_not_wait_for_one_that_is_loading() {
    let folder = tempfile::tempdir().unwrap();
    publish(folder.path(), "shop");
    publish(folder.path(), "shop");
    let mut bench =
        Bench::with(folder, Some(Duration::from_millis(2)), &[("shop", VersionPolicy::Latest(2))]);
    bench.registry.refresh().unwrap();
    bench.registry.watch().unwrap();
    bench.loader.take_runs();
    bench.loader.hold();
    publish(bench.folder.path(), "shop");
    while bench.loader.take_runs().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // Version 3 is being checked, and will be for as long as the test likes.
    assert_eq!(bench.registry.rollback("shop").unwrap(), Rollback { from: 2, to: 1 });
    bench.check_routes(1, &[("stable", 1)]);
    // Another model is not held up either; its backend is, so it gets as far as being loaded.
    publish(bench.folder.path(), "news");
    while bench.loader.take_runs().iter().all(|run| run.model != "news/1") {
        std::thread::sleep(Duration::from_millis(1));
    }
    bench.loader.release();
    bench.registry.refresh().unwrap();
    bench.registry.refresh().unwrap();
    bench.check_routes(1, &[("stable", 1)]);
    assert_eq!(bench.registry.inner.served("shop"), [1], "what the label made unwanted has gone");
}

#[test]
fn a_version_that_is_labelled_while_another_drains_is_not_retired() {
    let bench = Bench::new(None);
    for _ in 0..3 {
        publish(bench.folder.path(), "shop");
    }
    bench.registry.refresh().unwrap();
    for (label, version) in [("old", 1), ("canary", 2)] {
        bench.registry.set_label("shop", label, Some(version)).unwrap();
    }
    bench.check_routes(3, &[("old", 1), ("canary", 2)]);
    let loads = bench.loads();
    bench.loader.take_runs();
    bench.loader.hold();
    let (bench, folder) = (&bench, bench.folder.path());
    let until = |reached: &dyn Fn() -> bool| {
        while !reached() {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| bench.score(VersionChoice::Version(1), 1.0).unwrap());
        until(&|| !bench.loader.take_runs().is_empty());
        // Another server takes both labels away, and version 1 has a request to finish.
        fs::write(folder.join(STATE_FILE), "{}").unwrap();
        let refresh = scope.spawn(|| bench.registry.refresh());
        until(&|| bench.registry.status()[0].state == ModelState::Draining);
        bench.registry.set_label("shop", "canary", Some(2)).unwrap();
        bench.loader.release();
        refresh.join().unwrap().unwrap();
    });
    bench.registry.refresh().unwrap();
    bench.check_routes(3, &[("canary", 2)]);
    assert_eq!(bench.registry.inner.served("shop"), [2, 3]);
    assert_eq!(bench.loads(), loads, "version 2 has served all the time");
}

#[test]
fn unloading_lasts_until_loading() {
    let bench = Bench::new(None);
    publish(bench.folder.path(), "shop");
    bench.registry.refresh().unwrap();
    bench.registry.unload("shop").unwrap();
    bench.check(&[], &[("shop/1", "unloaded")]);
    let error = bench.registry.set_label("shop", "canary", Some(1)).unwrap_err().to_string();
    assert_eq!(error, "model 'shop' is not loaded: load it first");
    assert!(matches!(bench.registry.rollback("shop"), Err(RegistryError::Unloaded { .. })));
    let bench = Bench::with(bench.folder, None, &[]);
    bench.check(&[], &[("shop/1", "unloaded")]);
    bench.registry.load("shop").unwrap();
    bench.check(&["shop/1"], &[("shop/1", "serving")]);

    // Loading looks for what is new without a poll, and says why it is not taken.
    bench.loader.wrong_versions.lock().unwrap().push(2);
    publish(bench.folder.path(), "shop");
    let error = bench.registry.load("shop").unwrap_err().to_string();
    assert!(error.starts_with("shop/2 is refused: golden request 0"), "{error}");
    bench.check(&["shop/1"], &[("shop/1", "serving"), ("shop/2", "golden request 0")]);
    bench.loader.wrong_versions.lock().unwrap().clear();
    // What was refused is tried again.
    bench.registry.load("shop").unwrap();
    bench.check(&["shop/2"], &[("shop/1", "unloaded"), ("shop/2", "serving")]);
}

#[test]
fn a_label_that_is_not_set_cannot_be_removed() {
    let bench = Bench::new(None);
    publish(bench.folder.path(), "shop");
    bench.registry.refresh().unwrap();
    for known in ["none", "blue (1), old (1)"] {
        let error = bench.registry.set_label("shop", "stable", None).unwrap_err().to_string();
        let said = "model 'shop' has no label 'stable' to remove; labels that are set: ";
        assert_eq!(error, format!("{said}{known}"));
        for label in ["old", "blue"] {
            bench.registry.set_label("shop", label, Some(1)).unwrap();
        }
    }
}

#[test]
fn a_bad_wish_changes_nothing() {
    #[track_caller]
    fn check<T: std::fmt::Debug>(result: Result<T, RegistryError>, message: &str) {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let bench = Bench::new(None);
    publish(bench.folder.path(), "shop");
    publish(bench.folder.path(), "shop");
    bench.registry.refresh().unwrap();
    let registry = &bench.registry;
    check(registry.set_label("shop", "7", Some(1)), "'7' is no label");
    check(registry.set_label("shop", "", Some(1)), "'' is no label");
    check(registry.set_label("shop", "a b", Some(1)), "'a b' is no label");
    check(registry.set_label("shop", "canary", Some(9)), "shop/9 is not in the folder; versions there: 1, 2");
    check(registry.set_label("shoe", "canary", Some(1)), "no model is named 'shoe'; in the folder: shop");
    check(registry.load("shoe"), "no model is named 'shoe'");
    check(registry.unload("shoe"), "no model is named 'shoe'");
    check(registry.rollback("shoe"), "no model is named 'shoe'");
    bench.loader.wrong_versions.lock().unwrap().push(1);
    check(registry.set_label("shop", "stable", Some(1)), "shop/1 is refused: golden request 0");
    // The file cannot be replaced while a folder stands in its place.
    fs::create_dir(bench.path(STATE_FILE)).unwrap();
    check(registry.set_label("shop", "canary", Some(2)), "registry.json");
    fs::remove_dir(bench.path(STATE_FILE)).unwrap();
    fs::write(bench.path(STATE_FILE), "{\"shop\": {\"label\": {}}}").unwrap();
    check(
        registry.set_label("shop", "canary", Some(2)),
        "unknown field `label`, expected one of `labels`, `unloaded`, `moved`",
    );
    check(registry.refresh(), "did you mean `labels`?");
    for (labels, words) in [
        ("{\"stable\": 0}", "registry.json: model 'shop': label 'stable' is 0: versions begin with 1"),
        ("{\"7\": 1}", "registry.json: model 'shop': '7' is no label"),
    ] {
        fs::write(bench.path(STATE_FILE), format!("{{\"shop\": {{\"labels\": {labels}}}}}")).unwrap();
        check(registry.refresh(), words);
    }
    fs::remove_file(bench.path(STATE_FILE)).unwrap();
    bench.check(&["shop/2"], &[("shop/1", "golden request 0"), ("shop/2", "serving")]);
    bench.check_routes(2, &[("stable", 2)]);
}

#[test]
fn a_version_is_warmed_in_every_size_of_batch() {
    let bench = Bench::new(None);
    publish(bench.folder.path(), "shop");
    bench.registry.refresh().unwrap();
    let runs = bench.loader.take_runs();
    let sizes: Vec<usize> = runs.iter().map(|run| run.rows).collect();
    assert!(sizes.ends_with(&[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]), "{sizes:?}");
    assert!(runs.iter().rev().take(11).all(|run| run.requests == 1 && run.outputs == [0, 1, 2]));
}

#[test]
fn a_version_without_scores_for_what_was_asked_is_refused_and_the_old_stays() {
    let bench = Bench::new(None);
    publish(bench.folder.path(), "shop");
    bench.registry.refresh().unwrap();
    bench.score(VersionChoice::Current, ODD_PRICE).unwrap();
    *bench.loader.odd.lock().unwrap() = Some((2, f32::NAN));
    publish(bench.folder.path(), "shop");
    let reason = "cvr is NaN for candidate 0 of requests that were scored before";
    bench.check(&["shop/1"], &[("shop/1", "serving"), ("shop/2", reason)]);
    bench.score(VersionChoice::Current, ODD_PRICE).unwrap();
    *bench.loader.odd.lock().unwrap() = None;
    bench.check(&["shop/1"], &[("shop/1", "serving"), ("shop/2", reason)]);
    bench.registry.load("shop").unwrap();
    bench.check(&["shop/2"], &[("shop/1", "unloaded"), ("shop/2", "serving")]);
}

#[test]
fn an_unloaded_model_stays_away_until_it_is_loaded() {
    let bench = Bench::new(None);
    for name in ["news", "shop", "shop"] {
        publish(bench.folder.path(), name);
    }
    bench.registry.refresh().unwrap();
    bench.registry.unload("shop").unwrap();
    let away = [("news/1", "serving"), ("shop/1", "unloaded"), ("shop/2", "unloaded")];
    bench.check(&["news/1"], &away);
    bench.registry.unload("shop").unwrap();
    // A new version does not bring it back.
    publish(bench.folder.path(), "shop");
    bench.check(&["news/1"], &[away[0], away[1], away[2], ("shop/3", "unloaded")]);
    bench.registry.load("shop").unwrap();
    bench.check(&["news/1", "shop/3"], &[away[0], away[1], away[2], ("shop/3", "serving")]);
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
    assert!(refused.starts_with("shop/1 is refused: "), "{refused}");
    assert!(refused.contains("model.onnx"), "{refused}");
    for unknown in [bench.registry.load("../shop"), bench.registry.unload("../shop")] {
        let unknown = said(unknown);
        assert!(unknown.contains("no model is named '../shop'; in the folder: shop"), "{unknown}");
    }
    // Published anew, it is looked at again.
    publish(bench.folder.path(), "shop");
    bench.registry.load("shop").unwrap();
    assert_eq!(bench.engine.models()[0].model.version, 2);
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
