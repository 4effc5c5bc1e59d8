//! The padded form of a run, which a GPU uses, on the processor.

use gatefold_engine::{Backend, GraphForm};
use gatefold_features::{FeatureBatch, FeatureColumn};

use super::{OrtLoader, OrtSettings};

#[path = "../../tests/runtime/model.rs"]
mod model;

/// So many requests of one, two or three candidates, whose values depend on `seed`.
fn batch(requests: usize, seed: usize) -> FeatureBatch {
    let request_of: Vec<u32> =
        (0..requests).flat_map(|request| vec![request as u32; 1 + (request + seed) % 3]).collect();
    let candidates = request_of.len();
    let number = |place: usize| ((place * 37 + seed * 11) % 64) as f32 / 64.0 - 0.5;
    let code = |place: usize| ((place * 7 + seed) % 5) as i32;
    FeatureBatch {
        requests,
        candidates,
        request_of,
        columns: vec![
            FeatureColumn::Numbers((0..requests).map(number).collect()),
            FeatureColumn::Codes { width: 3, data: (0..3 * requests).map(code).collect() },
            FeatureColumn::Numbers((0..candidates).map(number).collect()),
            FeatureColumn::Codes { width: 1, data: (0..candidates).map(code).collect() },
        ],
    }
}

#[test]
fn padding_moves_no_score() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = model::Model::default().publish(folder.path());
    let loader = OrtLoader { buckets: true, ..OrtLoader::new(OrtSettings::default()).unwrap() };
    for form in [GraphForm::UserOnce, GraphForm::Plain] {
        let mut backend = loader.open_backend(&bundle, form).unwrap();
        // The second and third batch share the buffers of the first, and the others do not.
        for (requests, seed) in [(10, 0), (9, 0), (10, 3), (1, 1), (60, 2), (9, 4)] {
            let batch = batch(requests, seed);
            let wanted = model::expected(&batch);
            for outputs in [vec![0, 1, 2], vec![2, 0], vec![0]] {
                let scores = backend.run(&batch, &outputs).unwrap();
                for (output, column) in outputs.iter().zip(&scores) {
                    assert_eq!(column.len(), batch.candidates);
                    for (score, wanted) in column.iter().zip(&wanted) {
                        let difference = (f64::from(*score) - wanted[*output]).abs();
                        assert!(difference < 1e-6, "{form:?}, {requests} requests: {score}, {wanted:?}");
                    }
                }
            }
        }
    }
}
