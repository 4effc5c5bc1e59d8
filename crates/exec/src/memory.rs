//! Memory for parameters and for what optimizers remember of them.

use std::ops::{Deref, DerefMut};

/// Numbers in a cache line. A row of a table of width 16 that begins with a line takes one.
const LINE: usize = 16;
/// From here on, in bytes, the system is asked for huge pages.
const LARGE: usize = 8 << 20;

/// Numbers that begin with a cache line. A large table lies in huge pages, where the system has
/// them: rows that a batch picks at random then cost few misses of the address translation, and
/// the first touch of a page is rare.
#[derive(Default)]
pub(crate) struct Numbers {
    memory: Vec<f32>,
    start: usize,
    len: usize,
}

impl Numbers {
    /// Zeros. They come from the system as pages that take memory when they are first written.
    pub(crate) fn zeros(len: usize) -> Self {
        let memory = vec![0.0; len + LINE - 1];
        let start = memory.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE - 1);
        advise_huge_pages(&memory);
        Self { memory, start, len }
    }
}

/// Asks for huge pages for the pages that lie wholly within `memory`.
fn advise_huge_pages(memory: &[f32]) {
    #[cfg(target_os = "linux")]
    if size_of_val(memory) >= LARGE {
        const PAGE: usize = 4096;
        let begin = memory.as_ptr().addr().next_multiple_of(PAGE);
        let end = memory.as_ptr_range().end.addr() / PAGE * PAGE;
        // SAFETY: the range is within memory that we hold, and this advice changes no content. It
        // may be refused, which changes nothing.
        unsafe {
            libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_HUGEPAGE);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (memory, LARGE);
}

impl From<Vec<f32>> for Numbers {
    fn from(memory: Vec<f32>) -> Self {
        Self { start: 0, len: memory.len(), memory }
    }
}

impl Clone for Numbers {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl Deref for Numbers {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for Numbers {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

impl PartialEq for Numbers {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl std::fmt::Debug for Numbers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_and_their_copies_begin_with_a_cache_line() {
        for len in [0, 1, 15, 16, 1000, LARGE] {
            let mut numbers = Numbers::zeros(len);
            assert_eq!(numbers.as_ptr().addr() % 64, 0, "{len}");
            assert!(numbers.len() == len && numbers.iter().all(|number| *number == 0.0));
            numbers.iter_mut().zip(0_u8..).for_each(|(number, value)| *number = f32::from(value));
            let copy = numbers.clone();
            assert_eq!(copy, numbers);
            assert_eq!(copy.as_ptr().addr() % 64, 0, "{len}");
        }
    }

    #[test]
    fn vectors_are_taken_as_they_are() {
        let numbers = Numbers::from(vec![1.0, 2.0]);
        assert_eq!(format!("{numbers:?}"), "[1.0, 2.0]");
        assert_ne!(numbers, Numbers::zeros(2));
    }
}
