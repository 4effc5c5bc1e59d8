//! What happens to requests while versions come and go, and at the end.

use super::*;

#[tokio::test]
async fn a_swap_fails_no_request_and_the_old_version_drains() {
    let bench = Bench::new(EngineSettings { workers: 2, ..one_worker() });
    let next = bench.prepare("shop");
    bench.loader.hold();
    let on_old = bench.spawn(1.0, &[1.0]);
    bench.loader.wait_for_a_run().await;
    assert_eq!(bench.engine.install(next).version, 2);
    let states: Vec<(u64, bool)> =
        bench.engine.models().iter().map(|info| (info.model.version, info.current)).collect();
    assert_eq!(states, [(1, false), (2, true)]);
    let engine = bench.engine.clone();
    let retired = tokio::task::spawn_blocking(move || engine.retire("shop", 1, Duration::from_secs(60)));
    while bench.engine.models().len() == 2 {
        tokio::task::yield_now().await;
    }
    bench.loader.release();
    assert_eq!(on_old.await.unwrap().unwrap().model.version, 1);
    assert!(retired.await.unwrap(), "it has drained");
    let reply = score(&bench.engine, "shop", 1.0, &[1.0], &[], None).await.unwrap();
    assert_eq!(reply.model.version, 2);
    assert!(bench.engine.retire("shop", 1, Duration::ZERO), "what is gone is drained");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_during_many_swaps_all_get_their_scores() {
    let bench = Bench::new(EngineSettings { workers: 2, queue_rows: 10_000, ..one_worker() });
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let engine = bench.engine.clone();
            tokio::spawn(async move {
                for round in 0..200 {
                    let (age, price) = (caller as f32, round as f32);
                    let reply = score(&engine, "shop", age.into(), &[price, 1.0], &[], None).await.unwrap();
                    check_scores(&reply, age, &[price, 1.0]);
                }
            })
        })
        .collect();
    for version in 1..=10 {
        let (engine, folder) = (bench.engine.clone(), bench.folder.path().to_path_buf());
        tokio::task::spawn_blocking(move || {
            engine.install(engine.prepare(publish(&folder, "shop")).unwrap());
            assert!(engine.retire("shop", version, Duration::from_secs(60)));
        })
        .await
        .unwrap();
    }
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(bench.counts.scored.lock().unwrap().len(), 1600);
}

#[tokio::test]
async fn a_version_whose_waiting_requests_all_expire_is_drained() {
    let bench = Bench::new(one_worker());
    bench.loader.hold();
    let running = bench.spawn(1.0, &[1.0]);
    bench.loader.wait_for_a_run().await;
    let deadline = Some(Instant::now() + Duration::from_millis(100));
    let engine = bench.engine.clone();
    let expiring = tokio::spawn(async move { score(&engine, "shop", 1.0, &[1.0], &[], deadline).await });
    while bench.engine.models()[0].waiting_rows == 0 && !expiring.is_finished() {
        tokio::task::yield_now().await;
    }
    let engine = bench.engine.clone();
    let retired = tokio::task::spawn_blocking(move || engine.retire("shop", 1, Duration::from_secs(60)));
    // Blocks this thread, and with it the caller's timer: the worker is the first to see it expired.
    std::thread::sleep(Duration::from_millis(150));
    bench.loader.release();
    assert!(retired.await.unwrap());
    assert!(running.await.unwrap().is_ok());
    assert!(matches!(expiring.await.unwrap(), Err(ScoreError::DeadlineExceeded)));
}

#[tokio::test]
async fn golden_rows_keep_a_wrong_model_out() {
    let bench = Bench::new(one_worker());
    bench.loader.wrong_versions.lock().unwrap().push(2);
    let error = bench.engine.prepare(publish(bench.folder.path(), "shop")).unwrap_err().to_string();
    assert!(error.contains("golden request 0, candidate 0: ctr is 0.04"), "{error}");
}

#[tokio::test]
async fn shutdown_finishes_what_waits() {
    let bench = Bench::new(one_worker());
    bench.loader.hold();
    let first = bench.spawn(1.0, &[1.0]);
    bench.loader.wait_for_a_run().await;
    let second = bench.spawn(1.0, &[2.0]);
    bench.until_waiting(1).await;
    let engine = bench.engine.clone();
    let stopping = tokio::task::spawn_blocking(move || engine.shutdown(Duration::from_secs(60)));
    let refused = loop {
        match score(
            &bench.engine,
            "shop",
            1.0,
            &[1.0; 50],
            &[],
            Some(Instant::now() + Duration::from_millis(5)),
        )
        .await
        {
            Err(ScoreError::DeadlineExceeded) => {}
            other => break other,
        }
    };
    assert!(matches!(refused, Err(ScoreError::ShuttingDown)), "{refused:?}");
    bench.loader.release();
    assert!(first.await.unwrap().is_ok());
    assert!(second.await.unwrap().is_ok());
    assert_eq!(stopping.await.unwrap(), Drained { abandoned: 0, complete: true });
}

#[tokio::test]
async fn shutdown_turns_away_what_does_not_finish_in_time() {
    let bench = Bench::new(one_worker());
    bench.loader.hold();
    let running = bench.spawn(1.0, &[1.0]);
    bench.loader.wait_for_a_run().await;
    let waiting = bench.spawn(1.0, &[2.0]);
    bench.until_waiting(1).await;
    let engine = bench.engine.clone();
    let stopping = tokio::task::spawn_blocking(move || engine.shutdown(Duration::ZERO));
    assert_eq!(stopping.await.unwrap(), Drained { abandoned: 1, complete: false });
    assert!(matches!(waiting.await.unwrap(), Err(ScoreError::ShuttingDown)));
    bench.loader.release();
    assert!(running.await.unwrap().is_ok());
}
