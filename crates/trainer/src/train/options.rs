//! What a training is given beside recipe and data, and what it gives back.

use std::{path::PathBuf, time::Duration};

use gatefold_exec::Parameters;
use gatefold_schema::{Calibration, GateReport};

use crate::evaluation::Evaluation;

/// How to run a training. What is learned depends on the parameters that it begins from, and on
/// nothing else here.
#[derive(Clone, Debug, Default)]
pub struct TrainOptions {
    /// Number of threads.
    pub threads: usize,
    /// Where an unfinished training is kept; without it, an interrupted one is lost.
    pub checkpoints: Option<Checkpoints>,
    /// A bundle, or a model's folder, whose parameters are the first ones of this training where
    /// they fit.
    pub warm_start: Option<PathBuf>,
}

impl TrainOptions {
    /// Fresh parameters, no checkpoints.
    pub fn new(threads: usize) -> Self {
        Self { threads, ..Self::default() }
    }
}

/// When and where checkpoints are written. A training that is interrupted writes one in any case.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// Their folder.
    pub folder: PathBuf,
    /// Write one every so many steps; 0: never for that reason.
    pub every_steps: usize,
    /// Write one when the last is so long ago.
    pub every: Option<Duration>,
    /// What is done with the checkpoint that is there.
    pub existing: Existing,
}

/// What is done with a checkpoint that is there when a training begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// The training is refused, so that nothing is lost.
    Refuse,
    /// The training goes on from it.
    Resume,
    /// It is removed.
    Discard,
}

/// A trained model.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The parameters that were best on the validation split.
    pub parameters: Parameters,
    /// Their metrics there.
    pub evaluation: Evaluation,
    /// The bundle that the training began from.
    pub warm_start: Option<String>,
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
    /// Steps made, those before a resume among them.
    pub steps: usize,
    /// Step of the best parameters, from 1.
    pub best_step: usize,
    /// Rows seen since the training began or was resumed.
    pub rows: usize,
    /// Rows a second since then, time spent on evaluation and checkpoints left out.
    pub samples_per_second: f64,
    /// Seconds since then, everything included.
    pub seconds: f64,
}
