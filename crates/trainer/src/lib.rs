//! Training: a recipe and a sample set become a published model.
//!
//! ```text
//! TrainingData ─▶ train ─▶ Trained ─▶ publish ─▶ models/<name>/<version>/
//!   checked         │                    │
//!   labels      batch → step        ONNX in two forms, each run and
//!               evaluate, keep best compared with the trainer's scores
//! ```
//!
//! - [`data`]: the splits, in memory or on disk; a recipe and samples that do not belong together
//!   are refused.
//! - [`batches`]: the rows of each step, prepared ahead.
//! - [`space`]: the sample space of each task and output, and the checks on labels.
//! - [`train`](mod@train): the loop. The same recipe, data and seed give the same parameters, bit by bit, for
//!   any number of threads, stopped and resumed or not.
//! - `mixture`, `balance`: which batches follow each other, and how the tasks' losses are weighed.
//! - `selection`: which parameters are the best.
//! - [`checkpoint`]: an unfinished training on disk.
//! - [`warm_start`]: first parameters out of a published bundle.
//! - [`evaluation`]: every figure of each output on its own sample space.
//! - [`calibration`]: probabilities made to hold on validation.
//! - [`gates`]: how a model's gates use their experts, and its dead units.
//! - [`publish`](mod@publish): export, proof, bundle.
//! - [`progress`]: what the caller hears meanwhile, and how it can stop the training.
//! - [`tensorboard`]: event files of scalars.
//!
//! The crate has no layers, kernels or metrics of its own: it only puts together those of
//! `gatefold-nn`, `gatefold-exec` and `gatefold-metrics`.

mod balance;
pub mod batches;
pub mod calibration;
pub mod checkpoint;
pub mod data;
mod error;
pub mod evaluation;
pub mod forward;
pub mod gates;
mod learner;
mod levels;
mod mixture;
pub mod progress;
pub mod publish;
pub mod quantize;
mod selection;
pub mod space;
pub mod tensorboard;
pub mod train;
pub mod warm_start;

pub use batches::{Batch, BatchSource};
pub use checkpoint::CheckpointError;
pub use data::TrainingData;
pub use error::{NotFinite, TrainError};
pub use evaluation::{Evaluation, Observed, OutputEvaluation};
pub use forward::Forward;
pub use progress::{Event, Progress, Silent};
pub use publish::{Published, publish};
pub use quantize::{GraphRanges, Rewritten, observe_ranges, quantize};
pub use space::{
    JudgedRows, LabelCheck, MeasuredOutput, measured_outputs, potential_outputs, sampling_weights,
};
pub use train::{Checkpoints, Existing, TrainOptions, TrainReport, Trained, train};
pub use warm_start::{WarmStart, WarmStartError};
