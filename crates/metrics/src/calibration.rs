//! Reliability of probabilities in bins: promised rate against observed rate.

use crate::error::MetricError;
use crate::input::{check_probabilities, check_rows, rows_by_score, weight_of};

/// How rows are put into bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binning {
    /// Bins of (nearly) equal weight, cut along the sorted scores; equal scores stay together, so
    /// there may be fewer bins than asked for. The one to use for rare events, whose
    /// probabilities all fall into the first bins of equal width.
    EqualCount,
    /// `bins` intervals of width `1 / bins`, the last one closed; empty ones are left out.
    EqualWidth,
}

/// One bin of a reliability curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReliabilityBin {
    /// Rows in the bin.
    pub rows: usize,
    /// Their total weight (equal to `rows` without weights).
    pub weight: f64,
    /// Lowest score in the bin.
    pub lowest: f32,
    /// Highest score in the bin.
    pub highest: f32,
    /// Weighted mean of the scores: the promised rate.
    pub mean_score: f64,
    /// Weighted mean of the labels: the observed rate.
    pub mean_label: f64,
}

/// The reliability curve: bins in ascending order of score, at most `bins` of them, none empty.
///
/// # Errors
/// A score outside [0, 1], a NaN, a label other than 0 and 1, bad weights, unequal lengths,
/// [`MetricError::BadSetting`] for zero bins.
pub fn reliability(
    probabilities: &[f32],
    labels: &[f32],
    weights: Option<&[f32]>,
    bins: usize,
    binning: Binning,
) -> Result<Vec<ReliabilityBin>, MetricError> {
    check_rows(probabilities, labels, weights)?;
    check_probabilities(probabilities)?;
    if bins == 0 {
        return Err(MetricError::BadSetting { setting: "bins", found: 0.0, remedy: "use at least one bin" });
    }
    let order = rows_by_score(probabilities);
    let total: f64 = order.iter().map(|&(_, row)| weight_of(weights, row as usize)).sum();

    let mut curve: Vec<ReliabilityBin> = Vec::new();
    let mut open = OpenBin::default();
    let mut weight_before = 0.0;
    for (place, &(key, row)) in order.iter().enumerate() {
        let row = row as usize;
        let (probability, weight) = (probabilities[row], weight_of(weights, row));
        open.add(probability, labels[row], weight);
        weight_before += weight;
        let Some(&(next_key, next_row)) = order.get(place + 1) else { break };
        let ends_bin = match binning {
            // The bin is full when the weight so far passes the next multiple of total / bins.
            Binning::EqualCount => {
                next_key != key && weight_before * bins as f64 >= total * (curve.len() + 1) as f64
            }
            Binning::EqualWidth => {
                width_bin(probability, bins) != width_bin(probabilities[next_row as usize], bins)
            }
        };
        if ends_bin {
            curve.extend(open.close());
        }
    }
    curve.extend(open.close());
    Ok(curve)
}

/// Expected calibration error: the mean over bins, weighted by their rows, of |promised rate -
/// observed rate| (Naeini et al. 2015).
///
/// # Errors
/// As [`reliability`].
pub fn expected_calibration_error(
    probabilities: &[f32],
    labels: &[f32],
    weights: Option<&[f32]>,
    bins: usize,
    binning: Binning,
) -> Result<f64, MetricError> {
    let curve = reliability(probabilities, labels, weights, bins, binning)?;
    let total: f64 = curve.iter().map(|bin| bin.weight).sum();
    Ok(curve.iter().map(|bin| bin.weight * (bin.mean_score - bin.mean_label).abs()).sum::<f64>() / total)
}

fn width_bin(probability: f32, bins: usize) -> usize {
    ((f64::from(probability) * bins as f64) as usize).min(bins - 1)
}

/// A bin that is still being filled.
#[derive(Default)]
struct OpenBin {
    rows: usize,
    weight: f64,
    lowest: f32,
    highest: f32,
    score_sum: f64,
    label_sum: f64,
}

impl OpenBin {
    fn add(&mut self, probability: f32, label: f32, weight: f64) {
        if self.rows == 0 {
            self.lowest = probability;
        }
        self.highest = probability;
        self.rows += 1;
        self.weight += weight;
        self.score_sum += weight * f64::from(probability);
        self.label_sum += weight * f64::from(label);
    }

    /// Empties the bin; rows without any weight make no bin.
    fn close(&mut self) -> Option<ReliabilityBin> {
        let bin = std::mem::take(self);
        (bin.weight > 0.0).then(|| ReliabilityBin {
            rows: bin.rows,
            weight: bin.weight,
            lowest: bin.lowest,
            highest: bin.highest,
            mean_score: bin.score_sum / bin.weight,
            mean_label: bin.label_sum / bin.weight,
        })
    }
}
