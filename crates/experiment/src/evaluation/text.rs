//! An evaluation as plain text tables, for a terminal.

use comfy_table::{CellAlignment, Table, presets};
use gatefold_metrics::Metric;
use gatefold_schema::{Calibration, CalibrationMethod, GateReport};

use super::{ModelEvaluation, OutputReport, gates::shown_layers};
use crate::page::number::{count, fixed, fixed_or_absent, percent};

/// The evaluation as text: a table of all outputs, and below it what the figures are. Contains no
/// escape codes; lines end in `\n`.
pub fn render_text(evaluation: &ModelEvaluation) -> String {
    let ModelEvaluation { model, rows, group, options, outputs, .. } = evaluation;
    let metrics: Vec<Metric> = metrics(outputs);
    let mut header = vec!["output | rows it is measured on".to_owned(), "rows".into(), "positives".into()];
    header.extend(metrics.iter().map(|metric| heading(*metric, options.ndcg_at)));
    let mut table = empty_table(header);
    for output in outputs {
        let figures = &output.figures;
        let mut row = vec![output.title(), count(figures.rows), count(figures.positives)];
        row.extend(metrics.iter().map(|metric| fixed_or_absent(figures.get(*metric), decimals(*metric))));
        table.add_row(row);
    }
    let mut text = format!("{model} on {rows}\n{table}\n\n");
    text += &format!(
        "GAUC and NDCG are taken within each {group}: GAUC as the mean AUC weighted by rows, over those with rows of \
         both classes; NDCG of the first {} by score, as the mean over those with a positive.\n",
        options.ndcg_at
    );
    for output in outputs {
        if let Some(gauc) = output.figures.gauc {
            text += &format!(
                "  {}: {} of {} count\n",
                output.title(),
                count(gauc.groups_used),
                count(gauc.groups_used + gauc.groups_skipped)
            );
        }
    }
    text += &format!(
        "NE: log loss over that of the base rate. PCOC: predicted over observed positives. ECE: mean distance of \
         predicted and observed rate over {0} bins of equal weight, and of equal width.\n",
        options.bins
    );
    if !evaluation.calibrations.is_empty() {
        text += &format!("\n{}\n", calibration_table(&evaluation.calibrations));
    }
    if let Some(gates) = &evaluation.gates {
        text += &format!("\n{}", render_gates(gates));
    }
    text
}

/// How a model's gates use its experts, as text tables with the warnings below them.
pub fn render_gates(report: &GateReport) -> String {
    let mut text = String::new();
    if report.gates.is_empty() {
        text += "The model has no gates.\n";
    } else {
        let header = ["gate", "expert", "mean weight", "of an even share"].map(str::to_owned);
        let mut table = empty_table(header.into());
        for gate in &report.gates {
            let even = gate.experts.len() as f64;
            for (place, expert) in gate.experts.iter().enumerate() {
                let name = if place == 0 { gate.gate.clone() } else { String::new() };
                table.add_row([
                    name,
                    expert.expert.clone(),
                    percent(expert.weight),
                    format!("{} times", fixed(expert.weight * even, 2)),
                ]);
            }
        }
        text += &format!("Gates on {} validation rows\n{table}\n\n", count(report.rows));
        let header = ["gate", "entropy of a row", "entropy of the mean"].map(str::to_owned);
        let mut table = empty_table(header.into());
        for gate in &report.gates {
            table.add_row([gate.gate.clone(), fixed(gate.entropy, 3), fixed(gate.entropy_of_mean, 3)]);
        }
        text += &format!("{table}\nEntropy: 0 where one expert is used, 1 where all are used alike.\n");
    }
    for captured in &report.captured {
        text += &format!(
            "{} is captured by {}, which gives it {} of all its weight\n",
            captured.expert,
            captured.gate,
            percent(captured.share)
        );
    }
    let units: usize = report.layers.iter().map(|layer| layer.units).sum();
    let dead: usize = report.layers.iter().map(|layer| layer.dead).sum();
    text += &format!(
        "Dead units (the same on every row): {} of {} ({})\n",
        count(dead),
        count(units),
        percent(dead as f64 / units.max(1) as f64)
    );
    for layer in shown_layers(report) {
        text += &format!("  {}: {} of {}\n", layer.layer, layer.dead, layer.units);
    }
    for warning in &report.warnings {
        text += &format!("warning: {warning}\n");
    }
    text
}

/// The metrics that at least one output has; the squared error only where an output is a number.
pub(super) fn metrics(outputs: &[OutputReport]) -> Vec<Metric> {
    let any_number = outputs.iter().any(|output| output.figures.log_loss.is_none());
    let is_shown = |metric: &Metric| match metric {
        Metric::SquaredError => any_number,
        metric => outputs.iter().any(|output| output.figures.get(*metric).is_some()),
    };
    Metric::ALL.into_iter().filter(is_shown).collect()
}

/// The heading of a metric's column.
pub(super) fn heading(metric: Metric, ndcg_at: usize) -> String {
    match metric {
        Metric::Ndcg => format!("NDCG@{ndcg_at}"),
        metric => metric.title().to_owned(),
    }
}

/// Decimals that a metric is shown with.
pub(super) fn decimals(metric: Metric) -> usize {
    match metric {
        Metric::LogLoss | Metric::Ece | Metric::EceEqualWidth | Metric::SquaredError => 5,
        _ => 4,
    }
}

fn calibration_table(calibrations: &[Calibration]) -> Table {
    let header = ["calibrated in the bundle", "by", "ECE", "after", "PCOC", "after", "log loss", "after"];
    let mut table = empty_table(header.map(str::to_owned).into());
    for Calibration { task, method, before, after, .. } in calibrations {
        let method = method.map_or("sampling rate", CalibrationMethod::name);
        let figures = [before.ece, after.ece, before.pcoc, after.pcoc, before.log_loss, after.log_loss]
            .map(|value| fixed(value, 4));
        table.add_row([task.clone(), method.to_owned()].into_iter().chain(figures));
    }
    table
}

fn empty_table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(header);
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}
