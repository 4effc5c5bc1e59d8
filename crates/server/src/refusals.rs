//! A line on stderr for each class of refused request, at a bounded rate: enough to see that callers
//! are refused and why, however many they are. Nothing that a request holds is written but its id.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gatefold_engine::ModelVersion;

use crate::experiments::Arm;
use crate::metrics::Rejection;

/// Time between two lines of one class.
const INTERVAL: Duration = Duration::from_secs(10);

/// When each class was spoken of.
#[derive(Debug, Default)]
pub struct Refusals {
    classes: Mutex<[Class; Rejection::ALL.len()]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Class {
    last: Option<Instant>,
    /// Requests since then.
    silent: u64,
}

impl Refusals {
    /// Writes a line, unless the class had one a short time ago; where no loaded model version was found,
    /// with what the arm names.
    pub fn note(&self, reason: Rejection, model: Option<&ModelVersion>, arm: Option<&Arm>, request_id: &str) {
        let Some(more) = self.due(reason, Instant::now()) else { return };
        let (model, version) = match (model, arm) {
            (Some(model), _) => (&*model.name, model.version),
            (None, Some(arm)) => (&*arm.model, arm.version.unwrap_or_default()),
            (None, None) => ("", 0),
        };
        let label = arm.and_then(|arm| arm.label.as_deref());
        let (experiment, arm) = arm.map_or(("", ""), |arm| (&*arm.experiment, &*arm.name));
        let reason_name = reason.name();
        match reason {
            Rejection::Failed => {
                tracing::error!(
                    reason = reason_name,
                    request_id,
                    experiment,
                    arm,
                    model,
                    version,
                    label,
                    more,
                    "a request has failed"
                );
            }
            _ => {
                tracing::warn!(
                    reason = reason_name,
                    request_id,
                    experiment,
                    arm,
                    model,
                    version,
                    label,
                    more,
                    "a request is refused"
                );
            }
        }
    }

    /// Whether a line is due; then how many requests of the class had none since the last.
    fn due(&self, reason: Rejection, now: Instant) -> Option<u64> {
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        let class = &mut classes[reason as usize];
        if class.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            class.silent += 1;
            return None;
        }
        class.last = Some(now);
        Some(std::mem::take(&mut class.silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_a_line_in_ten_seconds_with_the_number_of_those_without() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let due = |reason, seconds| refusals.due(reason, start + Duration::from_secs(seconds));
        assert_eq!(due(Rejection::QueueFull, 0), Some(0));
        assert_eq!(due(Rejection::QueueFull, 1), None);
        assert_eq!(due(Rejection::Deadline, 1), Some(0));
        assert_eq!(due(Rejection::QueueFull, 9), None);
        assert_eq!(due(Rejection::QueueFull, 10), Some(2));
        assert_eq!(due(Rejection::QueueFull, 11), None);
        // Every class has a place of its own.
        for (place, reason) in Rejection::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }
}
