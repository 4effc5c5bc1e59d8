//! Codes by first appearance.

use std::collections::HashMap;
use std::hash::Hash;

use gatefold_history::NONE;
use gatefold_history::intern::{Interner, TextInterner, pair};
use proptest::prelude::*;

use crate::cases;

/// Codes by the standard hash map.
fn codes_of<T: Hash + Eq + Clone>(values: &[T]) -> Vec<u32> {
    let mut codes = HashMap::new();
    values
        .iter()
        .map(|value| {
            let next = codes.len() as u32;
            *codes.entry(value.clone()).or_insert(next)
        })
        .collect()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn integers_are_numbered_as_they_appear(
        values in prop::collection::vec(prop_oneof![0..20_u64, any::<u64>()], 0..200),
        other in any::<u64>(),
    ) {
        let mut interner = Interner::default();
        let codes: Vec<u32> = values.iter().map(|&value| interner.intern(value).unwrap()).collect();
        prop_assert_eq!(&codes, &codes_of(&values));
        for (&value, &code) in values.iter().zip(&codes) {
            prop_assert_eq!(interner.values()[code as usize], value);
            prop_assert_eq!(interner.find(value), code);
        }
        prop_assert_eq!(interner.find(other) == NONE, !values.contains(&other));
    }

    #[test]
    fn texts_are_numbered_as_they_appear(
        texts in prop::collection::vec(prop_oneof!["[ab]{0,3}", "\\PC{0,20}"], 0..100),
        other in "[abc]{0,3}",
    ) {
        let mut interner = TextInterner::default();
        let codes: Vec<u32> = texts.iter().map(|text| interner.intern(text).unwrap()).collect();
        prop_assert_eq!(&codes, &codes_of(&texts));
        for (text, &code) in texts.iter().zip(&codes) {
            prop_assert_eq!(interner.text(code), text);
            prop_assert_eq!(interner.find(text), code);
        }
        prop_assert_eq!(interner.find(&other) == NONE, !texts.contains(&other));
        prop_assert_eq!(interner.len(), codes.iter().max().map_or(0, |&code| code as usize + 1));
    }
}

#[test]
fn identifiers_with_few_different_bits_do_not_collide() {
    for shift in [0, 20, 32, 44] {
        let mut interner = Interner::default();
        for value in 0..100_000_u64 {
            assert_eq!(interner.intern(value << shift), Ok(value as u32));
        }
    }
}

#[test]
fn pairs_keep_their_order() {
    assert_eq!(pair(1, 2), 0x1_0000_0002);
    assert_ne!(pair(1, 2), pair(2, 1));
    assert_eq!(pair(u32::MAX, u32::MAX), u64::MAX);
}

#[test]
fn tables_that_saw_nothing_find_nothing() {
    assert_eq!(Interner::default().find(0), NONE);
    assert_eq!(TextInterner::default().find(""), NONE);
    assert!(TextInterner::default().is_empty());
}
