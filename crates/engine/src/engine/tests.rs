mod gates;
mod lifecycle;
mod warm_up;

use std::borrow::Cow;

use gatefold_features::{FeatureBatch, FeatureColumn, RawBatch, RawColumn, RawValues};

use super::*;
use crate::{
    BatchEvent, Features,
    testing::{FAILING_PRICE, PANICKING_PRICE, Run, SharedLoader, TestLoader, expected, publish},
};

#[derive(Default)]
struct Counts {
    scored: Mutex<Vec<usize>>,
    failed: Mutex<Vec<(String, &'static str)>>,
    batches: Mutex<Vec<(usize, usize, bool)>>,
    states: Mutex<Vec<ModelState>>,
}

impl Observer for Counts {
    fn scored(&self, _: &ScoreReply, candidates: usize) {
        self.scored.lock().unwrap().push(candidates);
    }
    fn failed(&self, model: &str, error: &ScoreError) {
        self.failed.lock().unwrap().push((model.to_owned(), error.reason()));
    }
    fn model(&self, _: &ModelVersion, state: &ModelState) {
        self.states.lock().unwrap().push(state.clone());
    }
    fn batch(&self, event: &BatchEvent<'_>) {
        self.batches.lock().unwrap().push((event.jobs, event.rows, event.ok));
    }
}

struct Bench {
    engine: Engine,
    loader: Arc<TestLoader>,
    counts: Arc<Counts>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(settings: EngineSettings) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let loader = Arc::new(TestLoader::default());
        let counts = Arc::new(Counts::default());
        let shared = Arc::new(SharedLoader(loader.clone()));
        let engine = Engine::start(settings, shared, counts.clone()).unwrap();
        let bench = Bench { engine, loader, counts, folder };
        bench.engine.install(bench.prepare("shop"));
        bench
    }

    /// Publishes and prepares the next version of a model.
    fn prepare(&self, name: &str) -> Prepared {
        let prepared = self.engine.prepare(publish(self.folder.path(), name)).unwrap();
        assert_eq!(prepared.report().candidates, 3);
        self.loader.take_runs();
        prepared
    }

    /// Scores on a task of its own.
    fn spawn(&self, age: f64, prices: &[f32]) -> tokio::task::JoinHandle<Result<ScoreReply, ScoreError>> {
        let engine = self.engine.clone();
        let prices = prices.to_vec();
        tokio::spawn(async move { score(&engine, "shop", age, &prices, &[], None).await })
    }

    /// Waits until this many candidates wait in the only model's queue.
    async fn until_waiting(&self, rows: usize) {
        while self.engine.models()[0].waiting_rows != rows {
            tokio::task::yield_now().await;
        }
    }
}

fn one_worker() -> EngineSettings {
    EngineSettings {
        workers: 1,
        queue_rows: 100,
        request_rows: 50,
        batch_rows: 20,
        ..EngineSettings::default()
    }
}

fn raw(age: f64, prices: &[f32]) -> RawBatch<'static> {
    let column = |values| RawColumn { values, missing: None };
    RawBatch {
        requests: 1,
        candidates: prices.len(),
        request_of: vec![0; prices.len()],
        columns: vec![
            (
                Cow::Borrowed("price"),
                column(RawValues::Floats(prices.iter().map(|price| f64::from(*price)).collect())),
            ),
            (Cow::Borrowed("age"), column(RawValues::Floats(vec![age].into()))),
            (Cow::Borrowed("country"), column(RawValues::Texts(vec!["de"]))),
        ],
    }
}

async fn score(
    engine: &Engine,
    model: &str,
    age: f64,
    prices: &[f32],
    outputs: &[&str],
    deadline: Option<Instant>,
) -> Result<ScoreReply, ScoreError> {
    let batch = raw(age, prices);
    let outputs: Vec<String> = outputs.iter().map(|name| (*name).to_owned()).collect();
    let features = Features::Raw(&batch);
    engine
        .score(ScoreJob {
            model,
            version: VersionChoice::Current,
            features,
            outputs: &outputs,
            gates: false,
            deadline,
            priority: 0,
        })
        .await
}

#[track_caller]
fn check_scores(reply: &ScoreReply, age: f32, prices: &[f32]) {
    let all = ["ctr", "cvr", "ctcvr"];
    assert_eq!(reply.outputs.len(), reply.scores.len());
    for (name, scores) in reply.outputs.iter().zip(&reply.scores) {
        let index = all.iter().position(|output| output == name).unwrap();
        let wanted: Vec<f32> = prices.iter().map(|price| expected(age, *price)[index]).collect();
        assert_eq!(*scores, wanted, "{name}");
    }
}

#[tokio::test]
async fn a_request_is_encoded_scored_and_timed() {
    let bench = Bench::new(one_worker());
    let reply = score(&bench.engine, "shop", 30.0, &[1.0, 2.0, 3.0], &[], None).await.unwrap();
    assert_eq!(reply.model.to_string(), "shop/1");
    assert_eq!(reply.outputs, ["ctr", "cvr", "ctcvr"]);
    check_scores(&reply, 30.0, &[1.0, 2.0, 3.0]);
    assert_eq!((reply.timings.batch_jobs, reply.timings.batch_rows), (1, 3));
    assert_eq!(*bench.counts.scored.lock().unwrap(), [3]);
    assert_eq!(*bench.counts.batches.lock().unwrap(), [(1, 3, true)]);
    // With a single model its name may be left out.
    check_scores(&score(&bench.engine, "", 30.0, &[1.0], &[], None).await.unwrap(), 30.0, &[1.0]);
}

#[tokio::test]
async fn only_the_outputs_asked_for_are_run_in_the_order_asked() {
    let bench = Bench::new(one_worker());
    let reply = score(&bench.engine, "shop", 30.0, &[1.0], &["cvr", "ctr"], None).await.unwrap();
    assert_eq!(reply.outputs, ["cvr", "ctr"]);
    check_scores(&reply, 30.0, &[1.0]);
    score(&bench.engine, "shop", 30.0, &[1.0], &["ctr"], None).await.unwrap();
    let outputs: Vec<Vec<usize>> = bench.loader.take_runs().into_iter().map(|run| run.outputs).collect();
    assert_eq!(outputs, [vec![1, 0], vec![0]]);
}

#[tokio::test]
async fn what_waits_while_a_worker_is_busy_becomes_one_batch() {
    let bench = Bench::new(one_worker());
    bench.loader.hold();
    let first = bench.spawn(10.0, &[1.0]);
    bench.loader.wait_for_a_run().await;
    let second = bench.spawn(20.0, &[2.0, 3.0]);
    bench.until_waiting(2).await;
    let engine = bench.engine.clone();
    let third =
        tokio::spawn(async move { score(&engine, "shop", 40.0, &[4.0], &["ctcvr", "ctr"], None).await });
    bench.until_waiting(3).await;
    bench.loader.release();
    check_scores(&first.await.unwrap().unwrap(), 10.0, &[1.0]);
    let second = second.await.unwrap().unwrap();
    check_scores(&second, 20.0, &[2.0, 3.0]);
    assert_eq!((second.timings.batch_jobs, second.timings.batch_rows), (2, 3));
    let third = third.await.unwrap().unwrap();
    assert_eq!(third.outputs, ["ctcvr", "ctr"]);
    check_scores(&third, 40.0, &[4.0]);
    let run = Run { model: "shop/1".into(), requests: 2, rows: 3, outputs: vec![0, 1, 2] };
    assert_eq!(bench.loader.take_runs()[1], run);
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_at_the_door() {
    let bench = Bench::new(one_worker());
    let engine = &bench.engine;
    #[track_caller]
    fn check(result: Result<ScoreReply, ScoreError>, words: &str) {
        let text = result.expect_err("it is scored").to_string();
        assert!(text.contains(words), "{text}\nlacks {words}");
    }
    check(score(engine, "shoe", 1.0, &[1.0], &[], None).await, "no model is named 'shoe'; loaded: shop");
    check(score(engine, "shop", 1.0, &[], &[], None).await, "no candidates");
    check(score(engine, "shop", 1.0, &[0.5; 51], &[], None).await, "51 candidates and the limit is 50");
    check(
        score(engine, "shop", 1.0, &[0.5], &["ctrr"], None).await,
        "no output 'ctrr'; it has: ctr, cvr, ctcvr",
    );
    check(score(engine, "shop", 1.0, &[0.5], &["ctr", "ctr"], None).await, "'ctr' is asked for twice");
    check(score(engine, "shop", f64::NAN, &[0.5], &[], None).await, "feature 'age'");
    check(score(engine, "shop", 1.0, &[0.5], &[], Some(Instant::now())).await, "the deadline passed");
    let batch = raw(1.0, &[0.5]);
    let job = |version| ScoreJob {
        model: "shop",
        version,
        features: Features::Raw(&batch),
        outputs: &[],
        gates: false,
        deadline: None,
        priority: 0,
    };
    check(engine.score(job(VersionChoice::Version(4))).await, "no version 4 loaded; loaded: 1");
    check(
        engine.score(job(VersionChoice::Label("canary"))).await,
        "no version labelled 'canary'; labels: stable (1)",
    );
    assert!(engine.score(job(VersionChoice::Version(1))).await.is_ok());
    assert!(engine.score(job(VersionChoice::Label(STABLE))).await.is_ok());
    assert_eq!(bench.loader.take_runs().len(), 2);
    let failed = bench.counts.failed.lock().unwrap();
    assert_eq!(failed[0], (String::new(), "unknown_model"), "a name that a caller made up is no label");
    assert_eq!(failed[1], ("shop".into(), "no_candidates"));
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_a_cancelled_request_makes_room() {
    let bench = Bench::new(one_worker());
    bench.loader.hold();
    let running = bench.spawn(1.0, &[1.0]);
    bench.loader.wait_for_a_run().await;
    let waiting = [bench.spawn(1.0, &[1.0; 50]), bench.spawn(1.0, &[1.0; 50])];
    bench.until_waiting(100).await;
    let error = score(&bench.engine, "shop", 1.0, &[1.0], &[], None).await.unwrap_err();
    assert!(matches!(error, ScoreError::Overloaded { queued: 100, limit: 100, .. }), "{error}");
    // Before its values are looked at: those of a bad request do not matter.
    let error = score(&bench.engine, "shop", f64::NAN, &[1.0], &[], None).await.unwrap_err();
    assert!(matches!(error, ScoreError::Overloaded { .. }), "{error}");
    waiting[0].abort();
    bench.until_waiting(50).await;
    let next = bench.spawn(1.0, &[2.0; 50]);
    bench.until_waiting(100).await;
    bench.loader.release();
    assert!(running.await.unwrap().is_ok());
    assert!(next.await.unwrap().is_ok());
    let rows: Vec<usize> = bench.loader.take_runs().iter().map(|run| run.rows).collect();
    assert_eq!(rows, [1, 50, 50], "the cancelled request is not computed");
}

#[tokio::test]
async fn a_request_that_fails_to_encode_gives_its_room_back() {
    let bench = Bench::new(one_worker());
    for _ in 0..3 {
        let error = score(&bench.engine, "shop", f64::NAN, &[1.0; 50], &[], None).await.unwrap_err();
        assert!(matches!(error, ScoreError::Encode(_)), "{error}");
    }
    assert!(score(&bench.engine, "shop", 1.0, &[1.0; 50], &[], None).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_answered_while_the_worker_is_busy() {
    let bench = Bench::new(one_worker());
    bench.loader.hold();
    let running = bench.spawn(1.0, &[1.0]);
    bench.loader.wait_for_a_run().await;
    let deadline = Instant::now() + Duration::from_secs(3600);
    let error = score(&bench.engine, "shop", 1.0, &[1.0], &[], Some(deadline)).await.unwrap_err();
    assert!(matches!(error, ScoreError::DeadlineExceeded), "{error}");
    assert_eq!(bench.engine.models()[0].waiting_rows, 0);
    bench.loader.release();
    assert!(running.await.unwrap().is_ok());
    assert_eq!(bench.loader.take_runs().len(), 1, "the expired request is not computed");
}

#[tokio::test]
async fn a_failing_request_does_not_fail_its_neighbours() {
    let bench = Bench::new(one_worker());
    bench.loader.hold();
    let running = bench.spawn(1.0, &[1.0]);
    bench.loader.wait_for_a_run().await;
    let good = bench.spawn(5.0, &[2.0]);
    bench.until_waiting(1).await;
    let failing = bench.spawn(5.0, &[FAILING_PRICE]);
    bench.until_waiting(2).await;
    bench.loader.release();
    assert!(running.await.unwrap().is_ok());
    check_scores(&good.await.unwrap().unwrap(), 5.0, &[2.0]);
    let error = failing.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("model 'shop/1'") && error.contains("a price that fails"), "{error}");
}

#[tokio::test]
async fn a_panicking_backend_is_replaced_and_the_worker_lives() {
    let bench = Bench::new(one_worker());
    assert_eq!(*bench.loader.opened.lock().unwrap(), 1);
    let error = score(&bench.engine, "shop", 5.0, &[PANICKING_PRICE], &[], None).await.unwrap_err();
    assert!(error.to_string().contains("a price that panics"), "{error}");
    assert!(score(&bench.engine, "shop", 5.0, &[1.0], &[], None).await.is_ok());
    assert_eq!(*bench.loader.opened.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_model_that_lost_its_last_backend_says_so_until_it_is_loaded_again() {
    let bench = Bench::new(one_worker());
    *bench.loader.closed.lock().unwrap() = true;
    let request = |price| bench.spawn(5.0, &[price]);
    // The second waits while the first takes the backend with it.
    bench.loader.hold();
    let first = request(PANICKING_PRICE);
    bench.loader.wait_for_a_run().await;
    let second = request(1.0);
    bench.until_waiting(1).await;
    bench.loader.release();
    assert!(first.await.unwrap().unwrap_err().to_string().contains("a price that panics"));
    for request in [second, request(1.0), request(2.0)] {
        let error = request.await.unwrap().unwrap_err();
        assert_eq!(error.reason(), "lost");
        let expected = "model 'shop/1' has failed and takes no traffic; its status and the log say why; try again \
                        elsewhere";
        assert_eq!(error.to_string(), expected);
    }
    while !bench.engine.models().is_empty() {
        tokio::task::yield_now().await;
    }
    let lost = bench.engine.lost();
    let reason = "its backends panicked and cannot be opened again (running the model failed: no backend can be \
                  opened): load the model again, or restart the server";
    assert_eq!(lost.values().collect::<Vec<_>>(), [reason]);
    let states = bench.counts.states.lock().unwrap().clone();
    assert_eq!(states.last(), Some(&ModelState::Refused { reason: reason.to_owned() }));
    // By name, by version and by its label it is lost; another version is not there.
    for choice in [VersionChoice::Current, VersionChoice::Version(1), VersionChoice::Label(STABLE)] {
        assert_eq!(bench.engine.model("shop", choice).unwrap_err().reason(), "lost", "{choice:?}");
    }
    *bench.loader.closed.lock().unwrap() = false;
    bench.engine.install(bench.prepare("shop"));
    assert!(request(1.0).await.unwrap().is_ok());
    assert_eq!(bench.engine.model("shop", VersionChoice::Version(1)).unwrap_err().reason(), "lost");
    assert_eq!(
        bench.engine.model("shop", VersionChoice::Version(3)).unwrap_err().reason(),
        "unknown_version"
    );
}

#[tokio::test]
async fn encoded_batches_are_checked_for_shape_and_codes() {
    let bench = Bench::new(one_worker());
    let good = FeatureBatch {
        requests: 2,
        candidates: 3,
        request_of: vec![0, 0, 1],
        columns: vec![
            FeatureColumn::Numbers(vec![10.0, 20.0]),
            FeatureColumn::Codes { width: 1, data: vec![3, 4] },
            FeatureColumn::Numbers(vec![1.0, 2.0, 3.0]),
        ],
    };
    let engine = &bench.engine;
    let run = async |batch: FeatureBatch| {
        let features = Features::Encoded(batch);
        engine
            .score(ScoreJob {
                model: "shop",
                version: VersionChoice::Current,
                features,
                outputs: &[],
                gates: false,
                deadline: None,
                priority: 0,
            })
            .await
    };
    let reply = run(good.clone()).await.unwrap();
    assert_eq!(reply.scores[0], [10.0f32 / 1000.0 + 0.001, 10.0 / 1000.0 + 0.002, 20.0 / 1000.0 + 0.003]);
    let check = async |change: &dyn Fn(&mut FeatureBatch), words: &str| {
        let mut batch = good.clone();
        change(&mut batch);
        let text = run(batch).await.expect_err("it is scored").to_string();
        assert!(text.contains(words), "{text}\nlacks {words}");
    };
    // Two out-of-range codes, padding (0) and missing (1), one bucket and two values: 0..5.
    check(
        &|batch| batch.columns[1] = FeatureColumn::Codes { width: 1, data: vec![3, 5] },
        "code 5 is outside 0..5",
    )
    .await;
    check(
        &|batch| batch.columns[1] = FeatureColumn::Codes { width: 1, data: vec![-1, 3] },
        "code -1 is outside",
    )
    .await;
    check(&|batch| batch.columns[1] = FeatureColumn::Codes { width: 2, data: vec![3; 4] }, "width 2").await;
    check(
        &|batch| batch.columns[0] = FeatureColumn::Numbers(vec![1.0; 3]),
        "feature 'age': 3 numbers, expected 2",
    )
    .await;
    check(
        &|batch| batch.columns[2] = FeatureColumn::Numbers(vec![1.0, f32::NAN, 1.0]),
        "row 1 is not a finite",
    )
    .await;
    check(&|batch| batch.columns.truncate(2), "2 columns for 3 features").await;
    check(&|batch| batch.request_of = vec![0, 1, 0], "must not fall").await;
    check(&|batch| batch.request_of = vec![0, 1, 2], "below the 2 requests").await;
    check(&|batch| batch.request_of = vec![0, 1], "2 entries for 3 candidates").await;
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    #[track_caller]
    fn check(settings: EngineSettings, words: &str) {
        let text = settings.check().unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    }
    check(EngineSettings { workers: 0, ..one_worker() }, "workers must be at least 1");
    check(
        EngineSettings { request_rows: 101, ..one_worker() },
        "request_rows (101) is larger than queue_rows (100)",
    );
    EngineSettings::default().check().unwrap();
}
