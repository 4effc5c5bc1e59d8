//! Replays a bundle's golden rows: before a model takes traffic it must give the scores it was
//! published with, from raw values through its own encoders and the backend that will serve it.

use std::collections::BTreeMap;

use gatefold_features::{EncodeError, FeatureBatch, RawBatch, Strictness};
use gatefold_schema::GoldenRequest;

use crate::{Backend, BackendError, Bundle};

/// Largest difference between a golden score and the backend's, both probabilities, unless the
/// manifest allows more.
pub const GOLDEN_TOLERANCE: f32 = 1e-5;

/// What a passed check looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GoldenReport {
    /// Requests.
    pub requests: usize,
    /// Candidates.
    pub candidates: usize,
    /// Largest difference found.
    pub largest_difference: f32,
}

/// A model that does not give its golden scores.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// A golden request does not fit the encoders.
    #[error("golden request {request} cannot be encoded: {reason}")]
    Encode {
        /// Position of the request.
        request: usize,
        /// Why.
        reason: EncodeError,
    },
    /// The backend failed.
    #[error("golden rows cannot be run: {0}")]
    Run(#[from] BackendError),
    /// A score differs.
    #[error(
        "golden request {request}, candidate {candidate}: {output} is {found}, expected {expected} (within \
         {tolerance}): the graph is not the one the bundle was published with, or this runtime \
         computes differently; publish the model again"
    )]
    Score {
        /// Position of the request.
        request: usize,
        /// Position of the candidate in it.
        candidate: usize,
        /// The output.
        output: String,
        /// The score found.
        found: f32,
        /// The score expected.
        expected: f32,
        /// The largest difference allowed.
        tolerance: f32,
    },
    /// The backend gave another number of scores.
    #[error("the model gave {found} scores of output '{output}' for {expected} golden candidates")]
    Count {
        /// The output.
        output: String,
        /// Scores found.
        found: usize,
        /// Candidates.
        expected: usize,
    },
}

/// Replays every golden request alone, then all of them in one batch, for all outputs and for each
/// output by itself (a backend may have another graph for those), and compares the scores.
///
/// # Errors
/// The first request that cannot be encoded or run, or the first score that differs by more than
/// [`GOLDEN_TOLERANCE`] or what the manifest allows.
pub fn check(bundle: &Bundle, backend: &mut dyn Backend) -> Result<GoldenReport, GoldenError> {
    let outputs: Vec<usize> = (0..bundle.manifest().outputs.len()).collect();
    let mut report = GoldenReport::default();
    let mut together = FeatureBatch::default();
    let golden = &bundle.golden().requests;
    for (request, entry) in golden.iter().enumerate() {
        let batch = encode(bundle, request, entry)?;
        let difference = compare(bundle, backend, &batch, &[(request, entry)], &outputs)?;
        report.largest_difference = report.largest_difference.max(difference);
        report.candidates += batch.candidates;
        together.append(&batch);
    }
    report.requests = golden.len();
    let all: Vec<(usize, &GoldenRequest)> = golden.iter().enumerate().collect();
    let alone = outputs.chunks(1).filter(|_| outputs.len() > 1);
    for wanted in std::iter::once(outputs.as_slice()).chain(alone) {
        let difference = compare(bundle, backend, &together, &all, wanted)?;
        report.largest_difference = report.largest_difference.max(difference);
    }
    Ok(report)
}

/// The golden requests, each a batch.
///
/// # Errors
/// When one cannot be encoded.
pub fn batches(bundle: &Bundle) -> Result<Vec<FeatureBatch>, GoldenError> {
    let golden = bundle.golden().requests.iter().enumerate();
    golden.map(|(request, entry)| encode(bundle, request, entry)).collect()
}

/// The values of golden request number `request`, which is `entry`.
pub(crate) fn encode(
    bundle: &Bundle,
    request: usize,
    entry: &GoldenRequest,
) -> Result<FeatureBatch, GoldenError> {
    let encoder = bundle.encoder();
    RawBatch::from_json(std::slice::from_ref(&entry.request), encoder.set())
        .and_then(|raw| encoder.encode(&raw, Strictness::Refuse))
        .map_err(|reason| GoldenError::Encode { request, reason })
}

/// Runs `batch`, which holds the candidates of `entries` in order; the largest difference.
fn compare(
    bundle: &Bundle,
    backend: &mut dyn Backend,
    batch: &FeatureBatch,
    entries: &[(usize, &GoldenRequest)],
    outputs: &[usize],
) -> Result<f32, GoldenError> {
    let scores = backend.run(batch, outputs)?;
    let tolerance = bundle.manifest().golden_tolerance.unwrap_or(GOLDEN_TOLERANCE);
    let mut largest = 0.0f32;
    let listed = outputs.iter().map(|output| &bundle.manifest().outputs[*output]);
    for (output, found) in listed.zip(&scores) {
        let expected = entries.iter().flat_map(|(request, entry)| expected(*request, entry, &output.name));
        let mut count = 0;
        for (position, (request, candidate, expected)) in expected.enumerate() {
            count += 1;
            let Some(found) = found.get(position).copied() else { continue };
            let difference = (found - expected).abs();
            if difference.is_nan() || difference > tolerance {
                let output = output.name.clone();
                return Err(GoldenError::Score { request, candidate, output, found, expected, tolerance });
            }
            largest = largest.max(difference);
        }
        if found.len() != count {
            let output = output.name.clone();
            return Err(GoldenError::Count { output, found: found.len(), expected: count });
        }
    }
    Ok(largest)
}

/// Request, candidate and expected score, candidate by candidate.
fn expected<'a>(
    request: usize,
    entry: &'a GoldenRequest,
    output: &str,
) -> impl Iterator<Item = (usize, usize, f32)> + use<'a> {
    let scores: &BTreeMap<String, Vec<f32>> = &entry.scores;
    let scores: &[f32] = scores.get(output).map_or(&[], Vec::as_slice);
    scores.iter().enumerate().map(move |(candidate, score)| (request, candidate, *score))
}
