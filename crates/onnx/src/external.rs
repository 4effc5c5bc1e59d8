//! The file of weights that stands beside the ONNX files of a bundle.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use crate::OnnxError;

/// Tensors of at least this many bytes stand outside the ONNX file, as embedding tables of any
/// size do.
pub const EXTERNAL_FROM_BYTES: usize = 1 << 20;

/// Tensors begin at multiples of this, so that pages of the mapped file belong to one tensor.
const ALIGNMENT: u64 = 4096;

/// Tensors collected by one or more exports, each kept once, to be written to one file.
#[derive(Debug)]
pub struct ExternalWeights<'v> {
    file_name: String,
    tensors: Vec<Tensor<'v>>,
}

#[derive(Debug)]
struct Tensor<'v> {
    name: String,
    offset: u64,
    content: Content<'v>,
}

#[derive(Debug)]
enum Content<'v> {
    Floats(Cow<'v, [f32]>),
    /// Elements of any type, as they stand in the file.
    Bytes(Vec<u8>),
}

impl Tensor<'_> {
    fn bytes(&self) -> u64 {
        match &self.content {
            Content::Floats(values) => size_of_val::<[f32]>(values) as u64,
            Content::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

impl PartialEq for Content<'_> {
    /// Whether both are the same bits.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Floats(a), Self::Floats(b)) => {
                std::ptr::eq::<[f32]>(&**a, &**b)
                    || a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()))
            }
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            _ => false,
        }
    }
}

impl<'v> ExternalWeights<'v> {
    /// No tensors yet. `file_name` is what the ONNX files refer to: a name without a folder, of a
    /// file beside them.
    pub fn new(file_name: &str) -> Self {
        Self { file_name: file_name.to_owned(), tensors: Vec::new() }
    }

    /// The file's name, as the ONNX files refer to it.
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// Whether no export needed it: then no file has to be written.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Size of the file in bytes.
    pub fn bytes(&self) -> u64 {
        self.tensors.last().map_or(0, |last| last.offset + last.bytes())
    }

    /// Writes the file: little-endian, zeros between tensors.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_to(&self, mut writer: impl Write) -> io::Result<()> {
        let mut position = 0;
        let mut buffer = Vec::with_capacity(1 << 16);
        for tensor in &self.tensors {
            let gap = tensor.offset.saturating_sub(position);
            io::copy(&mut io::Read::take(io::repeat(0), gap), &mut writer)?;
            match &tensor.content {
                Content::Bytes(bytes) => writer.write_all(bytes)?,
                Content::Floats(values) => {
                    for part in values.chunks(1 << 14) {
                        buffer.clear();
                        buffer.extend(part.iter().flat_map(|value| value.to_le_bytes()));
                        writer.write_all(&buffer)?;
                    }
                }
            }
            position = tensor.offset + tensor.bytes();
        }
        writer.flush()
    }

    /// Keeps a tensor of floats, or finds it again; returns its offset and length in bytes.
    pub(crate) fn place(&mut self, name: &str, values: Cow<'v, [f32]>) -> Result<(u64, u64), OnnxError> {
        self.keep(name, Content::Floats(values))
    }

    /// As [`place`](Self::place), of elements of any type as they stand in the file.
    pub(crate) fn place_bytes(&mut self, name: &str, bytes: Vec<u8>) -> Result<(u64, u64), OnnxError> {
        self.keep(name, Content::Bytes(bytes))
    }

    fn keep(&mut self, name: &str, content: Content<'v>) -> Result<(u64, u64), OnnxError> {
        if let Some(known) = self.tensors.iter().find(|tensor| tensor.name == name) {
            if known.content != content {
                return Err(OnnxError::ExternalConflict { name: name.to_owned() });
            }
            return Ok((known.offset, known.bytes()));
        }
        let tensor =
            Tensor { name: name.to_owned(), offset: self.bytes().next_multiple_of(ALIGNMENT), content };
        let place = (tensor.offset, tensor.bytes());
        self.tensors.push(tensor);
        Ok(place)
    }
}
