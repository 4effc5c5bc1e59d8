//! What a training tells its caller while it runs.

use crate::evaluation::Evaluation;

/// Receives what happens, on the training thread.
pub trait Progress {
    /// Something happened.
    fn report(&mut self, event: &Event<'_>);

    /// Asked before each step: true ends the training with [`crate::TrainError::Cancelled`].
    fn cancelled(&self) -> bool {
        false
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The model is built and the data is checked.
    Started {
        /// Rows of the training split.
        rows: usize,
        /// Steps of all epochs, if no early stop comes.
        steps: usize,
        /// Trained numbers in the model.
        parameters: usize,
    },
    /// A step was made.
    Stepped {
        /// Epoch, from 1.
        epoch: usize,
        /// Step over all epochs, from 1.
        step: usize,
        /// Rows seen so far, over all epochs.
        rows: usize,
        /// Total loss of the batch.
        loss: f32,
        /// Samples a second since training started, time spent on evaluation left out.
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
