//! Whatever bytes arrive, nothing panics: the entries of the fuzz targets, on bytes drawn by
//! proptest, the same on every run.

#[expect(dead_code, unreachable_pub, reason = "public in the crate of the fuzz targets")]
#[path = "../../../../fuzz/src/entries.rs"]
mod entries;

use std::cell::Cell;

use entries::{Reached, TARGETS, target};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

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
fn seeds_are_taken() {
    for target in &TARGETS {
        for (index, seed) in (target.seeds)().iter().enumerate() {
            assert_eq!((target.run)(seed), Reached::Taken, "seed {index} of {}", target.name);
        }
    }
}

#[test]
fn any_bytes_are_refused_or_taken() {
    check(3000, prop::collection::vec(any::<u8>(), 0..400), |bytes| {
        for target in &TARGETS {
            (target.run)(&bytes);
        }
    });
}

#[test]
fn any_fields_are_refused_or_taken() {
    let targets = ["score_request", "infer_request", "messages", "onnx"].map(target);
    let read = [const { Cell::new(0) }; 4];
    check(10_000, prop::collection::vec(fields(), 0..8), |parts| {
        for (target, read) in targets.iter().zip(&read) {
            read.set(read.get() + u32::from((target.run)(&parts.concat()) != Reached::Nothing));
        }
    });
    // A file without a graph is none, whatever its fields.
    let least = [1000, 1000, 1000, 0];
    assert!(read.iter().zip(least).all(|(read, least)| read.get() >= least), "{read:?} are messages");
}

/// Seeds with a few bytes changed, removed, repeated or put in.
#[test]
fn damaged_seeds_are_refused_or_taken() {
    for target in &TARGETS {
        let seeds = (target.seeds)();
        let change = (0_u8..4, any::<prop::sample::Index>(), any::<u8>());
        let cases = (0..seeds.len(), prop::collection::vec(change, 1..4));
        let counts = [const { Cell::new(0) }; 3];
        check(2000, cases, |(seed, changes)| {
            let mut bytes = seeds[seed].clone();
            for (kind, at, byte) in changes {
                let at = at.index(bytes.len());
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes[at] ^= 1 << (byte % 8),
                    2 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, bytes[at]),
                }
            }
            let count = &counts[(target.run)(&bytes) as usize];
            count.set(count.get() + 1);
        });
        let [nothing, refused, taken] = counts.map(Cell::into_inner);
        assert!(nothing + refused > 500 && taken > 40, "{}: {nothing}, {refused}, {taken}", target.name);
    }
}

#[test]
fn any_text_is_refused_or_taken() {
    let keys = "(workers|listen|limits|tls|versions|caller|name|rights|log|[a-z]{1,5})";
    let values = r#"(= ?(-?[0-9]{1,20}|"[a-z.:0-9]{0,9}"|\[[0-9]?\]|\{\}|nan|inf|true))"#;
    let lines = format!(r"(\[{{0,2}}{keys}\]{{0,2}}\n|{keys} {values}\n){{0,8}}");
    let arithmetic = r"((ctr|`a b`|-|\+|1|\.5|2e|sqrt|max|coalesce)( |\(|\)|,|\^|\*|/)){0,12}";
    for (name, form) in [
        ("settings", lines.as_str()),
        ("recipe", lines.as_str()),
        ("formula", arithmetic),
        ("traceparent", "[0-9a-f-]{50,60}"),
    ] {
        let run = target(name).run;
        check(2000, any::<String>(), |text| {
            run(text.as_bytes());
        });
        check(3000, prop::string::string_regex(form).unwrap(), |text| {
            run(text.as_bytes());
        });
    }
}
