//! Independent work on a few threads, results in order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use crate::Progress;

/// Calls `work` for every index below `count` on as many threads as there are processors; what is
/// returned does not depend on their number. Progress advances by one for each index.
pub(crate) fn for_each_index<T: Send>(
    count: usize,
    progress: &mut dyn Progress,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count);
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut results: Vec<Option<T>> = (0..count).map(|_| None).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    // A closed channel means that the receiver has given up: nothing is left to do.
                    if index >= count || sender.send((index, work(index))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (index, result) in receiver {
            results[index] = Some(result);
            progress.advance(1);
        }
    });
    results.into_iter().flatten().collect()
}
