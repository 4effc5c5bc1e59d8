//! The training loop: shuffled batches, steps, evaluations, the best parameters.

use std::time::{Duration, Instant};

use gatefold_exec::Parameters;
use gatefold_metrics::FigureOptions;
use gatefold_schema::{Calibration, GateReport, Recipe};

use crate::{
    batches::BatchSource,
    data::TrainingData,
    error::TrainError,
    evaluation::Evaluation,
    learner::Learner,
    progress::{Event, Progress},
    space::measured_outputs,
};

/// How to run a training; what is learned does not depend on it.
#[derive(Clone, Copy, Debug)]
pub struct TrainOptions {
    /// Number of threads.
    pub threads: usize,
}

/// A trained model.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The parameters that were best on the validation split.
    pub parameters: Parameters,
    /// Their metrics there.
    pub evaluation: Evaluation,
    /// How the training went.
    pub report: TrainReport,
    /// The tasks whose outputs [`crate::calibration::fit`] has calibrated.
    pub calibrations: Vec<Calibration>,
    /// What [`crate::gates::inspect`] has found.
    pub gates: Option<GateReport>,
}

/// How a training went.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainReport {
    /// Steps made.
    pub steps: usize,
    /// Step of the best parameters, from 1.
    pub best_step: usize,
    /// Rows seen over all steps.
    pub rows: usize,
    /// Rows a second, time spent on evaluation left out.
    pub samples_per_second: f64,
    /// Seconds in all, evaluation included.
    pub seconds: f64,
}

/// Trains the recipe's model on `data`.
///
/// The same recipe, data and seed give the same parameters, bit by bit, for any number of threads.
///
/// # Errors
/// Labels that make no sense ([`crate::LabelCheck`]), a loss that is not finite, a model that
/// cannot be built, or [`TrainError::Cancelled`].
pub fn train(
    recipe: &Recipe,
    data: &TrainingData,
    options: &TrainOptions,
    progress: &mut dyn Progress,
) -> Result<Trained, TrainError> {
    let started = Instant::now();
    recipe.check().map_err(TrainError::Recipe)?;
    data.check(recipe)?;
    let settings = &recipe.train;
    let mut learner = Learner::new(recipe, &data.encoders, options.threads)?;
    let source = BatchSource::new(recipe, &data.train, None)?;
    let steps_per_epoch = source.steps();
    progress.report(&Event::Started {
        rows: source.rows(),
        steps: steps_per_epoch * settings.epochs,
        parameters: learner.parameter_count(),
    });

    let outputs = measured_outputs(&recipe.tasks, &recipe.derived);
    let observed = data.valid_observed(recipe)?;
    let mut best: Option<Best> = None;
    let mut evaluations_without_gain = 0;
    let (mut step, mut rows_seen, mut stepping) = (0, 0, Duration::ZERO);

    let mut batches = source.batches(0..settings.epochs, 0)?;
    loop {
        if progress.cancelled() {
            return Err(TrainError::Cancelled);
        }
        // Waiting for a batch counts as time of the step.
        let step_started = Instant::now();
        let Some(batch) = batches.next().transpose()? else { break };
        step += 1;
        let loss = learner.step(&batch, step)?;
        stepping += step_started.elapsed();
        rows_seen += batch.features.candidates;
        let epoch = batch.epoch + 1;
        let samples_per_second = rows_seen as f64 / stepping.as_secs_f64();
        progress.report(&Event::Stepped { epoch, step, rows: rows_seen, loss, samples_per_second });

        let epoch_ends = batch.step + 1 == steps_per_epoch;
        let evaluation_is_due = settings.evaluate_every > 0 && step % settings.evaluate_every == 0;
        if !epoch_ends && !evaluation_is_due {
            continue;
        }
        let scores = learner.score(&data.valid)?;
        let options = FigureOptions::default();
        let evaluation = Evaluation::measure("valid", &outputs, &scores, &observed, &options)?;
        let is_best = best.as_ref().is_none_or(|best| evaluation.quality() > best.evaluation.quality());
        progress.report(&Event::Evaluated { epoch, step, evaluation: &evaluation, best: is_best });
        if is_best {
            best = Some(Best { step, parameters: learner.parameters().clone(), evaluation });
            evaluations_without_gain = 0;
            continue;
        }
        evaluations_without_gain += 1;
        if settings.patience > 0 && evaluations_without_gain >= settings.patience {
            progress.report(&Event::StoppedEarly { best_step: best.as_ref().map_or(0, |best| best.step) });
            break;
        }
    }

    // Every epoch ends with an evaluation, and there is at least one epoch with at least one step.
    let Some(best) = best else { return Err(TrainError::EmptySplit { split: "train".into() }) };
    Ok(Trained {
        parameters: best.parameters,
        evaluation: best.evaluation,
        calibrations: Vec::new(),
        gates: None,
        report: TrainReport {
            steps: step,
            best_step: best.step,
            rows: rows_seen,
            samples_per_second: rows_seen as f64 / stepping.as_secs_f64(),
            seconds: started.elapsed().as_secs_f64(),
        },
    })
}

/// The best parameters so far.
struct Best {
    step: usize,
    parameters: Parameters,
    evaluation: Evaluation,
}
