//! A sampled request, copied out of its message.

use std::sync::Arc;
use std::time::SystemTime;

use gatefold_engine::{Bundle, ScoreReply};
use gatefold_features::{RawBatch, RawColumn, RawValues};

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
    /// Request row of each candidate.
    pub(super) request_of: Vec<u32>,
    pub(super) columns: Vec<(String, Column)>,
}

/// Raw values of one feature; as [`RawColumn`].
#[derive(Debug)]
pub(super) struct Column {
    pub(super) values: Values,
    missing: Option<Vec<bool>>,
}

/// As [`RawValues`].
#[derive(Debug)]
pub(super) enum Values {
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Texts(Vec<Box<str>>),
    IntLists { values: Vec<i64>, offsets: Vec<u32> },
    TextLists { values: Vec<Box<str>>, offsets: Vec<u32> },
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
        Record {
            request_id,
            time: SystemTime::now(),
            arm,
            bundle: bundle.clone(),
            reply: reply.clone(),
            fused,
            request_of: batch.request_of.clone(),
            columns: batch.columns.iter().map(|(name, raw)| (name.to_string(), Column::new(raw))).collect(),
        }
    }

    /// Bytes of memory that the values take, roughly.
    pub(super) fn bytes(&self) -> usize {
        let scores: usize = self.reply.scores.iter().map(|scores| 4 * scores.len()).sum();
        let columns: usize = self.columns.iter().map(|(name, column)| name.len() + column.bytes()).sum();
        self.request_id.len()
            + 4 * self.request_of.len()
            + self.fused.as_ref().map_or(0, |fused| 8 * fused.len())
            + scores
            + columns
    }
}

impl Column {
    fn new(raw: &RawColumn<'_>) -> Column {
        let texts = |values: &[&str]| values.iter().map(|text| Box::from(*text)).collect();
        let values = match &raw.values {
            RawValues::Ints(values) => Values::Ints(values.to_vec()),
            RawValues::Floats(values) => Values::Floats(values.to_vec()),
            RawValues::Texts(values) => Values::Texts(texts(values)),
            RawValues::IntLists { values, offsets } => {
                Values::IntLists { values: values.to_vec(), offsets: offsets.to_vec() }
            }
            RawValues::TextLists { values, offsets } => {
                Values::TextLists { values: texts(values), offsets: offsets.to_vec() }
            }
        };
        Column { values, missing: raw.missing.as_ref().map(|mask| mask.to_vec()) }
    }

    pub(super) fn is_missing(&self, row: usize) -> bool {
        self.missing.as_ref().is_some_and(|mask| mask[row])
    }

    fn bytes(&self) -> usize {
        let texts = |values: &[Box<str>]| values.iter().map(|text| 16 + text.len()).sum::<usize>();
        self.missing.as_ref().map_or(0, Vec::len)
            + match &self.values {
                Values::Ints(values) => 8 * values.len(),
                Values::Floats(values) => 8 * values.len(),
                Values::Texts(values) => texts(values),
                Values::IntLists { values, offsets } => 8 * values.len() + 4 * offsets.len(),
                Values::TextLists { values, offsets } => texts(values) + 4 * offsets.len(),
            }
    }
}
