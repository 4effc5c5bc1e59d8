//! Gives a foreign graph the inputs and outputs of a bundle.

mod inputs;
mod outputs;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use gatefold_proto::onnx::{
    GraphProto, ModelProto, NodeProto, TensorProto,
    tensor_proto::{DataLocation, DataType},
};
use gatefold_schema::{ImportMap, Kind, MappedFeature, REQUEST_OF, strict::nearest};
use prost::Message as _;

use super::{ForeignError, ForeignModel, graph, tensor};
use crate::{
    CANDIDATES, ExternalWeights,
    builder::{entry, value_info},
    external::EXTERNAL_FROM_BYTES,
};

impl ForeignModel {
    /// The bytes of the same model with the inputs and outputs of a bundle, as `map` says. Large tensors
    /// that stand in the file itself are placed in `external`, so that other forms of the graph share
    /// them; those that stand beside it stay where they are.
    ///
    /// # Errors
    /// An input of the graph that no feature feeds, a feature or task that the graph has no place for,
    /// types or dimensions that do not fit; each with what to do.
    pub fn adapt(
        &self,
        map: &ImportMap,
        external: &mut ExternalWeights<'_>,
    ) -> Result<Vec<u8>, ForeignError> {
        let mut model = self.model.clone();
        let mut graph = model.graph.take().unwrap_or_default();
        let taken = names(map);
        let renamed = graph::rename(&mut graph, &taken);
        let mut adapter =
            Adapter { before: Vec::new(), after: Vec::new(), constants: BTreeMap::new(), renamed };
        let outputs = map.tasks.iter().map(|task| &task.name);
        adapter.outputs(&self.outputs(), &graph, map)?;
        adapter.inputs(&self.inputs(), &needed_inputs(&graph, &adapter.after), map)?;

        graph.node = adapter.before.into_iter().chain(graph.node).chain(adapter.after).collect();
        graph.initializer.extend(adapter.constants.into_values());
        graph.input = map.features.iter().map(input).collect();
        graph.output = outputs
            .chain(map.derived.iter().map(|derived| &derived.name))
            .map(|name| value_info(name, DataType::Float, Some(CANDIDATES), &[]))
            .collect();
        graph::keep_needed(&mut graph);
        for tensor in &mut graph.initializer {
            place_large(tensor, external)?;
        }
        model.graph = Some(graph);
        encode(&model)
    }
}

/// The file's bytes.
pub(crate) fn encode(model: &ModelProto) -> Result<Vec<u8>, ForeignError> {
    let bytes = model.encoded_len();
    if bytes > i32::MAX as usize {
        return Err(ForeignError::TooLarge { bytes });
    }
    Ok(model.encode_to_vec())
}

/// Names that the bundle's graph has to itself.
fn names(map: &ImportMap) -> BTreeSet<String> {
    let features = map.features.iter().map(|feature| &feature.name);
    let tasks = map.tasks.iter().map(|task| &task.name);
    let derived = map.derived.iter().map(|derived| &derived.name);
    let all = features.chain(tasks).chain(derived).cloned();
    all.chain([REQUEST_OF.to_owned()]).collect()
}

/// Inputs that something which is left of the graph reads.
fn needed_inputs(graph: &GraphProto, after: &[NodeProto]) -> BTreeSet<String> {
    let mut rest = graph.clone();
    rest.initializer.clear();
    let read = after.iter().flat_map(graph::reads).map(str::to_owned);
    let value = |name| gatefold_proto::onnx::ValueInfoProto { name, ..Default::default() };
    rest.output = read.map(value).collect();
    graph::keep_needed(&mut rest);
    let mut read: BTreeSet<String> = rest.node.iter().flat_map(graph::reads).map(str::to_owned).collect();
    read.extend(rest.output.into_iter().map(|output| output.name));
    read
}

/// A feature's input.
fn input(feature: &MappedFeature) -> gatefold_proto::onnx::ValueInfoProto {
    let (kind, dims) = natural(feature);
    value_info(&feature.name, kind, Some(CANDIDATES), &dims)
}

/// Element type of a feature's values, and their dimensions after the rows.
fn natural(feature: &MappedFeature) -> (DataType, Vec<usize>) {
    match feature.kind {
        Kind::Numeric => (DataType::Float, Vec::new()),
        Kind::Categorical => (DataType::Int32, Vec::new()),
        Kind::Sequence => (DataType::Int32, vec![width(feature)]),
    }
}

fn width(feature: &MappedFeature) -> usize {
    match feature.kind {
        Kind::Sequence => feature.max_len.unwrap_or(1),
        Kind::Categorical | Kind::Numeric => 1,
    }
}

/// Moves a large float tensor out of the file.
fn place_large(tensor: &mut TensorProto, external: &mut ExternalWeights<'_>) -> Result<(), ForeignError> {
    let outside = tensor.data_location == DataLocation::External as i32;
    let large = tensor.raw_data.len().max(4 * tensor.float_data.len()) >= EXTERNAL_FROM_BYTES;
    if outside || !large || tensor.data_type != DataType::Float as i32 {
        return Ok(());
    }
    // It stands in the message, so that no folder is looked into.
    let values = tensor::floats(tensor, std::path::Path::new(""))?;
    let (offset, length) = external
        .place(&tensor.name, Cow::Owned(values))
        .map_err(|error| ForeignError::Tensor { name: tensor.name.clone(), reason: error.to_string() })?;
    (tensor.raw_data, tensor.float_data) = (Vec::new(), Vec::new());
    tensor.data_location = DataLocation::External as i32;
    tensor.external_data = vec![
        entry("location", external.file_name()),
        entry("offset", &offset.to_string()),
        entry("length", &length.to_string()),
    ];
    Ok(())
}

/// The nodes that are added.
struct Adapter {
    before: Vec<NodeProto>,
    after: Vec<NodeProto>,
    constants: BTreeMap<String, TensorProto>,
    /// Values of the model that had to give their name away.
    renamed: BTreeMap<String, String>,
}

impl Adapter {
    /// The name that a value of the model has now.
    fn current(&self, name: &str) -> String {
        self.renamed.get(name).map_or(name, String::as_str).to_owned()
    }

    /// The shape `[rows, dims…]`; its name.
    fn shape(&mut self, dims: &[usize]) -> String {
        let values: Vec<i64> = std::iter::once(-1).chain(dims.iter().map(|dim| *dim as i64)).collect();
        let text: Vec<String> = values.iter().map(i64::to_string).collect();
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(format!("/gatefold/shape/{}", text.join(",")), &[values.len()], DataType::Int64, bytes)
    }

    fn index(&mut self, index: usize) -> String {
        let bytes = (index as i64).to_le_bytes().to_vec();
        self.constant(format!("/gatefold/index/{index}"), &[], DataType::Int64, bytes)
    }

    fn number(&mut self, value: f32) -> String {
        let bytes = value.to_le_bytes().to_vec();
        self.constant(format!("/gatefold/number/{value:?}"), &[], DataType::Float, bytes)
    }

    fn constant(&mut self, name: String, dims: &[usize], kind: DataType, bytes: Vec<u8>) -> String {
        let tensor = TensorProto {
            name: name.clone(),
            dims: dims.iter().map(|dim| *dim as i64).collect(),
            data_type: kind as i32,
            raw_data: bytes,
            ..TensorProto::default()
        };
        self.constants.insert(name.clone(), tensor);
        name
    }
}

fn is_fraction(element: DataType) -> bool {
    matches!(element, DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16)
}

/// The names there are, the nearest first.
fn known_names<'a>(found: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let near = nearest(found, known.clone()).map(|near| format!("; did you mean '{near}'?"));
    format!("{} (it has: {})", near.unwrap_or_default(), known.collect::<Vec<_>>().join(", "))
}
