//! What a formula does, a chunk of rows at a time.

use crate::CHUNK;

/// One step on a stack of columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// Puts a number in every row on the stack.
    Number(f64),
    /// Puts a column on the stack.
    Column(usize),
    /// Replaces the last column.
    One(One),
    /// Replaces the last two columns by one.
    Two(Two),
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum One {
    Negate,
    Exp,
    Ln,
    Log1p,
    Sqrt,
    Abs,
    Sigmoid,
    Logit,
}

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Two {
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
    Min,
    Max,
    Coalesce,
}

impl One {
    pub(crate) const NAMED: [(&str, One); 7] = [
        ("exp", One::Exp),
        ("ln", One::Ln),
        ("log1p", One::Log1p),
        ("sqrt", One::Sqrt),
        ("abs", One::Abs),
        ("sigmoid", One::Sigmoid),
        ("logit", One::Logit),
    ];
}

impl Two {
    pub(crate) const NAMED: [(&str, Two); 3] =
        [("min", Two::Min), ("max", Two::Max), ("coalesce", Two::Coalesce)];
}

impl Step {
    /// Works on the first `count` rows of the columns below `depth`; the new depth.
    pub(crate) fn apply<'a>(
        self,
        stack: &mut Vec<[f64; CHUNK]>,
        depth: usize,
        count: usize,
        column: impl Fn(usize) -> &'a [f64],
    ) -> usize {
        match self {
            Step::Number(_) | Step::Column(_) => {
                if stack.len() == depth {
                    stack.push([0.0; CHUNK]);
                }
                match self {
                    Step::Number(number) => stack[depth][..count].fill(number),
                    Step::Column(index) => stack[depth][..count].copy_from_slice(column(index)),
                    Step::One(_) | Step::Two(_) => {}
                }
                depth + 1
            }
            Step::One(one) => {
                one.apply(&mut stack[depth - 1][..count]);
                depth
            }
            Step::Two(two) => {
                let (left, right) = stack.split_at_mut(depth - 1);
                two.apply(&mut left[depth - 2][..count], &right[0][..count]);
                depth - 1
            }
        }
    }
}

impl One {
    fn apply(self, values: &mut [f64]) {
        let each = |function: fn(f64) -> f64, values: &mut [f64]| {
            values.iter_mut().for_each(|value| *value = function(*value));
        };
        match self {
            One::Negate => each(|value| -value, values),
            One::Exp => each(f64::exp, values),
            One::Ln => each(f64::ln, values),
            One::Log1p => each(f64::ln_1p, values),
            One::Sqrt => each(f64::sqrt, values),
            One::Abs => each(f64::abs, values),
            One::Sigmoid => each(|value| 1.0 / (1.0 + (-value).exp()), values),
            One::Logit => each(|value| (value / (1.0 - value)).ln(), values),
        }
    }
}

impl Two {
    fn apply(self, left: &mut [f64], right: &[f64]) {
        macro_rules! each {
            (|$a:ident, $b:ident| $result:expr) => {
                for (left, right) in left.iter_mut().zip(right) {
                    let ($a, $b) = (*left, *right);
                    *left = $result;
                }
            };
        }
        match self {
            Two::Add => each!(|a, b| a + b),
            Two::Subtract => each!(|a, b| a - b),
            Two::Multiply => each!(|a, b| a * b),
            Two::Divide => each!(|a, b| a / b),
            // 1 to any power and any to the power of 0 are 1, a missing value's excepted.
            Two::Power => each!(|a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.powf(b) }),
            // The library's own pass over a NaN, which would hide a missing value.
            Two::Min => each!(|a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }),
            Two::Max => each!(|a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }),
            Two::Coalesce => each!(|a, b| if a.is_nan() { b } else { a }),
        }
    }
}
