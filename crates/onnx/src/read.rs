//! Reads the weights of an ONNX file back, for a training that begins where another one ended.

use std::{fs, io, path::Path};

use gatefold_proto::onnx::{ModelProto, tensor_proto::DataType};
use prost::Message as _;

use crate::foreign::tensor::floats;

/// A float tensor of an ONNX file.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// Its name.
    pub name: String,
    /// Its dimensions.
    pub dims: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
}

/// Reads the float tensors of an ONNX file that [`export`](crate::export) wrote, one after another,
/// those in the file of weights beside it too. One stands in memory at a time.
///
/// # Errors
/// What `take` fails with, or a file that cannot be read, by its path.
pub fn read_weights<E: From<io::Error>>(
    path: &Path,
    mut take: impl FnMut(Weight) -> Result<(), E>,
) -> Result<(), E> {
    let named = |file: &Path, error: io::Error| {
        io::Error::new(error.kind(), format!("cannot read {}: {error}", file.display()))
    };
    let bytes = fs::read(path).map_err(|error| named(path, error))?;
    let model = ModelProto::decode(bytes.as_slice())
        .map_err(|error| named(path, io::Error::new(io::ErrorKind::InvalidData, error)))?;
    for tensor in model.graph.unwrap_or_default().initializer {
        if tensor.data_type != DataType::Float as i32 {
            continue;
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let values = floats(&tensor, folder)
            .map_err(|error| named(path, io::Error::new(io::ErrorKind::InvalidData, error)))?;
        let dims = tensor.dims.iter().map(|dim| *dim as usize).collect();
        take(Weight { name: tensor.name, dims, values })?;
    }
    Ok(())
}
