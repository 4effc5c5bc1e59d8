//! What callers have asked decides, too, whether a new version is taken.

use super::*;

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
