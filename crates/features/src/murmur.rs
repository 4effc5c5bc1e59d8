//! murmur3_x86_32, the stable hash behind hashed features and out-of-vocabulary buckets.
//!
//! Austin Appleby's MurmurHash3 (public domain), x86 variant with 32 bits of output. An integer is
//! hashed as the eight little-endian bytes of its `i64`, text as its UTF-8 bytes, so that the
//! value `7` and the text `"7"` have different codes and any language can compute the same code.

const C1: u32 = 0xcc9e_2d51;
const C2: u32 = 0x1b87_3593;

/// murmur3_x86_32 of `bytes`.
#[inline]
pub fn murmur3_x86_32(bytes: &[u8], seed: u32) -> u32 {
    let (words, tail) = bytes.as_chunks::<4>();
    let mut state = seed;
    for word in words {
        state ^= scramble(u32::from_le_bytes(*word));
        state = state.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    if !tail.is_empty() {
        let last = tail.iter().rev().fold(0u32, |word, &byte| word << 8 | u32::from(byte));
        state ^= scramble(last);
    }
    finish(state ^ bytes.len() as u32)
}

/// Hash of an integer: of the eight little-endian bytes of its `i64`.
#[inline]
pub fn hash_int(value: i64, seed: u32) -> u32 {
    murmur3_x86_32(&value.to_le_bytes(), seed)
}

/// Hash of text: of its UTF-8 bytes.
#[inline]
pub fn hash_text(value: &str, seed: u32) -> u32 {
    murmur3_x86_32(value.as_bytes(), seed)
}

#[inline]
fn scramble(word: u32) -> u32 {
    word.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2)
}

#[inline]
fn finish(mut state: u32) -> u32 {
    state ^= state >> 16;
    state = state.wrapping_mul(0x85eb_ca6b);
    state ^= state >> 13;
    state = state.wrapping_mul(0xc2b2_ae35);
    state ^ (state >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Bytes of a vector's input such as `utf8:foo`, `i64le:34` or `hex:00010203`.
    fn input_bytes(text: &str) -> Vec<u8> {
        let from_hex = |hex: &str| {
            let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            digits.chunks(2).map(byte).collect()
        };
        match text.split_once(':').unwrap() {
            ("utf8", value) => value.as_bytes().to_vec(),
            ("i64" | "i64le", value) => {
                let number = value.split(' ').next().unwrap();
                number.parse::<i64>().unwrap().to_le_bytes().to_vec()
            }
            ("hex" | "uuid", value) => from_hex(value),
            (kind, _) => panic!("unknown input kind {kind}"),
        }
    }

    #[test]
    fn published_vectors() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/hash_vectors.json");
        let Ok(text) = std::fs::read_to_string(path) else {
            eprintln!("skipped: {path} is not there");
            return;
        };
        let vectors: Value = serde_json::from_str(&text).unwrap();
        let rows = |key: &str| vectors["murmur3_x86_32"][key].as_array().unwrap().clone();
        for row in rows("signed") {
            let seed = row[1].as_u64().unwrap() as u32;
            let found = murmur3_x86_32(&input_bytes(row[0].as_str().unwrap()), seed) as i32;
            assert_eq!(i64::from(found), row[2].as_i64().unwrap(), "{row}");
        }
        for row in rows("edge_unsigned") {
            let found = murmur3_x86_32(&input_bytes(row[0].as_str().unwrap()), 0);
            assert_eq!(u64::from(found), row[2].as_u64().unwrap(), "{row}");
        }
        for row in rows("iceberg_bucket16") {
            let hash = murmur3_x86_32(&input_bytes(row[0].as_str().unwrap()), 0);
            assert_eq!(u64::from((hash & 0x7fff_ffff) % 16), row[1].as_u64().unwrap(), "{row}");
        }
    }

    /// Values that stand in the literature, so that the hash is pinned where the vectors are absent.
    #[test]
    fn known_values() {
        assert_eq!(hash_text("", 0), 0);
        assert_eq!(hash_text("foo", 0) as i32, -156_908_512);
        assert_eq!(hash_text("foo", 42) as i32, -1_322_301_282);
        assert_eq!(hash_text("iceberg", 0), 1_210_000_089);
        assert_eq!(hash_int(34, 0), 2_017_239_379);
    }
}
