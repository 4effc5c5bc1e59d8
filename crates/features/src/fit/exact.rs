//! Sums without rounding: the same for any order of the terms, any number of threads and shards.
//!
//! A sum is one long integer in units of a fixed power of two, kept in digits of 32 bits that have room
//! for carries, so that an addition touches a few digits alone (Neal, "Fast exact summation using small
//! and large superaccumulators", arXiv:1505.05571, 2015; the small one).

/// Additions after which carries must be passed on: each adds less than 2³² to a digit of 64 bits.
const MOST_PENDING: u32 = 1 << 30;

/// The sum of integers, each times a power of two.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ExactSum {
    /// Digits, the least significant first; the last one carries the sign.
    digits: Vec<i64>,
    /// Additions since carries were passed on.
    pending: u32,
}

impl ExactSum {
    /// 0, with room for sums below 2^(32 · `digits` − 1).
    pub(super) fn new(digits: usize) -> Self {
        Self { digits: vec![0; digits], pending: 0 }
    }

    /// Adds ±`magnitude` · 2^`shift`.
    #[inline]
    pub(super) fn add(&mut self, negative: bool, magnitude: u128, shift: usize) {
        let (mut place, offset) = (shift / 32, shift % 32);
        let mut digit = ((magnitude as u64) << offset) & 0xffff_ffff;
        let mut rest = magnitude >> (32 - offset);
        loop {
            self.digits[place] += if negative { -(digit as i64) } else { digit as i64 };
            if rest == 0 {
                break;
            }
            digit = rest as u64 & 0xffff_ffff;
            rest >>= 32;
            place += 1;
        }
        self.pending += 1;
        if self.pending == MOST_PENDING {
            self.carry();
        }
    }

    /// Adds what `other`, of as many digits, has summed.
    pub(super) fn merge(&mut self, other: &ExactSum) {
        self.carry();
        let mut other = other.clone();
        other.carry();
        self.digits.iter_mut().zip(other.digits).for_each(|(own, more)| *own += more);
        self.carry();
    }

    /// Brings every digit but the last into 0..2³².
    fn carry(&mut self) {
        let last = self.digits.len() - 1;
        for place in 0..last {
            let over = self.digits[place] >> 32;
            self.digits[place] -= over << 32;
            self.digits[place + 1] += over;
        }
        self.pending = 0;
    }

    /// Whether the sum is negative, and its magnitude.
    pub(super) fn magnitude(&self) -> (bool, Natural) {
        let mut sum = self.clone();
        sum.carry();
        let negative = sum.digits.last().is_some_and(|digit| *digit < 0);
        if negative {
            sum.digits.iter_mut().for_each(|digit| *digit = -*digit);
            sum.carry();
        }
        (negative, Natural(sum.digits.iter().map(|digit| *digit as u32).collect()))
    }
}

/// A whole number of any size: digits of 32 bits, the least significant first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Natural(Vec<u32>);

impl From<u64> for Natural {
    fn from(value: u64) -> Self {
        Natural(vec![value as u32, (value >> 32) as u32])
    }
}

impl Natural {
    /// The product.
    pub(super) fn times(&self, other: &Natural) -> Natural {
        let mut product = vec![0u32; self.0.len() + other.0.len()];
        for (place, digit) in self.0.iter().enumerate() {
            let mut carry = 0u64;
            for (own, more) in product[place..].iter_mut().zip(other.0.iter().chain([&0])) {
                let sum = u64::from(*own) + u64::from(*digit) * u64::from(*more) + carry;
                *own = sum as u32;
                carry = sum >> 32;
            }
        }
        Natural(product)
    }

    /// The difference to a number that is not greater.
    pub(super) fn minus(&self, other: &Natural) -> Natural {
        let mut borrow = 0i64;
        let digit = |(place, own): (usize, &u32)| {
            let difference = i64::from(*own) - i64::from(other.0.get(place).copied().unwrap_or(0)) + borrow;
            borrow = difference >> 32;
            difference as u32
        };
        Natural(self.0.iter().enumerate().map(digit).collect())
    }

    /// The number as `x · 2^e`, where `x` holds its first 97 bits or more, rounded.
    pub(super) fn scaled(&self) -> (f64, i32) {
        let Some(top) = self.0.iter().rposition(|digit| *digit != 0) else { return (0.0, 0) };
        let lowest = top.saturating_sub(3);
        let bits =
            self.0[lowest..=top].iter().rev().fold(0u128, |bits, digit| bits << 32 | u128::from(*digit));
        (bits as f64, 32 * lowest as i32)
    }
}

/// `value · 2^exponent`.
pub(super) fn times_power_of_two(mut value: f64, mut exponent: i32) -> f64 {
    let power = |exponent: i32| f64::from_bits(((1023 + exponent) as u64) << 52);
    while exponent < -1000 {
        value *= power(-1000);
        exponent += 1000;
    }
    while exponent > 1000 {
        value *= power(1000);
        exponent -= 1000;
    }
    value * power(exponent)
}
