//! Drawings that several pages share, as inline SVG: calibration curves, score histograms, and the
//! axes and markers they are made of.
//!
//! Colours come from the page's style sheet by class (`m0` … `m7`, one for each model), so that
//! they follow the light or dark scheme; each model also has its own marker shape, so that colour
//! is never the only difference. Every mark carries its figures in a `<title>`.

use super::number::{count, percent};
use super::{CalibrationBin, HistogramBin, escape};

/// Number of model colours in the style sheet.
pub(crate) const COLOURS: usize = 8;

/// Side of the calibration plot's square, in user units.
const SQUARE: f64 = 280.0;

/// The calibration curve of one model.
pub(crate) struct Curve<'a> {
    /// The model's number: its colour and marker.
    pub(crate) model: usize,
    /// The model's name.
    pub(crate) name: String,
    /// Its bins, ascending.
    pub(crate) bins: &'a [CalibrationBin],
}

/// Promised against observed rate of each model in its bins, with the diagonal of perfect
/// calibration. `title` is the output with its sample space.
pub(crate) fn calibration_plot(title: &str, curves: &[Curve<'_>], id: &str) -> String {
    let bins = || curves.iter().flat_map(|curve| curve.bins);
    let highest = bins().fold(0.0f64, |highest, bin| highest.max(bin.predicted).max(bin.observed));
    let lowest = bins().fold(1.0f64, |lowest, bin| lowest.min(bin.predicted));
    let scale = RateScale::fitting(lowest, highest);

    let (left, top) = (52.0, 10.0);
    let (width, height) = (left + SQUARE + 14.0, top + SQUARE + 44.0);
    let x = |rate: f64| left + SQUARE * scale.share(rate);
    let y = |rate: f64| top + SQUARE * (1.0 - scale.share(rate));
    let bottom = top + SQUARE;
    let mut svg = format!(
        "<svg class=\"plot calibration\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
         <title id=\"{id}-t\">Calibration of {}</title><desc id=\"{id}-d\">Observed rate against predicted rate in bins \
         of equal count; the diagonal is perfect calibration. The figures are in the table of bins below.</desc>",
        escape(title)
    );
    for tick in scale.ticks() {
        let label = axis_percent(tick);
        svg += &format!(
            "<line class=\"grid\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>\
             <line class=\"grid\" x1=\"{left}\" x2=\"{1:.1}\" y1=\"{2:.1}\" y2=\"{2:.1}\"/>\
             <text class=\"tick\" x=\"{0:.1}\" y=\"{3:.1}\" text-anchor=\"middle\">{label}</text>\
             <text class=\"tick\" x=\"{4:.1}\" y=\"{5:.1}\" text-anchor=\"end\">{label}</text>",
            x(tick),
            left + SQUARE,
            y(tick),
            bottom + 16.0,
            left - 7.0,
            y(tick) + 4.0
        );
    }
    svg += &format!(
        "<line class=\"diagonal\" x1=\"{left}\" y1=\"{bottom}\" x2=\"{}\" y2=\"{top}\"/>\
         <text class=\"axis-label\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">predicted rate{}</text>\
         <text class=\"axis-label\" transform=\"translate(12 {}) rotate(-90)\" text-anchor=\"middle\">observed rate</text>",
        left + SQUARE,
        left + SQUARE / 2.0,
        bottom + 36.0,
        if scale.root { " (square-root scale)" } else { "" },
        top + SQUARE / 2.0,
    );
    for curve in curves {
        let points: Vec<(f64, f64)> =
            curve.bins.iter().map(|bin| (x(bin.predicted), y(bin.observed))).collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        svg += &format!(
            "<g class=\"m{}\"><polyline class=\"curve\" points=\"{}\"/>",
            curve.model % COLOURS,
            path.join(" ")
        );
        for (bin, &(x, y)) in curve.bins.iter().zip(&points) {
            let title = format!(
                "{}: predicted {}, observed {}, {} rows",
                curve.name,
                percent(bin.predicted),
                percent(bin.observed),
                count(bin.rows)
            );
            svg += &marker(curve.model, x, y, 3.4, &title);
        }
        svg += "</g>";
    }
    svg + "</svg>"
}

/// Height of the histogram's frame, in user units; it is as wide as the calibration plot.
const HISTOGRAM_HEIGHT: f64 = 150.0;

/// The scores of rows with and without the outcome, each class by its own share of rows in a bin,
/// so that a rare one can be seen beside the other.
pub(crate) fn histogram_plot(title: &str, bins: &[HistogramBin], id: &str) -> String {
    type Rows = fn(&HistogramBin) -> usize;
    let total = |of: Rows| bins.iter().map(of).sum::<usize>().max(1) as f64;
    let classes: [(&str, usize, Rows); 2] =
        [("negatives", 0, |bin| bin.negatives), ("positives", 1, |bin| bin.positives)];
    let share = |of: Rows, bin: &HistogramBin| of(bin) as f64 / total(of);
    let highest = classes
        .iter()
        .flat_map(|(_, _, of)| bins.iter().map(|bin| share(*of, bin)))
        .fold(f64::MIN_POSITIVE, f64::max);
    let (left, top) = (52.0, 10.0);
    let (width, height) = (left + SQUARE + 14.0, top + HISTOGRAM_HEIGHT + 44.0);
    let bottom = top + HISTOGRAM_HEIGHT;
    let step = SQUARE / bins.len().max(1) as f64;
    let mut svg = format!(
        "<svg class=\"plot histogram\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
         <title id=\"{id}-t\">Scores of {}</title><desc id=\"{id}-d\">Share of the rows of each class by score.</desc>\
         <line class=\"zero\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
         <text class=\"axis-label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">score</text>",
        escape(title),
        left + SQUARE,
        left + SQUARE / 2.0,
        bottom + 36.0,
    );
    for (place, bin) in bins.iter().enumerate().step_by(bins.len().div_ceil(4).max(1)) {
        svg += &format!(
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            left + step * place as f64,
            bottom + 16.0,
            percent(bin.low)
        );
    }
    for (class, colour, of) in classes {
        svg += &format!("<g class=\"m{colour}\">");
        for (place, bin) in bins.iter().enumerate() {
            let tall = HISTOGRAM_HEIGHT * share(of, bin) / highest;
            svg += &format!(
                "<rect class=\"bar\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\">\
                 <title>{} to {}: {} {class}</title></rect>",
                left + step * place as f64,
                bottom - tall,
                step * 0.92,
                percent(bin.low),
                percent(bin.high),
                count(of(bin))
            );
        }
        svg += "</g>";
    }
    svg + "</svg>"
}

/// The marker of a model as a small drawing of its own, for the legend.
pub(crate) fn legend_marker(model: usize) -> String {
    format!(
        "<svg class=\"key m{}\" viewBox=\"0 0 16 16\" aria-hidden=\"true\">{}</svg>",
        model % COLOURS,
        marker_shape(model, 8.0, 8.0, 5.0)
    )
}

/// A linear horizontal axis.
pub(crate) struct Axis {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Axis {
    pub(crate) fn place(&self, value: f64) -> f64 {
        self.from + (self.to - self.from) * (value - self.low) / (self.high - self.low)
    }

    /// Round values at a distance of 1, 2 or 5 times a power of ten, and the decimals they need.
    pub(crate) fn ticks(&self) -> (Vec<f64>, usize) {
        let rough = (self.high - self.low) / 4.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .iter()
            .map(|m| m * power)
            .find(|&step| step >= rough)
            .unwrap_or(10.0 * power);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        ((first..=last).map(|tick| tick as f64 * step).collect(), decimals)
    }
}

/// A model's marker with its figures as a title.
pub(crate) fn marker(model: usize, x: f64, y: f64, radius: f64, title: &str) -> String {
    format!("<g class=\"marker\"><title>{}</title>{}</g>", escape(title), marker_shape(model, x, y, radius))
}

/// Circle, square, triangle or diamond of about equal area.
fn marker_shape(model: usize, x: f64, y: f64, radius: f64) -> String {
    let polygon = |points: [(f64, f64); 4]| {
        let points: Vec<String> =
            points.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + dx * radius, y + dy * radius)).collect();
        format!("<polygon points=\"{}\"/>", points.join(" "))
    };
    match model % 4 {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>"),
        1 => polygon([(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
        2 => polygon([(0.0, -1.2), (1.15, 0.85), (0.0, 0.85), (-1.15, 0.85)]),
        _ => polygon([(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]),
    }
}

/// The axis of a rate, from 0 to the highest: linear, or by square root when the rates span much.
pub(crate) struct RateScale {
    pub(crate) highest: f64,
    pub(crate) root: bool,
}

impl RateScale {
    /// The axis for rates from `lowest` to `highest`. Rates that differ by more than ten times would
    /// crowd in the corner of a linear one.
    pub(crate) fn fitting(lowest: f64, highest: f64) -> Self {
        Self { highest: if highest > 0.0 { highest * 1.06 } else { 1.0 }, root: lowest < 0.1 * highest }
    }

    /// The rate at a share of the axis.
    pub(crate) fn rate(&self, share: f64) -> f64 {
        self.highest * if self.root { share * share } else { share }
    }

    /// Where a rate stands, as a share of the axis.
    pub(crate) fn share(&self, rate: f64) -> f64 {
        let share = rate / self.highest;
        if self.root { share.sqrt() } else { share }
    }

    /// Zero and round rates far enough apart for their labels.
    fn ticks(&self) -> Vec<f64> {
        let mut ticks = vec![];
        if !self.root {
            let (ticks, _) = Axis { low: 0.0, high: self.highest, from: 0.0, to: SQUARE }.ticks();
            return ticks;
        }
        for power in 0..6 {
            for tick in [1.0, 0.5, 0.2].map(|tick| tick / 10f64.powi(power)) {
                let room = |other: f64| SQUARE * (self.share(other) - self.share(tick)) >= 40.0;
                let fits = tick <= self.highest && SQUARE * self.share(tick) >= 30.0;
                if fits && ticks.last().is_none_or(|&other| room(other)) {
                    ticks.push(tick);
                }
            }
        }
        ticks.push(0.0);
        ticks.reverse();
        ticks
    }
}

/// A round rate in percent without needless zeros: `5 %`, `0.5 %`.
fn axis_percent(rate: f64) -> String {
    // A tick is a multiple of a power of ten; rounding removes what binary fractions add.
    format!("{} %", (rate * 1e8).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        #[track_caller]
        fn check(low: f64, high: f64, expected: &[f64], decimals: usize) {
            let (ticks, found_decimals) = Axis { low, high, from: 0.0, to: 100.0 }.ticks();
            assert_eq!(ticks.len(), expected.len(), "{ticks:?}");
            assert!(ticks.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{ticks:?}");
            assert_eq!(found_decimals, decimals);
        }
        check(0.0, 1.0, &[0.0, 0.5, 1.0], 1);
        check(0.7213, 0.7391, &[0.725, 0.730, 0.735], 3);
        check(-0.0013, 0.0029, &[0.0, 0.002], 3);
        check(0.0, 40.0, &[0.0, 10.0, 20.0, 30.0, 40.0], 0);
    }

    #[test]
    fn ticks_of_rates_leave_room_for_their_labels() {
        for highest in [1.0, 0.5, 0.123, 0.04, 0.0007] {
            let scale = RateScale { highest, root: true };
            let ticks = scale.ticks();
            assert!(ticks.len() >= 3, "{highest}: {ticks:?}");
            for pair in ticks.windows(2) {
                assert!(scale.share(pair[1]) - scale.share(pair[0]) > 0.1, "{highest}: {ticks:?}");
            }
        }
        assert_eq!(axis_percent(0.1 * 3.0), "30 %");
        assert_eq!(axis_percent(0.005), "0.5 %");
    }
}
