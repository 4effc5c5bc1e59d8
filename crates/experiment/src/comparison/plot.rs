//! The drawing of intervals (dot and whisker), as inline SVG.

use super::number::{difference_parts, estimate_parts};
use super::{Comparison, Estimate, OutputComparison};
use crate::page::escape;
use crate::page::number::{confidence, fixed, signed};
use crate::page::plot::{Axis, COLOURS, marker};

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
    fn long_names_are_cut_between_characters() {
        assert_eq!(shorten("mmoe v3"), "mmoe v3");
        assert_eq!(shorten("ein-sehr-langer-näme-für-ein-modell v12"), "ein-sehr-langer-näme-…");
    }
}
