//! Why requests get no scores, as a closed set of words.

use tonic::Code;

/// Why a request got no scores: the label `reason` of `gatefold_rejections_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// The server held as many requests as it may.
    ServerFull,
    /// The model's queue was full.
    QueueFull,
    /// It gave its place in a full queue to a request of a higher priority.
    Displaced,
    /// At the present pace the deadline would have passed.
    TooLate,
    /// The deadline passed.
    Deadline,
    /// A limit of the settings was exceeded.
    Limit,
    /// The caller is not known, or may not do this.
    Auth,
    /// The request does not fit the API or the model's features.
    BadInput,
    /// No such model, version or label is loaded, or there is no such experiment.
    UnknownModel,
    /// No model is loaded yet.
    NotReady,
    /// The server is stopping.
    Stopping,
    /// The model failed.
    Failed,
    /// The caller went away before the answer.
    Cancelled,
}

impl Rejection {
    /// Every reason.
    pub const ALL: [Rejection; 13] = [
        Rejection::ServerFull,
        Rejection::QueueFull,
        Rejection::Displaced,
        Rejection::TooLate,
        Rejection::Deadline,
        Rejection::Limit,
        Rejection::Auth,
        Rejection::BadInput,
        Rejection::UnknownModel,
        Rejection::NotReady,
        Rejection::Stopping,
        Rejection::Failed,
        Rejection::Cancelled,
    ];

    /// The reason of a message that the transport answered with `code` before there was a request:
    /// it is over a limit (of bytes or of fields), is none, or did not come in time. `None` where its
    /// caller is what has gone.
    pub fn of_unread(code: Code) -> Option<Rejection> {
        match code {
            Code::OutOfRange | Code::InvalidArgument | Code::ResourceExhausted => Some(Rejection::Limit),
            Code::Internal | Code::Unimplemented => Some(Rejection::BadInput),
            Code::DeadlineExceeded => Some(Rejection::Deadline),
            _ => None,
        }
    }

    /// The word for metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Rejection::ServerFull => "server_full",
            Rejection::QueueFull => "queue_full",
            Rejection::Displaced => "displaced",
            Rejection::TooLate => "too_late",
            Rejection::Deadline => "deadline",
            Rejection::Limit => "limit",
            Rejection::Auth => "auth",
            Rejection::BadInput => "bad_input",
            Rejection::UnknownModel => "unknown_model",
            Rejection::NotReady => "not_ready",
            Rejection::Stopping => "stopping",
            Rejection::Failed => "failed",
            Rejection::Cancelled => "cancelled",
        }
    }
}
