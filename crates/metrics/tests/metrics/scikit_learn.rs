//! Literal values from scikit-learn 1.9.1 on forty rows with ties.
//!
//! ```python
//! import numpy as np
//! from sklearn.metrics import roc_auc_score, log_loss, ndcg_score
//! from sklearn.calibration import calibration_curve
//! i = np.arange(40)
//! s = ((i*37+11) % 23 / 23).astype(np.float32).astype(float)
//! y = ((i*i+3*i) % 7 < 3).astype(float)
//! w = (i*5) % 4 + 0.5
//! g = i // 8
//! coarse = np.floor(s*4) / 4
//! p = np.clip(s, 1e-7, 1-1e-7)
//! H = lambda q: -(q*np.log(q) + (1-q)*np.log(1-q))
//! roc_auc_score(y, s), roc_auc_score(y, s, sample_weight=w)
//! log_loss(y, p), log_loss(y, p, sample_weight=w)
//! log_loss(y, p) / H(y.mean()), log_loss(y, p, sample_weight=w) / H(np.average(y, weights=w))
//! s.mean() / y.mean(), np.average(s, weights=w) / np.average(y, weights=w)
//! sum((g==k).sum() * roc_auc_score(y[g==k], s[g==k]) for k in range(5)) / 40
//! [np.mean([ndcg_score([y[g==q]], [s[g==q]], k=k) for q in range(5)]) for k in (1, 3, 5, 8)]
//! b = np.minimum((s*10).astype(int), 9)
//! sum((b==q).mean() * abs(s[b==q].mean() - y[b==q].mean()) for q in range(10))
//! sum(w[b==q].sum() / w.sum() * abs(np.average(s[b==q], weights=w[b==q]) - np.average(y[b==q], weights=w[b==q]))
//!     for q in range(10))
//! calibration_curve(y, s, n_bins=4, strategy="quantile")
//! q = np.searchsorted(np.quantile(s, [.25, .5, .75]), s)
//! sum((q==k).mean() * abs(s[q==k].mean() - y[q==k].mean()) for k in range(4))
//! ```

use gatefold_metrics::{
    Binning, auc, expected_calibration_error, gauc, log_loss, ndcg_at, normalized_entropy, pcoc, reliability,
};

use crate::assert_close;

const TOLERANCE: f64 = 1e-12;

struct Rows {
    scores: Vec<f32>,
    coarse: Vec<f32>,
    labels: Vec<f32>,
    weights: Vec<f32>,
    groups: Vec<u32>,
}

fn rows() -> Rows {
    let scores: Vec<f32> = (0..40).map(|i| (f64::from((i * 37 + 11) % 23) / 23.0) as f32).collect();
    Rows {
        coarse: scores.iter().map(|s| (s * 4.0).floor() / 4.0).collect(),
        scores,
        labels: (0..40).map(|i| if (i * i + 3 * i) % 7 < 3 { 1.0 } else { 0.0 }).collect(),
        weights: (0..40).map(|i| ((i * 5) % 4) as f32 + 0.5).collect(),
        groups: (0..40).map(|i| i / 8).collect(),
    }
}

#[test]
fn auc_with_ties_and_weights() {
    let Rows { scores, coarse, labels, weights, .. } = rows();
    assert_close(auc(&scores, &labels, None).unwrap(), 0.5595238095238094, TOLERANCE);
    assert_close(auc(&scores, &labels, Some(&weights)).unwrap(), 0.4821428571428571, TOLERANCE);
    assert_close(auc(&coarse, &labels, None).unwrap(), 0.5357142857142857, TOLERANCE);
    assert_close(auc(&coarse, &labels, Some(&weights)).unwrap(), 0.44940476190476186, TOLERANCE);
}

#[test]
fn gauc_by_request() {
    let Rows { scores, labels, weights, groups, .. } = rows();
    let plain = gauc(&scores, &labels, None, &groups).unwrap();
    assert_close(plain.value, 0.5333333333333333, TOLERANCE);
    assert_eq!((plain.groups_used, plain.groups_skipped, plain.rows_used), (5, 0, 40));
    let weighted = gauc(&scores, &labels, Some(&weights), &groups).unwrap();
    assert_close(weighted.value, 0.5238111476474648, TOLERANCE);
}

#[test]
fn probabilities() {
    let Rows { scores, labels, weights, .. } = rows();
    assert_close(log_loss(&scores, &labels, None).unwrap(), 1.17323698017359, TOLERANCE);
    assert_close(log_loss(&scores, &labels, Some(&weights)).unwrap(), 1.329899521729386, TOLERANCE);
    assert_close(normalized_entropy(&scores, &labels, None).unwrap(), 1.9206180099687027, TOLERANCE);
    assert_close(
        normalized_entropy(&scores, &labels, Some(&weights)).unwrap(),
        2.1770784726750634,
        TOLERANCE,
    );
    assert_close(pcoc(&scores, &labels, None).unwrap(), 1.5760869504883888, TOLERANCE);
    assert_close(pcoc(&scores, &labels, Some(&weights)).unwrap(), 1.5317028876549255, TOLERANCE);
}

#[test]
fn ndcg_with_and_without_ties() {
    let Rows { scores, coarse, labels, groups, .. } = rows();
    for (k, expected, expected_coarse) in [
        (1, 0.4, 0.4),
        (3, 0.36745897407199457, 0.37476614468306135),
        (5, 0.5040204996478425, 0.5084386747587634),
        (8, 0.6606958382458672, 0.665279315569405),
    ] {
        assert_close(ndcg_at(&scores, &labels, &groups, k).unwrap().value, expected, TOLERANCE);
        assert_close(ndcg_at(&coarse, &labels, &groups, k).unwrap().value, expected_coarse, TOLERANCE);
    }
}

#[test]
fn calibration_error_in_equal_widths() {
    let Rows { scores, labels, .. } = rows();
    let error = expected_calibration_error(&scores, &labels, None, 10, Binning::EqualWidth).unwrap();
    assert_close(error, 0.3271739118732512, TOLERANCE);
    let weighted =
        expected_calibration_error(&scores, &labels, Some(&rows().weights), 10, Binning::EqualWidth).unwrap();
    assert_close(weighted, 0.35570651914458723, TOLERANCE);
    let rows_of_bins: Vec<usize> = reliability(&scores, &labels, None, 10, Binning::EqualWidth)
        .unwrap()
        .iter()
        .map(|bin| bin.rows)
        .collect();
    assert_eq!(rows_of_bins, [5, 4, 3, 6, 3, 4, 5, 4, 2, 4]);
}

#[test]
fn reliability_in_equal_counts() {
    let Rows { scores, labels, .. } = rows();
    let curve = reliability(&scores, &labels, None, 4, Binning::EqualCount).unwrap();
    // scikit-learn cuts at quantiles, which on these rows gives the same four bins.
    let promised = [0.11462451, 0.37391304, 0.60386473, 0.84782609];
    let observed = [0.27272727, 0.3, 0.22222222, 0.4];
    assert_eq!(curve.len(), 4);
    for (bin, (promised, observed)) in curve.iter().zip(promised.into_iter().zip(observed)) {
        assert_close(bin.mean_score, promised, 1e-7);
        assert_close(bin.mean_label, observed, 1e-7);
    }
    let error = expected_calibration_error(&scores, &labels, None, 4, Binning::EqualCount).unwrap();
    assert_close(error, 0.2597826072014868, TOLERANCE);
}
