use std::sync::Arc;

use gatefold_features::FeatureColumn;

use super::*;
use crate::testing::{FAILING_PRICE, PANICKING_PRICE, SharedLoader, TestLoader, expected, publish};

fn scorer(threads: usize) -> (BatchScorer, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let bundle = publish(folder.path(), "shop");
    let loader = SharedLoader(Arc::new(TestLoader::default()));
    (BatchScorer::open(bundle, &loader, GraphForm::UserOnce, threads).unwrap(), folder)
}

/// A chunk is its prices; the age is the first of them.
fn encode(chunk: &[f32]) -> FeatureBatch {
    FeatureBatch {
        requests: 1,
        candidates: chunk.len(),
        request_of: vec![0; chunk.len()],
        columns: vec![
            FeatureColumn::Numbers(vec![chunk.first().copied().unwrap_or(0.0)]),
            FeatureColumn::Codes { width: 1, data: vec![3] },
            FeatureColumn::Numbers(chunk.to_vec()),
        ],
    }
}

/// Scores the chunks; how many reached the sink before it ended, and how it ended.
fn run(
    threads: usize,
    chunks: impl Iterator<Item = Result<Vec<f32>, BackendError>>,
) -> (Vec<Vec<f32>>, Result<(), BackendError>) {
    let (mut scorer, _folder) = scorer(threads);
    let mut done = Vec::new();
    let sink = |chunk: Vec<f32>, scores: Vec<Vec<f32>>| {
        for (output, column) in scores.iter().enumerate() {
            let wanted: Vec<f32> = chunk.iter().map(|price| expected(chunk[0], *price)[output]).collect();
            assert_eq!(*column, wanted);
        }
        done.push(chunk);
        Ok(())
    };
    let result = scorer.run(chunks, |_, chunk: &Vec<f32>| Ok(encode(chunk)), sink);
    (done, result)
}

#[test]
fn chunks_come_back_in_order_for_any_number_of_threads() {
    let chunks: Vec<Vec<f32>> = (0..100).map(|index| vec![index as f32; index % 7]).collect();
    for threads in [1, 2, 5] {
        let (done, result) = run(threads, chunks.iter().cloned().map(Ok));
        result.unwrap();
        assert_eq!(done, chunks, "{threads} threads");
    }
}

#[test]
fn the_first_error_in_order_ends_it() {
    for (bad, words) in [(FAILING_PRICE, "a price that fails"), (PANICKING_PRICE, "a price that panics")] {
        let chunk = |index: i32| if index >= 37 { vec![bad] } else { vec![index as f32] };
        let (done, result) = run(3, (0..1000).map(|index| Ok(chunk(index))));
        assert_eq!(done.len(), 37);
        assert!(result.unwrap_err().to_string().contains(words));
    }
    let source_fails = |index: i32| match index {
        12 => Err(BackendError::Batch("the table ends in the middle".into())),
        index => Ok(vec![index as f32]),
    };
    let (done, result) = run(2, (0..1000).map(source_fails));
    assert_eq!(done.len(), 12);
    assert!(result.unwrap_err().to_string().contains("ends in the middle"));
}

#[test]
fn only_a_few_chunks_are_in_memory() {
    let (mut scorer, _folder) = scorer(2);
    let out = std::cell::Cell::new(0usize);
    let most = std::cell::Cell::new(0usize);
    let chunks = (0..500).map(|index| {
        out.set(out.get() + 1);
        most.set(most.get().max(out.get()));
        Ok::<_, BackendError>(vec![index as f32])
    });
    let sink = |_, _| {
        out.set(out.get() - 1);
        Ok(())
    };
    scorer.run(chunks, |_, chunk: &Vec<f32>| Ok(encode(chunk)), sink).unwrap();
    assert!(most.get() <= 5, "{} chunks at a time", most.get());
}

#[test]
fn an_error_of_the_sink_ends_it() {
    let (mut scorer, _folder) = scorer(2);
    let chunks = (0..500).map(|index| Ok::<_, BackendError>(vec![index as f32]));
    let result = scorer.run(
        chunks,
        |_, chunk: &Vec<f32>| Ok(encode(chunk)),
        |_, _| Err(BackendError::Batch("the disk is full".into())),
    );
    assert!(result.unwrap_err().to_string().contains("the disk is full"));
}

#[test]
fn one_batch_on_the_calling_thread() {
    let (mut scorer, _folder) = scorer(1);
    assert_eq!(scorer.report().requests, 2);
    assert_eq!(scorer.score(&encode(&[2.0])).unwrap(), expected(2.0, 2.0).map(|score| vec![score]));
    assert_eq!(scorer.score(&encode(&[])).unwrap(), [[0.0f32; 0]; 3]);
}
