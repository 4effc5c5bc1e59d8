//! The gates of a model as a table of shaded cells.

use gatefold_schema::{GateReport, LayerFigures};

use crate::page::escape;
use crate::page::number::{count, fixed, percent};

/// Layers that are worth a line: those with dead units, the worst first.
pub(super) fn shown_layers(report: &GateReport) -> Vec<&LayerFigures> {
    let share = |layer: &LayerFigures| layer.dead as f64 / layer.units.max(1) as f64;
    let mut layers: Vec<&LayerFigures> = report.layers.iter().filter(|layer| layer.dead > 0).collect();
    layers.sort_by(|a, b| share(b).total_cmp(&share(a)));
    layers.truncate(10);
    layers
}

/// A section of the page.
pub(super) fn section(report: &GateReport) -> String {
    let mut html = format!(
        "<section id=\"gates\">\n<h2>Gates</h2>\n<p class=\"soft\">{} validation rows, at the end of training</p>\n",
        count(report.rows)
    );
    for warning in &report.warnings {
        html += &format!("<p class=\"note\">{}</p>\n", escape(warning));
    }
    if report.gates.is_empty() {
        html += "<p class=\"soft\">The model has no gates.</p>\n";
    } else {
        html += &heat_map(report);
    }
    for captured in &report.captured {
        html += &format!(
            "<p class=\"soft\">{} is captured by {}, which gives it {} of all its weight.</p>\n",
            escape(&captured.expert),
            escape(&captured.gate),
            percent(captured.share)
        );
    }
    html += "<h3>Dead units: the same on every row</h3>\n<div class=\"scroll\"><table>\n<thead><tr>\
             <th scope=\"col\">layer</th><th scope=\"col\" class=\"n\">dead</th><th scope=\"col\" class=\"n\">units</th>\
             </tr></thead>\n<tbody>\n";
    for LayerFigures { layer, units, dead } in &report.layers {
        html += &format!(
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
            escape(layer),
            count(*dead),
            count(*units)
        );
    }
    html + "</tbody>\n</table></div>\n</section>\n"
}

/// Mean weights, a row a gate and a column an expert, shaded by the part of the gate's weight.
fn heat_map(report: &GateReport) -> String {
    let mut experts: Vec<&str> = Vec::new();
    for expert in report.gates.iter().flat_map(|gate| &gate.experts) {
        if !experts.contains(&expert.expert.as_str()) {
            experts.push(&expert.expert);
        }
    }
    let mut html = "<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">gate</th>".to_owned();
    for expert in &experts {
        html += &format!("<th scope=\"col\" class=\"n\">{}</th>", escape(expert));
    }
    html += "<th scope=\"col\" class=\"n\">entropy of a row</th><th scope=\"col\" class=\"n\">of the mean</th>\
             </tr></thead>\n<tbody>\n";
    for gate in &report.gates {
        html += &format!("<tr><th scope=\"row\">{}</th>", escape(&gate.gate));
        for expert in &experts {
            let weight = gate.experts.iter().find(|found| found.expert == *expert).map(|found| found.weight);
            html += &match weight {
                // Half of the way at most, so that the figure stays readable on its shade.
                Some(weight) => format!(
                    "<td class=\"n heat\" style=\"--share: {:.0}%\">{}</td>",
                    50.0 * weight.clamp(0.0, 1.0),
                    fixed(weight, 3)
                ),
                None => "<td></td>".to_owned(),
            };
        }
        html += &format!(
            "<td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
            fixed(gate.entropy, 3),
            fixed(gate.entropy_of_mean, 3)
        );
    }
    html + "</tbody>\n</table></div>\n"
}
