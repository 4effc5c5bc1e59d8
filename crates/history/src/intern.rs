//! Numbers for values: dense codes `0, 1, 2, …` in the order of first appearance.
//!
//! Kernels work on dense keys; these tables make them from identifiers. Both are flat tables of codes with open
//! addressing, at most half full, beside the values by code: 8 to 16 bytes a distinct value for the table. The
//! hash is fixed, so equal input gives equal codes on every machine.

use crate::{HistoryError, NONE};

/// The most distinct values of a table.
const LIMIT: usize = 1 << 31;

/// Codes of integers.
#[derive(Debug, Clone, Default)]
pub struct Interner {
    slots: Slots,
    values: Vec<u64>,
}

impl Interner {
    /// The code of a value, a new one where it is seen for the first time. Signed identifiers go in as
    /// `value as u64`, pairs of codes as [`pair`].
    ///
    /// # Errors
    ///
    /// When there are 2³¹ distinct values already.
    pub fn intern(&mut self, value: u64) -> Result<u32, HistoryError> {
        self.slots.reserve(self.values.len(), |code| mix(self.values[code as usize]))?;
        match self.slots.find(mix(value), |code| self.values[code as usize] == value) {
            Ok(code) => Ok(code),
            Err(slot) => {
                let code = self.values.len() as u32;
                self.slots.0[slot] = code;
                self.values.push(value);
                Ok(code)
            }
        }
    }

    /// The code of a value, or [`NONE`] if it was not seen.
    pub fn find(&self, value: u64) -> u32 {
        self.slots.find(mix(value), |code| self.values[code as usize] == value).unwrap_or(NONE)
    }

    /// The value of each code.
    pub fn values(&self) -> &[u64] {
        &self.values
    }
}

/// Codes of texts, which are kept one after another.
#[derive(Debug, Clone, Default)]
pub struct TextInterner {
    slots: Slots,
    bytes: String,
    /// End of each text in `bytes`.
    ends: Vec<usize>,
}

impl TextInterner {
    /// The code of a text, a new one where it is seen for the first time.
    ///
    /// # Errors
    ///
    /// When there are 2³¹ distinct texts already.
    pub fn intern(&mut self, text: &str) -> Result<u32, HistoryError> {
        let (bytes, ends) = (&self.bytes, &self.ends);
        self.slots.reserve(ends.len(), |code| mix_text(text_of(bytes, ends, code)))?;
        match self.slots.find(mix_text(text), |code| text_of(bytes, ends, code) == text) {
            Ok(code) => Ok(code),
            Err(slot) => {
                let code = ends.len() as u32;
                self.slots.0[slot] = code;
                self.bytes.push_str(text);
                self.ends.push(self.bytes.len());
                Ok(code)
            }
        }
    }

    /// The code of a text, or [`NONE`] if it was not seen.
    pub fn find(&self, text: &str) -> u32 {
        self.slots.find(mix_text(text), |code| self.text(code) == text).unwrap_or(NONE)
    }

    /// Number of distinct texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no text was seen.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text of a code.
    ///
    /// # Panics
    ///
    /// When there is no such code.
    pub fn text(&self, code: u32) -> &str {
        text_of(&self.bytes, &self.ends, code)
    }
}

fn text_of<'a>(bytes: &'a str, ends: &[usize], code: u32) -> &'a str {
    let code = code as usize;
    let start = if code == 0 { 0 } else { ends[code - 1] };
    &bytes[start..ends[code]]
}

/// Two codes as one value to intern.
pub fn pair(first: u32, second: u32) -> u64 {
    u64::from(first) << 32 | u64::from(second)
}

/// A table of codes by hash: a power of two of slots, [`NONE`] where empty, searched from the hash on. At most
/// half of it is taken, so that a search ends soon.
#[derive(Debug, Clone, Default)]
struct Slots(Vec<u32>);

impl Slots {
    /// The code with that hash for which `is` holds, or the empty slot where it belongs.
    fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Result<u32, usize> {
        let mask = self.0.len().wrapping_sub(1);
        let mut slot = hash as usize & mask;
        loop {
            match self.0.get(slot) {
                Some(&code) if code != NONE => {
                    if is(code) {
                        return Ok(code);
                    }
                }
                _ => return Err(slot),
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Makes room for one code more than `len`; `hash_of` is asked for the codes before where the table grows.
    fn reserve(&mut self, len: usize, hash_of: impl Fn(u32) -> u64) -> Result<(), HistoryError> {
        if 2 * (len + 1) <= self.0.len() {
            return Ok(());
        }
        if len >= LIMIT {
            return Err(HistoryError::TooManyValues { limit: LIMIT });
        }
        let size = (2 * self.0.len()).max(16);
        self.0.clear();
        self.0.resize(size, NONE);
        for code in 0..len as u32 {
            let Err(slot) = self.find(hash_of(code), |_| false) else { continue };
            self.0[slot] = code;
        }
        Ok(())
    }
}

/// Folds the 128 bits of a product to 64, so that every bit of the value moves every bit of the hash.
fn mix(value: u64) -> u64 {
    let product = u128::from(value ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
    (product >> 64) as u64 ^ product as u64
}

/// [`mix`] over eight bytes at a time, and the length.
fn mix_text(text: &str) -> u64 {
    let mut hash = text.len() as u64;
    for chunk in text.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash.rotate_left(23) ^ u64::from_le_bytes(word));
    }
    hash
}
