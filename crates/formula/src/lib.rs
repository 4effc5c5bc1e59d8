//! Formulas over columns of numbers, such as `ctr ^ 0.6 * ctcvr * coalesce(price, 0)`.
//!
//! A formula fuses a model's outputs and item columns into the one score that candidates are ranked
//! by. It is arithmetic and nothing else: no state, no loops, no access to anything but its columns;
//! its length and depth are bounded, so any text may be tried.
//!
//! | written | meaning |
//! |---|---|
//! | `1`, `0.5`, `2e-3` | a number |
//! | `ctr`, `` `price (eur)` `` | a column; back quotes hold what is no plain name |
//! | `a + b`, `a - b`, `a * b`, `a / b` | as usual; `*` and `/` bind more closely, from left to right |
//! | `a ^ b` | a power; binds most closely, from right to left: `-2 ^ 2` is -4, `2 ^ 3 ^ 2` is 512 |
//! | `-a`, `+a` | a sign |
//! | `f(a)` | `exp`, `ln`, `log1p`, `sqrt`, `abs`, `sigmoid`, `logit` |
//! | `f(a, b, …)` | `min`, `max`, `coalesce` (the first that is not missing) of two or more |
//!
//! Everything is computed in 64-bit floats, and an int column is taken as such: beyond 2^53
//! (9007199254740992) it becomes the nearest one, so ids of that size are not told apart.
//!
//! A missing value makes missing whatever is computed from it, `min` and `max` included; only
//! `coalesce` replaces it. A result that is missing or not finite is an error that names the row:
//! nothing is ranked by a number that does not exist.
//!
//! A formula is parsed once into steps for a stack, and each step works on a chunk of rows at a time.

mod error;
mod parse;
mod step;

pub use error::FormulaError;

use crate::step::Step;

/// Bytes that a formula may have.
pub const LONGEST: usize = 1000;
/// Parentheses, signs and powers that may stand in each other.
pub const DEEPEST: usize = 32;
/// Rows computed at a time: a chunk and those it is computed from stay in the cache.
const CHUNK: usize = 256;

/// A parsed formula.
#[derive(Clone, Debug, PartialEq)]
pub struct Formula {
    text: String,
    names: Vec<String>,
    /// In postfix order: each takes what it needs from the stack and leaves one column on it.
    steps: Vec<Step>,
}

impl Formula {
    /// Parses `text`.
    ///
    /// # Errors
    /// What is wrong, and at which character.
    pub fn parse(text: &str) -> Result<Formula, FormulaError> {
        let (steps, names) = parse::parse(text)?;
        Ok(Formula { text: text.to_owned(), names, steps })
    }

    /// The formula as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The columns it is computed from, in the order of their first occurrence.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The result of each of `rows` rows; `columns` are those of [`names`](Self::names), in that
    /// order, where NaN is a missing value.
    ///
    /// # Errors
    /// The first row whose result is missing or not finite, with the values it comes from.
    ///
    /// # Panics
    /// When there are not as many columns as names, or one has fewer than `rows` values.
    pub fn evaluate(&self, rows: usize, columns: &[&[f64]]) -> Result<Vec<f64>, FormulaError> {
        assert_eq!(columns.len(), self.names.len(), "a formula is given the columns that it names");
        let mut results = Vec::with_capacity(rows);
        let mut stack: Vec<[f64; CHUNK]> = Vec::new();
        for first in (0..rows).step_by(CHUNK) {
            let count = CHUNK.min(rows - first);
            let mut depth = 0;
            for step in &self.steps {
                depth = step.apply(&mut stack, depth, count, |column| &columns[column][first..first + count]);
            }
            results.extend_from_slice(&stack[0][..count]);
        }
        match results.iter().position(|result| !result.is_finite()) {
            None => Ok(results),
            Some(row) => {
                let values = self.names.iter().zip(columns).map(|(name, column)| (name.clone(), column[row]));
                Err(FormulaError::not_finite(&self.text, row, results[row], values.collect()))
            }
        }
    }
}
