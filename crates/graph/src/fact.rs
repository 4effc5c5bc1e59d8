//! What is known of a value before anything runs.

use std::fmt;

/// How many rows a value has. The order is that of generality: an op on values of several levels
/// has the highest of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// No rows: a parameter, or a scalar such as a loss.
    Constant,
    /// One row a request.
    Request,
    /// One row a candidate.
    Candidate,
}

/// Element type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 32-bit integer: codes and row indices.
    I32,
}

/// Level, element type and the dimensions after the rows: `[]` at row level is a vector of one
/// number a row; `[16]` at candidate level is a matrix of `candidates × 16`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fact {
    /// Rows.
    pub level: Level,
    /// Element type.
    pub element: ElementType,
    /// Dimensions after the rows.
    pub dims: Vec<usize>,
}

impl Fact {
    /// A float value.
    pub fn f32(level: Level, dims: &[usize]) -> Self {
        Self { level, element: ElementType::F32, dims: dims.to_vec() }
    }

    /// An integer value.
    pub fn i32(level: Level, dims: &[usize]) -> Self {
        Self { level, element: ElementType::I32, dims: dims.to_vec() }
    }

    /// The last dimension, along which rows are joined and multiplied; a `[]` is one column.
    pub fn columns(&self) -> usize {
        self.dims.last().copied().unwrap_or(1)
    }

    /// Elements a row (or in all, at constant level).
    pub fn row_len(&self) -> usize {
        self.dims.iter().product()
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = match self.level {
            Level::Constant => "",
            Level::Request => "requests ",
            Level::Candidate => "candidates ",
        };
        write!(f, "{:?} [{rows}{:?}]", self.element, self.dims)
    }
}
