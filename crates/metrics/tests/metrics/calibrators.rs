//! Platt scaling and isotonic regression: literal values from scikit-learn 1.9.1, the best of all
//! rising functions by exhaustive search, and what a calibrated score must satisfy.
//!
//! ```python
//! import numpy as np
//! from sklearn.calibration import _SigmoidCalibration
//! from sklearn.isotonic import IsotonicRegression
//! from sklearn.linear_model import LogisticRegression
//! i = np.arange(40)
//! s = ((i*37+11) % 23 / 23).astype(np.float32).astype(float)
//! w = (i*5) % 4 + 0.5
//! z = (8*s - 4).astype(np.float32).astype(float)
//! v = ((i*29) % 40 / 40 < s).astype(float)
//! def platt(w):  # the soft targets as weights of both classes
//!     P, N = w[v==1].sum(), w[v==0].sum()
//!     t = np.where(v==1, (P+1)/(P+2), 1/(N+2))
//!     m = LogisticRegression(C=np.inf, tol=1e-14, max_iter=10000, solver="newton-cholesky")
//!     m.fit(np.r_[z, z][:, None], np.r_[np.ones(40), np.zeros(40)], np.r_[w*t, w*(1-t)])
//!     return m.coef_[0, 0], m.intercept_[0]
//! platt(np.ones(40)), platt(w), _SigmoidCalibration().fit(z, v)
//! for weights in (np.ones(40), w):
//!     np.unique(IsotonicRegression().fit(s, v, weights).predict(s))
//! ```

use gatefold_metrics::{
    IsotonicCurve, MetricError, Platt, expected_calibration_error, fit_isotonic, fit_platt, isotonic, pcoc,
};

use crate::{Random, assert_close};

/// Scores, logits, labels and weights of the script above.
fn rows() -> [Vec<f32>; 4] {
    let scores: Vec<f32> = (0..40).map(|i| (f64::from((i * 37 + 11) % 23) / 23.0) as f32).collect();
    let logits = scores.iter().map(|&score| (8.0 * f64::from(score) - 4.0) as f32).collect();
    let label = |i: usize| (((i * 29) % 40) as f64 / 40.0) < f64::from(scores[i]);
    let labels = (0..40).map(|i| f32::from(u8::from(label(i)))).collect();
    [scores, logits, labels, (0..40).map(|i| ((i * 5) % 4) as f32 + 0.5).collect()]
}

#[test]
fn platt_is_scikit_learns_logistic_regression_on_soft_targets() {
    let [_, logits, labels, weights] = rows();
    #[track_caller]
    fn check(found: Platt, scale: f64, shift: f64) {
        assert_close(found.scale, scale, 1e-8);
        assert_close(found.shift, shift, 1e-8);
    }
    check(fit_platt(&logits, &labels, None).unwrap(), 0.5255431760712428, 0.11870236211169728);
    check(fit_platt(&logits, &labels, Some(&weights)).unwrap(), 0.5348719370201601, -0.15798264958578928);
    // A weight of two is the row twice.
    let twice: Vec<f32> = (0..40).map(|i| if i < 10 { 2.0 } else { 1.0 }).collect();
    let repeat = |values: &[f32]| [values, &values[..10]].concat();
    let found = fit_platt(&repeat(&logits), &repeat(&labels), None).unwrap();
    check(fit_platt(&logits, &labels, Some(&twice)).unwrap(), found.scale, found.shift);
}

#[test]
fn platt_stays_finite_where_it_could_run_away() {
    // Separable: without the soft targets the scale would grow without end.
    let found = fit_platt(&[-2.0, -1.0, 1.0, 2.0], &[0.0, 0.0, 1.0, 1.0], None).unwrap();
    assert!(found.scale > 0.0 && found.scale.is_finite() && found.shift.abs() < 1e-9, "{found:?}");
    // Equal scores carry no slope: the curve is the mean of Platt's targets, 2/3 once and 1/5 three times.
    let found = fit_platt(&[0.0; 4], &[1.0, 0.0, 0.0, 0.0], None).unwrap();
    let rate = (2.0 / 3.0 + 3.0 / 5.0) / 4.0;
    assert_close(1.0 / (1.0 + (-found.shift).exp()), rate, 1e-9);
    // A score turned round gets a negative scale.
    let turned = fit_platt(&[2.0, 1.0, -1.0, -2.0], &[0.0, 0.0, 1.0, 1.0], None).unwrap();
    assert!(turned.scale < 0.0);

    assert!(matches!(fit_platt(&[0.1, 0.2], &[1.0, 1.0], None), Err(MetricError::OneClass { .. })));
    assert!(matches!(
        fit_platt(&[0.1, f32::INFINITY], &[1.0, 0.0], None),
        Err(MetricError::BadSetting { setting: "score", .. })
    ));
    assert!(matches!(
        fit_platt(&[0.1, f32::NAN], &[1.0, 0.0], None),
        Err(MetricError::NanScore { index: 1 })
    ));
}

#[test]
fn isotonic_steps_are_scikit_learns() {
    let [scores, _, labels, weights] = rows();
    #[track_caller]
    fn check(scores: &[f32], labels: &[f32], weights: Option<&[f32]>, expected: &[f64], sum: f64) {
        let blocks = isotonic(scores, labels, weights).unwrap();
        assert_eq!(blocks.len(), expected.len(), "{blocks:?}");
        for (block, expected) in blocks.iter().zip(expected) {
            assert_close(block.rate, *expected, 1e-12);
        }
        // The rates of all rows, weighted, add up to the positives.
        assert_close(blocks.iter().map(|block| block.weight * block.rate).sum(), sum, 1e-9);
        assert!(blocks.windows(2).all(|pair| pair[0].highest < pair[1].lowest));
    }
    let (sixth, ninths) = (1.0 / 6.0, [5.0 / 9.0, 7.0 / 9.0]);
    check(&scores, &labels, None, &[0.0, sixth, 0.4, 0.5, ninths[0], ninths[1], 1.0], 20.0);
    let weighted =
        [0.0, 0.10714285714285714, 0.4074074074074074, 0.4117647058823529, 0.5, 0.7297297297297297, 1.0];
    check(&scores, &labels, Some(&weights), &weighted, 35.0);
}

/// The smallest squared error of any rising function on rows sorted by distinct scores: the best
/// of all ways to cut them into blocks whose means rise.
fn best_rising(labels: &[f32], weights: &[f32]) -> f64 {
    let rows = labels.len();
    let mut best = f64::INFINITY;
    for cuts in 0..1u32 << (rows - 1) {
        let mut error = 0.0;
        let mut previous = f64::NEG_INFINITY;
        let mut start = 0;
        let mut rises = true;
        for end in 1..=rows {
            if end < rows && cuts >> (end - 1) & 1 == 0 {
                continue;
            }
            let weight: f64 = weights[start..end].iter().map(|&w| f64::from(w)).sum();
            let block = || (start..end).map(|row| (f64::from(labels[row]), f64::from(weights[row])));
            let mean = block().map(|(y, w)| w * y).sum::<f64>() / weight;
            error += block().map(|(y, w)| w * (y - mean).powi(2)).sum::<f64>();
            rises &= mean >= previous;
            (previous, start) = (mean, end);
        }
        if rises {
            best = best.min(error);
        }
    }
    best
}

#[test]
fn no_rising_function_is_closer_to_the_labels() {
    let mut random = Random(77);
    for _ in 0..60 {
        let rows = 2 + random.below(9) as usize;
        let scores: Vec<f32> = (0..rows).map(|row| row as f32 / 10.0).collect();
        let labels: Vec<f32> = (0..rows).map(|_| random.below(2) as f32).collect();
        let weights: Vec<f32> = (0..rows).map(|_| 0.5 + random.below(4) as f32).collect();
        let blocks = isotonic(&scores, &labels, Some(&weights)).unwrap();
        let error: f64 = (0..rows)
            .map(|row| {
                let block = blocks.iter().find(|block| scores[row] <= block.highest).unwrap();
                f64::from(weights[row]) * (f64::from(labels[row]) - block.rate).powi(2)
            })
            .sum();
        assert_close(error, best_rising(&labels, &weights), 1e-9);
    }
}

/// The curve at a score.
fn at(curve: &IsotonicCurve, score: f32) -> f32 {
    let above = curve.scores.partition_point(|&point| point <= score);
    if above == 0 {
        return curve.rates[0];
    }
    if above == curve.scores.len() {
        return curve.rates[above - 1];
    }
    let (x0, x1) = (curve.scores[above - 1], curve.scores[above]);
    let (y0, y1) = (curve.rates[above - 1], curve.rates[above]);
    y0 + (y1 - y0) * (score - x0) / (x1 - x0)
}

#[test]
fn the_isotonic_curve_mends_a_bent_score_and_is_never_too_steep() {
    let mut random = Random(3);
    let truth: Vec<f32> = (0..20_000).map(|_| random.unit()).collect();
    let labels: Vec<f32> = truth.iter().map(|&p| f32::from(u8::from(random.unit() < p))).collect();
    // The model shows the fourth power of the truth; half of the rows are kept to judge by.
    let scores: Vec<f32> = truth.iter().map(|p| p.powi(4)).collect();
    let ((fitted, held_out), (fitted_labels, held_out_labels)) =
        (scores.split_at(10_000), labels.split_at(10_000));
    let error = |scores: &[f32]| {
        let binning = gatefold_metrics::Binning::EqualCount;
        expected_calibration_error(scores, held_out_labels, None, 15, binning).unwrap()
    };
    let curve = fit_isotonic(fitted, fitted_labels, None, 20.0).unwrap();
    let mended: Vec<f32> = held_out.iter().map(|&score| at(&curve, score)).collect();
    assert!(error(held_out) > 0.25, "{}", error(held_out));
    assert!(error(&mended) < 0.03, "{}", error(&mended));
    assert_close(pcoc(&mended, held_out_labels, None).unwrap(), 1.0, 0.03);

    for steepest in [0.5, 3.0, 20.0] {
        let curve = fit_isotonic(fitted, fitted_labels, None, steepest).unwrap();
        for (x, y) in curve.scores.windows(2).zip(curve.rates.windows(2)) {
            assert!(x[0] < x[1] && y[0] <= y[1], "{x:?} {y:?}");
            let slope = f64::from(y[1] - y[0]) / f64::from(x[1] - x[0]);
            assert!(slope <= 1.01 * steepest, "{slope} > {steepest}");
        }
    }
}

#[test]
fn isotonic_rates_keep_away_from_certainty() {
    let curve = fit_isotonic(&[0.1, 0.2, 0.8, 0.9], &[0.0, 0.0, 1.0, 1.0], None, 100.0).unwrap();
    assert_eq!(curve.rates.first(), Some(&(1.0 / 6.0)));
    assert_eq!(curve.rates.last(), Some(&(5.0 / 6.0)));
    // Nothing but negatives is no error: the curve is level.
    let curve = fit_isotonic(&[0.1, 0.2], &[0.0, 0.0], None, 10.0).unwrap();
    assert!(curve.rates.iter().all(|&rate| rate == 0.25), "{curve:?}");
    assert!(matches!(
        fit_isotonic(&[0.1], &[0.0], None, f64::NAN),
        Err(MetricError::BadSetting { setting: "steepest", .. })
    ));
}
