//! Platt scaling: a logistic curve from scores to probabilities.

use crate::error::MetricError;
use crate::input::{check_rows, class_weights, one_class, weight_of};

/// `p = 1 / (1 + exp(−(scale·z + shift)))` for a score `z`, usually a logit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Platt {
    /// Factor of the score; 1 leaves a logit as it is.
    pub scale: f64,
    /// Added to the scaled score; 0 leaves a logit as it is.
    pub shift: f64,
}

/// Steps of Newton's method; ten are usual.
const STEPS: usize = 100;
/// Added to the diagonal of the Hessian, so that equal scores do not make it singular.
const RIDGE: f64 = 1e-12;
/// The gradient at which the fit is done.
const ENOUGH: f64 = 1e-10;
/// Shortest part of a Newton step that is tried.
const SHORTEST: f64 = 1e-10;

/// Fits [`Platt`] by maximum likelihood (Platt 1999, "Probabilistic outputs for support vector
/// machines") with Newton's method and backtracking (Lin, Lin and Weng 2007, algorithm 1).
///
/// The targets are Platt's: `(N₊ + 1)/(N₊ + 2)` for a positive row and `1/(N₋ + 2)` for a negative
/// one, N being the weight of the class. They keep the fit finite where a score separates the
/// classes, and fade as rows become many.
///
/// # Errors
/// As [`crate::auc()`], and [`MetricError::BadSetting`] for an infinite score.
pub fn fit_platt(scores: &[f32], labels: &[f32], weights: Option<&[f32]>) -> Result<Platt, MetricError> {
    check_rows(scores, labels, weights)?;
    if let Some(score) = scores.iter().find(|score| score.is_infinite()) {
        return Err(MetricError::BadSetting {
            setting: "score",
            found: f64::from(*score),
            remedy: "a logistic curve is fitted to finite scores",
        });
    }
    let (positive, total) = class_weights(labels, weights);
    let negative = total - positive;
    if positive <= 0.0 || negative <= 0.0 {
        return Err(one_class(positive));
    }
    let targets = [1.0 / (negative + 2.0), (positive + 1.0) / (positive + 2.0)];
    let rows = || {
        scores.iter().zip(labels).enumerate().map(|(row, (&score, &label))| {
            (f64::from(score), targets[usize::from(label > 0.0)], weight_of(weights, row))
        })
    };
    // Divided by the total weight, so that the tolerance means the same for any number of rows.
    let loss = |curve: Platt| {
        let of_row = |(score, target, weight): (f64, f64, f64)| {
            let z = curve.scale * score + curve.shift;
            weight * (softplus(z) - target * z)
        };
        rows().map(of_row).sum::<f64>() / total
    };

    let mut curve = Platt { scale: 0.0, shift: ((positive + 1.0) / (negative + 1.0)).ln() };
    let mut loss_now = loss(curve);
    for _ in 0..STEPS {
        let (mut g_scale, mut g_shift) = (0.0, 0.0);
        let (mut h_scale, mut h_cross, mut h_shift) = (RIDGE, 0.0, RIDGE);
        for (score, target, weight) in rows() {
            let p = sigmoid(curve.scale * score + curve.shift);
            let (slope, bend) = (weight * (p - target) / total, weight * p * (1.0 - p) / total);
            g_scale += slope * score;
            g_shift += slope;
            h_scale += bend * score * score;
            h_cross += bend * score;
            h_shift += bend;
        }
        if g_scale.abs().max(g_shift.abs()) < ENOUGH {
            break;
        }
        let determinant = h_scale * h_shift - h_cross * h_cross;
        let step_scale = -(h_shift * g_scale - h_cross * g_shift) / determinant;
        let step_shift = -(h_scale * g_shift - h_cross * g_scale) / determinant;
        let descent = g_scale * step_scale + g_shift * step_shift;
        let mut part = 1.0;
        let found = loop {
            let next =
                Platt { scale: curve.scale + part * step_scale, shift: curve.shift + part * step_shift };
            let loss_next = loss(next);
            if loss_next < loss_now + 1e-4 * part * descent {
                break Some((next, loss_next));
            }
            part *= 0.5;
            if part < SHORTEST {
                break None;
            }
        };
        // No part of the step helps any more: the loss is as low as rounding lets it be.
        let Some((next, loss_next)) = found else { break };
        (curve, loss_now) = (next, loss_next);
    }
    Ok(curve)
}

/// `ln(1 + exp(z))` without overflow.
fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}
