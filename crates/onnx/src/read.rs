//! Reads the weights of an ONNX file back, for a training that begins where another one ended.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use gatefold_proto::onnx::{
    ModelProto, TensorProto,
    tensor_proto::{DataLocation, DataType},
};
use prost::Message as _;

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
        let dims: Vec<usize> = tensor.dims.iter().map(|dim| *dim as usize).collect();
        let bytes = if tensor.data_location == DataLocation::External as i32 {
            external(&tensor, path).map_err(|error| named(path, error))?
        } else {
            tensor.raw_data
        };
        let values: Vec<f32> = bytes
            .chunks_exact(size_of::<f32>())
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        if values.len() != dims.iter().product::<usize>() {
            let text = format!("tensor '{}' does not have the size of its dimensions", tensor.name);
            return Err(named(path, io::Error::new(io::ErrorKind::InvalidData, text)).into());
        }
        take(Weight { name: tensor.name, dims, values })?;
    }
    Ok(())
}

/// The bytes of a tensor that stands in a file beside the model's.
fn external(tensor: &TensorProto, model: &Path) -> io::Result<Vec<u8>> {
    let entry = |key: &str| {
        let entry = tensor.external_data.iter().find(|entry| entry.key == key);
        let text = format!("tensor '{}' stands in another file, but its {key} is missing", tensor.name);
        entry.map(|entry| entry.value.as_str()).ok_or(io::Error::new(io::ErrorKind::InvalidData, text))
    };
    let number = |key: &str| entry(key)?.parse::<u64>().map_err(io::Error::other);
    let mut file = File::open(model.with_file_name(entry("location")?))?;
    file.seek(SeekFrom::Start(number("offset")?))?;
    let mut bytes = Vec::new();
    file.take(number("length")?).read_to_end(&mut bytes)?;
    Ok(bytes)
}
