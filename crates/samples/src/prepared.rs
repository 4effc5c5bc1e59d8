//! What every source becomes before it is encoded: rows in their final order, raw.

use std::collections::BTreeMap;
use std::ops::Range;

use polars::prelude::*;

/// Labelled rows with raw feature values, in the order of the shards.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Feature columns by feature name, label columns, and the columns `request_id` and, where the
    /// source has a time, `time`.
    pub(crate) frame: DataFrame,
    /// Label columns, audit columns included.
    pub(crate) labels: Vec<String>,
    /// Rows of each split: `train`, `valid`, `test`, one after another.
    pub(crate) splits: Vec<(&'static str, Range<usize>)>,
    /// Rows left out, by reason.
    pub(crate) dropped: BTreeMap<String, u64>,
}

/// Name of the column that holds a row's request.
pub(crate) const REQUEST_ID: &str = "request_id";
/// Name of the column that holds a row's time.
pub(crate) const TIME_COLUMN: &str = "time";
/// The splits in the order of their rows.
pub(crate) const SPLITS: [&str; 3] = ["train", "valid", "test"];
