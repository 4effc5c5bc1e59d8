//! Hashing of values that are counted.

use std::hash::{BuildHasherDefault, Hasher};

/// A hash map state without random keys: counting is fast and needs no defence against chosen
/// keys, as the values come from one's own logs.
pub type FastState = BuildHasherDefault<FastHasher>;

/// A small multiplicative hasher.
#[derive(Clone, Copy, Debug, Default)]
pub struct FastHasher(u64);

impl Hasher for FastHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.write_u64(u64::from_le_bytes(*word)));
        if !tail.is_empty() {
            let last = tail.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
            self.write_u64(last);
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        // 64×64→128 bit product, both halves folded together, as in wyhash.
        let product = u128::from(self.0 ^ value ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn write_i64(&mut self, value: i64) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
