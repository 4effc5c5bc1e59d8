//! A graph on its own, beside any bundle: what an import looks at before there is a bundle.

use std::path::Path;

use ndarray::ArrayViewD;
use ort::{
    session::{Session, SessionInputValue},
    value::{TensorElementType, TensorRef, ValueType},
};

use crate::{OrtError, OrtLoader};

/// A graph opened from memory.
#[derive(Debug)]
pub struct OpenGraph {
    session: Session,
}

/// A dense tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Dimensions.
    pub dims: Vec<usize>,
    /// Elements.
    pub values: Values,
}

/// The elements of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// 32-bit integers.
    Int32(Vec<i32>),
    /// 64-bit integers.
    Int64(Vec<i64>),
    /// 32-bit floats.
    Float32(Vec<f32>),
    /// Elements of another type, which are not looked at.
    Other,
}

impl OrtLoader {
    /// Opens a graph that stands in memory; `folder` holds the files its tensors stand in.
    ///
    /// # Errors
    /// When ONNX Runtime does not read it.
    pub fn open_graph(&self, model: &[u8], folder: &Path) -> Result<OpenGraph, OrtError> {
        let setup = |error: ort::Error<_>| OrtError::Setup(error.to_string());
        let session = self.builder_with_folder(folder).map_err(setup)?.commit_from_memory(model);
        let session = session
            .map_err(|error| OrtError::NotOnnx { file: folder.to_path_buf(), reason: error.to_string() })?;
        Ok(OpenGraph { session })
    }
}

impl OpenGraph {
    /// Runs the graph: every output, by name, in the graph's order.
    ///
    /// # Errors
    /// When the inputs are not those of the graph, or the runtime fails.
    pub fn run(&mut self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, OrtError> {
        let failed = |error: &dyn std::fmt::Display| OrtError::Run(error.to_string());
        let mut values = Vec::with_capacity(inputs.len());
        for (name, tensor) in inputs {
            let dims = tensor.dims.as_slice();
            let value: SessionInputValue<'_> = match &tensor.values {
                Values::Int32(data) => view(dims, data)?.into(),
                Values::Int64(data) => view(dims, data)?.into(),
                Values::Float32(data) => view(dims, data)?.into(),
                Values::Other => return Err(OrtError::Run(format!("input '{name}' has no values"))),
            };
            values.push((name.as_str(), value));
        }
        let results = self.session.run(values).map_err(|error| failed(&error))?;
        let mut outputs = Vec::new();
        for (name, value) in results.iter() {
            let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
                return Err(OrtError::Run(format!("output '{name}' is no tensor")));
            };
            let dims = shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).collect();
            macro_rules! values {
                ($kind:ident, $element:ty) => {
                    Values::$kind(
                        value.try_extract_tensor::<$element>().map_err(|error| failed(&error))?.1.to_vec(),
                    )
                };
            }
            let values = match ty {
                TensorElementType::Int32 => values!(Int32, i32),
                TensorElementType::Int64 => values!(Int64, i64),
                TensorElementType::Float32 => values!(Float32, f32),
                _ => Values::Other,
            };
            outputs.push((name.to_owned(), Tensor { dims, values }));
        }
        Ok(outputs)
    }
}

fn view<'v, T>(dims: &[usize], data: &'v [T]) -> Result<TensorRef<'v, T>, OrtError>
where
    T: ort::value::PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
{
    let failed = |error: &dyn std::fmt::Display| OrtError::Run(error.to_string());
    let view = ArrayViewD::from_shape(dims, data).map_err(|error| failed(&error))?;
    TensorRef::from_array_view(view).map_err(|error| failed(&error))
}
