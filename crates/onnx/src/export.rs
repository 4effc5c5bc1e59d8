//! From a graph to the bytes of an ONNX file.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use gatefold_graph::{ElementType, Fact, Graph, Level, NodeId, Op, Parameter};
use gatefold_proto::onnx::{
    GraphProto, ModelProto, OperatorSetIdProto, ValueInfoProto, Version, tensor_proto::DataType,
};
use prost::Message as _;

use crate::{
    ExternalWeights, OnnxError,
    builder::{Builder, entry, value_info},
};

/// Version of the standard operators the files use.
pub const OPSET: i64 = 17;
/// Version of the file format, the one that came with opset 17.
pub const IR_VERSION: i64 = Version::IrVersion8 as i64;
/// Name of the row dimension at request level.
pub const REQUESTS: &str = "requests";
/// Name of the row dimension at candidate level.
pub const CANDIDATES: &str = "candidates";
/// Name of the row dimension of an input of request rows, where a single row may stand for all
/// candidates of a single request.
pub const ONE_OR_CANDIDATES: &str = "one_or_candidates";

/// What a file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// Name of the graph, such as the model's.
    pub name: String,
    /// A sentence for people.
    pub doc: String,
    /// Keys and values for programs.
    pub metadata: BTreeMap<String, String>,
}

/// Writes `graph` as an ONNX file. `values` gives a parameter's values by name, row-major; tables
/// and large tensors are placed in `external`, which is written beside the file.
///
/// # Errors
/// When the graph holds losses or derivatives, values are missing or have the wrong length, or
/// names meet.
pub fn export<'v>(
    graph: &Graph,
    values: &dyn Fn(&str) -> Option<&'v [f32]>,
    external: &mut ExternalWeights<'v>,
    options: &ExportOptions,
) -> Result<Vec<u8>, OnnxError> {
    let (names, copies) = value_names(graph)?;
    let mut exporter = Exporter {
        graph,
        values,
        fused: fused_products(graph),
        names,
        stacks: BTreeMap::new(),
        builder: Builder::new(external),
    };
    let one_row = single_rows(graph);
    let mut inputs = Vec::new();
    for (name, id) in graph.inputs() {
        exporter.builder.take(name)?;
        let fact = graph.fact(id);
        let rows = if one_row.contains(&id) { Some(ONE_OR_CANDIDATES) } else { rows_of(fact) };
        inputs.push(describe(name, fact, rows));
    }
    for index in 0..graph.nodes().len() {
        exporter.write(NodeId(index))?;
    }
    for (name, id) in copies {
        let value = exporter.operand(id)?;
        exporter.builder.node("Identity", &[&value], name, Vec::new())?;
    }
    let Builder { nodes, initializers, .. } = exporter.builder;
    let outputs = graph.outputs().iter().map(|(name, id)| {
        let fact = graph.fact(*id);
        describe(name, fact, rows_of(fact))
    });
    let outputs = outputs.collect();
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "gatefold".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: options.doc.clone(),
        graph: Some(GraphProto {
            node: nodes,
            name: options.name.clone(),
            initializer: initializers,
            input: inputs,
            output: outputs,
            ..GraphProto::default()
        }),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: options.metadata.iter().map(|(key, value)| entry(key, value)).collect(),
        ..ModelProto::default()
    };
    let bytes = model.encoded_len();
    if bytes > i32::MAX as usize {
        return Err(OnnxError::TooLarge { bytes });
    }
    Ok(model.encode_to_vec())
}

/// An export under way.
pub(crate) struct Exporter<'a, 'e, 'v> {
    pub(crate) graph: &'a Graph,
    values: &'a dyn Fn(&str) -> Option<&'v [f32]>,
    /// Products that the sum after them takes in.
    pub(crate) fused: BTreeSet<NodeId>,
    /// By node.
    pub(crate) names: Vec<String>,
    /// Experts stacked for a mix so far.
    pub(crate) stacks: BTreeMap<Vec<NodeId>, String>,
    pub(crate) builder: Builder<'e, 'v>,
}

impl<'v> Exporter<'_, '_, 'v> {
    /// The name by which nodes read a value; brings constants in when they are first read.
    pub(crate) fn operand(&mut self, id: NodeId) -> Result<String, OnnxError> {
        if let Some(constant) = self.constant(id)? {
            let Constant { name, dims, values, table } = constant;
            self.builder.weights(&name, &dims, values, table)?;
            return Ok(name);
        }
        Ok(self.names[id.0].clone())
    }

    /// A parameter, or row ranges of one, as values.
    pub(crate) fn constant(&self, id: NodeId) -> Result<Option<Constant<'v>>, OnnxError> {
        let node = self.graph.node(id);
        match &node.op {
            Op::Parameter(parameter) => {
                let parameter = &self.graph.parameters()[parameter.0];
                let values = Cow::Borrowed(values_of(parameter, self.values)?);
                let (name, dims) = (parameter.name.clone(), parameter.dims.clone());
                Ok(Some(Constant { name, dims, values, table: parameter.table }))
            }
            Op::SliceRows { ranges } => {
                let Some(whole) = self.constant(node.inputs[0])? else { return Ok(None) };
                let width = whole.dims[1];
                let text: Vec<String> = ranges.iter().map(|(start, end)| format!("{start}:{end}")).collect();
                let rows = |(start, end): &(usize, usize)| start * width..end * width;
                let values = match (&whole.values, ranges.as_slice()) {
                    (Cow::Borrowed(values), [range]) => Cow::Borrowed(&values[rows(range)]),
                    (values, _) => {
                        ranges.iter().flat_map(|range| values[rows(range)].iter().copied()).collect()
                    }
                };
                Ok(Some(Constant {
                    name: format!("{}[{}]", whole.name, text.join(",")),
                    dims: node.fact.dims.clone(),
                    values,
                    table: whole.table,
                }))
            }
            _ => Ok(None),
        }
    }
}

/// A value that is known when the file is written.
pub(crate) struct Constant<'v> {
    pub(crate) name: String,
    pub(crate) dims: Vec<usize>,
    pub(crate) values: Cow<'v, [f32]>,
    pub(crate) table: bool,
}

/// A parameter's values, of which there must be as many as it has numbers.
pub(crate) fn values_of<'v>(
    parameter: &Parameter,
    values: &dyn Fn(&str) -> Option<&'v [f32]>,
) -> Result<&'v [f32], OnnxError> {
    let name = || parameter.name.clone();
    let values = values(&parameter.name).ok_or_else(|| OnnxError::MissingValues { name: name() })?;
    let expected = parameter.dims.iter().product();
    if values.len() != expected {
        return Err(OnnxError::WrongLength { name: name(), expected, found: values.len() });
    }
    Ok(values)
}

/// Outputs that another value is copied into, each with that value.
type Copies<'g> = Vec<(&'g str, NodeId)>;

/// Names the value of every node: inputs and outputs by their own names, the others by op and
/// index. An output that is an input, a parameter or named twice is left to be copied.
fn value_names(graph: &Graph) -> Result<(Vec<String>, Copies<'_>), OnnxError> {
    if graph.outputs().is_empty() {
        return Err(OnnxError::NoOutput);
    }
    let mut names: Vec<String> = graph
        .nodes()
        .iter()
        .enumerate()
        .map(|(index, node)| match &node.op {
            Op::Input { name } => name.clone(),
            op => format!("/{}/{index}", op.name()),
        })
        .collect();
    let mut named = BTreeSet::new();
    let mut copies = Vec::new();
    for (name, id) in graph.outputs() {
        let constant =
            matches!(graph.node(*id).op, Op::Input { .. } | Op::Parameter(_) | Op::SliceRows { .. });
        if constant || !named.insert(*id) {
            copies.push((name.as_str(), *id));
        } else {
            names[id.0].clone_from(name);
        }
    }
    Ok((names, copies))
}

/// Products that only one sum reads: both become one `Gemm`.
fn fused_products(graph: &Graph) -> BTreeSet<NodeId> {
    let mut reads = vec![0; graph.nodes().len()];
    let read_by_nodes = graph.nodes().iter().flat_map(|node| &node.inputs);
    for id in read_by_nodes.chain(graph.outputs().iter().map(|(_, id)| id)) {
        reads[id.0] += 1;
    }
    // `Gemm` takes matrices; rows of a sequence are more.
    let sums = graph.nodes().iter().filter(|node| node.op == Op::Add && node.fact.dims.len() == 1);
    sums.filter_map(|sum| {
        sum.inputs.iter().copied().find(|input| graph.node(*input).op == Op::MatMul && reads[input.0] == 1)
    })
    .collect()
}

/// Inputs of request rows of which one may stand for all candidates: what is expanded by them is only
/// added to or multiplied with values that have all rows, so that it may be broadcast.
fn single_rows(graph: &Graph) -> BTreeSet<NodeId> {
    let expanded_by: BTreeSet<NodeId> =
        graph.nodes().iter().filter(|node| node.op == Op::Expand).map(|node| node.inputs[1]).collect();
    let mut single = expanded_by.clone();
    for (index, node) in graph.nodes().iter().enumerate() {
        let is_single = |id: &NodeId| single.contains(id);
        if !node.inputs.iter().any(is_single) {
            continue;
        }
        match node.op {
            Op::Expand if !is_single(&node.inputs[0]) => {
                single.insert(NodeId(index));
            }
            Op::Add | Op::Mul
                if node
                    .inputs
                    .iter()
                    .any(|id| !is_single(id) && graph.fact(*id).level == Level::Candidate) => {}
            _ => return BTreeSet::new(),
        }
    }
    if graph.outputs().iter().any(|(_, id)| single.contains(id)) {
        return BTreeSet::new();
    }
    expanded_by
}

fn rows_of(fact: &Fact) -> Option<&'static str> {
    match fact.level {
        Level::Constant => None,
        Level::Request => Some(REQUESTS),
        Level::Candidate => Some(CANDIDATES),
    }
}

fn describe(name: &str, fact: &Fact, rows: Option<&str>) -> ValueInfoProto {
    let kind = match fact.element {
        ElementType::F32 => DataType::Float,
        ElementType::I32 => DataType::Int32,
    };
    value_info(name, kind, rows, &fact.dims)
}
