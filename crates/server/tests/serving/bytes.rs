//! Whatever bytes arrive, nothing panics: the entries of the fuzz targets, on bytes drawn by
//! proptest, the same on every run.

#[expect(unreachable_pub, reason = "public in the crate of the fuzz targets")]
#[path = "../../../../fuzz/src/entries.rs"]
mod entries;

use entries::Reached;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use prost::Message;

use crate::support::request;

/// Draws `cases` values, the same ones each time.
fn check<T: std::fmt::Debug>(cases: u32, strategy: impl Strategy<Value = T>, test: impl Fn(T)) {
    let config = ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let result = TestRunner::new(config).run(&strategy, |value| {
        test(value);
        Ok(())
    });
    result.unwrap();
}

/// Bytes that are fields of a message: varints and lengths that fit, within each other.
fn fields() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        (1_u8..16, any::<u64>()).prop_map(|(field, value)| {
            let mut bytes = vec![field << 3];
            prost::encoding::encode_varint(value, &mut bytes);
            bytes
        }),
        (1_u8..16, "[a-z]{0,8}|age|price|country|recent|item_id")
            .prop_map(|(field, text)| delimited(field, text.as_bytes())),
        (1_u8..16, prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(field, bytes)| delimited(field, &bytes)),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        (1_u8..16, prop::collection::vec(inner, 0..6))
            .prop_map(|(field, parts)| delimited(field, &parts.concat()))
    })
}

fn delimited(field: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

#[test]
fn any_bytes_are_refused_or_encoded() {
    check(20_000, prop::collection::vec(any::<u8>(), 0..400), |bytes| {
        entries::score_request(&bytes);
        entries::messages(&bytes);
    });
}

#[test]
fn any_fields_are_refused_or_encoded() {
    let decoded = std::cell::Cell::new(0);
    check(20_000, prop::collection::vec(fields(), 0..8), |parts| {
        entries::messages(&parts.concat());
        if entries::score_request(&parts.concat()) != Reached::Nothing {
            decoded.set(decoded.get() + 1);
        }
    });
    assert!(decoded.get() > 1000, "{} are messages", decoded.get());
}

/// A good message with a few bytes changed, removed, repeated or put in.
#[test]
fn damaged_messages_are_refused_or_encoded() {
    let good = request(&[10.0, 20.0, 30.0]).encode_to_vec();
    assert_eq!(entries::score_request(&good), Reached::Features);
    let change = (0_u8..4, any::<prop::sample::Index>(), any::<u8>());
    let (decoded, encoded) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    check(30_000, prop::collection::vec(change, 1..4), |changes| {
        let mut bytes = good.clone();
        for (kind, at, byte) in changes {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        match entries::score_request(&bytes) {
            Reached::Nothing => {}
            Reached::Message => decoded.set(decoded.get() + 1),
            Reached::Features => encoded.set(encoded.get() + 1),
        }
    });
    assert!(
        decoded.get() > 1000 && encoded.get() > 1000,
        "{} decoded, {} encoded",
        decoded.get(),
        encoded.get()
    );
}

#[test]
fn any_text_is_refused_or_taken_as_settings() {
    check(2000, any::<String>(), |text| entries::settings(&text));
    let keys = "(workers|listen|limits|tls|versions|caller|name|rights|log|[a-z]{1,5})";
    let values = r#"(= ?(-?[0-9]{1,20}|"[a-z.:0-9]{0,9}"|\[[0-9]?\]|\{\}|nan|inf|true))"#;
    let lines = format!(r"(\[{{0,2}}{keys}\]{{0,2}}\n|{keys} {values}\n){{0,8}}");
    check(5000, prop::string::string_regex(&lines).unwrap(), |text| entries::settings(&text));
}
