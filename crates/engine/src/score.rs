//! What one call to [`crate::Engine::score`] takes and gives.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use gatefold_features::{EncodeError, FeatureBatch, RawBatch};
use gatefold_schema::GateOutput;

use crate::BackendError;

/// A model and its version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelVersion {
    /// Model name.
    pub name: Arc<str>,
    /// Version, 1 and up.
    pub version: u64,
}

impl fmt::Display for ModelVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.name, self.version)
    }
}

/// Which version of a model a job is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VersionChoice<'a> {
    /// The one that takes the traffic which names none.
    #[default]
    Current,
    /// This one.
    Version(u64),
    /// The one that a label names.
    Label(&'a str),
}

/// Candidates to be scored.
#[derive(Debug)]
pub struct ScoreJob<'a> {
    /// Model name; empty where the server has exactly one model.
    pub model: &'a str,
    /// Which of its versions.
    pub version: VersionChoice<'a>,
    /// The candidates.
    pub features: Features<'a>,
    /// Outputs wanted, in the order wanted; empty means all.
    pub outputs: &'a [String],
    /// Whether the weights of the gates are wanted through which these outputs are predicted.
    pub gates: bool,
    /// When the caller stops waiting: the job is dropped before compute once this has passed.
    pub deadline: Option<Instant>,
    /// 0 to [`HIGHEST_PRIORITY`](crate::HIGHEST_PRIORITY), which goes before the lower ones in the
    /// model's queue; anything above counts as the highest. What has waited
    /// [`PRIORITY_LEAD`](crate::PRIORITY_LEAD) for each level of difference is not overtaken.
    pub priority: u8,
}

/// Feature values of the candidates.
#[derive(Debug)]
pub enum Features<'a> {
    /// Raw values; encoded strictly by the model's own encoders.
    Raw(&'a RawBatch<'a>),
    /// Already encoded for this model; checked for shape and code range.
    Encoded(FeatureBatch),
}

/// Scores of one job.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreReply {
    /// The model that scored.
    pub model: ModelVersion,
    /// Labels that name this version.
    pub labels: Vec<String>,
    /// Names of the outputs, in the order asked for.
    pub outputs: Vec<String>,
    /// One vector an output, one probability a candidate.
    pub scores: Vec<Vec<f32>>,
    /// The gates, where they were asked for.
    pub gates: Vec<GateWeights>,
    /// Where the time went.
    pub timings: Timings,
}

/// How a gate weighs its experts for each candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct GateWeights {
    /// The gate, the tasks predicted through it, and its experts.
    pub gate: GateOutput,
    /// One row a candidate of one weight an expert, which sum to 1.
    pub weights: Vec<f32>,
}

/// Time spent on one job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Checking and encoding raw values.
    pub encode: Duration,
    /// Waiting for other requests and a free worker.
    pub queue: Duration,
    /// Running the batch this job was part of.
    pub infer: Duration,
    /// Jobs in that batch.
    pub batch_jobs: usize,
    /// Candidates in that batch.
    pub batch_rows: usize,
}

fn unknown_model(name: &str) -> String {
    match name {
        "" => "the request names no model: name one".to_owned(),
        name => format!("no model is named '{name}'"),
    }
}

/// Why a job got no scores.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ScoreError {
    /// No such model.
    #[error("{}; {known}", unknown_model(.model))]
    UnknownModel {
        /// The name asked for.
        model: String,
        /// A sentence that lists the models there are.
        known: String,
    },
    /// The model has no such version.
    #[error("model '{model}' has no version {version} loaded; loaded: {loaded}")]
    UnknownVersion {
        /// The model.
        model: String,
        /// The version asked for.
        version: u64,
        /// The loaded versions.
        loaded: String,
    },
    /// The model has no such label.
    #[error("model '{model}' has no version labelled '{label}'; labels: {known}")]
    UnknownLabel {
        /// The model.
        model: String,
        /// The label asked for.
        label: String,
        /// The labels there are, each with its version.
        known: String,
    },
    /// The model has no such output.
    #[error("model '{model}' has no output '{output}'; it has: {known}")]
    UnknownOutput {
        /// The model.
        model: ModelVersion,
        /// The name asked for.
        output: String,
        /// The outputs there are.
        known: String,
    },
    /// An output was asked for twice.
    #[error("output '{output}' is asked for twice; name each output once")]
    RepeatedOutput {
        /// The output.
        output: String,
    },
    /// Gate weights of a model that gives none.
    #[error(
        "model '{model}' gives no gate weights: it has no experts, or was published before they were exported; \
         ask without them, or publish it again"
    )]
    NoGates {
        /// The model.
        model: ModelVersion,
    },
    /// Nothing to score.
    #[error("the request has no candidates; send at least one")]
    NoCandidates,
    /// More candidates than a request may have.
    #[error("the request has {found} candidates and the limit is {limit}; split it")]
    TooManyCandidates {
        /// Candidates in the request.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The queue is full.
    #[error(
        "model '{model}' is overloaded: {queued} candidates are waiting and the limit is {limit}; \
         try again later or elsewhere"
    )]
    Overloaded {
        /// The model.
        model: ModelVersion,
        /// Candidates waiting.
        queued: usize,
        /// The limit.
        limit: usize,
    },
    /// The scores would come too late.
    #[error(
        "model '{model}' is overloaded: an answer would take about {} ms and the caller waits {} ms; \
         try again later or elsewhere",
        needed.as_millis(),
        left.as_millis()
    )]
    TooLate {
        /// The model.
        model: ModelVersion,
        /// Time until the scores would be there, as far as can be told.
        needed: Duration,
        /// Time until the deadline.
        left: Duration,
    },
    /// The queue was full, and the job's place went to one of a higher priority.
    #[error(
        "model '{model}' is overloaded: a request of a higher priority took this one's place in the queue; try again later or elsewhere"
    )]
    Displaced {
        /// The model.
        model: ModelVersion,
    },
    /// The deadline passed before the scores were there.
    #[error("the deadline passed before the request was scored")]
    DeadlineExceeded,
    /// The raw values do not fit the model's features.
    #[error("{0}")]
    Encode(Arc<EncodeError>),
    /// The encoded values do not fit the model's features.
    #[error("the encoded batch does not fit model '{model}': {reason}")]
    Batch {
        /// The model.
        model: ModelVersion,
        /// What is wrong.
        reason: String,
    },
    /// The model failed.
    #[error("model '{model}': {reason}")]
    Backend {
        /// The model.
        model: ModelVersion,
        /// What went wrong.
        reason: Arc<BackendError>,
    },
    /// The model's backends panicked and none could be opened again.
    #[error(
        "model '{model}' has failed and takes no traffic; its status and the log say why; try again elsewhere"
    )]
    Lost {
        /// The model.
        model: ModelVersion,
    },
    /// The process is stopping.
    #[error("the server is stopping; try again elsewhere")]
    ShuttingDown,
}

impl ScoreError {
    /// A short word for counters and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            ScoreError::UnknownModel { .. } => "unknown_model",
            ScoreError::UnknownVersion { .. } => "unknown_version",
            ScoreError::UnknownLabel { .. } => "unknown_label",
            ScoreError::UnknownOutput { .. } | ScoreError::RepeatedOutput { .. } => "bad_output",
            ScoreError::NoGates { .. } => "no_gates",
            ScoreError::NoCandidates => "no_candidates",
            ScoreError::TooManyCandidates { .. } => "too_many_candidates",
            ScoreError::Overloaded { .. } => "overloaded",
            ScoreError::TooLate { .. } => "too_late",
            ScoreError::Displaced { .. } => "displaced",
            ScoreError::DeadlineExceeded => "deadline_exceeded",
            ScoreError::Encode(_) | ScoreError::Batch { .. } => "bad_features",
            ScoreError::Backend { .. } => "backend",
            ScoreError::Lost { .. } => "lost",
            ScoreError::ShuttingDown => "shutting_down",
        }
    }
}
