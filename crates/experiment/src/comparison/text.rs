//! The comparison as plain text tables, for a terminal.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::number::{difference_parts, estimate_parts, sample_size, verdict};
use super::{Comparison, OutputComparison, Verdict};
use crate::page::number::{ABSENT, confidence, fixed, fixed_or_absent, p_value};

/// The comparison as text: a heading for each output with its sample space, and a table below it.
/// Contains no escape codes; lines end in `\n`.
pub fn render_text(comparison: &Comparison) -> String {
    let mut text = format!("Sample set: {}\n", comparison.sample_set.name);
    if !comparison.sample_set.description.is_empty() {
        text += &format!("{}\n", comparison.sample_set.description);
    }
    for output in &comparison.outputs {
        text += &format!("\n{}  (label {}; {})\n", output.title(), output.label, sample_size(output));
        if let Some(note) = &output.note {
            text += &format!("{note}\n");
        }
        text += &format!("{}\n", table(comparison, output));
    }
    text += &format!(
        "\nIntervals: {} percentile bootstrap over requests, {} resamples, seed {}.\n",
        confidence(comparison.confidence),
        comparison.replicates,
        comparison.seed
    );
    if comparison.models.len() > 1 {
        text += &format!(
            "Difference: AUC minus that of {}, on the same rows and resamples; p: DeLong's test with requests as \
             clusters.\n",
            comparison.models[0].full()
        );
    }
    text + "NE: log loss over that of the base rate. PCOC: predicted over observed positives.\n"
}

fn table(comparison: &Comparison, output: &OutputComparison) -> Table {
    let interval = confidence(comparison.confidence);
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "model".to_string(),
        format!("AUC [{interval}]"),
        format!("difference [{interval}]"),
        "p".to_string(),
        "GAUC".to_string(),
        "log loss".to_string(),
        "NE".to_string(),
        "PCOC".to_string(),
    ]);
    for result in &output.results {
        let auc = result.auc.as_ref().map(estimate_parts);
        let difference = match &result.auc_difference {
            Some(difference) => {
                let (value, interval) = difference_parts(difference);
                let verdict = match difference.verdict() {
                    Verdict::NoClearDifference => "unclear",
                    clear => verdict(clear),
                };
                format!("{value} {interval} {verdict}")
            }
            None if result.model == 0 => "baseline".to_string(),
            None => ABSENT.to_string(),
        };
        table.add_row([
            comparison.models[result.model].full(),
            auc.map_or_else(|| ABSENT.to_string(), |(value, interval)| format!("{value} {interval}")),
            difference,
            result
                .auc_difference
                .map_or_else(|| ABSENT.to_string(), |difference| p_value(difference.delong_p_value)),
            fixed_or_absent(result.gauc, 4),
            fixed(result.log_loss, 5),
            fixed_or_absent(result.normalized_entropy, 4),
            fixed_or_absent(result.pcoc, 3),
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
