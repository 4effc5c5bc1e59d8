//! The two drawings of the page, as inline SVG: intervals (dot and whisker) and calibration curves.
//!
//! Colours come from the page's style sheet by class (`m0` … `m7`, one for each model), so that
//! they follow the light or dark scheme; each model also has its own marker shape, so that colour
//! is never the only difference. Every mark carries its figures in a `<title>`.

use super::html::escape;
use super::number::{confidence, count, difference_parts, estimate_parts, fixed, percent, signed};
use super::{Comparison, Estimate, OutputComparison};

/// Number of model colours in the style sheet.
const COLOURS: usize = 8;

const ROW_HEIGHT: f64 = 30.0;
const TOP: f64 = 34.0;
const LABEL_WIDTH: f64 = 150.0;
const PANEL_WIDTH: f64 = 200.0;
const PANEL_GAP: f64 = 40.0;
const LABEL_CHARACTERS: usize = 22;

/// AUC with interval for each model and, beside it, the difference to the baseline; None if the
/// output has no AUC.
pub(super) fn interval_plot(comparison: &Comparison, output: &OutputComparison, id: &str) -> Option<String> {
    let aucs: Vec<Option<Estimate>> = output.results.iter().map(|result| result.auc).collect();
    let differences: Vec<Option<Estimate>> = output
        .results
        .iter()
        .map(|result| result.auc_difference.map(|difference| difference.estimate))
        .collect();
    let (low, high) = range_of(&aucs)?;
    let difference_range = range_of(&differences);

    let bottom = TOP + ROW_HEIGHT * output.results.len() as f64;
    let height = bottom + 30.0;
    let width = LABEL_WIDTH + 2.0 * PANEL_WIDTH + PANEL_GAP + 16.0;
    let interval = confidence(comparison.confidence);
    let mut svg = format!(
        "<svg class=\"plot intervals\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
         <title id=\"{id}-t\">AUC of {} with {interval} intervals</title><desc id=\"{id}-d\">{}</desc>",
        escape(&output.title()),
        escape(&describe(comparison, output)),
    );
    for (place, result) in output.results.iter().enumerate() {
        let y = TOP + ROW_HEIGHT * (place as f64 + 0.5);
        let name = comparison.models[result.model].full();
        svg += &format!(
            "<text class=\"row-label\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LABEL_WIDTH - 14.0,
            y + 4.0,
            escape(&shorten(&name))
        );
    }

    let auc_axis = Axis { low, high, from: LABEL_WIDTH, to: LABEL_WIDTH + PANEL_WIDTH };
    svg += &panel_frame(&auc_axis, "AUC", bottom, fixed);
    for (place, result) in output.results.iter().enumerate() {
        if let Some(estimate) = &result.auc {
            let (value, ends) = estimate_parts(estimate);
            let title = format!("{}: AUC {value} {ends}", comparison.models[result.model].full());
            svg += &whisker(&auc_axis, estimate, place, result.model, &title);
        }
    }

    if let Some((low, high)) = difference_range {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let from = LABEL_WIDTH + PANEL_WIDTH + PANEL_GAP;
        let axis = Axis { low, high, from, to: from + PANEL_WIDTH };
        let heading = format!("difference to {}", comparison.models[0].full());
        svg += &panel_frame(&axis, &heading, bottom, signed);
        svg += &format!(
            "<line class=\"zero\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>",
            x = axis.place(0.0)
        );
        for (place, result) in output.results.iter().enumerate() {
            match &result.auc_difference {
                Some(difference) => {
                    let (value, ends) = difference_parts(difference);
                    let title = format!(
                        "{}: difference in AUC {value} {ends}",
                        comparison.models[result.model].full()
                    );
                    svg += &whisker(&axis, &difference.estimate, place, result.model, &title);
                }
                None => {
                    let y = TOP + ROW_HEIGHT * (place as f64 + 0.5) + 4.0;
                    svg += &format!(
                        "<text class=\"tick\" x=\"{:.1}\" y=\"{y:.1}\">baseline</text>",
                        axis.place(0.0) + 6.0
                    );
                }
            }
        }
    }
    svg += "</svg>";
    Some(svg)
}

/// Side of the calibration plot's square, in user units.
const SQUARE: f64 = 280.0;

/// Promised against observed rate of each model in its bins, with the diagonal of perfect calibration.
pub(super) fn calibration_plot(comparison: &Comparison, output: &OutputComparison, id: &str) -> String {
    let bins = || output.results.iter().flat_map(|result| &result.calibration);
    let highest = bins().fold(0.0f64, |highest, bin| highest.max(bin.predicted).max(bin.observed));
    let lowest = bins().fold(1.0f64, |lowest, bin| lowest.min(bin.predicted));
    // Rates that differ by more than ten times would crowd in the corner of a linear axis.
    let scale =
        RateScale { highest: if highest > 0.0 { highest * 1.06 } else { 1.0 }, root: lowest < 0.1 * highest };

    let (left, top) = (52.0, 10.0);
    let (width, height) = (left + SQUARE + 14.0, top + SQUARE + 44.0);
    let x = |rate: f64| left + SQUARE * scale.share(rate);
    let y = |rate: f64| top + SQUARE * (1.0 - scale.share(rate));
    let bottom = top + SQUARE;
    let mut svg = format!(
        "<svg class=\"plot calibration\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
         <title id=\"{id}-t\">Calibration of {}</title><desc id=\"{id}-d\">Observed rate against predicted rate in bins \
         of equal count; the diagonal is perfect calibration. The figures are in the table of bins below.</desc>",
        escape(&output.title())
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
    for result in &output.results {
        let points: Vec<(f64, f64)> =
            result.calibration.iter().map(|bin| (x(bin.predicted), y(bin.observed))).collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        svg += &format!(
            "<g class=\"m{}\"><polyline class=\"curve\" points=\"{}\"/>",
            result.model % COLOURS,
            path.join(" ")
        );
        let name = comparison.models[result.model].full();
        for (bin, &(x, y)) in result.calibration.iter().zip(&points) {
            let title = format!(
                "{name}: predicted {}, observed {}, {} rows",
                percent(bin.predicted),
                percent(bin.observed),
                count(bin.rows)
            );
            svg += &marker(result.model, x, y, 3.4, &title);
        }
        svg += "</g>";
    }
    svg + "</svg>"
}

/// The marker of a model as a small drawing of its own, for the legend.
pub(super) fn legend_marker(model: usize) -> String {
    format!(
        "<svg class=\"key m{}\" viewBox=\"0 0 16 16\" aria-hidden=\"true\">{}</svg>",
        model % COLOURS,
        marker_shape(model, 8.0, 8.0, 5.0)
    )
}

/// A linear horizontal axis.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        self.from + (self.to - self.from) * (value - self.low) / (self.high - self.low)
    }

    /// Round values at a distance of 1, 2 or 5 times a power of ten, and the decimals they need.
    fn ticks(&self) -> (Vec<f64>, usize) {
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

/// Lowest and highest end of the intervals with a margin; None without any.
fn range_of(estimates: &[Option<Estimate>]) -> Option<(f64, f64)> {
    let low = estimates.iter().flatten().map(|estimate| estimate.low.min(estimate.value)).reduce(f64::min)?;
    let high =
        estimates.iter().flatten().map(|estimate| estimate.high.max(estimate.value)).reduce(f64::max)?;
    let margin = (0.08 * (high - low)).max(1e-4);
    Some((low - margin, high + margin))
}

/// Heading, grid and tick labels of one panel of the interval plot.
fn panel_frame(axis: &Axis, heading: &str, bottom: f64, label: impl Fn(f64, usize) -> String) -> String {
    let mut svg = format!(
        "<text class=\"panel-label\" x=\"{:.1}\" y=\"16\">{}</text>",
        axis.from,
        escape(&shorten_to(heading, 36))
    );
    let (ticks, decimals) = axis.ticks();
    for tick in ticks {
        let x = axis.place(tick);
        svg += &format!(
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 17.0,
            label(tick, decimals)
        );
    }
    svg
}

fn whisker(axis: &Axis, estimate: &Estimate, place: usize, model: usize, title: &str) -> String {
    let y = TOP + ROW_HEIGHT * (place as f64 + 0.5);
    let (low, high) = (axis.place(estimate.low), axis.place(estimate.high));
    let cap = |x: f64| {
        format!("<line class=\"whisker\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{}\"/>", y - 5.0, y + 5.0)
    };
    format!(
        "<g class=\"m{}\"><line class=\"whisker\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{y}\" y2=\"{y}\"/>{}{}{}</g>",
        model % COLOURS,
        cap(low),
        cap(high),
        marker(model, axis.place(estimate.value), y, 5.0, title)
    )
}

fn marker(model: usize, x: f64, y: f64, radius: f64, title: &str) -> String {
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
struct RateScale {
    highest: f64,
    root: bool,
}

impl RateScale {
    fn share(&self, rate: f64) -> f64 {
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

/// The content of the interval plot in words, for those who cannot see it.
fn describe(comparison: &Comparison, output: &OutputComparison) -> String {
    let parts: Vec<String> = output
        .results
        .iter()
        .filter_map(|result| {
            let (value, ends) = estimate_parts(result.auc.as_ref()?);
            Some(format!("{}: {value} {ends}", comparison.models[result.model].full()))
        })
        .collect();
    parts.join("; ")
}

fn shorten(name: &str) -> String {
    shorten_to(name, LABEL_CHARACTERS)
}

fn shorten_to(name: &str, characters: usize) -> String {
    if name.chars().count() <= characters {
        return name.to_string();
    }
    name.chars().take(characters - 1).chain(['…']).collect()
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

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(shorten("mmoe v3"), "mmoe v3");
        assert_eq!(shorten("ein-sehr-langer-näme-für-ein-modell v12"), "ein-sehr-langer-näme-…");
    }
}
