//! Work that must not take the processor from requests.

use std::panic::resume_unwind;

use thread_priority::{ThreadPriority, ThreadPriorityValue, set_current_thread_priority};

/// Niceness 10 on the scale of `thread_priority`, from 0 for 19 to 99 for -20: beside busy workers about a
/// tenth of a core, all of it where they leave it.
const LOW: u8 = 22;

/// Runs `work` on a thread of low priority and waits for it.
///
/// A thread of its own, because a lowered priority is not raised again without a right to it, and because
/// the threads that a backend starts when it is opened inherit that of the one that opens it: open
/// backends elsewhere.
pub(crate) fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let lowered = scope.spawn(|| {
            lower();
            work()
        });
        lowered.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn lower() {
    let lowered = ThreadPriorityValue::try_from(LOW).map_err(|error| error.to_owned()).and_then(|low| {
        let set = set_current_thread_priority(ThreadPriority::Crossplatform(low));
        set.map_err(|error| format!("{error:?}"))
    });
    if let Err(error) = lowered {
        // The process may have a lower one already.
        tracing::debug!(error, "the priority of a thread that loads a model stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 19th field of a thread's `stat`; the name before it, in parentheses, may hold spaces.
    fn niceness() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn only_the_work_has_a_low_priority() {
        let before = niceness();
        assert_eq!(aside(niceness), before.max(10));
        assert_eq!(niceness(), before);
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let caught = std::panic::catch_unwind(|| aside(|| panic!("seen")));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"seen"));
    }
}
