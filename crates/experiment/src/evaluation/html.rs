//! An evaluation as one HTML page that needs nothing else.

use super::{
    ModelEvaluation, OutputReport, gates,
    text::{decimals, heading, metrics},
};
use crate::page::number::{count, fixed_or_absent, percent};
use crate::page::plot::{Curve, calibration_plot, histogram_plot};
use crate::page::{escape, page};

/// The number, in the style sheet, of the colour of the one model.
const MODEL: usize = 1;

/// The evaluation as a self-contained HTML page. The same evaluation gives the same bytes.
pub fn render_html(evaluation: &ModelEvaluation) -> String {
    let mut body = format!(
        "<header>\n<p class=\"eyebrow\">Evaluation</p>\n<h1>{}</h1>\n<p class=\"lead\">{}</p>\n</header>\n",
        escape(&evaluation.model),
        escape(&evaluation.rows)
    );
    body += &overview(evaluation);
    for (place, output) in evaluation.outputs.iter().enumerate() {
        body += &section(evaluation, output, place);
    }
    if let Some(report) = &evaluation.gates {
        body += &gates::section(report);
    }
    body += &explanation(evaluation);
    page("Evaluation", &evaluation.model, &body)
}

/// Every figure of every output.
fn overview(evaluation: &ModelEvaluation) -> String {
    let metrics = metrics(&evaluation.outputs);
    let mut html = "<section>\n<h2>All figures</h2>\n<div class=\"scroll\"><table>\n<thead><tr>\
                    <th scope=\"col\">output and sample space</th><th scope=\"col\" class=\"n\">rows</th>\
                    <th scope=\"col\" class=\"n\">positives</th>"
        .to_owned();
    for metric in &metrics {
        html += &format!(
            "<th scope=\"col\" class=\"n\">{}</th>",
            escape(&heading(*metric, evaluation.options.ndcg_at))
        );
    }
    html += "</tr></thead>\n<tbody>\n";
    for (place, output) in evaluation.outputs.iter().enumerate() {
        html += &format!(
            "<tr><th scope=\"row\"><a href=\"#output-{place}\">{}</a></th><td class=\"n\">{}</td><td class=\"n\">{}</td>",
            name(output),
            count(output.figures.rows),
            count(output.figures.positives)
        );
        for metric in &metrics {
            let value = fixed_or_absent(output.figures.get(*metric), decimals(*metric));
            html += &format!("<td class=\"n\">{value}</td>");
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n</table></div>\n</section>\n"
}

fn name(output: &OutputReport) -> String {
    format!("{} <span class=\"space\">| {}</span>", escape(&output.output), escape(&output.space))
}

/// The drawings of one output and the bins behind them.
fn section(evaluation: &ModelEvaluation, output: &OutputReport, place: usize) -> String {
    let figures = &output.figures;
    let mut html = format!(
        "<section id=\"output-{place}\">\n<h2>{}</h2>\n<p class=\"soft\">label <code>{}</code> · {} rows, {} positives \
         ({})</p>\n",
        name(output),
        escape(&output.label),
        count(figures.rows),
        count(figures.positives),
        percent(figures.positives as f64 / figures.rows.max(1) as f64)
    );
    if let Some(gauc) = figures.gauc {
        html += &format!(
            "<p class=\"soft\">GAUC counts {} of {} groups by {}: the others have rows of one class.</p>\n",
            count(gauc.groups_used),
            count(gauc.groups_used + gauc.groups_skipped),
            escape(&evaluation.group)
        );
    }
    if output.calibration.is_empty() {
        return html + "</section>\n";
    }
    let curve = Curve { model: MODEL, name: evaluation.model.clone(), bins: &output.calibration };
    html += &format!(
        "<div class=\"figures\">\n<figure><figcaption>Calibration, bins of equal weight</figcaption>{}</figure>\n\
         <figure><figcaption>Scores: each class by the share of its rows \
         <span class=\"m0\">■</span> negatives <span class=\"m1\">■</span> positives</figcaption>{}</figure>\n</div>\n",
        calibration_plot(&output.title(), &[curve], &format!("calibration-{place}")),
        histogram_plot(&output.title(), &output.histogram, &format!("histogram-{place}"))
    );
    html += "<details><summary>Calibration bins as a table</summary>\n<div class=\"scroll\"><table>\n<thead><tr>\
             <th scope=\"col\">bin</th><th scope=\"col\" class=\"n\">predicted</th>\
             <th scope=\"col\" class=\"n\">observed</th><th scope=\"col\" class=\"n\">rows</th></tr></thead>\n<tbody>\n";
    for (place, bin) in output.calibration.iter().enumerate() {
        html += &format!(
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
            place + 1,
            percent(bin.predicted),
            percent(bin.observed),
            count(bin.rows)
        );
    }
    html + "</tbody>\n</table></div></details>\n</section>\n"
}

fn explanation(evaluation: &ModelEvaluation) -> String {
    format!(
        "<footer>\n<h2>How to read this</h2>\n<dl>\n\
         <dt>AUC</dt><dd>Probability that a positive row scores above a negative one of the same sample space, equal \
         scores counting one half.</dd>\n\
         <dt>GAUC, NDCG@{0}</dt><dd>Within each {1}: the AUC, averaged with its rows as weight, over those with both \
         classes; the discounted gain of the first {0} by score over the best possible, averaged over those with a \
         positive.</dd>\n\
         <dt>Log loss, NE</dt><dd>Mean negative log likelihood in nats, and the same divided by that of the constant \
         base rate: below 1 the model knows more than the base rate.</dd>\n\
         <dt>PCOC, ECE</dt><dd>Predicted over observed positives (1 is right, above 1 promises too much), and the mean \
         distance between predicted and observed rate over {2} bins of equal weight, or of equal width.</dd>\n\
         </dl>\n</footer>\n",
        evaluation.options.ndcg_at,
        escape(&evaluation.group),
        evaluation.options.bins
    )
}
