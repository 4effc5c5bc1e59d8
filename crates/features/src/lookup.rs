//! From a value to its place in a vocabulary: flat hash tables, built once and only read after.
//!
//! Open addressing with linear probing at a load of at most one half. The order of the slots
//! follows from the values alone, nothing here is random, and a lookup allocates nothing. Only the
//! vocabulary's author chooses what is stored, so values that clients send cannot make chains long.

use crate::murmur::hash_text;

/// Positions of integers.
#[derive(Clone, Debug)]
pub(crate) struct IntLookup {
    /// Value and its position + 1; 0 marks a free slot.
    slots: Vec<(i64, u32)>,
}

impl IntLookup {
    /// Builds the table; `Err` holds a value that stands twice.
    pub(crate) fn new(values: &[i64]) -> Result<Self, i64> {
        let mut slots = vec![(0, 0); slot_count(values.len())];
        for (position, &value) in values.iter().enumerate() {
            let mut slot = spread(value) & (slots.len() - 1);
            while slots[slot].1 != 0 {
                if slots[slot].0 == value {
                    return Err(value);
                }
                slot = (slot + 1) & (slots.len() - 1);
            }
            slots[slot] = (value, position as u32 + 1);
        }
        Ok(Self { slots })
    }

    /// Position of `value`.
    #[inline]
    pub(crate) fn get(&self, value: i64) -> Option<u32> {
        let last = self.slots.len() - 1;
        let mut slot = spread(value) & last;
        loop {
            let (stored, position) = self.slots[slot];
            if position == 0 {
                return None;
            }
            if stored == value {
                return Some(position - 1);
            }
            slot = (slot + 1) & last;
        }
    }
}

/// Positions of texts.
#[derive(Clone, Debug)]
pub(crate) struct TextLookup {
    /// Hash and position + 1; a position of 0 marks a free slot.
    slots: Vec<(u32, u32)>,
    /// All texts, one after another.
    text: String,
    /// Where each text ends.
    ends: Vec<usize>,
}

impl TextLookup {
    /// Builds the table; `Err` holds a value that stands twice.
    pub(crate) fn new(values: &[String]) -> Result<Self, String> {
        let mut table = Self {
            slots: vec![(0, 0); slot_count(values.len())],
            text: String::with_capacity(values.iter().map(String::len).sum()),
            ends: Vec::with_capacity(values.len()),
        };
        let last = table.slots.len() - 1;
        for (position, value) in values.iter().enumerate() {
            let hash = hash_text(value, 0);
            if table.get(value, hash).is_some() {
                return Err(value.clone());
            }
            let mut slot = hash as usize & last;
            while table.slots[slot].1 != 0 {
                slot = (slot + 1) & last;
            }
            table.slots[slot] = (hash, position as u32 + 1);
            table.text.push_str(value);
            table.ends.push(table.text.len());
        }
        Ok(table)
    }

    /// Position of `value`, whose [`hash_text`] with seed 0 is `hash`.
    #[inline]
    pub(crate) fn get(&self, value: &str, hash: u32) -> Option<u32> {
        let last = self.slots.len() - 1;
        let mut slot = hash as usize & last;
        loop {
            let (stored, position) = self.slots[slot];
            if position == 0 {
                return None;
            }
            let position = position as usize - 1;
            if stored == hash && self.value(position) == value.as_bytes() {
                return Some(position as u32);
            }
            slot = (slot + 1) & last;
        }
    }

    fn value(&self, position: usize) -> &[u8] {
        let start = if position == 0 { 0 } else { self.ends[position - 1] };
        &self.text.as_bytes()[start..self.ends[position]]
    }
}

fn slot_count(values: usize) -> usize {
    (values * 2).next_power_of_two().max(2)
}

/// Spreads near integers over the table: Fibonacci hashing (Knuth, volume 3, section 6.4), upper
/// bits folded down.
#[inline]
fn spread(value: i64) -> usize {
    let product = (value as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (product >> 32) as usize ^ product as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_and_no_other_is_found() {
        for count in [0usize, 1, 2, 3, 1000] {
            let ints: Vec<i64> = (0..count as i64).map(|i| i * i * 4096 - 7).collect();
            let table = IntLookup::new(&ints).unwrap();
            let texts: Vec<String> = ints.iter().map(|value| format!("wert-{value}-é")).collect();
            let text_table = TextLookup::new(&texts).unwrap();
            for (position, (&int, text)) in ints.iter().zip(&texts).enumerate() {
                assert_eq!(table.get(int), Some(position as u32));
                assert_eq!(text_table.get(text, hash_text(text, 0)), Some(position as u32));
                assert_eq!(table.get(int + 1), None);
                let other = format!("{text}x");
                assert_eq!(text_table.get(&other, hash_text(&other, 0)), None);
            }
            assert_eq!(table.get(i64::MIN), None);
            assert_eq!(text_table.get("", hash_text("", 0)), None);
        }
    }

    #[test]
    fn a_value_that_stands_twice_is_refused() {
        assert_eq!(IntLookup::new(&[3, 4, 3]).unwrap_err(), 3);
        assert_eq!(TextLookup::new(&["a".into(), "".into(), "a".into()]).unwrap_err(), "a");
    }
}
