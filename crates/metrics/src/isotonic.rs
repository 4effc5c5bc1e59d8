//! Isotonic regression: the best rising step function from scores to rates, and the curve through
//! its steps that a graph can compute.

use crate::error::MetricError;
use crate::input::{check_rows, rows_by_score, weight_of};

/// Neighbouring scores that share one rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IsotonicBlock {
    /// Lowest score in the block.
    pub lowest: f32,
    /// Highest score in the block.
    pub highest: f32,
    /// Weighted mean of its scores.
    pub score: f64,
    /// Weighted mean of its labels: the value of the step.
    pub rate: f64,
    /// Weight of its rows.
    pub weight: f64,
}

/// The rising step function with the smallest weighted squared error (pool adjacent violators;
/// Ayer et al. 1955, Zadrozny and Elkan 2002). Equal scores always share a step. Blocks come in
/// ascending order of score, with strictly rising rates.
///
/// # Errors
/// NaN scores, labels other than 0 and 1, bad weights, unequal lengths.
pub fn isotonic(
    scores: &[f32],
    labels: &[f32],
    weights: Option<&[f32]>,
) -> Result<Vec<IsotonicBlock>, MetricError> {
    check_rows(scores, labels, weights)?;
    let order = rows_by_score(scores);
    let mut blocks: Vec<IsotonicBlock> = Vec::new();
    for tie in order.chunk_by(|a, b| a.0 == b.0) {
        let rows = || tie.iter().map(|&(_, row)| (labels[row as usize], weight_of(weights, row as usize)));
        let weight: f64 = rows().map(|(_, weight)| weight).sum();
        if weight <= 0.0 {
            continue;
        }
        let score = scores[tie[0].1 as usize];
        let rate = rows().map(|(label, weight)| weight * f64::from(label)).sum::<f64>() / weight;
        let mut block =
            IsotonicBlock { lowest: score, highest: score, score: f64::from(score), rate, weight };
        while let Some(before) = blocks.pop_if(|before| before.rate >= block.rate) {
            block = pooled(&before, &block);
        }
        blocks.push(block);
    }
    Ok(blocks)
}

fn pooled(a: &IsotonicBlock, b: &IsotonicBlock) -> IsotonicBlock {
    let weight = a.weight + b.weight;
    let mean = |of_a: f64, of_b: f64| (a.weight * of_a + b.weight * of_b) / weight;
    IsotonicBlock {
        lowest: a.lowest,
        highest: b.highest,
        score: mean(a.score, b.score),
        rate: mean(a.rate, b.rate),
        weight,
    }
}

/// A piecewise linear curve from score to rate: straight between its points, level outside.
#[derive(Debug, Clone, PartialEq)]
pub struct IsotonicCurve {
    /// Scores of the points, strictly rising.
    pub scores: Vec<f32>,
    /// Rates at the points, rising.
    pub rates: Vec<f32>,
}

/// Fits [`isotonic`] and joins the middles of its steps by straight lines, so that the curve keeps
/// the order of scores between them where the steps would make them equal.
///
/// Steps are pooled further where the line between two of them would be steeper than `steepest`:
/// a curve that multiplies the rounding of a score multiplies the difference between two programs
/// that compute it. Rates keep a distance of `1/(N + 2)` from 0 and 1, N being the weight of all
/// rows, as no finite sample shows that something never happens.
///
/// # Errors
/// As [`isotonic`], and [`MetricError::BadSetting`] for a slope that is not above 0.
pub fn fit_isotonic(
    scores: &[f32],
    labels: &[f32],
    weights: Option<&[f32]>,
    steepest: f64,
) -> Result<IsotonicCurve, MetricError> {
    if steepest.is_nan() || steepest <= 0.0 {
        let remedy = "use a slope above 0, such as 10";
        return Err(MetricError::BadSetting { setting: "steepest", found: steepest, remedy });
    }
    let steps = isotonic(scores, labels, weights)?;
    let total: f64 = steps.iter().map(|step| step.weight).sum();
    let margin = 1.0 / (total + 2.0);
    let mut pooled_steps: Vec<IsotonicBlock> = Vec::new();
    for mut step in steps {
        let too_steep = |before: &IsotonicBlock, step: &IsotonicBlock| {
            step.rate - before.rate > steepest * (step.score - before.score)
        };
        while let Some(before) = pooled_steps.pop_if(|before| too_steep(before, &step)) {
            step = pooled(&before, &step);
        }
        pooled_steps.push(step);
    }
    let mut curve = IsotonicCurve { scores: Vec::new(), rates: Vec::new() };
    for step in &pooled_steps {
        let (score, rate) = (step.score as f32, step.rate.clamp(margin, 1.0 - margin) as f32);
        // Two middles may be one number in f32.
        if curve.scores.last().is_none_or(|&last| last < score) {
            curve.scores.push(score);
            curve.rates.push(rate);
        }
    }
    Ok(curve)
}
