//! Values that a caller gives for one run, and the checks they pass before anything is computed.

use gatefold_graph::{ElementType, Level};

use crate::error::ExecError;

/// The value of a graph input: row-major, rows first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InputValue<'a> {
    /// Numbers, labels, weights.
    F32(&'a [f32]),
    /// Codes and request indices.
    I32(&'a [i32]),
}

impl<'a> InputValue<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            InputValue::F32(values) => values.len(),
            InputValue::I32(values) => values.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn f32(&self) -> &'a [f32] {
        match self {
            InputValue::F32(values) => values,
            InputValue::I32(_) => &[],
        }
    }

    pub(crate) fn i32(&self) -> &'a [i32] {
        match self {
            InputValue::F32(_) => &[],
            InputValue::I32(values) => values,
        }
    }

    fn element(&self) -> ElementType {
        match self {
            InputValue::F32(_) => ElementType::F32,
            InputValue::I32(_) => ElementType::I32,
        }
    }
}

/// Rows of each level in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowCounts {
    pub(crate) requests: usize,
    pub(crate) candidates: usize,
}

impl RowCounts {
    pub(crate) fn of(&self, level: Level) -> usize {
        match level {
            Level::Constant => 1,
            Level::Request => self.requests,
            Level::Candidate => self.candidates,
        }
    }
}

/// What a plan knows of a graph input that it reads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InputPlan {
    pub(crate) name: String,
    pub(crate) level: Level,
    pub(crate) element: ElementType,
    pub(crate) row_len: usize,
    /// Rows of the smallest table that is read at these codes.
    pub(crate) table_rows: Option<usize>,
    /// Whether these are the request indices of candidates, and must be sorted.
    pub(crate) is_request_of: bool,
}

impl InputPlan {
    /// Finds the input's value among those given and checks type, length and codes.
    pub(crate) fn bind<'a>(
        &self,
        given: &[(&str, InputValue<'a>)],
        counts: RowCounts,
    ) -> Result<InputValue<'a>, ExecError> {
        let input = || self.name.clone();
        let value = given.iter().find(|(name, _)| *name == self.name).map(|(_, value)| *value);
        let value = value.ok_or_else(|| ExecError::MissingInput { input: input() })?;
        if value.element() != self.element {
            let (expected, found) = (self.element, value.element());
            return Err(ExecError::WrongElement { input: input(), expected, found });
        }
        let (rows, row_len, found) = (counts.of(self.level), self.row_len, value.len());
        if rows.checked_mul(row_len) != Some(found) {
            return Err(ExecError::WrongLength { input: input(), rows, row_len, found });
        }
        if let Some(limit) = self.table_rows
            && let Some((place, found)) = first_outside(value.i32(), limit)
        {
            return Err(ExecError::CodeOutsideTable { input: input(), row: place / row_len, found, limit });
        }
        if self.is_request_of {
            self.check_requests(value.i32(), counts.requests)?;
        }
        Ok(value)
    }

    fn check_requests(&self, request_of: &[i32], limit: usize) -> Result<(), ExecError> {
        if let Some((row, found)) = first_outside(request_of, limit) {
            return Err(ExecError::RequestOutsideBatch { input: self.name.clone(), row, found, limit });
        }
        if let Some(row) = request_of.windows(2).position(|pair| pair[1] < pair[0]) {
            let (previous, found) = (request_of[row], request_of[row + 1]);
            let input = self.name.clone();
            return Err(ExecError::RequestsUnsorted { input, row: row + 1, found, previous });
        }
        Ok(())
    }
}

fn first_outside(indices: &[i32], limit: usize) -> Option<(usize, i32)> {
    let is_outside = |index: i32| usize::try_from(index).map_or(true, |index| index >= limit);
    indices.iter().position(|index| is_outside(*index)).map(|place| (place, indices[place]))
}
