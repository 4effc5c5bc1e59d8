//! The memory of each thread, and how memory is cut into values.

use std::sync::{Mutex, PoisonError};

use crate::memory::Numbers;

/// Numbers of a cache line.
const LINE: usize = 16;

/// Lengths of values that lie in one memory, each from a cache line on.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    lens: Vec<usize>,
}

impl Layout {
    pub(super) fn new(lens: impl Iterator<Item = usize>) -> Self {
        Self { lens: lens.map(|len| len.next_multiple_of(LINE)).collect() }
    }

    /// Numbers of all values.
    pub(super) fn len(&self) -> usize {
        self.lens.iter().sum()
    }

    /// Where a value begins.
    pub(super) fn start(&self, value: usize) -> usize {
        self.lens[..value].iter().sum()
    }

    /// The memory of each value.
    pub(super) fn split<'a>(&self, memory: &'a mut [f32]) -> Vec<&'a mut [f32]> {
        let mut rest = memory;
        let mut parts = Vec::with_capacity(self.lens.len());
        for len in &self.lens {
            let (part, after) = rest.split_at_mut(*len);
            parts.push(part);
            rest = after;
        }
        parts
    }
}

/// What each thread of an executor writes for itself alone: values of the chunk it works on.
#[derive(Debug)]
pub(super) struct Scratch {
    layout: Layout,
    threads: Vec<Mutex<Numbers>>,
}

impl Scratch {
    /// Slots of these lengths for each thread.
    pub(super) fn new(layout: Layout, threads: usize) -> Self {
        let threads = (0..threads).map(|_| Mutex::new(Numbers::zeros(layout.len()))).collect();
        Self { layout, threads }
    }

    /// Gives the slots of the calling thread, which is one of the executor's pool, to `work`.
    pub(super) fn with(&self, work: impl FnOnce(Vec<&mut [f32]>)) {
        let thread = rayon::current_thread_index().unwrap_or(0);
        let mut memory = self.threads[thread].lock().unwrap_or_else(PoisonError::into_inner);
        work(self.layout.split(&mut memory));
    }

    /// Numbers of all threads.
    pub(super) fn len(&self) -> usize {
        self.layout.len() * self.threads.len()
    }
}
