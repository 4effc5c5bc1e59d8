//! What a version of a model runs before it takes traffic, so that no caller is the first to pay:
//! batches of every size, then the requests that the model was sent last.
//!
//! Recorded requests are encoded by the new version and run as traffic would be, alone and in batches:
//! this reads the rows of embeddings that are in use, and finds a version that has no score for them.
//! All outputs are computed and judged, also those that a request did not ask for, since a batch computes
//! for all of its requests what one of them asks. Gates are steps on the way to the outputs and are not
//! run by themselves. A version that would refuse every one of them is none for the callers there are: it
//! is taken only where somebody asks for it.

use std::{ops::RangeInclusive, sync::Arc};

use gatefold_features::{FeatureBatch, FeatureColumn, Strictness};
use gatefold_schema::{BundleManifest, FittedFeature, Level, Loss};

use crate::{
    Backend, BackendError, Bundle, GOLDEN_TOLERANCE, GoldenError, ModelVersion, batch_scorer::run_one,
    engine::Request, golden,
};

/// What a version was warmed by beside its golden rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WarmUp {
    /// Recorded requests.
    pub requests: usize,
    /// Their candidates.
    pub candidates: usize,
    /// Recorded requests whose columns or values this version's features do not take, or that ask for an
    /// output that it does not have: callers that go on sending such will be refused by it.
    pub unfit: usize,
    /// Why the first of those does not fit, without its values.
    pub misfit: Option<String>,
}

impl WarmUp {
    /// That requests are recorded and none of them fits the version.
    ///
    /// # Errors
    /// [`WarmUpError::Unfit`].
    pub(crate) fn check_fit(&self, model: &ModelVersion) -> Result<(), WarmUpError> {
        match &self.misfit {
            Some(misfit) if self.requests == 0 => {
                let (model, misfit) = (model.clone(), misfit.clone());
                Err(WarmUpError::Unfit { model, requests: self.unfit, misfit })
            }
            _ => Ok(()),
        }
    }
}

/// A version that fails on what its model is asked.
#[derive(Debug, thiserror::Error)]
pub enum WarmUpError {
    /// Golden rows in a batch of another size.
    #[error(transparent)]
    Sizes(#[from] GoldenError),
    /// There are recorded requests, and this version would refuse all of them.
    #[error(
        "none of the {requests} requests that were kept of those scored before fits this version (the first: \
         {misfit}): change the callers first, or take it all the same by `gatefold models load {}`, or for \
         callers that name it by `gatefold models label {} LABEL {}` while `stable` is a lower version",
        model.name, model.name, model.version
    )]
    Unfit {
        /// The version.
        model: ModelVersion,
        /// Requests that were recorded.
        requests: usize,
        /// Why the first does not fit, without its values.
        misfit: String,
    },
    /// Recorded requests cannot be run.
    #[error(
        "requests that were scored before cannot be run ({requests} recorded, {candidates} candidates, in \
         one batch): {reason}; mend the model, or load it again once callers send other values"
    )]
    Run {
        /// Requests in the batch.
        requests: usize,
        /// Their candidates.
        candidates: usize,
        /// Why.
        reason: BackendError,
    },
    /// A score is none.
    #[error(
        "{output} is {found} for candidate {candidate} of requests that were scored before ({requests} \
         recorded, in one batch), which is no {wanted}; mend the model, or load it again once callers send \
         other values"
    )]
    Score {
        /// Requests in the batch.
        requests: usize,
        /// Position of the candidate in the batch.
        candidate: usize,
        /// The output.
        output: String,
        /// The score found.
        found: f32,
        /// What it should be.
        wanted: &'static str,
    },
}

/// Runs all outputs for the first golden request with 1, 2, 4 candidates and so on up to `rows`, its
/// own repeated: memory is found, and what a runtime prepares for a size is prepared.
///
/// # Errors
/// When the backend fails.
pub(crate) fn sizes(bundle: &Bundle, backend: &mut dyn Backend, rows: usize) -> Result<(), WarmUpError> {
    let mut golden = bundle.golden().requests.iter().enumerate();
    let Some((request, entry)) = golden.find(|(_, entry)| entry.request.candidates() > 0) else {
        return Ok(());
    };
    let batch = golden::encode(bundle, request, entry)?;
    let sizes = std::iter::successors(Some(1), |size| Some(size * 2)).take_while(|size| *size < rows);
    for size in sizes.chain([rows]) {
        backend.run(&cycled(bundle, &batch, size), &outputs(bundle)).map_err(GoldenError::Run)?;
    }
    Ok(())
}

/// A batch of one request with its candidates over and over.
fn cycled(bundle: &Bundle, batch: &FeatureBatch, candidates: usize) -> FeatureBatch {
    let rows: Vec<u32> = (0..candidates).map(|row| (row % batch.candidates) as u32).collect();
    let column = |(fitted, column): (&FittedFeature, &FeatureColumn)| match fitted.feature.side.level() {
        Level::Request => column.clone(),
        Level::Candidate => column.take(&rows),
    };
    let columns = bundle.manifest().features.iter().zip(&batch.columns).map(column).collect();
    FeatureBatch { requests: 1, candidates, request_of: vec![0; candidates], columns }
}

/// Positions of all outputs.
fn outputs(bundle: &Bundle) -> Vec<usize> {
    (0..bundle.manifest().outputs.len()).collect()
}

/// Recorded requests as a version encodes them, in the batches that are run.
pub(crate) struct Rehearsal {
    batches: Vec<Joined>,
    report: WarmUp,
}

/// Some requests in one batch.
#[derive(Clone)]
struct Joined {
    requests: usize,
    batch: FeatureBatch,
}

impl Joined {
    fn append(&mut self, more: &Joined) {
        self.requests += more.requests;
        self.batch.append(&more.batch);
    }
}

impl Rehearsal {
    /// Each request that fits the features alone, then as many as `rows` candidates allow together.
    pub(crate) fn new(bundle: &Bundle, recorded: &[Arc<Request>], rows: usize) -> Rehearsal {
        let (mut batches, mut report) = (Vec::new(), WarmUp::default());
        for request in recorded {
            match encode(bundle, request) {
                Ok(batch) => {
                    report.requests += 1;
                    report.candidates += batch.candidates;
                    batches.push(Joined { requests: 1, batch });
                }
                Err(misfit) => {
                    report.unfit += 1;
                    report.misfit.get_or_insert(misfit);
                }
            }
        }
        let mut together: Vec<Joined> = Vec::new();
        for one in &batches {
            match together.last_mut() {
                Some(last) if last.batch.candidates + one.batch.candidates <= rows => last.append(one),
                _ => together.push(one.clone()),
            }
        }
        batches.extend(together.into_iter().filter(|joined| joined.requests > 1));
        Rehearsal { batches, report }
    }

    pub(crate) fn report(&self) -> &WarmUp {
        &self.report
    }

    /// Runs every batch and looks at every score.
    ///
    /// # Errors
    /// When the backend fails, or a score is not finite, or of a probability outside of 0 to 1.
    pub(crate) fn run(&self, bundle: &Bundle, backend: &mut dyn Backend) -> Result<(), WarmUpError> {
        let outputs = outputs(bundle);
        for Joined { requests, batch } in &self.batches {
            let requests = *requests;
            let scores = run_one(backend, batch, &outputs).map_err(|reason| {
                let candidates = batch.candidates;
                WarmUpError::Run { requests, candidates, reason }
            })?;
            for (info, scores) in bundle.manifest().outputs.iter().zip(scores) {
                let (range, wanted) = range(bundle.manifest(), &info.name);
                // No range contains a NaN.
                if let Some(candidate) = scores.iter().position(|score| !range.contains(score)) {
                    let (output, found) = (info.name.clone(), scores[candidate]);
                    return Err(WarmUpError::Score { requests, candidate, output, found, wanted });
                }
            }
        }
        Ok(())
    }
}

/// A recorded request as the version would take it, or why it would not, without the caller's values.
fn encode(bundle: &Bundle, request: &Request) -> Result<FeatureBatch, String> {
    if let Some(output) = request.outputs.iter().find(|output| bundle.output_index(output).is_none()) {
        let known = bundle.output_names();
        return Err(format!(
            "it asks for output '{output}', which this version does not have; it has: {known}"
        ));
    }
    let encoded = bundle.encoder().encode(&request.batch.raw(), Strictness::Refuse);
    encoded.map_err(|error| error.without_values())
}

/// Scores that an output may give, and the word for them. A probability may be as far out as it may be
/// from a golden score.
fn range(manifest: &BundleManifest, output: &str) -> (RangeInclusive<f32>, &'static str) {
    let tolerance = manifest.golden_tolerance.unwrap_or(GOLDEN_TOLERANCE);
    match manifest.tasks.iter().find(|task| task.name == output) {
        Some(task) if task.loss == Loss::SquaredError => (f32::MIN..=f32::MAX, "finite number"),
        _ => (-tolerance..=1.0 + tolerance, "probability"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::manifest;

    #[test]
    fn probabilities_are_within_0_and_1_and_other_numbers_are_finite() {
        #[track_caller]
        fn check(manifest: &BundleManifest, output: &str, good: &[f32], bad: &[f32], word: &str) {
            let (range, wanted) = range(manifest, output);
            assert_eq!(wanted, word);
            assert!(good.iter().all(|score| range.contains(score)), "{good:?}");
            assert!(!bad.iter().any(|score| range.contains(score)), "{bad:?}");
        }
        let mut manifest = manifest();
        let none = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        let good = [0.0, 0.5, 1.0, 1.000005, -0.000005];
        for output in ["ctr", "cvr", "ctcvr"] {
            check(&manifest, output, &good, &[&none[..], &[1.1, -0.1]].concat(), "probability");
        }
        manifest.golden_tolerance = Some(0.2);
        check(&manifest, "cvr", &[1.1, -0.1], &none, "probability");
        manifest.tasks[1].loss = Loss::SquaredError;
        check(&manifest, "cvr", &[-1e30, 1e30], &none, "finite number");
    }
}
