//! Work that must not take the processor from requests.

use std::panic::resume_unwind;

use thread_priority::{ThreadPriority, ThreadPriorityValue, set_current_thread_priority};

/// Steps of niceness below the other threads of this process: beside a busy worker about a tenth of a
/// core, and all of it where the workers leave it.
const STEPS: i32 = 10;
/// The lowest priority that is given.
const NICEST: i32 = 18;

/// Runs `work` on a thread of low priority and waits for it.
///
/// A thread of its own, because a lowered priority is not raised again without a right to it, and because
/// the threads that a backend starts when it is opened inherit that of the one that opens it: open
/// backends elsewhere.
pub(crate) fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let lowered = scope.spawn(|| {
            if let Err(error) = lower() {
                tracing::debug!(error, "the priority of a thread that loads a model stays as it is");
            }
            work()
        });
        lowered.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Lowers the priority of this thread.
fn lower() -> Result<(), String> {
    let wanted = (niceness().unwrap_or(0) + STEPS).min(NICEST);
    let value = ThreadPriorityValue::try_from(on_scale(wanted)).map_err(|error| error.to_string())?;
    set_current_thread_priority(ThreadPriority::Crossplatform(value)).map_err(|error| format!("{error:?}"))
}

/// Niceness of this thread, as Linux tells it: the 19th field of its `stat`.
fn niceness() -> Option<i32> {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").ok()?;
    // The second field, the thread's name in parentheses, may hold spaces.
    stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()
}

/// The middle of what is one niceness on the scale of `thread_priority`, where 0 is 19 and 99 is -20.
fn on_scale(niceness: i32) -> u8 {
    let from_highest = (f64::from(niceness) + 20.5) / 39.0;
    (99.0 * (1.0 - from_highest)).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_work_has_a_low_priority() {
        let before = niceness().unwrap();
        assert_eq!(aside(niceness), Some((before + STEPS).min(NICEST)));
        assert_eq!(niceness(), Some(before));
    }

    #[test]
    fn every_niceness_is_met() {
        for wanted in 1..=NICEST {
            let found = std::thread::spawn(move || {
                let value = ThreadPriorityValue::try_from(on_scale(wanted)).unwrap();
                let set = set_current_thread_priority(ThreadPriority::Crossplatform(value));
                (set.is_ok(), niceness())
            });
            let (set, found) = found.join().unwrap();
            // One that is below its process's is refused where that has a lower one.
            assert!(found == Some(wanted) || !set, "{wanted}: {found:?}");
        }
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let caught = std::panic::catch_unwind(|| aside(|| panic!("seen")));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"seen"));
    }
}
