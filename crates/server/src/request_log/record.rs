//! A sampled request, copied out of its message.

use std::sync::Arc;
use std::time::SystemTime;

use gatefold_engine::{Bundle, ScoreReply};
use gatefold_features::{OwnedBatch, RawBatch};

use crate::experiments::Arm;

/// A scored request.
#[derive(Debug)]
pub(crate) struct Record {
    pub(super) request_id: String,
    pub(super) time: SystemTime,
    /// What it was in, where it named an experiment.
    pub(super) arm: Option<Arc<Arm>>,
    /// What the features are.
    pub(super) bundle: Arc<Bundle>,
    pub(super) reply: ScoreReply,
    pub(super) fused: Option<Vec<f64>>,
    pub(super) batch: OwnedBatch,
    /// Bytes of memory that the values take, roughly.
    pub(super) bytes: usize,
}

impl Record {
    /// A request that has just been scored by `bundle`.
    pub(crate) fn new(
        request_id: String,
        arm: Option<Arc<Arm>>,
        bundle: &Arc<Bundle>,
        batch: &RawBatch<'_>,
        reply: &ScoreReply,
        fused: Option<Vec<f64>>,
    ) -> Record {
        let scores: usize = reply.scores.iter().map(|scores| 4 * scores.len()).sum();
        let fused_bytes = fused.as_ref().map_or(0, |fused| 8 * fused.len());
        let bytes = request_id.len() + batch.bytes() + fused_bytes + scores;
        Record {
            request_id,
            time: SystemTime::now(),
            arm,
            bundle: bundle.clone(),
            reply: reply.clone(),
            fused,
            batch: batch.into(),
            bytes,
        }
    }
}
