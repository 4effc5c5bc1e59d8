//! The caller's deadline: `grpc-timeout` becomes a [`Deadline`] that travels with the request, and a
//! request that is not answered by then is answered DEADLINE_EXCEEDED. A scoring call has one in any
//! case, so that a caller who never sends its message keeps no place among the requests held.

use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tonic::Status;

use crate::gate;

/// The instant by which the caller wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

/// Reads `grpc-timeout`, puts the [`Deadline`] into the request's extensions, and answers
/// DEADLINE_EXCEEDED in place of the service when it passes. A scoring call has `most` time.
///
/// The transport below drops a late request too, but answers CANCELLED; this one is set a moment
/// earlier, so that it is the one that answers.
pub async fn enforce(State(most): State<Duration>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let asked = request.headers().get("grpc-timeout").and_then(|value| parse(value.to_str().ok()?));
    let most = gate::holds_a_request(request.uri().path()).then_some(most);
    let timeout = asked.into_iter().chain(most).min();
    // A timeout beyond what the clock can count to is none.
    let Some(deadline) = timeout.and_then(|timeout| start.checked_add(timeout - moment_before(timeout)))
    else {
        return next.run(request).await;
    };
    request.extensions_mut().insert(Deadline(deadline));
    match tokio::time::timeout_at(deadline.into(), next.run(request)).await {
        Ok(response) => response,
        Err(_) => exceeded().into_http(),
    }
}

/// The status of a request whose deadline has passed.
pub fn exceeded() -> Status {
    Status::deadline_exceeded("the deadline passed before the request was answered")
}

/// Timers tick in milliseconds, so two of them are enough to be first.
fn moment_before(timeout: Duration) -> Duration {
    (timeout / 10).min(Duration::from_millis(2))
}

/// Parses a `grpc-timeout` value: at most eight digits and a unit, as the gRPC over HTTP/2
/// specification has it. `None` when it is not one.
fn parse(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_specification_writes_them() {
        let cases = [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("42S", Some(Duration::from_secs(42))),
            ("13m", Some(Duration::from_millis(13))),
            ("2u", Some(Duration::from_micros(2))),
            ("82n", Some(Duration::from_nanos(82))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("999999999m", None),
            ("m", None),
            ("", None),
            ("12", None),
            ("+1S", None),
            ("1é", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
