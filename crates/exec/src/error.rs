//! What can be wrong with what a caller gives.

use gatefold_graph::ElementType;

/// A plan that cannot be compiled or a run that cannot start. A run that fails leaves the
/// executor fit for the next one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// A target is not a value that a plan computes.
    #[error("node {node} is a parameter or not in the graph: name a computed value as target")]
    BadTarget {
        /// Index of the node.
        node: usize,
    },
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {message}")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// What the system says.
        message: String,
    },
    /// An input has no value.
    #[error("input `{input}` is missing: give one value for each input of the graph")]
    MissingInput {
        /// Name of the input.
        input: String,
    },
    /// An input's elements are of the wrong type.
    #[error("input `{input}` must hold {expected:?} elements, found {found:?}")]
    WrongElement {
        /// Name of the input.
        input: String,
        /// What the graph declares.
        expected: ElementType,
        /// What was given.
        found: ElementType,
    },
    /// An input has too few or too many elements.
    #[error("input `{input}` must hold {rows} rows of {row_len}, found {found} elements")]
    WrongLength {
        /// Name of the input.
        input: String,
        /// Rows of its level in this run.
        rows: usize,
        /// Elements a row.
        row_len: usize,
        /// Elements found.
        found: usize,
    },
    /// A code has no row in its table.
    #[error("input `{input}`, row {row}: code {found} is outside the table of {limit} rows")]
    CodeOutsideTable {
        /// Name of the input.
        input: String,
        /// Row of the input.
        row: usize,
        /// The code.
        found: i32,
        /// Rows of the table.
        limit: usize,
    },
    /// A candidate names a request that does not exist.
    #[error("input `{input}`, row {row}: request {found} does not exist, the batch has {limit}")]
    RequestOutsideBatch {
        /// Name of the input.
        input: String,
        /// Row of the input.
        row: usize,
        /// The request index.
        found: i32,
        /// Requests in the batch.
        limit: usize,
    },
    /// The candidates of one request do not stand together.
    #[error(
        "input `{input}`, row {row}: request {found} comes after {previous}, sort the candidates by request"
    )]
    RequestsUnsorted {
        /// Name of the input.
        input: String,
        /// Row of the input.
        row: usize,
        /// The request index.
        found: i32,
        /// The request index one row before.
        previous: i32,
    },
    /// The parameters given are not those of the graph.
    #[error("parameter {index} must be `{expected}` with {expected_len} numbers, found {found}")]
    WrongParameter {
        /// Index of the parameter.
        index: usize,
        /// Name in the graph.
        expected: String,
        /// Numbers in the graph's.
        expected_len: usize,
        /// What was given.
        found: String,
    },
    /// A setting of an optimizer that no training can have.
    #[error("{part}: {setting} must be {must}, found {found}")]
    BadSetting {
        /// Which settings: `optimizer`, `embedding optimizer` or `gradients`.
        part: String,
        /// Name of the setting.
        setting: String,
        /// What was given.
        found: String,
        /// What it must be.
        must: String,
    },
    /// The norm of the gradients, needed to clip them, is not a number.
    #[error("the norm of the gradients is {norm}: lower the learning rate or look for bad input")]
    BadNorm {
        /// The norm, in words: infinite or no number.
        norm: String,
    },
}
