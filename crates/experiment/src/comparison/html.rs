//! The comparison as one HTML page that needs nothing else: style and drawings are inside, there
//! is no script, and a content security policy forbids loading anything.

use super::number::{difference_parts, estimate_parts, sample_size, verdict};
use super::plot::interval_plot;
use super::{Comparison, ModelResult, OutputComparison, Verdict};
use crate::page::number::{ABSENT, confidence, count, fixed, fixed_or_absent, p_value, percent};
use crate::page::plot::{Curve, calibration_plot, legend_marker};
use crate::page::{escape, page};

/// The comparison as a self-contained HTML page. The same comparison gives the same bytes.
pub fn render_html(comparison: &Comparison) -> String {
    let name = escape(&comparison.sample_set.name);
    let mut body = format!("<header>\n<p class=\"eyebrow\">Model comparison</p>\n<h1>{name}</h1>\n");
    if !comparison.sample_set.description.is_empty() {
        body += &format!("<p class=\"lead\">{}</p>\n", escape(&comparison.sample_set.description));
    }
    body += &legend(comparison);
    body += "</header>\n";
    body += &overview(comparison);
    for (place, output) in comparison.outputs.iter().enumerate() {
        body += &section(comparison, output, place);
    }
    body += &explanation(comparison);
    page("Model comparison", &comparison.sample_set.name, &body)
}

fn legend(comparison: &Comparison) -> String {
    let mut html = "<ul class=\"legend\" aria-label=\"Models\">\n".to_string();
    for (model, name) in comparison.models.iter().enumerate() {
        let baseline = if model == 0 && comparison.models.len() > 1 { ", baseline" } else { "" };
        html += &format!(
            "<li>{}<b>{}</b> <span class=\"soft\">{}{baseline}</span></li>\n",
            legend_marker(model),
            escape(&name.full()),
            escape(&name.kind)
        );
    }
    html + "</ul>\n"
}

/// The AUC of every model on every output, the highest of a row in bold.
fn overview(comparison: &Comparison) -> String {
    let mut html = "<section>\n<h2>AUC at a glance</h2>\n<div class=\"scroll\"><table>\n\
                    <thead><tr><th scope=\"col\">output and sample space</th><th scope=\"col\" class=\"n\">rows</th>\
                    <th scope=\"col\" class=\"n\">positives</th>"
        .to_string();
    for (model, name) in comparison.models.iter().enumerate() {
        html +=
            &format!("<th scope=\"col\" class=\"n\">{}{}</th>", legend_marker(model), escape(&name.full()));
    }
    html += "</tr></thead>\n<tbody>\n";
    for (place, output) in comparison.outputs.iter().enumerate() {
        html += &format!(
            "<tr><th scope=\"row\"><a href=\"#output-{place}\">{}</a></th><td class=\"n\">{}</td><td class=\"n\">{}</td>",
            heading(output),
            count(output.rows),
            count(output.positives)
        );
        let best =
            output.results.iter().filter_map(|result| result.auc).map(|auc| auc.value).reduce(f64::max);
        for model in 0..comparison.models.len() {
            let auc =
                output.results.iter().find(|result| result.model == model).and_then(|result| result.auc);
            let text = fixed_or_absent(auc.map(|auc| auc.value), 4);
            let is_best = output.results.len() > 1 && auc.is_some_and(|auc| Some(auc.value) == best);
            html += &if is_best {
                format!("<td class=\"n\"><b>{text}</b></td>")
            } else {
                format!("<td class=\"n\">{text}</td>")
            };
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n</table></div>\n</section>\n"
}

/// Output and sample space, the latter set apart.
fn heading(output: &OutputComparison) -> String {
    format!("{} <span class=\"space\">on {}</span>", escape(&output.output), escape(&output.space))
}

fn section(comparison: &Comparison, output: &OutputComparison, place: usize) -> String {
    let mut html = format!(
        "<section id=\"output-{place}\">\n<h2>{}</h2>\n<p class=\"soft\">label <code>{}</code> · {}</p>\n",
        heading(output),
        escape(&output.label),
        sample_size(output)
    );
    if let Some(note) = &output.note {
        html += &format!("<p class=\"note\">{}</p>\n", escape(note));
    }
    html += &results_table(comparison, output);
    html += "<div class=\"figures\">\n<div>\n";
    let has_difference = output.results.iter().any(|result| result.auc_difference.is_some());
    if let Some(plot) = interval_plot(comparison, output, &format!("interval-{place}")) {
        html += &format!(
            "<figure><figcaption>{}, {} intervals</figcaption><div class=\"scroll\">{plot}</div></figure>\n",
            if has_difference { "AUC and its difference" } else { "AUC" },
            confidence(comparison.confidence)
        );
    }
    let curves: Vec<Curve> = output
        .results
        .iter()
        .map(|result| Curve {
            model: result.model,
            name: comparison.models[result.model].full(),
            bins: &result.calibration,
        })
        .collect();
    html += &format!(
        "<h3>Ranking within requests, and calibration</h3>\n{}</div>\n\
         <figure><figcaption>Calibration, bins of equal count</figcaption>{}</figure>\n</div>\n",
        measures_table(comparison, output),
        calibration_plot(&output.title(), &curves, &format!("calibration-{place}"))
    );
    html += &bins_table(comparison, output);
    html + "</section>\n"
}

/// What the comparison is about: AUC, difference, verdict and p-value of each model.
fn results_table(comparison: &Comparison, output: &OutputComparison) -> String {
    let interval = confidence(comparison.confidence);
    let mut html = format!(
        "<div class=\"scroll\"><table>\n<caption class=\"hidden\">{}</caption>\n<thead><tr><th scope=\"col\">model</th>\
         <th scope=\"col\">AUC <span class=\"soft\">{interval} interval</span></th>\
         <th scope=\"col\">difference in AUC <span class=\"soft\">{interval} interval</span></th>\
         <th scope=\"col\">verdict</th><th scope=\"col\" class=\"n\">p</th></tr></thead>\n<tbody>\n",
        escape(&output.title())
    );
    for result in &output.results {
        let auc = result.auc.as_ref().map_or_else(|| ABSENT.to_string(), |auc| pair(estimate_parts(auc)));
        let (difference, verdict, p) = difference_cells(result);
        html += &format!(
            "<tr>{}<td>{auc}</td><td>{difference}</td><td>{verdict}</td><td class=\"n\">{p}</td></tr>\n",
            model_heading(comparison, result.model)
        );
    }
    html + "</tbody>\n</table></div>\n"
}

/// Ranking within requests and calibration of each model.
fn measures_table(comparison: &Comparison, output: &OutputComparison) -> String {
    let mut html = "<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">model</th><th scope=\"col\" class=\"n\">GAUC</th>\
                    <th scope=\"col\" class=\"n\">log loss</th><th scope=\"col\" class=\"n\">norm. entropy</th>\
                    <th scope=\"col\" class=\"n\">PCOC</th><th scope=\"col\" class=\"n\">ECE</th></tr></thead>\n<tbody>\n"
        .to_string();
    for result in &output.results {
        html += &format!(
            "<tr>{}<td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td></tr>\n",
            model_heading(comparison, result.model),
            fixed_or_absent(result.gauc, 4),
            fixed(result.log_loss, 5),
            fixed_or_absent(result.normalized_entropy, 4),
            fixed_or_absent(result.pcoc, 3),
            fixed(result.calibration_error, 5),
        );
    }
    html + "</tbody>\n</table></div>\n"
}

fn model_heading(comparison: &Comparison, model: usize) -> String {
    format!("<th scope=\"row\">{}{}</th>", legend_marker(model), escape(&comparison.models[model].full()))
}

fn pair((value, interval): (String, String)) -> String {
    format!("<b>{value}</b> <span class=\"soft\">{interval}</span>")
}

/// Difference, verdict and p-value.
fn difference_cells(result: &ModelResult) -> (String, String, String) {
    let absent = || ABSENT.to_string();
    match &result.auc_difference {
        None if result.model == 0 => ("<span class=\"soft\">baseline</span>".to_string(), absent(), absent()),
        None => (absent(), absent(), absent()),
        Some(difference) => {
            let class = match difference.verdict() {
                Verdict::Better => "better",
                Verdict::Worse => "worse",
                Verdict::NoClearDifference => "even",
            };
            let verdict = format!("<span class=\"verdict {class}\">{}</span>", verdict(difference.verdict()));
            (pair(difference_parts(difference)), verdict, escape(&p_value(difference.delong_p_value)))
        }
    }
}

/// The figures behind the calibration curves, folded away.
fn bins_table(comparison: &Comparison, output: &OutputComparison) -> String {
    let mut html = "<details><summary>Calibration bins as a table</summary>\n<div class=\"scroll\"><table>\n\
                    <thead><tr><th scope=\"col\" rowspan=\"2\">bin</th>"
        .to_string();
    for result in &output.results {
        html += &format!(
            "<th scope=\"colgroup\" colspan=\"3\" class=\"n\">{}{}</th>",
            legend_marker(result.model),
            escape(&comparison.models[result.model].full())
        );
    }
    html += "</tr>\n<tr>";
    for _ in &output.results {
        html += "<th scope=\"col\" class=\"n\">predicted</th><th scope=\"col\" class=\"n\">observed</th>\
                 <th scope=\"col\" class=\"n\">rows</th>";
    }
    html += "</tr></thead>\n<tbody>\n";
    let bins = output.results.iter().map(|result| result.calibration.len()).max().unwrap_or(0);
    for bin in 0..bins {
        html += &format!("<tr><th scope=\"row\">{}</th>", bin + 1);
        for result in &output.results {
            html += &match result.calibration.get(bin) {
                Some(bin) => format!(
                    "<td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>",
                    percent(bin.predicted),
                    percent(bin.observed),
                    count(bin.rows)
                ),
                None => "<td></td><td></td><td></td>".to_string(),
            };
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n</table></div></details>\n"
}

fn explanation(comparison: &Comparison) -> String {
    let mut html = format!(
        "<footer>\n<h2>How to read this</h2>\n<dl>\n\
         <dt>AUC</dt><dd>Probability that a positive row scores above a negative one of the same sample space. The \
         interval holds {} of {} bootstrap resamples of whole requests (seed {}).</dd>\n",
        confidence(comparison.confidence),
        count(comparison.replicates),
        comparison.seed
    );
    if comparison.models.len() > 1 {
        html += &format!(
            "<dt>Difference</dt><dd>AUC minus that of {}, on the same rows and the same resamples. “Better” and “worse” \
             mean that the interval does not hold zero; p is that of DeLong’s test with requests as clusters. \
             Neither is corrected for the number of comparisons.</dd>\n",
            escape(&comparison.models[0].full())
        );
    }
    html + "<dt>GAUC</dt><dd>AUC within each request, averaged with the request’s rows as weight; requests of one \
            class are left out.</dd>\n\
            <dt>Log loss, normalised entropy</dt><dd>Mean negative log likelihood in nats, and the same divided by that \
            of the constant base rate: below 1 the model knows more than the base rate.</dd>\n\
            <dt>PCOC, ECE</dt><dd>Predicted over observed positives (1 is right, above 1 promises too much), and the mean \
            distance between predicted and observed rate over the bins.</dd>\n\
            </dl>\n</footer>\n"
}
