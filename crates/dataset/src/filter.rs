//! Which rows are read at all.

use crate::Split;

/// What a row must satisfy to be read; label columns hold 0 and 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The column is 1: the row is in the sample space that the column marks.
    Positive(String),
    /// Where `outcome` is 1, `given` is 1 too: no conversion without a click.
    Implies {
        /// Column of the conditional outcome.
        outcome: String,
        /// Column of what it is conditional on.
        given: String,
    },
}

impl Condition {
    /// The columns it looks at.
    pub(crate) fn columns(&self) -> Vec<&String> {
        match self {
            Condition::Positive(column) => vec![column],
            Condition::Implies { outcome, given } => vec![outcome, given],
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Condition::Positive(column) => write!(f, "{column} = 1"),
            Condition::Implies { outcome, given } => write!(f, "no {outcome} = 1 where {given} = 0"),
        }
    }
}

/// The rows of `part` that satisfy every condition, ascending.
pub(crate) fn kept_rows(part: &Split, conditions: &[Condition]) -> Vec<u32> {
    let column = |name: &String| part.labels[name].as_slice();
    let mut rows: Vec<u32> = (0..part.rows as u32).collect();
    for condition in conditions {
        match condition {
            Condition::Positive(name) => {
                let values = column(name);
                rows.retain(|row| values[*row as usize] == 1.0);
            }
            Condition::Implies { outcome, given } => {
                let (outcome, given) = (column(outcome), column(given));
                rows.retain(|row| outcome[*row as usize] != 1.0 || given[*row as usize] != 0.0);
            }
        }
    }
    rows
}
