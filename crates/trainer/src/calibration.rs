//! Calibration after training: fitted on validation, computed inside the exported graphs.
//!
//! - Samples that keep a share w of their negatives (the rows without any positive label) teach
//!   odds that are 1/w too high. A task on all impressions gets `ln w` added to its logit, which
//!   is `q = p / (p + (1 − p)/w)`; a conditional task's rows are never sampled away. This needs no
//!   configuration. It is exact where the rows sampled away are those of the task's negatives.
//! - `[train] calibrate` fits a task's output on the validation rows of its own sample space, which
//!   hold all negatives, so that it undoes the sampling too.
//!
//! A derived output multiplies the calibrated factors.

use std::collections::BTreeMap;

use gatefold_graph::{Graph, Node, NodeId, Op};
use gatefold_metrics::{FigureOptions, IsotonicCurve, Metric, fit_isotonic, fit_platt};
use gatefold_nn::NnError;
use gatefold_schema::{Calibration, CalibrationFigures, CalibrationMethod, Calibrator, Loss, Recipe, Task};

use crate::{
    data::TrainingData,
    error::TrainError,
    evaluation::{Evaluation, Observed},
    forward::Forward,
    space::{MeasuredOutput, measured_outputs},
    train::Trained,
};

/// The steepest piece of an isotonic curve: what it multiplies the rounding of a probability by,
/// and with it the difference between the runtimes that compute it.
const STEEPEST: f64 = 10.0;

/// Calibrates the tasks that the recipe or the sampling of `data` asks for: the parameters take in
/// the constants of the calibrators, the evaluation becomes that of the calibrated outputs.
///
/// # Errors
/// When the model cannot be run, the shards cannot be read, or a curve cannot be fitted.
pub fn fit(
    recipe: &Recipe,
    data: &TrainingData,
    threads: usize,
    trained: &mut Trained,
) -> Result<(), TrainError> {
    let rate = data.negative_sampling_rate;
    let outputs = measured_outputs(&recipe.tasks, &recipe.derived);
    let method_of = |task: &Task| recipe.train.calibrate.get(&task.name).copied();
    let needs_calibration = |(task, _): &(&Task, &MeasuredOutput)| {
        let is_sampled = rate < 1.0 && task.given.is_none() && task.loss == Loss::CrossEntropy;
        method_of(task).is_some() || is_sampled
    };
    // The tasks come first among the outputs.
    let tasks: Vec<(&Task, &MeasuredOutput)> =
        recipe.tasks.iter().zip(&outputs).filter(needs_calibration).collect();
    if tasks.is_empty() {
        return Ok(());
    }
    let observed = data.valid_observed(recipe)?;
    let graph = gatefold_nn::forward(&data.encoders.features, &recipe.tasks, &recipe.derived, &recipe.model)?;
    let targets =
        tasks.iter().map(|(task, _)| fitted_on(&graph, task, method_of(task))).collect::<Result<_, _>>()?;
    let mut heads = Forward::with_targets(graph, targets, recipe, &data.encoders, threads)?;
    let values = heads.score_rows(&trained.parameters, &data.valid)?;
    let mut calibrators = BTreeMap::new();
    for ((task, output), values) in tasks.iter().zip(&values) {
        let calibrator = match method_of(task) {
            None => Calibrator::Logistic { scale: 1.0, shift: rate.ln() as f32 },
            Some(method) => fit_method(method, output, values, &observed)?,
        };
        calibrators.insert(task.name.clone(), calibrator);
    }

    let mut calibrated = Forward::calibrated(recipe, &data.encoders, &calibrators, threads)?;
    trained.parameters.extend(calibrated.graph().parameters(), recipe.train.seed)?;
    let scores = calibrated.score_rows(&trained.parameters, &data.valid)?;
    let after = Evaluation::measure("valid", &outputs, &scores, &observed, &FigureOptions::default())?;
    trained.calibrations = tasks
        .into_iter()
        .filter_map(|(task, _)| {
            Some(Calibration {
                task: task.name.clone(),
                method: method_of(task),
                negative_sampling_rate: rate,
                calibrator: calibrators.remove(&task.name)?,
                rows: after.outputs.iter().find(|output| output.output == task.name)?.figures.rows,
                before: figures(&trained.evaluation, &task.name)?,
                after: figures(&after, &task.name)?,
            })
        })
        .collect();
    trained.evaluation = after;
    Ok(())
}

/// The calibrators by task, as the graph takes them.
pub(crate) fn calibrators(calibrations: &[Calibration]) -> BTreeMap<String, Calibrator> {
    calibrations
        .iter()
        .map(|calibration| (calibration.task.clone(), calibration.calibrator.clone()))
        .collect()
}

fn figures(evaluation: &Evaluation, task: &str) -> Option<CalibrationFigures> {
    let value = |metric: Metric| evaluation.metric(task, metric.name());
    Some(CalibrationFigures {
        ece: value(Metric::Ece)?,
        pcoc: value(Metric::Pcoc)?,
        log_loss: value(Metric::LogLoss)?,
    })
}

/// The value that a task's calibration reads: an isotonic curve the probability, the others the
/// logit.
fn fitted_on(graph: &Graph, task: &Task, method: Option<CalibrationMethod>) -> Result<NodeId, TrainError> {
    let name = &task.name;
    let output = graph.output_named(name).ok_or_else(|| TrainError::NoOutput { output: name.clone() })?;
    match (method, graph.node(output)) {
        (Some(CalibrationMethod::Isotonic), _) => Ok(output),
        (_, Node { op: Op::Sigmoid, inputs, .. }) => Ok(inputs[0]),
        _ => Err(NnError::NoLogit { task: name.clone() }.into()),
    }
}

/// Fits a calibration to `values` (logits or probabilities) on the sample space of the output.
fn fit_method(
    method: CalibrationMethod,
    output: &MeasuredOutput,
    values: &[f32],
    observed: &Observed,
) -> Result<Calibrator, TrainError> {
    let failed = |source| TrainError::Metric { output: output.output.clone(), split: "valid".into(), source };
    let rows = output.judged("valid", values, observed)?;
    match method {
        CalibrationMethod::Platt => {
            let curve = fit_platt(&rows.scores, &rows.labels, rows.weights.as_deref()).map_err(failed)?;
            if curve.scale <= 0.0 {
                tracing::warn!(
                    "the calibration of {} turns its order round: on validation it ranks worse than chance",
                    output.output
                );
            }
            Ok(Calibrator::Logistic { scale: curve.scale as f32, shift: curve.shift as f32 })
        }
        CalibrationMethod::Isotonic => {
            let curve = fit_isotonic(&rows.scores, &rows.labels, rows.weights.as_deref(), STEEPEST);
            let IsotonicCurve { mut scores, mut rates } = curve.map_err(failed)?;
            if scores.len() == 1 {
                // A level line needs a second point.
                scores.push(scores[0] + 1.0);
                rates.push(rates[0]);
            }
            Ok(Calibrator::Curve { scores, rates })
        }
    }
}
