//! Mean, spread and range of numbers, whatever the order they are seen in.

use gatefold_schema::{Clip, EncoderState};

use super::{
    exact::{ExactSum, Natural, times_power_of_two},
    present::for_each_number,
};
use crate::RawColumn;

/// Exponent of the smallest positive number: numbers are whole multiples of 2 to this, their squares of
/// twice this.
const UNIT: i32 = -1074;
/// Digits for sums of fewer than 2⁶⁴ numbers: 2,098 + 64 bits and the sign.
const DIGITS: usize = 70;

/// Count, sum, sum of squares and range of numbers. The sums are exact, so that parts can be merged in
/// any order.
#[derive(Clone, Debug, PartialEq)]
pub struct MomentCounter {
    count: u64,
    /// In units of 2 to [`UNIT`].
    sum: ExactSum,
    /// In units of 2 to twice [`UNIT`].
    squares: ExactSum,
    min: f64,
    max: f64,
}

impl Default for MomentCounter {
    fn default() -> Self {
        let (sum, squares) = (ExactSum::new(DIGITS), ExactSum::new(2 * DIGITS));
        Self { count: 0, sum, squares, min: 0.0, max: 0.0 }
    }
}

impl MomentCounter {
    /// Counts the present finite numbers, brought into `clip`; `false` if the values are not numbers.
    #[must_use]
    pub fn add(&mut self, column: &RawColumn<'_>, clip: Option<Clip>) -> bool {
        for_each_number(column, clip, |value| self.push(value))
    }

    /// Counts one finite number.
    fn push(&mut self, value: f64) {
        if self.count == 0 {
            (self.min, self.max) = (value, value);
        }
        self.count += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        let bits = value.to_bits();
        let (exponent, fraction) = ((bits >> 52 & 0x7ff) as usize, bits & ((1 << 52) - 1));
        // A number with the exponent 0 is subnormal: it has no leading 1 and the unit of exponent 1.
        let (mantissa, shift) =
            if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        self.sum.add(value < 0.0, u128::from(mantissa), shift);
        self.squares.add(false, u128::from(mantissa) * u128::from(mantissa), 2 * shift);
    }

    /// Adds what `other` has counted.
    pub fn merge(&mut self, other: &MomentCounter) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = other.clone();
            return;
        }
        self.count += other.count;
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Mean and population standard deviation; 1 stands for a deviation of 0.
    pub fn standardize(&self) -> EncoderState {
        if self.count == 0 {
            return EncoderState::Standardize { mean: 0.0, std: 1.0 };
        }
        let count = self.count as f64;
        let (negative, sum) = self.sum.magnitude();
        let (digits, exponent) = sum.scaled();
        let mean = times_power_of_two(digits / count, exponent + UNIT);
        // n² · variance = n · Σx² − (Σx)², without rounding.
        let (_, squares) = self.squares.magnitude();
        let (digits, exponent) = squares.times(&Natural::from(self.count)).minus(&sum.times(&sum)).scaled();
        // Both are even, so the root halves the exponent.
        let std = times_power_of_two((digits / (count * count)).sqrt(), exponent / 2 + UNIT);
        EncoderState::Standardize {
            mean: if negative { -mean } else { mean },
            std: if std > 0.0 { std } else { 1.0 },
        }
    }

    /// The range.
    pub fn min_max(&self) -> EncoderState {
        EncoderState::MinMax { min: self.min, max: self.max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[f64], mean: f64, std: f64) {
        let mut all = MomentCounter::default();
        values.iter().for_each(|value| all.push(*value));
        assert_eq!(all.standardize(), EncoderState::Standardize { mean, std });
    }

    /// Python: `fractions.Fraction`, rounded once at the end.
    #[test]
    fn moments_of_known_numbers() {
        check(&[], 0.0, 1.0);
        check(&[7.5, 7.5], 7.5, 1.0);
        check(&[1.0, 3.0, 5.0], 3.0, (8.0f64 / 3.0).sqrt());
        // The mean is 2³⁰ times the spread: the textbook formula in floating point gives 0 or worse.
        check(&[1e15, 1e15 + 1.0, 1e15 + 2.0], 1e15 + 1.0, (2.0f64 / 3.0).sqrt());
        check(&[-0.1, 0.1], 0.0, 0.1);
        check(&[-3.0, -1.0], -2.0, 1.0);
        check(&[5e-324, 5e-324, -5e-324, -5e-324], 0.0, 5e-324);
        check(&[1e300, -1e300], 0.0, 1e300);
    }

    #[test]
    fn no_order_changes_a_bit() {
        let values: Vec<f64> = (0..1000u32)
            .map(|i| {
                let size = 10f64.powi((i.wrapping_mul(2_654_435_761) >> 26) as i32 - 30);
                if i % 3 == 0 { -size } else { size * f64::from(i) }
            })
            .collect();
        let count = |values: &mut dyn Iterator<Item = &f64>| {
            let mut counter = MomentCounter::default();
            values.for_each(|value| counter.push(*value));
            counter
        };
        let forward = count(&mut values.iter()).standardize();
        assert_eq!(count(&mut values.iter().rev()).standardize(), forward);
        for parts in [2, 7, 1000] {
            let mut merged = MomentCounter::default();
            for part in values.chunks(values.len() / parts).rev() {
                merged.merge(&count(&mut part.iter()));
            }
            assert_eq!(merged.standardize(), forward, "{parts} parts");
        }
    }
}
