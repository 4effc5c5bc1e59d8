//! The contents of tensors, wherever and in whichever form they stand.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use gatefold_proto::onnx::{
    TensorProto,
    tensor_proto::{DataLocation, DataType},
};

use super::ForeignError;

/// Little-endian elements of a tensor; `folder` is where files beside the model stand.
pub(crate) fn bytes(tensor: &TensorProto, folder: &Path) -> Result<Vec<u8>, ForeignError> {
    let fail = |reason: String| ForeignError::Tensor { name: tensor.name.clone(), reason };
    let kind = DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined);
    let Some(size) = element_size(kind) else {
        return Err(fail(format!("elements of type {} cannot be read", kind.as_str_name())));
    };
    let count = tensor
        .dims
        .iter()
        .try_fold(1usize, |count, dim| usize::try_from(*dim).ok().and_then(|dim| count.checked_mul(dim)));
    let length = count.and_then(|count| count.checked_mul(size));
    let length = length.ok_or_else(|| fail("its dimensions make no sense".into()))?;
    let found = if tensor.data_location == DataLocation::External as i32 {
        external(tensor, folder, length).map_err(|error| fail(error.to_string()))?
    } else if !tensor.raw_data.is_empty() {
        tensor.raw_data.clone()
    } else {
        typed(tensor, kind)
    };
    if found.len() != length {
        return Err(fail(format!("holds {} bytes where its dimensions want {length}", found.len())));
    }
    Ok(found)
}

/// Elements that stand in the field of their type.
fn typed(tensor: &TensorProto, kind: DataType) -> Vec<u8> {
    let narrow = tensor.int32_data.iter();
    match kind {
        DataType::Float => tensor.float_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        DataType::Double => tensor.double_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        DataType::Int64 => tensor.int64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        DataType::Int32 => narrow.flat_map(|value| value.to_le_bytes()).collect(),
        DataType::Bool | DataType::Int8 | DataType::Uint8 => narrow.map(|value| *value as u8).collect(),
        _ => narrow.flat_map(|value| (*value as u16).to_le_bytes()).collect(),
    }
}

fn external(tensor: &TensorProto, folder: &Path, length: usize) -> std::io::Result<Vec<u8>> {
    let location = external_entry(tensor, "location").unwrap_or_default();
    let offset = external_entry(tensor, "offset").unwrap_or("0");
    let mut file = File::open(folder.join(location))?;
    file.seek(SeekFrom::Start(offset.parse().map_err(std::io::Error::other)?))?;
    let mut bytes = Vec::new();
    file.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a tensor in another file says of its place.
pub(crate) fn external_entry<'t>(tensor: &'t TensorProto, key: &str) -> Option<&'t str> {
    tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

/// Bytes of one element, where its values can be moved about.
fn element_size(kind: DataType) -> Option<usize> {
    Some(match kind {
        DataType::Bool | DataType::Int8 | DataType::Uint8 => 1,
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 2,
        DataType::Float | DataType::Int32 => 4,
        DataType::Double | DataType::Int64 => 8,
        _ => return None,
    })
}

/// The elements of a float tensor.
pub(crate) fn floats(tensor: &TensorProto, folder: &Path) -> Result<Vec<f32>, ForeignError> {
    let bytes = bytes(tensor, folder)?;
    Ok(bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
}

/// The elements of a tensor of 32- or 64-bit integers.
pub(crate) fn integers(tensor: &TensorProto, folder: &Path) -> Result<Vec<i64>, ForeignError> {
    let bytes = bytes(tensor, folder)?;
    let wide = |eight: &[u8]| {
        i64::from_le_bytes([eight[0], eight[1], eight[2], eight[3], eight[4], eight[5], eight[6], eight[7]])
    };
    let narrow = |four: &[u8]| i64::from(i32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Int64) => Ok(bytes.chunks_exact(8).map(wide).collect()),
        Ok(DataType::Int32) => Ok(bytes.chunks_exact(4).map(narrow).collect()),
        _ => Err(ForeignError::Tensor { name: tensor.name.clone(), reason: "holds no integers".into() }),
    }
}
