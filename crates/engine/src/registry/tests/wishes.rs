//! What operators ask for: labels, rollbacks, loading and unloading.

use super::*;

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
