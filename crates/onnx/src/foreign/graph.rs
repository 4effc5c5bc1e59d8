//! Walking and changing a graph's messages.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use gatefold_proto::onnx::{
    AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto::AttributeType,
};

/// Every value that a node reads, those that graphs inside it take from around them included.
pub(crate) fn reads(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> =
        node.input.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    for graph in inner_graphs(node) {
        names.extend(graph.node.iter().flat_map(reads));
        names.extend(graph.output.iter().map(|output| output.name.as_str()));
    }
    names
}

/// Graphs inside a node, such as the branches of an `If`.
pub(crate) fn inner_graphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// Every tensor in the graph: constants, and those in nodes.
pub(crate) fn tensors(graph: &GraphProto) -> Vec<&TensorProto> {
    let mut found: Vec<&TensorProto> = graph.initializer.iter().collect();
    for node in &graph.node {
        let attributes = node.attribute.iter();
        found.extend(attributes.flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors)));
        for inner in inner_graphs(node) {
            found.extend(tensors(inner));
        }
    }
    found
}

/// Gives every value whose name is in `taken` another one, also where graphs inside nodes read it.
pub(crate) fn rename(graph: &mut GraphProto, taken: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut known: BTreeSet<String> = taken.clone();
    known.extend(graph.node.iter().flat_map(|node| node.output.iter().chain(&node.input)).cloned());
    known.extend(graph.initializer.iter().map(|tensor| tensor.name.clone()));
    let mut renamed = BTreeMap::new();
    for name in taken {
        let mut other = format!("{name}/model");
        while !known.insert(other.clone()) {
            other.push('\'');
        }
        renamed.insert(name.clone(), other);
    }
    rename_in(graph, &renamed);
    renamed
}

fn rename_in(graph: &mut GraphProto, renamed: &BTreeMap<String, String>) {
    let change = |name: &mut String| {
        if let Some(other) = renamed.get(name) {
            name.clone_from(other);
        }
    };
    graph.initializer.iter_mut().for_each(|tensor| change(&mut tensor.name));
    let values = graph.input.iter_mut().chain(&mut graph.output);
    values.for_each(|value| change(&mut value.name));
    for node in &mut graph.node {
        node.input.iter_mut().chain(&mut node.output).for_each(change);
        let attributes = node.attribute.iter_mut();
        attributes
            .flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs))
            .for_each(|inner| rename_in(inner, renamed));
    }
}

/// Leaves out the nodes and constants that no output needs, and what is said of values between.
pub(crate) fn keep_needed(graph: &mut GraphProto) {
    let producers: HashMap<&str, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(index, node)| node.output.iter().map(move |name| (name.as_str(), index)))
        .collect();
    let mut needed: HashSet<String> = HashSet::new();
    let mut kept = vec![false; graph.node.len()];
    let mut open: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    while let Some(name) = open.pop() {
        if needed.insert(name.to_owned())
            && let Some(&index) = producers.get(name)
            && !std::mem::replace(&mut kept[index], true)
        {
            open.extend(reads(&graph.node[index]));
        }
    }
    let mut kept = kept.into_iter();
    graph.node.retain(|_| kept.next().unwrap_or(false));
    graph.initializer.retain(|tensor| needed.contains(&tensor.name));
    graph.value_info.clear();
    graph.quantization_annotation.clear();
}

/// A node's attribute.
pub(crate) fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// A whole number that is an attribute, or its default.
pub(crate) fn int_attribute(node: &NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).map_or(default, |attribute| attribute.i.unwrap_or(0))
}

/// A node of one standard operator with one result. It has no name, as that might be taken.
pub(crate) fn node(
    operator: &str,
    inputs: &[&str],
    output: &str,
    attributes: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        op_type: operator.to_owned(),
        attribute: attributes,
        ..NodeProto::default()
    }
}

/// Whether a node is the standard operator `operator`.
pub(crate) fn is(node: &NodeProto, operator: &str) -> bool {
    node.op_type == operator && is_standard(node)
}

/// Whether a node is a standard operator.
pub(crate) fn is_standard(node: &NodeProto) -> bool {
    matches!(node.domain.as_str(), "" | "ai.onnx")
}

/// The tensor of a `Constant` node, in whichever of its forms.
pub(crate) fn constant(node: &NodeProto) -> Option<TensorProto> {
    if !is(node, "Constant") {
        return None;
    }
    let attribute = node.attribute.first()?;
    let tensor = |dims: Vec<i64>, kind, bytes: Vec<u8>| {
        Some(TensorProto { dims, data_type: kind as i32, raw_data: bytes, ..TensorProto::default() })
    };
    use gatefold_proto::onnx::tensor_proto::DataType::{Float, Int64};
    match AttributeType::try_from(attribute.r#type) {
        Ok(AttributeType::Tensor) => attribute.t.clone(),
        Ok(AttributeType::Int) => tensor(Vec::new(), Int64, attribute.i?.to_le_bytes().to_vec()),
        Ok(AttributeType::Float) => tensor(Vec::new(), Float, attribute.f?.to_le_bytes().to_vec()),
        Ok(AttributeType::Ints) => {
            let bytes = attribute.ints.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensor(vec![attribute.ints.len() as i64], Int64, bytes)
        }
        Ok(AttributeType::Floats) => {
            let bytes = attribute.floats.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensor(vec![attribute.floats.len() as i64], Float, bytes)
        }
        _ => None,
    }
}
