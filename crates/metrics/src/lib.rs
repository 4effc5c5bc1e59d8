//! Measures of ranking quality and calibration, and tests of whether a difference is real.
//!
//! Everything here is a function of slices: scores `&[f32]`, labels `&[f32]` of 0 and 1, and
//! where it makes sense sample weights and a group number for each row. The crate knows no
//! model, no file and no data frame, so the trainer, the command line and the experiment report
//! all compute the same number the same way.
//!
//! | question | function |
//! |---|---|
//! | does the score rank positives above negatives? | [`auc()`], within a request: [`gauc`], at the top: [`ndcg_at`] |
//! | is the score a probability? | [`log_loss`], [`normalized_entropy`], [`pcoc`], [`reliability`], [`expected_calibration_error`], [`mean_squared_error`] |
//! | what would make it one? | [`fit_platt`], [`fit_isotonic`] |
//! | all of that at once, by name? | [`Figures`], [`Metric`] |
//! | has a distribution moved? | [`psi`] |
//! | how do gates use their experts, which units are dead? | [`GateTally`], [`UnitTally`] |
//! | how far can chance move the AUC? | [`bootstrap_auc`], [`bootstrap_auc_of_models`] |
//! | is one model better than another? | [`bootstrap_auc_difference`], [`delong_paired`] |
//!
//! **Sums are taken in `f64`**, and no result depends on the number of threads, on the order of
//! equal scores, or (except for rounding) on the order of the rows.
//!
//! **Rows of one request are not independent**: they share a user and a moment. Intervals
//! therefore resample whole requests, and [`delong_paired`] accepts the request of each row too.
//!
//! **Bad input is an error, never a number**: a NaN score, a label other than 0 and 1, a sample
//! with one class only. Each [`MetricError`] names the row or the class.

mod auc;
mod bootstrap;
mod calibration;
mod delong;
mod drift;
mod error;
mod figures;
mod gates;
mod input;
mod isotonic;
mod ndcg;
mod platt;
mod probability;

pub use auc::{Gauc, auc, gauc};
pub use bootstrap::{
    AucReplicates, BootstrapOptions, Interval, bootstrap_auc, bootstrap_auc_difference,
    bootstrap_auc_of_models,
};
pub use calibration::{Binning, ReliabilityBin, expected_calibration_error, reliability};
pub use delong::{DelongTest, delong_paired};
pub use drift::psi;
pub use error::{Class, MetricError};
pub use figures::{FigureOptions, Figures, Judged, Metric, defined};
pub use gates::{GateTally, GateUse, UnitTally};
pub use isotonic::{IsotonicBlock, IsotonicCurve, fit_isotonic, isotonic};
pub use ndcg::{Ndcg, ndcg_at};
pub use platt::{Platt, fit_platt};
pub use probability::{PROBABILITY_EPSILON, log_loss, mean_squared_error, normalized_entropy, pcoc};
