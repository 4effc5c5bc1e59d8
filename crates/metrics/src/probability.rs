//! Metrics of scores taken as probabilities: log loss, normalised entropy, PCOC; and the squared
//! error, which also judges predictions of any number.

use crate::error::MetricError;
use crate::input::{
    check_length, check_probabilities, check_rows, check_scores, check_weights, class_weights, one_class,
    weight_of,
};

/// Probabilities are kept this far from 0 and 1 before their logarithm is taken, so that one
/// saturated `f32` sigmoid costs 16.1 nats and not infinity.
pub const PROBABILITY_EPSILON: f64 = 1e-7;

/// Mean negative log likelihood in nats, `-mean(y ln p + (1 - y) ln(1 - p))`, with `p` clamped to
/// [[`PROBABILITY_EPSILON`], 1 - [`PROBABILITY_EPSILON`]].
///
/// # Errors
/// A score outside [0, 1], a NaN, a label other than 0 and 1, bad weights, unequal lengths.
pub fn log_loss(probabilities: &[f32], labels: &[f32], weights: Option<&[f32]>) -> Result<f64, MetricError> {
    check_rows(probabilities, labels, weights)?;
    check_probabilities(probabilities)?;
    let mut sum = 0.0;
    for (row, (&probability, &label)) in probabilities.iter().zip(labels).enumerate() {
        let p = f64::from(probability).clamp(PROBABILITY_EPSILON, 1.0 - PROBABILITY_EPSILON);
        let likelihood = if label > 0.0 { p } else { 1.0 - p };
        sum -= weight_of(weights, row) * likelihood.ln();
    }
    Ok(sum / class_weights(labels, weights).1)
}

/// Log loss divided by that of the best constant prediction, the entropy of the mean label
/// (He et al. 2014, "Practical lessons from predicting clicks on ads at Facebook", equation 3).
/// Below 1 the model knows more than the base rate; unlike the log loss it can be compared
/// between tasks with different rates.
///
/// # Errors
/// As [`log_loss`], and [`MetricError::OneClass`] where the entropy is zero.
pub fn normalized_entropy(
    probabilities: &[f32],
    labels: &[f32],
    weights: Option<&[f32]>,
) -> Result<f64, MetricError> {
    let loss = log_loss(probabilities, labels, weights)?;
    let (positive, total) = class_weights(labels, weights);
    let rate = positive / total;
    if positive <= 0.0 || positive >= total {
        return Err(one_class(positive));
    }
    let entropy = -(rate * rate.ln() + (1.0 - rate) * (1.0 - rate).ln());
    Ok(loss / entropy)
}

/// Predicted over observed positives ("predicted clicks over clicks"), `sum(p) / sum(y)`: above 1
/// the model promises too much, below 1 too little.
///
/// # Errors
/// As [`log_loss`], and [`MetricError::OneClass`] if there is no positive row.
pub fn pcoc(probabilities: &[f32], labels: &[f32], weights: Option<&[f32]>) -> Result<f64, MetricError> {
    check_rows(probabilities, labels, weights)?;
    check_probabilities(probabilities)?;
    let (positive, _) = class_weights(labels, weights);
    if positive <= 0.0 {
        return Err(one_class(positive));
    }
    let predicted: f64 =
        probabilities.iter().enumerate().map(|(row, &p)| weight_of(weights, row) * f64::from(p)).sum();
    Ok(predicted / positive)
}

/// Weighted mean of `(value - label)²`: of probabilities and outcomes, the Brier score. Labels are
/// any finite numbers.
///
/// # Errors
/// NaN values, labels that are not finite, bad weights, unequal lengths.
pub fn mean_squared_error(
    values: &[f32],
    labels: &[f32],
    weights: Option<&[f32]>,
) -> Result<f64, MetricError> {
    check_scores(values)?;
    check_length("labels", labels.len(), values.len())?;
    check_weights(weights, values.len())?;
    if let Some(index) = labels.iter().position(|label| !label.is_finite()) {
        return Err(MetricError::BadLabel {
            index,
            value: labels[index],
            remedy: "labels are finite numbers",
        });
    }
    let (mut sum, mut total) = (0.0, 0.0);
    for (row, (&value, &label)) in values.iter().zip(labels).enumerate() {
        let weight = weight_of(weights, row);
        sum += weight * (f64::from(value) - f64::from(label)).powi(2);
        total += weight;
    }
    Ok(sum / total)
}
