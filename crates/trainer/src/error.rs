//! Why a training or a publication stopped.

use std::path::{Path, PathBuf};

use gatefold_dataset::DatasetError;
use gatefold_engine::{BackendError, BundleError, GoldenError};
use gatefold_exec::ExecError;
use gatefold_features::EncodeError;
use gatefold_graph::GraphError;
use gatefold_metrics::MetricError;
use gatefold_nn::NnError;
use gatefold_onnx::OnnxError;
use gatefold_schema::ConfigError;

use crate::{checkpoint::CheckpointError, warm_start::WarmStartError};

/// A training or a publication that cannot go on. Nothing has been published in any of these
/// cases.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The recipe and the sample set do not belong together.
    #[error(
        "{what}: rebuild the samples with this recipe (gatefold samples build), or train with the recipe they \
         were built with"
    )]
    Mismatch {
        /// The first difference.
        what: String,
    },
    /// The recipe contradicts itself.
    #[error("the recipe cannot be trained")]
    Recipe(#[source] ConfigError),
    /// A split without rows.
    #[error("split '{split}' has no row: widen [samples.split] or use more logs")]
    EmptySplit {
        /// Name of the split.
        split: String,
    },
    /// A label column that the shards do not have.
    #[error(
        "split '{split}': there is no label column '{label}', which {wanted_by} needs (there are: {known})"
    )]
    MissingLabel {
        /// Name of the split.
        split: String,
        /// The column.
        label: String,
        /// The task or derived output.
        wanted_by: String,
        /// Label columns of the split.
        known: String,
    },
    /// A label that its loss has no use for.
    #[error(
        "split '{split}', label '{label}', row {row}: found {value}, but labels are {expected} ({count} such rows)"
    )]
    BadLabel {
        /// Name of the split.
        split: String,
        /// The column.
        label: String,
        /// First such row.
        row: usize,
        /// Its value.
        value: f32,
        /// What labels of the task are.
        expected: &'static str,
        /// Number of such rows.
        count: usize,
    },
    /// A conditional outcome without its condition, such as a conversion without a click.
    #[error(
        "split '{split}': {count} rows have {label} = 1 but {given} = 0 (the first is row {row}), though task \
         '{task}' can only happen where {given} = 1: correct the logs or the attribution, or leave such rows out \
         with outside_space = \"drop\" in [train]"
    )]
    OutsideSampleSpace {
        /// Name of the split.
        split: String,
        /// The task.
        task: String,
        /// Its label column.
        label: String,
        /// Label column of the condition.
        given: String,
        /// First such row.
        row: usize,
        /// Number of such rows.
        count: usize,
    },
    /// A task with only one outcome.
    #[error(
        "task '{task}' has no {missing} among the {rows} rows of split '{split}' where it counts ({space}), so \
         nothing can be learned or measured: use more rows, or leave the task out"
    )]
    OneClass {
        /// Name of the split.
        split: String,
        /// The task.
        task: String,
        /// `positive` or `negative`.
        missing: &'static str,
        /// Rows of the task's sample space.
        rows: usize,
        /// The sample space in words.
        space: String,
    },
    /// A loss that is NaN or infinite.
    #[error(transparent)]
    NotFinite(Box<NotFinite>),
    /// A metric to choose by that does not exist there.
    #[error(
        "select: the metric '{metric}' of {output} is not defined on the validation split (one class only, or \
         not a metric of what it predicts): choose another metric or other weights"
    )]
    Undefined {
        /// The metric.
        metric: &'static str,
        /// The output.
        output: String,
    },
    /// An output that no row of a split is measured on.
    #[error("split '{split}' has no row for '{output}' ({space}): evaluate on more rows")]
    EmptySpace {
        /// Name of the split.
        split: String,
        /// The output.
        output: String,
        /// Its sample space in words.
        space: String,
    },
    /// The caller asked to stop.
    #[error("training was interrupted after step {step}; nothing was published{}", in_words(.checkpoint))]
    Interrupted {
        /// Steps made.
        step: usize,
        /// Step and folder of the checkpoint that the training can go on from.
        checkpoint: Option<(usize, PathBuf)>,
    },
    /// A checkpoint that cannot be written or gone on from.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Balancing by gradients where the tasks have no layer in common.
    #[error(
        "balance gradnorm compares the tasks' gradients at the last layer that they share, and this model has \
         none: choose another model, or another kind of balance"
    )]
    NoSharedLayer,
    /// A bundle that a training cannot begin from.
    #[error("cannot begin with the parameters of {path}", path = path.display())]
    WarmStart {
        /// The bundle, or the model's folder.
        path: PathBuf,
        /// Why.
        source: WarmStartError,
    },
    /// An exported graph does not give the trainer's scores.
    #[error(
        "the {form} graph gives output '{output}' a score of {exported} on validation row {row} where the trainer \
         gives {native}; the bundle was not published"
    )]
    Parity {
        /// `plain` or `user-once`.
        form: &'static str,
        /// The output.
        output: String,
        /// The row of the validation split.
        row: usize,
        /// Score of the exported graph.
        exported: f32,
        /// Score of the trainer's own forward pass.
        native: f32,
    },
    /// An exported graph does not give the golden scores.
    #[error("the {form} graph does not give the trainer's scores; the bundle was not published")]
    Golden {
        /// `plain` or `user-once`.
        form: &'static str,
        /// The first difference.
        source: GoldenError,
    },
    /// The sample set has no example requests.
    #[error(
        "the sample set has no example requests, which golden.json is made of: set [samples] examples to at least 1"
    )]
    NoExamples,
    /// A sample set that cannot be read.
    #[error("cannot read the samples")]
    Dataset(#[from] DatasetError),
    /// A graph without an output that it should have.
    #[error("the graph of the model has no output '{output}'")]
    NoOutput {
        /// The output.
        output: String,
    },
    /// A model that cannot be built.
    #[error("cannot build the model")]
    Model(#[from] NnError),
    /// A graph that cannot be transformed.
    #[error("cannot prepare the graph")]
    Graph(#[from] GraphError),
    /// A plan that cannot be run.
    #[error("cannot run the graph")]
    Exec(#[from] ExecError),
    /// A metric that is not defined.
    #[error("cannot evaluate output '{output}' on split '{split}'")]
    Metric {
        /// The output.
        output: String,
        /// Name of the split.
        split: String,
        /// Why.
        source: MetricError,
    },
    /// A graph that cannot be written as ONNX.
    #[error("cannot export the model")]
    Onnx(#[from] OnnxError),
    /// An example request that cannot be encoded.
    #[error("cannot encode example request '{request}' of the sample set")]
    Example {
        /// Its identifier.
        request: String,
        /// Why.
        source: EncodeError,
    },
    /// The exported model cannot be run.
    #[error("cannot run the exported model")]
    Backend(#[from] BackendError),
    /// The bundle cannot be written.
    #[error("cannot write the bundle {path}")]
    Bundle {
        /// Where it was to go.
        path: PathBuf,
        /// Why.
        source: BundleError,
    },
}

/// A loss that is NaN or infinite, with what one needs to find out why.
#[derive(Debug, thiserror::Error)]
#[error(
    "the loss of {task} is {loss} at epoch {epoch}, step {step}: lower learning_rate, or look for extreme values \
     in the features of this batch: {ranges}{}", in_words(.kept)
)]
pub struct NotFinite {
    /// Tasks whose loss is not finite.
    pub task: String,
    /// The loss.
    pub loss: f32,
    /// Epoch, from 1.
    pub epoch: usize,
    /// Step, from 1.
    pub step: usize,
    /// Smallest and largest value of every feature in the batch.
    pub ranges: String,
    /// Step and folder of the last good checkpoint.
    pub kept: Option<(usize, PathBuf)>,
}

impl TrainError {
    /// Says which checkpoint is left, where a loss is not finite.
    pub(crate) fn with_checkpoint(mut self, checkpoint: Option<(usize, &Path)>) -> Self {
        if let Self::NotFinite(not_finite) = &mut self {
            not_finite.kept = checkpoint.map(|(step, folder)| (step, folder.to_owned()));
        }
        self
    }
}

fn in_words(checkpoint: &Option<(usize, PathBuf)>) -> String {
    let text = |(step, folder): &(usize, PathBuf)| {
        format!("; the checkpoint of step {step} is in {}", folder.display())
    };
    checkpoint.as_ref().map(text).unwrap_or_default()
}
