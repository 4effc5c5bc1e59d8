//! Independent work on a few threads, results in order.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

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

/// Calls `work` for every index below `count` on as many threads as there are processors, and `take` with what
/// it returns, in the order of the indices, on this thread. Results wait only for those before them and for
/// `take`. After an error, which is returned, nothing more is begun.
pub(crate) fn in_order<T: Send, E: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync,
    mut take: impl FnMut(usize, T) -> Result<(), E>,
) -> Result<(), E> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count);
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, receiver) = mpsc::sync_channel(threads);
    let mut outcome = Ok(());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, failed, work) = (sender.clone(), &next, &failed, &work);
            scope.spawn(move || {
                while !failed.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count || sender.send((index, work(index))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let (mut waiting, mut taken) = (BTreeMap::new(), 0);
        for (index, result) in receiver {
            match result {
                Ok(result) => drop(waiting.insert(index, result)),
                Err(error) if outcome.is_ok() => outcome = Err(error),
                Err(_) => {}
            }
            while outcome.is_ok()
                && let Some(result) = waiting.remove(&taken)
            {
                outcome = take(taken, result);
                taken += 1;
            }
            failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
        }
    });
    outcome
}

/// A part of some work.
pub(crate) type Task<'a, E> = Box<dyn FnOnce() -> Result<(), E> + Send + 'a>;

/// Runs all of `tasks` on as many threads as there are processors, this one among them; those that take long
/// should come first. A thread ends with an error; one of them is returned.
pub(crate) fn all_of<E: Send>(tasks: Vec<Task<'_, E>>) -> Result<(), E> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(tasks.len());
    let waiting = Mutex::new(tasks.into_iter());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(task) = next() {
            task()?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        others.into_iter().fold(work(), |outcome, other| {
            outcome.and(other.join().unwrap_or_else(|panic| resume_unwind(panic)))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_all_of_them() {
        for count in [0, 1, 2, 7, 100] {
            let mut taken = Vec::new();
            let work = |index: usize| {
                std::thread::sleep(std::time::Duration::from_micros((index as u64 * 7919) % 300));
                Ok::<_, ()>(index * index)
            };
            let result = in_order(count, work, |index, square| {
                taken.push((index, square));
                Ok(())
            });
            assert_eq!(result, Ok(()));
            assert_eq!(taken, (0..count).map(|index| (index, index * index)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_ends_the_work() {
        let begun = AtomicUsize::new(0);
        let work = |index: usize| {
            begun.fetch_add(1, Ordering::Relaxed);
            if index == 3 { Err("three") } else { Ok(index) }
        };
        assert_eq!(in_order(100_000, work, |_, _| Ok(())), Err("three"));
        assert!(begun.load(Ordering::Relaxed) < 100_000);
        assert_eq!(in_order(10, Ok, |index, _| if index == 2 { Err("taken") } else { Ok(()) }), Err("taken"));
    }

    #[test]
    fn all_tasks_are_run() {
        let mut squares = [0; 100];
        let tasks = squares.iter_mut().enumerate().map(|(index, square)| -> Task<'_, ()> {
            Box::new(move || {
                *square = index * index;
                Ok(())
            })
        });
        assert_eq!(all_of(tasks.collect()), Ok(()));
        assert_eq!(squares, std::array::from_fn(|index| index * index));
        let tasks: Vec<Task<'_, _>> =
            vec![Box::new(|| Ok(())), Box::new(|| Err("second")), Box::new(|| Ok(()))];
        assert_eq!(all_of(tasks), Err("second"));
        assert_eq!(all_of::<()>(Vec::new()), Ok(()));
    }
}
