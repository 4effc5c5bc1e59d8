//! The plain against the user-once graph of one bundle, in ONNX Runtime on one thread.

use std::{path::Path, time::Instant};

use anyhow::{Result, ensure};
use gatefold_backend_ort::{OrtLoader, OrtSettings};
use gatefold_engine::{Backend, BackendLoader, Bundle, GraphForm};
use gatefold_features::FeatureBatch;
use gatefold_schema::Level;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::world::random_codes;

/// Runs of one turn: enough that a turn is long beside the clock's resolution.
const RUNS_A_TURN: usize = 100;

/// Milliseconds a run of each form, one entry a turn; and how far their scores differ.
pub(crate) fn measure(model: &Path, rounds: usize, candidates: usize) -> Result<Value> {
    ensure!(rounds > 0 && candidates > 0, "rounds and candidates must be at least 1");
    let bundle = Bundle::open_latest(model)?;
    let loader = OrtLoader::new(OrtSettings { intra_threads: 1, ..OrtSettings::default() })?;
    let mut plain = loader.open(&bundle, GraphForm::Plain)?;
    let mut user_once = loader.open(&bundle, GraphForm::UserOnce)?;
    let batch = one_request(&bundle, candidates);
    let outputs: Vec<usize> = (0..bundle.manifest().outputs.len()).collect();

    let expected = plain.run(&batch, &outputs)?;
    let found = user_once.run(&batch, &outputs)?;
    let pairs = expected.iter().flatten().zip(found.iter().flatten());
    let difference = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    ensure!(difference <= 1e-5, "the two graphs differ by {difference:e}");

    // The first turn of each warms caches and is not counted.
    turn(&mut *plain, &batch, &outputs)?;
    turn(&mut *user_once, &batch, &outputs)?;
    let (mut plain_ms, mut user_once_ms) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        plain_ms.push(turn(&mut *plain, &batch, &outputs)?);
        user_once_ms.push(turn(&mut *user_once, &batch, &outputs)?);
    }
    Ok(json!({
        "candidates": candidates,
        "plain_ms": plain_ms,
        "user_once_ms": user_once_ms,
        "largest_difference": difference,
    }))
}

/// Milliseconds a run, averaged over one turn.
fn turn(backend: &mut dyn Backend, batch: &FeatureBatch, outputs: &[usize]) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..RUNS_A_TURN {
        backend.run(batch, outputs)?;
    }
    Ok(start.elapsed().as_secs_f64() * 1000.0 / RUNS_A_TURN as f64)
}

/// One request with random codes.
fn one_request(bundle: &Bundle, candidates: usize) -> FeatureBatch {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let columns = bundle.manifest().features.iter().map(|fitted| {
        let rows = if fitted.feature.side.level() == Level::Request { 1 } else { candidates };
        random_codes(fitted, rows, &mut random)
    });
    FeatureBatch { columns: columns.collect(), requests: 1, candidates, request_of: vec![0; candidates] }
}
