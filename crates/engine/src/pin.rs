//! Keeps worker threads on cores of their own.

use core_affinity::CoreId;

use crate::SettingsError;

/// One core for each of the workers, of those that this process may run on.
///
/// # Errors
/// When there are fewer.
pub(crate) fn cores(workers: usize) -> Result<Vec<CoreId>, SettingsError> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if cores.len() < workers {
        return Err(SettingsError(format!(
            "pin_workers: {workers} workers cannot each have one of the {} cores that this process may use: \
             set workers to at most {0}, or pin_workers to false",
            cores.len()
        )));
    }
    Ok(cores)
}

/// Keeps the calling thread on `core`.
pub(crate) fn pin(core: CoreId) {
    if !core_affinity::set_for_current(core) {
        tracing::warn!(core = core.id, "a worker cannot be pinned to its core; it runs on any");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_one_core_while_there_are_any() {
        let all = core_affinity::get_core_ids().unwrap();
        assert_eq!(cores(all.len()).unwrap(), all);
        let message = cores(all.len() + 1).unwrap_err().to_string();
        assert!(message.contains(&format!("set workers to at most {}", all.len())), "{message}");
        let last = all[all.len() - 1];
        let pinned = std::thread::spawn(move || {
            pin(last);
            core_affinity::get_core_ids().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [last]);
    }
}
