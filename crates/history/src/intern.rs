//! Numbers for values: dense codes `0, 1, 2, …` in the order of first appearance.
//!
//! Kernels work on dense keys; these tables make them from identifiers. Both are flat tables with open addressing, at
//! most half full: 32 to 64 bytes a distinct value, so number the smaller log and [`find`](Interner::find) the
//! codes of the larger. The hash is fixed: equal input gives equal codes on every machine.

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
    #[inline]
    pub fn intern(&mut self, value: u64) -> Result<u32, HistoryError> {
        let code = self.slots.find_or_add(value, self.values.len(), |_| true)?;
        if code as usize == self.values.len() {
            self.values.push(value);
        }
        Ok(code)
    }

    /// The code of a value, or [`NONE`] if it was not seen.
    #[inline]
    pub fn find(&self, value: u64) -> u32 {
        self.slots.find(value, |_| true).unwrap_or(NONE)
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
    #[inline]
    pub fn intern(&mut self, text: &str) -> Result<u32, HistoryError> {
        let (bytes, ends) = (&self.bytes, &self.ends);
        let code =
            self.slots.find_or_add(digest(text), ends.len(), |code| text_of(bytes, ends, code) == text)?;
        if code as usize == self.ends.len() {
            self.bytes.push_str(text);
            self.ends.push(self.bytes.len());
        }
        Ok(code)
    }

    /// The code of a text, or [`NONE`] if it was not seen.
    #[inline]
    pub fn find(&self, text: &str) -> u32 {
        self.slots.find(digest(text), |code| self.text(code) == text).unwrap_or(NONE)
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

/// A table of words and codes: a power of two of slots, the code [`NONE`] where one is empty, searched from the hash of
/// the word on. At most half of it is taken, so that a search ends soon.
#[derive(Debug, Clone, Default)]
struct Slots(Vec<(u64, u32)>);

impl Slots {
    /// The code of a word for which `is` holds, or the empty slot where it belongs.
    #[inline]
    fn find(&self, word: u64, is: impl Fn(u32) -> bool) -> Result<u32, usize> {
        let mask = self.0.len().wrapping_sub(1);
        let mut slot = mix(word) as usize & mask;
        loop {
            match self.0.get(slot) {
                Some(&(found, code)) if code != NONE => {
                    if found == word && is(code) {
                        return Ok(code);
                    }
                }
                _ => return Err(slot),
            }
            slot = (slot + 1) & mask;
        }
    }

    /// The code of a word for which `is` holds, or else the next code, `len`, which the word then has.
    #[inline]
    fn find_or_add(&mut self, word: u64, len: usize, is: impl Fn(u32) -> bool) -> Result<u32, HistoryError> {
        if 2 * (len + 1) > self.0.len() {
            self.grow();
        }
        match self.find(word, is) {
            Ok(code) => Ok(code),
            Err(_) if len >= LIMIT => Err(HistoryError::TooManyValues { limit: LIMIT }),
            Err(slot) => {
                self.0[slot] = (word, len as u32);
                Ok(len as u32)
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        let size = (2 * self.0.len()).max(16);
        let before = std::mem::replace(&mut self.0, vec![(0, NONE); size]);
        for (word, code) in before.into_iter().filter(|&(_, code)| code != NONE) {
            // No code is looked for, so an empty slot is found.
            if let Err(slot) = self.find(word, |_| false) {
                self.0[slot] = (word, code);
            }
        }
    }
}

/// Folds the 128 bits of a product to 64, so that every bit of the value moves every bit of the hash.
fn mix(value: u64) -> u64 {
    let product = u128::from(value ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
    (product >> 64) as u64 ^ product as u64
}

/// A word for a text: its length, and [`mix`] over eight bytes at a time. Different texts may have the same.
fn digest(text: &str) -> u64 {
    let mut hash = text.len() as u64;
    for chunk in text.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash.rotate_left(23) ^ u64::from_le_bytes(word));
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixteen letters whose second half makes up for what their first half changes.
    fn texts_of_one_digest() -> (String, String) {
        let turned = |first: &str| mix(16_u64.rotate_left(23) ^ word(first)).rotate_left(23);
        let word_after = |first: &str| word("recorded") ^ turned("Gatefold") ^ turned(first);
        let (first, second) = (0..100_000)
            .map(|number| format!("{number:08}"))
            .map(|first| (word_after(&first).to_le_bytes(), first))
            .find(|(second, _)| second.is_ascii())
            .map(|(second, first)| (first, String::from_utf8(second.to_vec()).unwrap()))
            .unwrap();
        ("Gatefoldrecorded".to_owned(), first + &second)
    }

    fn word(text: &str) -> u64 {
        u64::from_le_bytes(text.as_bytes().try_into().unwrap())
    }

    #[test]
    fn texts_of_one_digest_have_codes_of_their_own() {
        let (one, other) = texts_of_one_digest();
        assert_ne!(one, other);
        assert_eq!(digest(&one), digest(&other));
        let mut interner = TextInterner::default();
        assert_eq!(interner.intern(&one), Ok(0));
        assert_eq!(interner.find(&other), NONE);
        assert_eq!(interner.intern(&other), Ok(1));
        assert_eq!((interner.find(&one), interner.find(&other)), (0, 1));
    }
}
