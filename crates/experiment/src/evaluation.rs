//! One model on one split: every figure of every output on its sample space, calibration, scores,
//! gates.
//!
//! The figures are those of `gatefold-metrics` by name ([`gatefold_metrics::Metric`]), the same
//! that a training is stopped and its best parameters are chosen by. An output is always named with
//! its sample space: `cvr | impressions with click = 1`.

mod gates;
mod html;
mod text;

use gatefold_metrics::{Binning, FigureOptions, Figures, Judged, MetricError, reliability};
use gatefold_schema::{Calibration, GateReport};

pub use crate::page::{CalibrationBin, HistogramBin};
pub use html::render_html;
pub use text::{render_gates, render_text};

use crate::page::plot::RateScale;

/// Bins of the histogram of scores.
const HISTOGRAM_BINS: usize = 30;

/// A model evaluated on a split.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelEvaluation {
    /// The model and its version, or the file of scores.
    pub model: String,
    /// The rows it was evaluated on.
    pub rows: String,
    /// What GAUC and NDCG are taken within, such as `request`.
    pub group: String,
    /// Settings of the figures.
    pub options: FigureOptions,
    /// The outputs.
    pub outputs: Vec<OutputReport>,
    /// The calibrations recorded in the bundle.
    pub calibrations: Vec<Calibration>,
    /// The look into its gates recorded in the bundle, where it was asked for.
    pub gates: Option<GateReport>,
}

/// One output on one sample space.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputReport {
    /// Name of the output.
    pub output: String,
    /// The rows it is measured on, in words.
    pub space: String,
    /// Name of the label.
    pub label: String,
    /// What was measured.
    pub figures: Figures,
    /// The calibration curve, in bins of equal weight; empty for an output that is a number.
    pub calibration: Vec<CalibrationBin>,
    /// The scores of rows with and without the outcome; empty for an output that is a number.
    pub histogram: Vec<HistogramBin>,
}

impl OutputReport {
    /// Takes figures that were measured, and adds the curve and the histogram of a probability.
    ///
    /// # Errors
    /// As [`reliability`].
    pub fn new(
        [output, space, label]: [&str; 3],
        figures: Figures,
        rows: &Judged<'_>,
        is_probability: bool,
        options: &FigureOptions,
    ) -> Result<Self, MetricError> {
        let (mut calibration, mut histogram) = (Vec::new(), Vec::new());
        if is_probability {
            let Judged { scores, labels, weights, .. } = *rows;
            let bins = reliability(scores, labels, weights, options.bins, Binning::EqualCount)?;
            calibration = bins.into_iter().map(CalibrationBin::from).collect::<Vec<_>>();
            histogram = score_histogram(scores, labels, &calibration);
        }
        let [output, space, label] = [output, space, label].map(str::to_owned);
        Ok(Self { output, space, label, figures, calibration, histogram })
    }

    /// Output and sample space, such as `cvr | impressions with click = 1`.
    pub fn title(&self) -> String {
        format!("{} | {}", self.output, self.space)
    }
}

/// Counts both classes by score, in bins that are even on the axis of the calibration plot.
fn score_histogram(scores: &[f32], labels: &[f32], curve: &[CalibrationBin]) -> Vec<HistogramBin> {
    let highest = scores.iter().copied().fold(0.0, f32::max);
    let lowest = curve.first().map_or(1.0, |bin| bin.predicted);
    let scale = RateScale::fitting(lowest, f64::from(highest));
    let edge = |place: usize| scale.rate(place as f64 / HISTOGRAM_BINS as f64);
    let empty =
        |place: usize| HistogramBin { low: edge(place), high: edge(place + 1), positives: 0, negatives: 0 };
    let mut bins: Vec<HistogramBin> = (0..HISTOGRAM_BINS).map(empty).collect();
    for (&score, &label) in scores.iter().zip(labels) {
        let place = (scale.share(f64::from(score)) * HISTOGRAM_BINS as f64) as usize;
        let bin = &mut bins[place.min(HISTOGRAM_BINS - 1)];
        if label > 0.0 { bin.positives += 1 } else { bin.negatives += 1 }
    }
    bins
}
