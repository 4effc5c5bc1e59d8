//! Errors → gRPC status: the only place that chooses codes.

use std::sync::Arc;

use gatefold_engine::{RegistryError, ScoreError};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::convert::{FieldError, Problem};
use crate::experiments::Arm;
use crate::metrics::Rejection;

/// Metadata of an error that has the name of the arm which was to answer, as a reply's field `arm`.
pub const ARM_KEY: &str = "gatefold-arm-bin";

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A field of the message is wrong.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The engine has no scores for it.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// A request that an arm of an experiment is to answer.
    #[error("{}: {refusal}", arm.described())]
    Arm {
        /// The arm.
        arm: Arc<Arm>,
        /// Why what the arm names does not answer it.
        refusal: Box<Refusal>,
    },
    /// An experiment that the settings have not.
    #[error("no experiment is named '{name}'; the server's settings have: {known}")]
    UnknownExperiment {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// No model takes traffic.
    #[error("no model is loaded yet; try again later, /readyz on the admin port says what is awaited")]
    NoModel,
}

impl Refusal {
    /// The same, said of a request of `arm`.
    pub fn in_arm(self, arm: Option<&Arc<Arm>>) -> Self {
        match (arm, self) {
            (None, refusal) | (_, refusal @ Refusal::NoModel) => refusal,
            (Some(arm), refusal) => Refusal::Arm { arm: arm.clone(), refusal: Box::new(refusal) },
        }
    }

    /// The status code of the answer.
    pub fn code(&self) -> Code {
        match self {
            Refusal::Field(_) => Code::InvalidArgument,
            Refusal::NoModel => Code::Unavailable,
            Refusal::UnknownExperiment { .. } => Code::NotFound,
            Refusal::Arm { refusal, .. } => refusal.code(),
            Refusal::Score(error) => match error {
                ScoreError::UnknownModel { .. }
                | ScoreError::UnknownVersion { .. }
                | ScoreError::UnknownLabel { .. } => Code::NotFound,
                ScoreError::UnknownOutput { .. }
                | ScoreError::RepeatedOutput { .. }
                | ScoreError::NoGates { .. }
                | ScoreError::NoCandidates
                | ScoreError::TooManyCandidates { .. }
                | ScoreError::Encode(_) => Code::InvalidArgument,
                ScoreError::Overloaded { .. } | ScoreError::TooLate { .. } | ScoreError::Displaced { .. } => {
                    Code::ResourceExhausted
                }
                ScoreError::DeadlineExceeded => Code::DeadlineExceeded,
                ScoreError::Lost { .. } | ScoreError::ShuttingDown => Code::Unavailable,
                ScoreError::Batch { .. } | ScoreError::Backend { .. } => Code::Internal,
            },
        }
    }

    /// The reason for counters and logs.
    pub fn reason(&self) -> Rejection {
        match self {
            Refusal::Field(FieldError { problem: Problem::OverLimit(_), .. }) => Rejection::Limit,
            Refusal::Field(_) => Rejection::BadInput,
            Refusal::NoModel => Rejection::NotReady,
            Refusal::UnknownExperiment { .. } => Rejection::UnknownModel,
            Refusal::Arm { refusal, .. } => refusal.reason(),
            Refusal::Score(error) => match error {
                ScoreError::UnknownModel { .. }
                | ScoreError::UnknownVersion { .. }
                | ScoreError::UnknownLabel { .. } => Rejection::UnknownModel,
                ScoreError::UnknownOutput { .. }
                | ScoreError::RepeatedOutput { .. }
                | ScoreError::NoGates { .. }
                | ScoreError::NoCandidates
                | ScoreError::Encode(_) => Rejection::BadInput,
                ScoreError::TooManyCandidates { .. } => Rejection::Limit,
                ScoreError::Overloaded { .. } => Rejection::QueueFull,
                ScoreError::Displaced { .. } => Rejection::Displaced,
                ScoreError::TooLate { .. } => Rejection::TooLate,
                ScoreError::DeadlineExceeded => Rejection::Deadline,
                ScoreError::ShuttingDown => Rejection::Stopping,
                ScoreError::Batch { .. } | ScoreError::Backend { .. } | ScoreError::Lost { .. } => {
                    Rejection::Failed
                }
            },
        }
    }
}

/// The status of a wish that the registry cannot fulfil, its causes included.
pub fn registry_status(error: &RegistryError) -> Status {
    let code = match error {
        RegistryError::UnknownModel { .. }
        | RegistryError::UnknownVersion { .. }
        | RegistryError::NoLabel { .. } => Code::NotFound,
        RegistryError::BadLabel { .. } => Code::InvalidArgument,
        RegistryError::Refused { .. }
        | RegistryError::Unloaded { .. }
        | RegistryError::NothingBelow { .. }
        | RegistryError::Folder { .. }
        | RegistryError::ReadState { .. }
        | RegistryError::WriteState { .. }
        | RegistryError::State(_) => Code::FailedPrecondition,
        RegistryError::Thread(_) => Code::Internal,
    };
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    status(code, message)
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        let mut status = status(refusal.code(), refusal.to_string());
        if let Refusal::Arm { arm, .. } = &refusal {
            let name = MetadataValue::from_bytes(arm.name.as_bytes());
            status.metadata_mut().insert_bin(ARM_KEY, name);
        }
        status
    }
}

/// Bytes of a status message. It travels in a header, of which clients take 8 KiB, and may hold names
/// that the caller chose.
const LONGEST_MESSAGE: usize = 2000;

/// A status whose message is cut where it is long.
fn status(code: Code, mut message: String) -> Status {
    if message.len() > LONGEST_MESSAGE {
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        message.push('…');
    }
    Status::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_between_characters() {
        let message = |name: String| {
            let error = ScoreError::RepeatedOutput { output: name };
            Status::from(Refusal::Score(error)).message().to_owned()
        };
        assert_eq!(message("ctr".into()), "output 'ctr' is asked for twice; name each output once");
        for name in ["x", "é", "𝄞"] {
            let found = message(name.repeat(100_000));
            assert!(found.ends_with(&format!("{name}…")), "{found}");
            assert!((1997..=2003).contains(&found.len()), "{}", found.len());
        }
    }
}
