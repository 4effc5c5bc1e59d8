//! Rewrites an ONNX file so that its tables are stored, or its products computed, in fewer bits.
//!
//! *Tables* (matrices that only `Gather` reads) become 16-bit floats, or 8-bit integers with one
//! scale a row; what is looked up is turned into 32-bit floats again, so that the rest of the graph
//! does not notice. *Products* with a constant matrix are computed in 8-bit integers: the matrix is
//! signed with one scale a column (so that zero stays zero, and no column pays for another's
//! range), the rows are quantized once for all products that read them, and the 32-bit sums are
//! scaled back by ONNX Runtime's own operator `MatMulIntegerToFloat`.
//!
//! The scale of rows is that of the range which [`observe_ranges`] has shown on real data: a row has the
//! same codes whatever it is batched with, and what is beyond the range is cut off. A range from zero
//! up makes the `Relu` before it needless, and ONNX Runtime drops it. Rows whose range is not known
//! are quantized as they come (`DynamicQuantizeLinear`, one scale a batch).
//!
//! Narrow products stay as they are: there is little to win, and the last layer of a tower decides
//! the score. So do products of rows that hold plain numbers beside embeddings, as one scale cannot
//! fit both.

mod products;
mod ranges;
mod tables;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use gatefold_proto::onnx::{
    GraphProto, ModelProto, NodeProto, TensorProto,
    tensor_proto::{DataLocation, DataType},
};
use prost::Message as _;

use crate::{
    ExternalWeights, OnnxError,
    builder::{entry, int, tensor},
    foreign::tensor::{bytes, floats},
};

/// Largest magnitude of a signed 8-bit value that is used; its negative is, too.
const LARGEST: f32 = 127.0;

pub use ranges::{OBSERVED, Observed, Range, Ranges, observe_ranges};

/// What is stored or computed in fewer bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantization {
    /// How embedding tables are stored; as they are where `None`.
    pub tables: Option<TableType>,
    /// Whether products of layers are computed in 8-bit integers.
    pub products: bool,
}

/// Element type of a stored table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableType {
    /// 16-bit floats: half the size, about three decimal digits.
    F16,
    /// 8-bit integers with a 32-bit scale a row.
    Int8,
}

/// A rewritten file.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// The file's bytes.
    pub model: Vec<u8>,
    /// Tables that are stored in fewer bits.
    pub tables: usize,
    /// Products that are computed in fewer bits.
    pub products: usize,
    /// Files beside the old one that it read tensors from.
    pub read: BTreeSet<String>,
}

/// Rewrites the ONNX file at `path`, whose external tensors stand beside it. Tables and large
/// tensors are placed in `external`, which is written beside the new file. `ranges` are those of the
/// values that products read, as far as they are known.
///
/// # Errors
/// When the file or one beside it cannot be read, or two files disagree about a tensor.
pub fn quantize(
    path: &Path,
    external: &mut ExternalWeights<'static>,
    quantization: Quantization,
    ranges: &Ranges,
) -> Result<Quantized, OnnxError> {
    let (mut model, mut rewriter, read) = Rewriter::open(path, external)?;
    let graph = model.graph.get_or_insert_default();
    let tables = match quantization.tables {
        Some(kind) => rewriter.tables(graph, kind)?,
        None => 0,
    };
    let products = match quantization.products {
        true => rewriter.products(graph, &mut model.opset_import, ranges)?,
        false => 0,
    };
    rewriter.keep_the_others(graph)?;
    graph.initializer = rewriter.written;
    Ok(Quantized { model: model.encode_to_vec(), tables, products, read })
}

/// A rewrite under way.
struct Rewriter<'a> {
    path: &'a Path,
    /// Constants of the old graph, by name.
    known: BTreeMap<String, TensorProto>,
    external: &'a mut ExternalWeights<'static>,
    /// Constants of the new graph.
    written: Vec<TensorProto>,
    names: BTreeSet<String>,
}

impl<'a> Rewriter<'a> {
    /// Reads a file; its graph has no constants until they are written. Beside it the files that it
    /// reads tensors from.
    fn open(
        path: &'a Path,
        external: &'a mut ExternalWeights<'static>,
    ) -> Result<(ModelProto, Self, BTreeSet<String>), OnnxError> {
        let failed = |reason: String| OnnxError::Read { path: path.to_owned(), reason };
        let file = fs::read(path).map_err(|error| failed(error.to_string()))?;
        let mut model = ModelProto::decode(file.as_slice()).map_err(|error| failed(error.to_string()))?;
        let graph = model.graph.as_mut().ok_or_else(|| failed("it holds no graph".into()))?;
        let initializers = std::mem::take(&mut graph.initializer);
        let locations = initializers.iter().flat_map(|tensor| &tensor.external_data);
        let read =
            locations.filter(|entry| entry.key == "location").map(|entry| entry.value.clone()).collect();
        let known = initializers.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        Ok((model, Self { path, known, external, written: Vec::new(), names: BTreeSet::new() }, read))
    }

    /// Keeps every constant that is still read as it was.
    fn keep_the_others(&mut self, graph: &GraphProto) -> Result<(), OnnxError> {
        let read: BTreeSet<&str> =
            graph.node.iter().flat_map(|node| &node.input).map(String::as_str).collect();
        let outputs: BTreeSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
        // A graph inside a node may read any of them.
        let nested = graph.node.iter().any(|node| {
            node.attribute.iter().any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty())
        });
        for (name, mut tensor) in std::mem::take(&mut self.known) {
            if !nested && !read.contains(name.as_str()) && !outputs.contains(name.as_str()) {
                continue;
            }
            if tensor.data_location == DataLocation::External as i32 {
                let bytes = bytes(&tensor, self.folder()).map_err(|error| OnnxError::Read {
                    path: self.path.to_owned(),
                    reason: error.to_string(),
                })?;
                let (offset, length) = self.external.place_bytes(&name, bytes)?;
                locate(&mut tensor, self.external.file_name(), offset, length);
            }
            self.written.push(tensor);
        }
        Ok(())
    }

    /// Names of the constants that are matrices of floats.
    fn matrices(&self) -> Vec<String> {
        let matrix =
            |tensor: &&TensorProto| tensor.dims.len() == 2 && tensor.data_type == DataType::Float as i32;
        self.known.values().filter(matrix).map(|tensor| tensor.name.clone()).collect()
    }

    /// The values of a matrix, row-major, and its dimensions.
    fn matrix(&self, name: &str) -> Result<(Vec<f32>, [usize; 2]), OnnxError> {
        let failed = |reason: String| OnnxError::Read { path: self.path.to_owned(), reason };
        let tensor = self.known.get(name).ok_or_else(|| failed(format!("it has no tensor '{name}'")))?;
        let values = floats(tensor, self.folder()).map_err(|error| failed(error.to_string()))?;
        Ok((values, [tensor.dims[0] as usize, tensor.dims[1] as usize]))
    }

    /// Where files beside the old one stand.
    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Adds a constant to the file itself.
    fn inside(&mut self, name: &str, dims: &[usize], kind: DataType, bytes: Vec<u8>) {
        if self.names.insert(name.to_owned()) {
            self.written.push(TensorProto { raw_data: bytes, ..tensor(name, dims, kind) });
        }
    }
}

fn locate(tensor: &mut TensorProto, file: &str, offset: u64, length: u64) {
    tensor.data_location = DataLocation::External as i32;
    tensor.external_data = vec![
        entry("location", file),
        entry("offset", &offset.to_string()),
        entry("length", &length.to_string()),
    ];
}

fn scales_of(name: &str) -> String {
    format!("{name}/scales")
}

/// The step between two codes, such that the largest magnitude is [`LARGEST`] of them.
fn scale(values: impl Iterator<Item = f32>) -> f32 {
    let largest = values.fold(0.0, |largest: f32, value| largest.max(value.abs()));
    if largest > 0.0 { largest / LARGEST } else { 1.0 }
}

/// The code of a value, as a byte.
fn signed(value: f32, scale: f32) -> u8 {
    ((value / scale).round_ties_even().clamp(-LARGEST, LARGEST) as i8).cast_unsigned()
}

fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|input| (*input).to_owned()).collect(),
        output: vec![output.to_owned()],
        name: output.to_owned(),
        op_type: operator.to_owned(),
        ..NodeProto::default()
    }
}

fn cast(input: &str, output: &str) -> NodeProto {
    NodeProto { attribute: vec![int("to", DataType::Float as i64)], ..node("Cast", &[input], output) }
}
