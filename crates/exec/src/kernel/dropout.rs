//! Dropout by a hash that counts instead of a generator that draws, so that a number's fate does not
//! depend on the order of work.

use std::ops::Range;

/// What decides for one op of one step.
#[derive(Clone, Copy)]
pub(super) struct Key(u64);

impl Key {
    /// From the step's seed and the op's salt.
    pub(super) fn new(seed: &[i32], salt: u32) -> Self {
        let seed = seed.first().map_or(0, |seed| u64::from(seed.cast_unsigned()));
        Self(mix(seed << 32 | u64::from(salt)))
    }

    fn of_row(self, row: usize) -> u64 {
        mix(self.0.wrapping_add(row as u64))
    }
}

/// Zeros each number with probability `rate` and scales the others by `1 / (1 − rate)`; `rows` are
/// the rows that `x` and `out` hold, each `width` long.
pub(super) fn apply(out: &mut [f32], width: usize, x: &[f32], key: Key, rate: f32, rows: Range<usize>) {
    let factor = 1.0 / (1.0 - rate);
    // Both sides below 2^24, where an f32 is exact.
    let limit = (rate * (1 << 24) as f32) as u64;
    let width = width.max(1);
    for ((out, x), row) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(rows) {
        let key = key.of_row(row);
        for (column, (out, x)) in out.iter_mut().zip(x).enumerate() {
            let draw = mix(key.wrapping_add(column as u64)) >> 40;
            *out = if draw < limit { 0.0 } else { x * factor };
        }
    }
}

/// The output function of SplitMix64 (Steele et al., OOPSLA 2014) at a counter.
fn mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
