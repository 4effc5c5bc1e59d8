//! The values of one input of a session, taken from a batch without a copy where its rows are those
//! that the graph wants.

use gatefold_engine::BackendError;
use gatefold_features::FeatureColumn;
use ndarray::ArrayViewD;
use ort::{
    session::SessionInputValue,
    value::{PrimitiveTensorElementType, TensorRef},
};

/// The rows of one input of a session, one after the other.
#[derive(Clone, Copy)]
pub(crate) enum Rows<'v> {
    /// Integers, with a second dimension where `width` is given.
    Codes {
        /// The elements.
        data: &'v [i32],
        /// Elements a row.
        width: Option<usize>,
    },
    /// One number a row.
    Numbers(&'v [f32]),
}

impl<'v> Rows<'v> {
    /// A feature's column as the graph wants it: as it is, or one row a candidate, put into `scratch`.
    pub(crate) fn of_feature(
        column: &'v FeatureColumn,
        width: Option<usize>,
        expand: Option<&[u32]>,
        scratch: &'v mut Scratch,
    ) -> Result<Rows<'v>, BackendError> {
        match (column, width) {
            (FeatureColumn::Codes { width, data }, wanted) if *width == wanted.unwrap_or(1) => {
                let data = expanded(data, *width, expand, &mut scratch.codes)?;
                Ok(Rows::Codes { data, width: wanted })
            }
            (FeatureColumn::Numbers(data), None) => {
                Ok(Rows::Numbers(expanded(data, 1, expand, &mut scratch.numbers)?))
            }
            _ => Err(BackendError::Batch("a column has another kind or width than its feature".into())),
        }
    }

    /// Number of rows.
    pub(crate) fn count(&self) -> usize {
        match self {
            Rows::Codes { data, width } => data.len() / width.unwrap_or(1).max(1),
            Rows::Numbers(data) => data.len(),
        }
    }

    /// Dimensions of the input with so many rows.
    pub(crate) fn dims(&self, rows: usize) -> Vec<usize> {
        match self {
            Rows::Codes { width: Some(width), .. } => vec![rows, *width],
            _ => vec![rows],
        }
    }

    /// A tensor over the rows where they lie.
    pub(crate) fn value(&self) -> Result<SessionInputValue<'v>, ort::Error> {
        let dims = self.dims(self.count());
        Ok(match *self {
            Rows::Codes { data, .. } => tensor(dims, data)?.into(),
            Rows::Numbers(data) => tensor(dims, data)?.into(),
        })
    }
}

/// Where values stand that cannot be taken as they are.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Integers.
    pub(crate) codes: Vec<i32>,
    /// Numbers.
    pub(crate) numbers: Vec<f32>,
}

/// `data` itself, or its rows `rows` copied into `scratch`.
fn expanded<'v, T: Copy>(
    data: &'v [T],
    width: usize,
    rows: Option<&[u32]>,
    scratch: &'v mut Vec<T>,
) -> Result<&'v [T], BackendError> {
    let Some(rows) = rows else { return Ok(data) };
    scratch.clear();
    scratch.reserve(rows.len() * width);
    for row in rows {
        let start = *row as usize * width;
        let row = data
            .get(start..start + width)
            .ok_or_else(|| BackendError::Batch(format!("request row {row} is beyond a column's end")))?;
        scratch.extend_from_slice(row);
    }
    Ok(scratch)
}

/// A tensor over `data`.
fn tensor<T>(dims: Vec<usize>, data: &[T]) -> Result<TensorRef<'_, T>, ort::Error>
where
    T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
{
    let view = ArrayViewD::from_shape(dims, data).map_err(|error| ort::Error::new(error.to_string()))?;
    TensorRef::from_array_view(view)
}
