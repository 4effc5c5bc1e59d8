//! How the comparison writes its figures.

use super::{Difference, Estimate, OutputComparison, Verdict};
use crate::page::number::{count, fixed, percent, signed};

/// The value of an estimate and, apart, its interval.
pub(super) fn estimate_parts(estimate: &Estimate) -> (String, String) {
    (fixed(estimate.value, 4), format!("[{}, {}]", fixed(estimate.low, 4), fixed(estimate.high, 4)))
}

/// The value of a difference and, apart, its interval.
pub(super) fn difference_parts(difference: &Difference) -> (String, String) {
    let Estimate { value, low, high, .. } = difference.estimate;
    (signed(value, 4), format!("[{}, {}]", signed(low, 4), signed(high, 4)))
}

/// The verdict in words.
pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::NoClearDifference => "no clear difference",
    }
}

/// Size of the sample of an output, such as `1,200 rows, 90 positives (7.50 %), 300 requests`.
pub(super) fn sample_size(output: &OutputComparison) -> String {
    let rate = output.positives as f64 / output.rows.max(1) as f64;
    format!(
        "{} rows, {} positives ({}), {} requests",
        count(output.rows),
        count(output.positives),
        percent(rate),
        count(output.requests)
    )
}
