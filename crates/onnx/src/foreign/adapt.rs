//! Gives a foreign graph the inputs and outputs of a bundle.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use gatefold_proto::onnx::{
    GraphProto, ModelProto, NodeProto, TensorProto,
    tensor_proto::{DataLocation, DataType},
};
use gatefold_schema::{ImportMap, Kind, MappedFeature, MappedTask, REQUEST_OF, ValueType, strict::nearest};
use prost::Message as _;

use super::{
    ForeignError, ForeignModel, Port,
    graph::{self, int_attribute, is, node},
    size, tensor,
};
use crate::{
    CANDIDATES, ExternalWeights,
    builder::{entry, int, value_info},
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
        graph.input = map.features.iter().map(|feature| input(feature)).collect();
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

    fn inputs(
        &mut self,
        ports: &[Port],
        needed: &BTreeSet<String>,
        map: &ImportMap,
    ) -> Result<(), ForeignError> {
        let mut of_input: BTreeMap<&str, Vec<&MappedFeature>> = BTreeMap::new();
        for feature in &map.features {
            let input = feature.input_name();
            if !ports.iter().any(|port| port.name == input) {
                let known = ports.iter().map(|port| port.name.as_str());
                return Err(ForeignError::Feature {
                    name: feature.name.clone(),
                    reason: format!("the graph has no input '{input}'{}", known_names(input, known)),
                });
            }
            of_input.entry(input).or_default().push(feature);
        }
        for port in ports {
            let target = self.current(&port.name);
            match of_input.get(port.name.as_str()) {
                Some(features) => self.input(port, &target, features),
                None if !needed.contains(&target) => Ok(()),
                None => Err(format!(
                    "no feature feeds it ({}): add a [[feature]] with input = \"{}\"",
                    port.in_words(),
                    port.name
                )),
            }
            .map_err(|reason| ForeignError::Input { name: port.name.clone(), reason })?;
        }
        Ok(())
    }

    /// One input of the model, called `target`, from its features.
    fn input(&mut self, port: &Port, target: &str, features: &[&MappedFeature]) -> Result<(), String> {
        let element = port.element.filter(|element| is_number(*element)).ok_or_else(|| {
            format!("it is {}, and features are numbers or codes: encode before the graph", port.in_words())
        })?;
        for feature in features {
            let fraction = feature.kind == Kind::Numeric && feature.value_type != ValueType::Int;
            if fraction && !is_fraction(element) {
                return Err(format!(
                    "it takes {}, and feature '{}' has fractions; is it categorical, or of type = \"int\"?",
                    port.in_words(),
                    feature.name
                ));
            }
        }
        let columns = columns(features)?;
        let trailing = trailing(
            port,
            columns.last().map_or(0, |(start, feature)| start.saturating_add(width(feature))),
        )?;
        let alone = columns.len() == 1;
        let mut parts = Vec::new();
        for (_, feature) in &columns {
            let (kind, dims) = natural(feature);
            let mut value = feature.name.clone();
            let wanted = if alone { trailing.clone() } else { vec![width(feature)] };
            if kind != element {
                let last = alone && dims == wanted;
                let name = if last { target.to_owned() } else { format!("{target}/{}/cast", feature.name) };
                self.before.push(node("Cast", &[&value], &name, vec![int("to", element as i64)]));
                value = name;
            }
            if dims != wanted {
                let shape = self.shape(&wanted);
                let name = if alone { target.to_owned() } else { format!("{target}/{}", feature.name) };
                self.before.push(node("Reshape", &[&value, &shape], &name, Vec::new()));
                value = name;
            }
            parts.push(value);
        }
        match parts.as_slice() {
            [only] if only == target => {}
            [only] => self.before.push(node("Identity", &[only], target, Vec::new())),
            parts => {
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                let flat = trailing.len() == 1;
                let joined = if flat { target.to_owned() } else { format!("{target}/columns") };
                self.before.push(node("Concat", &parts, &joined, vec![int("axis", 1)]));
                if !flat {
                    let shape = self.shape(&trailing);
                    self.before.push(node("Reshape", &[&joined, &shape], target, Vec::new()));
                }
            }
        }
        Ok(())
    }

    fn outputs(&mut self, ports: &[Port], graph: &GraphProto, map: &ImportMap) -> Result<(), ForeignError> {
        let producers: HashMap<&str, &NodeProto> = graph
            .node
            .iter()
            .flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node)))
            .collect();
        for task in &map.tasks {
            let fail = |reason| ForeignError::Task { name: task.name.clone(), reason };
            let wanted = task.output_name();
            let Some(port) = ports.iter().find(|port| port.name == wanted) else {
                let known = ports.iter().map(|port| port.name.as_str());
                return Err(fail(format!(
                    "the graph has no output '{wanted}'{}",
                    known_names(wanted, known)
                )));
            };
            self.output(port, producers.get(self.current(wanted).as_str()).copied(), task).map_err(fail)?;
        }
        for derived in &map.derived {
            let (first, others) = match derived.product.as_slice() {
                [] => continue,
                [only] => {
                    self.after.push(node("Identity", &[only], &derived.name, Vec::new()));
                    continue;
                }
                [first, others @ ..] => (first, others),
            };
            let mut value = first.clone();
            for (index, other) in others.iter().enumerate() {
                let last = index + 1 == others.len();
                let name = if last { derived.name.clone() } else { format!("{}/{index}", derived.name) };
                self.after.push(node("Mul", &[&value, other], &name, Vec::new()));
                value = name;
            }
        }
        Ok(())
    }

    /// A task's output from the model's.
    fn output(&mut self, port: &Port, producer: Option<&NodeProto>, task: &MappedTask) -> Result<(), String> {
        let element = port.element.filter(|element| is_fraction(*element));
        let element = element
            .ok_or_else(|| format!("output '{}' is {}, expected floats", port.name, port.in_words()))?;
        let last = port.dims.as_ref().map(|dims| dims.get(1..).unwrap_or_default().last().copied().flatten());
        let width = match (&port.dims, last) {
            (Some(dims), _) if dims.len() <= 1 => Some(1),
            (_, Some(width)) => width,
            (_, None) => None,
        };
        let mut value = self.current(&port.name);
        let mut steps: Vec<(&str, Vec<String>, Vec<_>)> = Vec::new();
        match (task.column, width) {
            (None, Some(width)) if width > 1 => {
                return Err(format!("output '{}' has {width} columns; add column = …", port.name));
            }
            (Some(column), Some(width)) if column >= width => {
                return Err(format!(
                    "column = {column}, but output '{}' has {width} column{}",
                    port.name,
                    if width == 1 { "" } else { "s" }
                ));
            }
            (Some(column), Some(width)) if width > 1 => {
                let joined = producer.filter(|node| is(node, "Concat") && node.input.len() == width);
                let along = joined.map(|node| int_attribute(node, "axis", 0));
                match joined {
                    // One part a column: what the others need is then no part of this task.
                    Some(joined) if matches!(along, Some(1 | -1)) => value.clone_from(&joined.input[column]),
                    _ => steps.push(("Gather", vec![self.index(column)], vec![int("axis", -1)])),
                }
            }
            (Some(column), None) => steps.push(("Gather", vec![self.index(column)], vec![int("axis", -1)])),
            _ => {}
        }
        if element != DataType::Float {
            steps.push(("Cast", Vec::new(), vec![int("to", DataType::Float as i64)]));
        }
        if task.sigmoid {
            steps.push(("Sigmoid", Vec::new(), Vec::new()));
            // ONNX Runtime's sigmoid of a large number may be a little above 1.
            steps.push(("Clip", vec![self.number(0.0), self.number(1.0)], Vec::new()));
        }
        steps.push(("Reshape", vec![self.shape(&[])], Vec::new()));
        let count = steps.len();
        for (index, (operator, operands, attributes)) in steps.into_iter().enumerate() {
            let name = match index + 1 == count {
                true => task.name.clone(),
                false => format!("{}/{}", task.name, operator.to_lowercase()),
            };
            let inputs: Vec<&str> =
                std::iter::once(value.as_str()).chain(operands.iter().map(String::as_str)).collect();
            self.after.push(node(operator, &inputs, &name, attributes));
            value = name;
        }
        Ok(())
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

/// The features of one input in the order of their columns, each with its first column.
fn columns<'f>(features: &[&'f MappedFeature]) -> Result<Vec<(usize, &'f MappedFeature)>, String> {
    if let [only] = features
        && only.column.is_none_or(|column| column == 0)
    {
        return Ok(vec![(0, only)]);
    }
    let mut columns = Vec::new();
    for feature in features {
        let Some(column) = feature.column else {
            return Err(format!(
                "{} features feed it, and '{}' does not say which column is its own; add column = …",
                features.len(),
                feature.name
            ));
        };
        columns.push((column, *feature));
    }
    columns.sort_by_key(|(column, _)| *column);
    let mut next = 0;
    for (column, feature) in &columns {
        if *column != next {
            return Err(format!(
                "feature '{}' begins at column {column}, expected {next}: each column belongs to one feature",
                feature.name
            ));
        }
        next = next.saturating_add(width(feature));
    }
    Ok(columns)
}

/// Dimensions of an input after its rows, when it takes `width` values a row.
fn trailing(port: &Port, width: usize) -> Result<Vec<usize>, String> {
    let Some(dims) = &port.dims else {
        return Ok(if width == 1 { Vec::new() } else { vec![width] });
    };
    let misfit = || format!("it takes {}, and its features give {width} values a row", port.in_words());
    let [rows, trailing @ ..] = dims.as_slice() else {
        return Err(format!(
            "it takes {}, a single value; its first dimension must be rows",
            port.in_words()
        ));
    };
    if let Some(rows) = rows {
        return Err(format!(
            "its first dimension is fixed at {rows}, but rows change from request to request: export with \
             dynamic axes (dynamic_shapes) for the first dimension of every input"
        ));
    }
    let known = size(trailing);
    let open = trailing.iter().filter(|dim| dim.is_none()).count();
    if open > 1 || known == 0 || width % known != 0 || (open == 0 && known != width) {
        return Err(misfit());
    }
    Ok(trailing.iter().map(|dim| dim.unwrap_or(width / known)).collect())
}

fn is_fraction(element: DataType) -> bool {
    matches!(element, DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16)
}

fn is_number(element: DataType) -> bool {
    is_fraction(element)
        || matches!(
            element,
            DataType::Int64
                | DataType::Int32
                | DataType::Int16
                | DataType::Int8
                | DataType::Uint8
                | DataType::Uint16
                | DataType::Uint32
                | DataType::Uint64
                | DataType::Bool
        )
}

/// The names there are, the nearest first.
fn known_names<'a>(found: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let near = nearest(found, known.clone()).map(|near| format!("; did you mean '{near}'?"));
    format!("{} (it has: {})", near.unwrap_or_default(), known.collect::<Vec<_>>().join(", "))
}
