//! The widest vectors that the processor has, chosen at run time, and prefetching.
//!
//! The build targets any x86-64, so the compiler may use 128-bit vectors only. Work given to
//! [`run`] is compiled for AVX2 and for AVX-512 as well. No variant joins a product and a sum into
//! one rounding, so all variants give the same bits.

/// Work that gains from wide vectors. [`Work::run`] must be `#[inline(always)]`, as must be all
/// that it calls in its inner loops: code that is inlined is compiled for its caller's vectors.
pub(crate) trait Work {
    fn run(self);
}

/// Runs the work, compiled for the widest vectors here.
pub(crate) fn run(work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as detected;

        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
        fn avx512(work: impl Work) {
            work.run();
        }
        #[target_feature(enable = "avx2")]
        fn avx2(work: impl Work) {
            work.run();
        }
        if detected!("avx512f") && detected!("avx512vl") && detected!("avx512dq") && detected!("avx512bw") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { avx512(work) };
        }
        if detected!("avx2") {
            // SAFETY: as above.
            return unsafe { avx2(work) };
        }
    }
    work.run();
}

/// Numbers in a cache line.
const LINE: usize = 16;

/// Asks for `numbers[start..start + len]` ahead of its use; out of bounds, for nothing.
#[inline(always)]
pub(crate) fn prefetch(numbers: &[f32], start: usize, len: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(wanted) = numbers.get(start..start + len) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in wanted.chunks(LINE) {
            // SAFETY: a prefetch reads nothing and cannot fault.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (numbers, start, len);
}
