//! What a training tells its caller while it runs.

use std::path::Path;

use crate::{evaluation::Evaluation, warm_start::WarmStart};

/// Receives what happens, on the training thread.
pub trait Progress {
    /// Something happened.
    fn report(&mut self, event: &Event<'_>);

    /// Asked before each step: true ends the training with [`crate::TrainError::Interrupted`].
    fn cancelled(&self) -> bool {
        false
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Rows of a split are left out, because a conditional outcome happened without its condition.
    RowsDropped {
        /// Name of the split.
        split: &'static str,
        /// How many.
        rows: usize,
    },
    /// The model is built and the data is checked.
    Started {
        /// Rows of the training split.
        rows: usize,
        /// Steps of all epochs, if no early stop comes.
        steps: usize,
        /// The first step to come, from 1.
        first_step: usize,
        /// Trained numbers in the model.
        parameters: usize,
    },
    /// The training goes on from a checkpoint.
    Resumed {
        /// Steps behind it.
        step: usize,
    },
    /// The training begins with the parameters of a bundle.
    WarmStarted {
        /// What was taken, and what was not.
        report: &'a WarmStart,
    },
    /// A step was made.
    Stepped {
        /// Epoch, from 1.
        epoch: usize,
        /// Step over all epochs, from 1.
        step: usize,
        /// Rows seen since the training began or was resumed.
        rows: usize,
        /// What the step lowered: the weighted sum of the losses of the batch.
        loss: f32,
        /// Name and loss of each task that the batch taught.
        losses: &'a [(&'a str, f32)],
        /// What the schedule multiplied the step sizes by.
        rate_factor: f32,
        /// Samples a second since then, time spent on evaluation and checkpoints left out.
        samples_per_second: f64,
    },
    /// The validation split was scored.
    Evaluated {
        /// Epoch, from 1.
        epoch: usize,
        /// Step over all epochs, from 1.
        step: usize,
        /// The metrics.
        evaluation: &'a Evaluation,
        /// Whether these parameters are the best so far.
        best: bool,
    },
    /// A checkpoint was written.
    CheckpointWritten {
        /// Steps behind it.
        step: usize,
        /// Its folder.
        folder: &'a Path,
    },
    /// Training ended before the last epoch, because `patience` evaluations brought nothing.
    StoppedEarly {
        /// Step of the best parameters.
        best_step: usize,
    },
    /// An exported graph gave the trainer's scores.
    Verified {
        /// `plain` or `user-once`.
        form: &'static str,
        /// Rows compared.
        rows: usize,
        /// Largest difference of any score.
        largest_difference: f32,
    },
}

/// Ignores everything.
pub struct Silent;

impl Progress for Silent {
    fn report(&mut self, _event: &Event<'_>) {}
}
