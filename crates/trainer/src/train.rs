//! The training loop: batches, steps, evaluations, checkpoints, the best parameters.

mod begin;
mod options;
mod store;
mod stream;

use std::time::{Duration, Instant};

use gatefold_metrics::FigureOptions;
use gatefold_schema::Recipe;

use crate::{
    data::TrainingData,
    error::TrainError,
    evaluation::{Evaluation, Observed},
    learner::Learner,
    mixture::Mixture,
    progress::{Event, Progress},
    selection::Selection,
    space::{MeasuredOutput, measured_outputs},
};

pub use options::{Checkpoints, Existing, TrainOptions, TrainReport, Trained};
use store::Store;
use stream::BatchStream;

/// Trains the recipe's model on `data`.
///
/// The same recipe, data and seed give the same parameters, bit by bit, for any number of threads,
/// and whether or not the training was stopped in between and went on from a checkpoint.
///
/// # Errors
/// Labels that make no sense, a loss that is not finite, a model that cannot be built, a checkpoint
/// that cannot be written or gone on from, or [`TrainError::Interrupted`].
pub fn train(
    recipe: &Recipe,
    data: &TrainingData,
    options: &TrainOptions,
    progress: &mut dyn Progress,
) -> Result<Trained, TrainError> {
    recipe.check().map_err(TrainError::Recipe)?;
    for (split, rows) in data.check(recipe)?.into_iter().filter(|(_, rows)| *rows > 0) {
        progress.report(&Event::RowsDropped { split, rows });
    }
    let mut run = Run::new(recipe, data, options)?;
    let first = run.begin(options.warm_start.as_deref(), progress)? + 1;
    let mut stream = BatchStream::new(recipe, data, &run.mixture, &run.learner, first, run.steps)?;
    progress.report(&Event::Started {
        rows: data.train.rows(),
        steps: run.steps,
        first_step: first,
        parameters: run.learner.parameter_count(),
    });
    for step in first..=run.steps {
        if progress.cancelled() {
            return Err(run.interrupt(step - 1, progress));
        }
        run.step(step, &mut stream, progress)?;
        let epoch_ends = step % run.steps_per_epoch == 0;
        if epoch_ends {
            run.learner.weighing.end_epoch();
        }
        let every = recipe.train.evaluate_every;
        if epoch_ends || (every > 0 && step % every == 0) {
            run.evaluate(step, progress)?;
            if run.selection.is_over() {
                progress.report(&Event::StoppedEarly { best_step: run.best_step() });
                break;
            }
        }
        if run.store.checkpoint_is_due(step) {
            run.write_checkpoint(step, progress)?;
        }
    }
    run.finish()
}

/// A training under way.
struct Run<'a> {
    recipe: &'a Recipe,
    data: &'a TrainingData,
    outputs: Vec<MeasuredOutput>,
    /// What happened on the validation split.
    observed: Observed,
    mixture: Mixture,
    learner: Learner,
    selection: Selection,
    store: Store,
    /// The metrics of the best parameters, unless they come from before a resume.
    best_evaluation: Option<Evaluation>,
    steps_per_epoch: usize,
    /// Steps of all epochs.
    steps: usize,
    /// The bundle that the first parameters are from.
    warm_start: Option<String>,
    /// Those made, before a resume too.
    steps_made: usize,
    /// Rows of this run alone, which a resume begins anew; so are the times.
    rows: usize,
    stepping: Duration,
    started: Instant,
}

impl<'a> Run<'a> {
    fn new(recipe: &'a Recipe, data: &'a TrainingData, options: &TrainOptions) -> Result<Self, TrainError> {
        let mixture = Mixture::new(&recipe.train.alternate, &recipe.tasks);
        let steps_per_epoch = stream::steps_per_epoch(recipe, data)?;
        Ok(Self {
            learner: Learner::new(recipe, &data.encoders, &mixture, options.threads)?,
            outputs: measured_outputs(&recipe.tasks, &recipe.derived),
            observed: data.valid_observed(recipe)?,
            selection: Selection::new(recipe.train.select.as_ref(), recipe.train.patience),
            store: Store::open(options.checkpoints.as_ref())?,
            best_evaluation: None,
            warm_start: None,
            steps: steps_per_epoch * recipe.train.epochs,
            steps_per_epoch,
            steps_made: 0,
            rows: 0,
            stepping: Duration::ZERO,
            started: Instant::now(),
            mixture,
            recipe,
            data,
        })
    }

    fn step(
        &mut self,
        step: usize,
        stream: &mut BatchStream,
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        let started = Instant::now();
        let batch = stream.next()?;
        let rate_factor = self.recipe.train.schedule.factor(step, self.steps);
        let losses = self
            .learner
            .step(self.mixture.kind(step), &batch, step, rate_factor)
            .map_err(|error| error.with_checkpoint(self.store.checkpoint()))?;
        self.stepping += started.elapsed();
        self.steps_made = step;
        self.rows += batch.features.candidates;
        let names = self.recipe.tasks.iter().map(|task| task.name.as_str());
        let of_tasks: Vec<(&str, f32)> =
            names.zip(&losses.by_task).filter_map(|(name, loss)| Some((name, (*loss)?))).collect();
        progress.report(&Event::Stepped {
            epoch: self.epoch(step),
            step,
            rows: self.rows,
            loss: losses.total,
            losses: &of_tasks,
            rate_factor,
            samples_per_second: self.samples_per_second(),
        });
        Ok(())
    }

    fn evaluate(&mut self, step: usize, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let evaluation = self.measure()?;
        let best = self.selection.observe(step, &evaluation)?;
        progress.report(&Event::Evaluated { epoch: self.epoch(step), step, evaluation: &evaluation, best });
        if best {
            self.store.keep_best(step, &self.learner.parameters)?;
            self.best_evaluation = Some(evaluation);
        }
        Ok(())
    }

    /// Measures the parameters as they are on the validation split.
    fn measure(&mut self) -> Result<Evaluation, TrainError> {
        let scores = self.learner.score(&self.data.valid)?;
        Evaluation::measure("valid", &self.outputs, &scores, &self.observed, &FigureOptions::default())
    }

    /// The best parameters with their metrics.
    fn finish(mut self) -> Result<Trained, TrainError> {
        self.store.take_best(&mut self.learner.parameters)?;
        let evaluation = match self.best_evaluation.take() {
            Some(evaluation) => evaluation,
            None => self.measure()?,
        };
        Ok(Trained {
            evaluation,
            report: TrainReport {
                steps: self.steps_made,
                best_step: self.best_step(),
                rows: self.rows,
                samples_per_second: self.samples_per_second(),
                seconds: self.started.elapsed().as_secs_f64(),
            },
            warm_start: self.warm_start,
            parameters: self.learner.parameters,
            calibrations: Vec::new(),
            gates: None,
        })
    }

    fn best_step(&self) -> usize {
        self.selection.best.map_or(0, |(step, _)| step)
    }

    /// The epoch of a step, both from 1.
    fn epoch(&self, step: usize) -> usize {
        1 + (step - 1) / self.steps_per_epoch
    }

    fn samples_per_second(&self) -> f64 {
        self.rows as f64 / self.stepping.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}
