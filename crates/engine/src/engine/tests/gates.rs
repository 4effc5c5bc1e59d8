//! Gate weights: run where they are asked for, and only there.

use super::*;
use crate::{
    GateWeights,
    testing::{filled_writer, gate_weights, manifest},
};

async fn explain(engine: &Engine, prices: &[f32], outputs: &[&str]) -> Result<ScoreReply, ScoreError> {
    let batch = raw(20.0, prices);
    let outputs: Vec<String> = outputs.iter().map(|name| (*name).to_owned()).collect();
    let job = ScoreJob {
        model: "shop",
        version: VersionChoice::Current,
        features: Features::Raw(&batch),
        outputs: &outputs,
        gates: true,
        deadline: None,
        priority: 0,
    };
    engine.score(job).await
}

#[track_caller]
fn check_gates(reply: &ScoreReply, prices: &[f32], wanted: &[&str]) {
    let names: Vec<&str> = reply.gates.iter().map(|weights| weights.gate.name.as_str()).collect();
    assert_eq!(names, wanted);
    for GateWeights { gate, weights } in &reply.gates {
        let place = usize::from(gate.name == "gate.cvr");
        assert_eq!(gate.experts.len(), place + 2);
        assert_eq!(gate.experts[1], ["expert.ctr.1", "expert.cvr.1"][place]);
        let rows = prices.iter().flat_map(|price| gate_weights(*price)[place].clone());
        assert_eq!(*weights, rows.collect::<Vec<f32>>(), "{}", gate.name);
    }
}

#[tokio::test]
async fn gates_of_the_outputs_asked_for_are_run_only_where_they_are_wanted() {
    let bench = Bench::new(one_worker());
    let reply = score(&bench.engine, "shop", 20.0, &[1.0, 2.0], &[], None).await.unwrap();
    assert_eq!(reply.gates, []);
    for (outputs, gates) in [
        (&[][..], &["gate.ctr", "gate.cvr"][..]),
        (&["cvr", "ctr"], &["gate.ctr", "gate.cvr"]),
        (&["ctcvr"], &["gate.ctr", "gate.cvr"]),
        (&["cvr"], &["gate.cvr"]),
    ] {
        let reply = explain(&bench.engine, &[1.0, 2.0], outputs).await.unwrap();
        check_scores(&reply, 20.0, &[1.0, 2.0]);
        assert_eq!(reply.outputs.len(), if outputs.is_empty() { 3 } else { outputs.len() });
        check_gates(&reply, &[1.0, 2.0], gates);
    }
    let runs: Vec<Vec<usize>> = bench.loader.take_runs().into_iter().map(|run| run.outputs).collect();
    assert_eq!(runs, [vec![0, 1, 2], vec![0, 1, 2, 3, 4], vec![1, 0, 3, 4], vec![2, 3, 4], vec![1, 4]]);
}

#[tokio::test]
async fn requests_with_and_without_gates_share_a_batch() {
    let bench = Bench::new(one_worker());
    bench.loader.hold();
    let first = bench.spawn(10.0, &[1.0]);
    bench.loader.wait_for_a_run().await;
    let without = bench.spawn(20.0, &[2.0, 3.0]);
    bench.until_waiting(2).await;
    let spawn = |prices: &'static [f32], outputs: &'static [&'static str]| {
        let engine = bench.engine.clone();
        tokio::spawn(async move { explain(&engine, prices, outputs).await })
    };
    let both = spawn(&[0.5, 1.5, 2.5], &["ctcvr"]);
    bench.until_waiting(5).await;
    let one = spawn(&[3.5], &["ctr"]);
    bench.until_waiting(6).await;
    bench.loader.release();
    assert!(first.await.unwrap().unwrap().gates.is_empty());
    let without = without.await.unwrap().unwrap();
    check_scores(&without, 20.0, &[2.0, 3.0]);
    assert!(without.gates.is_empty());
    let both = both.await.unwrap().unwrap();
    check_scores(&both, 20.0, &[0.5, 1.5, 2.5]);
    check_gates(&both, &[0.5, 1.5, 2.5], &["gate.ctr", "gate.cvr"]);
    check_gates(&one.await.unwrap().unwrap(), &[3.5], &["gate.ctr"]);
    let runs = bench.loader.take_runs();
    assert_eq!((runs.len(), runs[1].rows, &runs[1].outputs), (2, 6, &vec![0, 1, 2, 3, 4]));
}

#[tokio::test]
async fn gates_of_a_model_without_any_are_refused() {
    let bench = Bench::new(one_worker());
    let mut without = manifest();
    without.gate_outputs.clear();
    let writer = filled_writer(&bench.folder.path().join("shop"));
    let bundle = writer.publish(without, |_| Ok(())).unwrap();
    bench.engine.install(bench.engine.prepare(bundle).unwrap());
    let error = explain(&bench.engine, &[1.0], &[]).await.unwrap_err();
    assert!(error.to_string().contains("model 'shop/2' gives no gate weights"), "{error}");
}
