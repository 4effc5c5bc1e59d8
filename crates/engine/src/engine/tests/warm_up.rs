//! Requests are kept and warm the next version, which must have scores for them.

use super::*;
use crate::{
    WarmUp,
    testing::{ODD_PRICE, publish_without_ctcvr},
};

impl Bench {
    /// Keeps a request as if it had been scored so many seconds from now.
    fn record(&self, request: &RawBatch<'_>, seconds: u64) {
        self.record_asking(request, &[], seconds);
    }

    /// As [`record`](Self::record), where these outputs were asked for.
    fn record_asking(&self, request: &RawBatch<'_>, outputs: &[&str], seconds: u64) {
        let outputs: Vec<String> = outputs.iter().map(|output| (*output).to_owned()).collect();
        let now = Instant::now() + Duration::from_secs(seconds);
        let models = self.engine.shared.models.read().unwrap();
        models["shop"].recorded.offer(request, &outputs, now);
    }

    /// Requests that are kept.
    fn recorded(&self) -> usize {
        self.engine.shared.recorded("shop").len()
    }

    /// What the next version was warmed by, and its runs of recorded requests: requests and rows.
    fn warm(&self) -> (WarmUp, Vec<(usize, usize)>) {
        let prepared = self.engine.prepare(publish(self.folder.path(), "shop")).unwrap();
        let mut runs = self.loader.take_runs();
        assert!(runs.iter().all(|run| run.model == prepared.model().to_string()));
        // After the largest size: every worker's runs begin with those of the golden rows.
        let last = runs.iter().rposition(|run| (run.requests, run.rows) == (1, 50)).unwrap();
        let runs = runs.split_off(last + 1);
        assert!(runs.iter().all(|run| run.outputs == [0, 1, 2]), "{runs:?}");
        (prepared.warm_up().clone(), runs.iter().map(|run| (run.requests, run.rows)).collect())
    }
}

#[tokio::test]
async fn the_next_version_runs_what_the_model_was_asked_alone_and_together() {
    let bench = Bench::new(one_worker());
    assert_eq!(bench.warm(), (WarmUp::default(), vec![]), "there was no request yet");
    score(&bench.engine, "shop", 30.0, &[1.0, 2.0, 3.0], &["ctr"], None).await.unwrap();
    bench.loader.take_runs();
    let report = |requests, candidates| WarmUp { requests, candidates, ..WarmUp::default() };
    assert_eq!(bench.warm(), (report(1, 3), vec![(1, 3)]));
    // A batch takes 20 rows: 3 + 17, then 12 + 8, and 9 alone.
    for (at, rows) in [17, 12, 8, 9].into_iter().enumerate() {
        bench.record(&raw(20.0, &vec![0.5; rows]), 10 + at as u64);
    }
    let alone = [(1, 3), (1, 17), (1, 12), (1, 8), (1, 9)];
    assert_eq!(bench.warm(), (report(5, 49), [&alone[..], &[(2, 20), (2, 20)]].concat()));
}

#[tokio::test]
async fn every_worker_is_warmed() {
    let bench = Bench::new(EngineSettings { workers: 3, ..one_worker() });
    score(&bench.engine, "shop", 30.0, &[1.0; 37], &[], None).await.unwrap();
    bench.loader.take_runs();
    bench.engine.prepare(publish(bench.folder.path(), "shop")).unwrap();
    let runs = bench.loader.take_runs();
    assert_eq!(runs.iter().filter(|run| run.rows == 37).count(), 3);
}

#[tokio::test]
async fn only_raw_requests_with_scores_are_kept_while_their_model_is_loaded() {
    let bench = Bench::new(one_worker());
    score(&bench.engine, "shop", 30.0, &[FAILING_PRICE], &[], None).await.unwrap_err();
    score(&bench.engine, "shop", f64::NAN, &[1.0], &[], None).await.unwrap_err();
    let bundle = bench.engine.model("shop", VersionChoice::Current).unwrap().bundle;
    let batch = bundle.encoder().encode(&raw(30.0, &[1.0]), gatefold_features::Strictness::Refuse).unwrap();
    let job = ScoreJob {
        model: "shop",
        version: VersionChoice::Current,
        features: Features::Encoded(batch),
        outputs: &[],
        gates: false,
        deadline: None,
        priority: 0,
    };
    bench.engine.score(job).await.unwrap();
    assert_eq!(bench.recorded(), 0);
    score(&bench.engine, "shop", 30.0, &[1.0], &[], None).await.unwrap();
    assert_eq!(bench.recorded(), 1);
    bench.engine.retire("shop", 1, Duration::from_secs(60));
    bench.engine.install(bench.prepare("shop"));
    assert_eq!(bench.recorded(), 0, "they went with the last version");

    let bench = Bench::new(EngineSettings { warm_up_requests: 0, ..one_worker() });
    score(&bench.engine, "shop", 30.0, &[1.0], &[], None).await.unwrap();
    assert_eq!(bench.recorded(), 0);
}

#[tokio::test]
async fn what_the_features_do_not_take_is_counted_and_left_out() {
    let bench = Bench::new(one_worker());
    let column = |values| RawColumn { values, missing: None };
    let good = || raw(30.0, &[1.0, 2.0]);
    let mut more = good();
    more.columns.push(("brand".into(), column(RawValues::Texts(vec!["a", "b"]))));
    let mut fewer = good();
    fewer.columns.pop();
    let mut other_type = good();
    other_type.columns[1].1 = column(RawValues::Texts(vec!["thirty"]));
    let not_finite = raw(f64::NAN, &[1.0]);
    let requests = [good(), more, fewer, other_type, not_finite, good()];
    for (second, request) in requests.iter().enumerate() {
        bench.record(request, second as u64);
    }
    let misfit = Some("unknown feature 'brand'; remove it".to_owned());
    let expected = WarmUp { requests: 2, candidates: 4, unfit: 4, misfit };
    assert_eq!(bench.warm(), (expected, vec![(1, 2), (1, 2), (2, 4)]));
}

#[tokio::test]
async fn a_request_for_an_output_that_is_gone_does_not_fit() {
    let bench = Bench::new(one_worker());
    for (second, outputs) in [&["cvr", "ctr"][..], &["ctr", "ctcvr"], &[], &["ctcvr"]].iter().enumerate() {
        bench.record_asking(&raw(30.0, &[1.0, 2.0]), outputs, second as u64);
    }
    let prepared = bench.engine.prepare(publish_without_ctcvr(bench.folder.path(), "shop")).unwrap();
    let misfit = "it asks for output 'ctcvr', which this version does not have; it has: ctr, cvr";
    let expected = WarmUp { requests: 2, candidates: 4, unfit: 2, misfit: Some(misfit.into()) };
    assert_eq!(*prepared.warm_up(), expected);
    // They ask for it by name when they are scored.
    let bench = Bench::new(one_worker());
    score(&bench.engine, "shop", 30.0, &[1.0], &["ctcvr"], None).await.unwrap();
    let prepared = bench.engine.prepare(publish_without_ctcvr(bench.folder.path(), "shop")).unwrap();
    assert_eq!((prepared.warm_up().requests, prepared.warm_up().unfit), (0, 1));
}

#[test]
fn why_a_request_does_not_fit_is_said_without_its_values() {
    let bench = Bench::new(one_worker());
    bench.record(&raw(f64::INFINITY, &[1.0]), 0);
    let misfit = bench.warm().0.misfit.unwrap();
    assert_eq!(misfit, "feature 'age' (user side): a value is not a finite 32-bit number");
}

#[tokio::test]
async fn a_version_without_good_scores_for_them_is_refused() {
    let bench = Bench::new(one_worker());
    // Nobody asked for `cvr`; who does is in the same batch.
    score(&bench.engine, "shop", 30.0, &[1.0, ODD_PRICE], &["ctr"], None).await.unwrap();
    let refused = |found| {
        *bench.loader.odd.lock().unwrap() = Some((2, found));
        let folder = tempfile::tempdir().unwrap();
        publish(folder.path(), "shop");
        bench.engine.prepare(publish(folder.path(), "shop")).unwrap_err().to_string()
    };
    for (found, said) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (1.5, "1.5"), (-0.5, "-0.5")] {
        let expected = format!(
            "cvr is {said} for candidate 1 of requests that were scored before (1 recorded, in one batch), \
             which is no probability; mend the model, or load it again once callers send other values"
        );
        assert_eq!(refused(found), expected);
    }
    bench.record(&raw(30.0, &[FAILING_PRICE]), 10);
    let expected = "requests that were scored before cannot be run (1 recorded, 1 candidates, in one batch): \
                    running the model failed: a price that fails; mend the model";
    let error = refused(0.5);
    assert!(error.starts_with(expected), "{error}");
}
