//! A sum of `f64` that forgets nothing until it is read.

use std::fmt;

/// Limbs of 32 bits for every bit an `f64` can have (from 2⁻¹⁰⁷⁴ to 2¹⁰²⁴), and room for carries.
const LIMBS: usize = 68;

/// The exact sum of any `f64`, from which each can be taken away again: a window can slide for ever without
/// drift, and its sum does not depend on the order of its values.
///
/// A fixed-point number with a bit for every bit of an `f64`, as the small superaccumulator of R. Neal, "Fast
/// exact summation using small and large superaccumulators", 2015 (arXiv:1505.05571). Holds up to 2³⁰ values.
#[derive(Clone)]
pub struct ExactSum {
    /// Signed limbs of weight 2^(32 i - 1074), whose carries wait until the sum is read.
    limbs: [i64; LIMBS],
    /// Limbs in use: the first, and the one after the last.
    used: (usize, usize),
    /// Infinities held: negative and positive.
    infinite: [i64; 2],
}

impl Default for ExactSum {
    fn default() -> Self {
        Self { limbs: [0; LIMBS], used: (LIMBS, 0), infinite: [0; 2] }
    }
}

impl fmt::Debug for ExactSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExactSum({})", self.rounded())
    }
}

impl ExactSum {
    /// Adds a value, which must not be `NaN`.
    pub fn add(&mut self, value: f64) {
        self.put(value, 1);
    }

    /// Takes away a value that was added.
    pub fn subtract(&mut self, value: f64) {
        self.put(value, -1);
    }

    /// Makes the sum 0.
    pub fn clear(&mut self) {
        let (first, end) = self.used;
        if first < end {
            self.limbs[first..end].fill(0);
        }
        self.used = (LIMBS, 0);
        self.infinite = [0; 2];
    }

    fn put(&mut self, value: f64, sign: i64) {
        let bits = value.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as usize;
        if exponent == 0x7ff {
            self.infinite[usize::from(value > 0.0)] += sign;
            return;
        }
        let fraction = bits & ((1 << 52) - 1);
        // The value is `mantissa` times 2^(shift - 1074).
        let (mantissa, shift) =
            if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        let sign = if value.is_sign_negative() { -sign } else { sign };
        let first = shift / 32;
        let wide = u128::from(mantissa) << (shift % 32);
        for (limb, part) in self.limbs[first..first + 3].iter_mut().zip([wide, wide >> 32, wide >> 64]) {
            *limb += sign * i64::from(part as u32);
        }
        self.used = (self.used.0.min(first), self.used.1.max(first + 3));
    }

    /// The nearest `f64`, ties to even; infinite beyond its range, `NaN` where it holds infinities of both signs.
    pub fn rounded(&self) -> f64 {
        match self.infinite {
            [0, 0] => {}
            [_, 0] => return f64::NEG_INFINITY,
            [0, _] => return f64::INFINITY,
            _ => return f64::NAN,
        }
        let (first, end) = self.used;
        if first >= end {
            return 0.0;
        }
        // Carries, into two more limbs: what is left beyond them is 0, or -1 if the sum is negative.
        let end = end + 2;
        let mut digits = [0_u32; LIMBS];
        let mut carry = 0;
        for (digit, limb) in digits[first..end].iter_mut().zip(&self.limbs[first..end]) {
            let sum = limb + carry;
            *digit = sum as u32;
            carry = sum >> 32;
        }
        let negative = carry < 0;
        if negative {
            let mut carry = true;
            for digit in &mut digits[first..end] {
                (*digit, carry) = (!*digit).overflowing_add(u32::from(carry));
            }
        }
        let Some(top) = (first..end).rev().find(|&limb| digits[limb] != 0) else { return 0.0 };
        // Three digits hold at least 65 bits of the sum: its lowest bit stands for all that follow.
        let base = top.saturating_sub(2);
        let mut mantissa = (base..=top).rev().fold(0_u128, |sum, limb| sum << 32 | u128::from(digits[limb]));
        if base > first && digits[first..base].iter().any(|&digit| digit != 0) {
            mantissa |= 1;
        }
        let magnitude = scale(mantissa as f64, 32 * base as i32 - 1074);
        if negative { -magnitude } else { magnitude }
    }
}

/// `value` times 2^`exponent`, in two steps so that neither power is beyond `f64`. The first is exact, and so is
/// the second where the result is subnormal: it is a sum of multiples of 2⁻¹⁰⁷⁴.
fn scale(value: f64, exponent: i32) -> f64 {
    let half = exponent / 2;
    value * power_of_two(half) * power_of_two(exponent - half)
}

/// 2^`exponent`, from -1022 to 1023.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}
