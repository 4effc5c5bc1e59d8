//! Which model is better, and can the difference be chance?
//!
//! [`comparison`] answers it offline: several models, scored on the same sample rows, are compared
//! output by output with intervals that respect that rows of one request belong together. The
//! result is data ([`comparison::Comparison`] serialises to JSON) and can be rendered as a text
//! table or as one self-contained HTML page.
//!
//! [`evaluation`] shows one model: every figure of every output, calibration, scores and gates, in
//! the same two forms.
//!
//! [`data`] shows the sample set that models learn from: outcomes, missing values, drift between the splits, what
//! looks like a leak.
//!
//! [`assignment`] is what comes before an online experiment: which model's arm a user is in.
//!
//! An output is never named without its sample space: "cvr on clicked impressions" and "cvr on all
//! impressions" are different numbers, and mixing them up is the commonest mistake in comparing
//! conversion models.
//!
//! The crate reads and writes no files and knows nothing of serving: scores and labels come in as
//! slices, text goes out as strings.

pub mod assignment;
pub mod comparison;
pub mod data;
pub mod evaluation;
mod page;
