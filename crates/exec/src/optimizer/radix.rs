//! Sorts the codes that a batch looked up in a table.

/// Bits of a digit, at most: few passes, and counts that stay in the nearest cache.
const DIGIT_BITS: u32 = 11;

/// Sorts by the upper 32 bits, all of which are below `limit`, and keeps the order of equals.
/// `spare` is memory to work in. The number of passes depends on `limit` alone: two up to four
/// million.
pub(super) fn sort_by_code(keys: &mut Vec<u64>, spare: &mut Vec<u64>, limit: usize) {
    let bits = usize::BITS - limit.saturating_sub(1).leading_zeros();
    let passes = bits.div_ceil(DIGIT_BITS);
    let digit_bits = bits.div_ceil(passes.max(1));
    spare.resize(keys.len(), 0);
    let mut counts = [0_u32; 1 << DIGIT_BITS];
    for pass in 0..passes {
        let places = &mut counts[..1 << digit_bits];
        let mask = places.len() - 1;
        let digit = |key: u64| (key >> (32 + pass * digit_bits)) as usize & mask;
        places.fill(0);
        keys.iter().for_each(|key| places[digit(*key)] += 1);
        let mut end = 0;
        for place in places.iter_mut() {
            (*place, end) = (end, end + *place);
        }
        for key in keys.iter() {
            let place = &mut places[digit(*key)];
            spare[*place as usize] = *key;
            *place += 1;
        }
        std::mem::swap(keys, spare);
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Against the standard library's stable sort, over the numbers of passes.
    #[test]
    fn is_a_stable_sort_by_code() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        for limit in [1, 2, 3, 2048, 2049, 100_000, 5_000_000, i32::MAX as usize] {
            for len in [0, 1, 2, 5_000] {
                let few = limit.min(40);
                let code = |random: &mut ChaCha8Rng| match random.random_bool(0.5) {
                    true => random.random_range(0..limit),
                    false => limit - 1 - random.random_range(0..few),
                };
                // Places go down, so that a sort of the whole key would be found out.
                let mut keys: Vec<u64> =
                    (0..len).rev().map(|place| (code(&mut random) as u64) << 32 | place).collect();
                let mut expected = keys.clone();
                expected.sort_by_key(|key| key >> 32);
                sort_by_code(&mut keys, &mut vec![9; 3], limit);
                assert_eq!(keys, expected, "{len} codes below {limit}");
            }
        }
    }
}
