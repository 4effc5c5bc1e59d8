//! The losses and their derivatives. Sums over rows are in `f64`.

use super::sigmoid;

/// Probabilities are kept away from 0 and 1 by this much.
const CLAMP: f32 = 1e-7;

/// `Σ w·(softplus(z) − z·y) / Σ w`, and 0 where every weight is 0.
pub(super) fn bce_with_logits(logits: &[f32], labels: &[f32], weights: &[f32]) -> f32 {
    mean(logits, labels, weights, |logit, label| {
        let softplus = logit.max(0.0) + (-logit.abs()).exp().ln_1p();
        softplus - logit * label
    })
}

/// `−Σ w·(y·ln p + (1 − y)·ln(1 − p)) / Σ w` of clamped p, and 0 where every weight is 0.
pub(super) fn bce(probabilities: &[f32], labels: &[f32], weights: &[f32]) -> f32 {
    mean(probabilities, labels, weights, |probability, label| {
        let probability = probability.clamp(f64::from(CLAMP), 1.0 - f64::from(CLAMP));
        -(label * probability.ln() + (1.0 - label) * (-probability).ln_1p())
    })
}

/// `Σ w·(v − y)² / Σ w`, and 0 where every weight is 0.
pub(super) fn squared_error(values: &[f32], labels: &[f32], weights: &[f32]) -> f32 {
    mean(values, labels, weights, |value, label| (value - label).powi(2))
}

/// `g · w · (σ(z) − y) / total` of every row; `scale` holds g and total, `rows` z, y and w.
pub(super) fn bce_with_logits_gradient(out: &mut [f32], scale: [&[f32]; 2], rows: [&[f32]; 3]) {
    gradient(out, scale, rows, |logit, label| sigmoid(logit) - label);
}

/// `g · w · (p − y) / (p (1 − p)) / total` of every row, and 0 where p was clamped.
pub(super) fn bce_gradient(out: &mut [f32], scale: [&[f32]; 2], rows: [&[f32]; 3]) {
    gradient(out, scale, rows, |probability, label| {
        if (CLAMP..=1.0 - CLAMP).contains(&probability) {
            (probability - label) / (probability * (1.0 - probability))
        } else if probability.is_nan() {
            probability
        } else {
            0.0
        }
    });
}

/// `g · w · 2(v − y) / total` of every row.
pub(super) fn squared_error_gradient(out: &mut [f32], scale: [&[f32]; 2], rows: [&[f32]; 3]) {
    gradient(out, scale, rows, |value, label| 2.0 * (value - label));
}

fn mean(values: &[f32], labels: &[f32], weights: &[f32], loss: impl Fn(f64, f64) -> f64) -> f32 {
    let (mut sum, mut total) = (0.0_f64, 0.0_f64);
    for ((value, label), weight) in values.iter().zip(labels).zip(weights) {
        let weight = f64::from(*weight);
        // A row without weight adds nothing, even where its loss is not finite.
        if weight != 0.0 {
            sum += weight * loss(f64::from(*value), f64::from(*label));
            total += weight;
        }
    }
    if total == 0.0 { 0.0 } else { (sum / total) as f32 }
}

fn gradient(out: &mut [f32], scale: [&[f32]; 2], rows: [&[f32]; 3], slope: impl Fn(f32, f32) -> f32) {
    let [g, total] = scale.map(|number| number.first().copied().unwrap_or(0.0));
    let [values, labels, weights] = rows;
    let factor = if total == 0.0 { 0.0 } else { g / total };
    for (((out, value), label), weight) in out.iter_mut().zip(values).zip(labels).zip(weights) {
        let share = factor * weight;
        *out = if share == 0.0 { 0.0 } else { share * slope(*value, *label) };
    }
}
