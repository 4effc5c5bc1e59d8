//! What can be wrong with the columns of a log.

/// Why a log cannot be ordered, or its values not be numbered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Row numbers are `u32`, and the largest is kept for "none".
    #[error(
        "{found} rows are more than the {limit} that can be numbered at once: work on fewer keys or a shorter log"
    )]
    TooManyRows {
        /// Number of rows given.
        found: usize,
        /// Largest number accepted.
        limit: usize,
    },
    /// Two columns of one log differ in length.
    #[error("{what} has {found} values but there are {expected} keys: pass one value a row")]
    LengthMismatch {
        /// The column that differs from the keys.
        what: &'static str,
        /// Number of keys.
        expected: usize,
        /// Length of the column.
        found: usize,
    },
    /// A key is not below the number of keys.
    #[error("row {row} has key {key}, but there are {keys} keys: number keys from 0")]
    KeyOutOfRange {
        /// Row, from 0.
        row: usize,
        /// The key found.
        key: u32,
        /// The number of keys given.
        keys: usize,
    },
    /// More distinct values than there are codes.
    #[error("more than {limit} distinct values: they cannot be numbered")]
    TooManyValues {
        /// Largest number accepted.
        limit: usize,
    },
}
