//! The synthetic experiment of the MMoE paper, and whether its findings are found again.
//!
//! `gatefold-bench mmoe-paper` trains; the statistics are here. Models are compared run by run: a
//! run's seed gives all of them the same tasks and samples.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::picture::{Group, box_plots};
use super::statistics::{Interval, deviation, mean, quantile, spread};
use super::{Job, Reproduced};
use crate::bars::{Bars, Limit};
use crate::program::{Programs, number};
use crate::table::Table;

const MODELS: [&str; 3] = ["shared-bottom", "omoe", "mmoe"];
/// Correlations of the two tasks, rising.
const CORRELATIONS: [f64; 3] = [0.5, 0.9, 1.0];

/// All runs of a model at a correlation.
struct Cell {
    model: String,
    correlation: f64,
    learning_rate: f64,
    /// Loss by learning rate in the search.
    search: Vec<(f64, f64)>,
    /// The loss of each run when half of the training was done, and at its end.
    half: Vec<f64>,
    last: Vec<f64>,
}

pub(super) fn reproduce(job: &Job) -> Result<Reproduced> {
    let runs = job.seeds;
    ensure!(runs >= 2, "intervals need --seeds of at least 2");
    let programs = Programs::build(job.workspace)?;
    let mut command = programs.command("gatefold-bench");
    command.args(["mmoe-paper", "--runs", &runs.to_string()]);
    let found = job.steps()?.command("trainings", &[], &mut command)?;
    let cells = cells(&found)?;

    let mut text = format!(
        "Mean squared error on held-out samples, mean of two tasks, after {} batches of {}; {runs} runs a row, \
         {:.0} s\n(the noise alone gives 0.0100)\n\n{}",
        number(&found, "steps")?,
        number(&found, "batch")?,
        number(&found, "seconds")?,
        losses(&cells).render(),
    );
    text.push_str(&format!(
        "\nLearning rates tried, with the loss they gave in the search\n\n{}",
        searches(&cells).render()
    ));
    text.push_str(&format!(
        "\nDifferences, run by run: mean and 95 % interval (Student's t)\n\n{}",
        differences(&cells)?.render()
    ));
    let groups: Vec<Group> = CORRELATIONS
        .map(|p| {
            let members = MODELS.map(|model| Ok((model.to_owned(), cell(&cells, model, p)?.last.clone())));
            Ok(Group {
                title: format!("correlation {p}"),
                members: members.into_iter().collect::<Result<_>>()?,
            })
        })
        .into_iter()
        .collect::<Result<_>>()?;
    let picture = box_plots("Loss of every run: quartiles, least and greatest", &groups);
    Ok(Reproduced { text, bars: bars(&cells)?, picture: Some(picture) })
}

/// The findings of section 5.1 as bars.
fn bars(cells: &[Cell]) -> Result<Bars> {
    let mut bars = Bars::default();
    for model in MODELS {
        for pair in CORRELATIONS.windows(2) {
            let gain = mean(&cell(cells, model, pair[0])?.last) - mean(&cell(cells, model, pair[1])?.last);
            let row = format!("{model}: loss at correlation {} over that at {}", pair[0], pair[1]);
            bars.bar(row, gain, Limit::Above(0.0));
        }
    }
    let gap = |p: f64| -> Result<Interval> {
        Ok(Interval::of_differences(&cell(cells, "omoe", p)?.last, &cell(cells, "mmoe", p)?.last))
    };
    let (apart, alike) = (gap(0.5)?, gap(1.0)?);
    bars.bar("omoe over mmoe at correlation 0.5, lower end of the interval", apart.low, Limit::Above(0.0));
    bars.bar(
        "omoe and mmoe at correlation 1: their difference, as a share of that at 0.5",
        alike.mean.abs() / apart.mean,
        Limit::AtMost(0.25),
    );
    for model in ["omoe", "mmoe"] {
        for p in CORRELATIONS {
            let (bottom, other) = (cell(cells, "shared-bottom", p)?, cell(cells, model, p)?);
            let gain = mean(&bottom.last) - mean(&other.last);
            bars.bar(format!("shared-bottom over {model} at correlation {p}"), gain, Limit::Above(0.0));
            let ratio = deviation(&bottom.last) / deviation(&other.last);
            let row = format!("spread of shared-bottom to that of {model} at correlation {p}");
            bars.bar(row, ratio, Limit::Above(1.0));
        }
    }
    Ok(bars)
}

fn losses(cells: &[Cell]) -> Table {
    let mut table = Table::new(["model", "correlation", "rate", "half way", "mean ± sd", "quartiles"]);
    for cell in cells {
        let quartiles = [0.25, 0.5, 0.75].map(|share| format!("{:.4}", quantile(&cell.last, share)));
        table.row([
            cell.model.clone(),
            cell.correlation.to_string(),
            cell.learning_rate.to_string(),
            format!("{:.4}", mean(&cell.half)),
            spread(&cell.last),
            quartiles.join(" "),
        ]);
    }
    table
}

fn searches(cells: &[Cell]) -> Table {
    let mut heading = vec!["model".to_owned(), "correlation".to_owned()];
    heading.extend(cells[0].search.iter().map(|(rate, _)| rate.to_string()));
    let mut table = Table::with_heading(heading);
    for cell in cells {
        let losses = cell.search.iter().map(|(_, loss)| format!("{loss:.4}"));
        table.row([cell.model.clone(), cell.correlation.to_string()].into_iter().chain(losses));
    }
    table
}

fn differences(cells: &[Cell]) -> Result<Table> {
    let mut heading = vec!["".to_owned()];
    heading.extend(CORRELATIONS.map(|p| format!("correlation {p}")));
    let mut table = Table::with_heading(heading);
    for (worse, better) in [("shared-bottom", "omoe"), ("shared-bottom", "mmoe"), ("omoe", "mmoe")] {
        let of = |p| -> Result<String> {
            let (worse, better) = (cell(cells, worse, p)?, cell(cells, better, p)?);
            Ok(Interval::of_differences(&worse.last, &better.last).text())
        };
        let intervals = CORRELATIONS.map(of).into_iter().collect::<Result<Vec<_>>>()?;
        table.row([format!("{worse} less {better}")].into_iter().chain(intervals));
    }
    Ok(table)
}

fn cell<'a>(cells: &'a [Cell], model: &str, correlation: f64) -> Result<&'a Cell> {
    let found = cells.iter().find(|cell| cell.model == model && cell.correlation == correlation);
    found.with_context(|| format!("no runs of {model} at correlation {correlation}"))
}

/// What `gatefold-bench mmoe-paper` printed.
fn cells(found: &Value) -> Result<Vec<Cell>> {
    let cells = found["cells"].as_array().context("the trainings list no cells")?;
    cells.iter().map(parse).collect()
}

fn parse(cell: &Value) -> Result<Cell> {
    let number_in = |value: &Value| value.as_f64().with_context(|| format!("not a number: {value}"));
    let list = |value: &Value| value.as_array().cloned().with_context(|| format!("not a list: {value}"));
    let (mut half, mut last) = (Vec::new(), Vec::new());
    for curve in list(&cell["curves"])? {
        let curve = list(&curve)?.iter().map(number_in).collect::<Result<Vec<_>>>()?;
        ensure!(curve.len() >= 2, "a loss curve has {} points", curve.len());
        half.push(curve[curve.len() / 2 - 1]);
        last.push(curve[curve.len() - 1]);
    }
    let search = list(&cell["search"])?;
    let search = search.iter().map(|tried| Ok((number_in(&tried[0])?, number_in(&tried[1])?)));
    Ok(Cell {
        model: cell["model"].as_str().context("a cell names no model")?.to_owned(),
        correlation: number(cell, "correlation")?,
        learning_rate: number(cell, "learning_rate")?,
        search: search.collect::<Result<_>>()?,
        half,
        last,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Runs that agree with every finding, but for the changes made to them.
    fn found(change: impl Fn(&str, f64, usize) -> f64) -> Vec<Cell> {
        let base = |model: &str, p: f64| match model {
            "shared-bottom" => 0.2 - 0.1 * p,
            "omoe" => 0.16 - 0.1 * p,
            _ => 0.13 - 0.07 * p,
        };
        let cells: Vec<Value> = MODELS
            .iter()
            .flat_map(|model| CORRELATIONS.map(|p| (*model, p)))
            .map(|(model, p)| {
                let wide = if model == "shared-bottom" { 0.01 } else { 0.002 };
                let last = |run: usize| base(model, p) + wide * run as f64 + change(model, p, run);
                let curves: Vec<Value> = (0..3).map(|run| json!([0.5, 0.4, 0.3, last(run)])).collect();
                json!({
                    "model": model, "correlation": p, "learning_rate": 0.01,
                    "search": [[0.001, 0.4], [0.01, 0.3]], "curves": curves,
                })
            })
            .collect();
        cells_of(&json!({ "cells": cells }))
    }

    fn cells_of(found: &Value) -> Vec<Cell> {
        cells(found).unwrap()
    }

    #[track_caller]
    fn check_missed(cells: &[Cell], expected: &[&str]) {
        assert_eq!(bars(cells).unwrap().missed(), expected);
    }

    #[test]
    fn each_finding_can_fail() {
        check_missed(&found(|_, _, _| 0.0), &[]);
        check_missed(
            &found(|model, p, _| if model == "mmoe" && p == 0.9 { 0.03 } else { 0.0 }),
            &["mmoe: loss at correlation 0.5 over that at 0.9"],
        );
        check_missed(
            &found(|model, p, run| if model == "omoe" && p == 0.5 { 0.02 * run as f64 - 0.02 } else { 0.0 }),
            &[
                "omoe over mmoe at correlation 0.5, lower end of the interval",
                "spread of shared-bottom to that of omoe at correlation 0.5",
            ],
        );
        check_missed(
            &found(|model, p, _| if model == "omoe" && p == 1.0 { -0.01 } else { 0.0 }),
            &["omoe and mmoe at correlation 1: their difference, as a share of that at 0.5"],
        );
        check_missed(
            &found(|model, p, _| if model == "shared-bottom" && p == 1.0 { -0.05 } else { 0.0 }),
            &["shared-bottom over omoe at correlation 1", "shared-bottom over mmoe at correlation 1"],
        );
    }

    #[test]
    fn half_way_is_the_middle_of_the_curve() {
        let cells = found(|_, _, _| 0.0);
        assert_eq!(cells[0].half, [0.4; 3]);
        assert_eq!(cells[0].search, [(0.001, 0.4), (0.01, 0.3)]);
    }
}
