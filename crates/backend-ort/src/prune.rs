//! Cuts a graph down to what some of its outputs need.
//!
//! ONNX Runtime computes every node of a graph whatever outputs are asked for, so the only way not
//! to run a tower is a graph without it. The cut works on the file's bytes (the protocol buffer
//! wire format): messages are kept or dropped whole and never rewritten, so that whatever else the
//! file holds passes through unchanged. Tables in external data stay where they are, and are shared.

use std::collections::{HashMap, HashSet};

/// Field numbers of `ModelProto`, `GraphProto`, `NodeProto`, `AttributeProto` and `TensorProto`.
mod field {
    pub(super) const MODEL_GRAPH: u64 = 7;
    pub(super) const GRAPH_NODE: u64 = 1;
    pub(super) const GRAPH_INITIALIZER: u64 = 5;
    pub(super) const GRAPH_INPUT: u64 = 11;
    pub(super) const GRAPH_OUTPUT: u64 = 12;
    pub(super) const GRAPH_VALUE_INFO: u64 = 13;
    pub(super) const NODE_INPUT: u64 = 1;
    pub(super) const NODE_OUTPUT: u64 = 2;
    pub(super) const NODE_OPERATOR: u64 = 4;
    pub(super) const NODE_ATTRIBUTE: u64 = 5;
    pub(super) const ATTRIBUTE_GRAPH: u64 = 6;
    pub(super) const ATTRIBUTE_GRAPHS: u64 = 11;
    pub(super) const VALUE_NAME: u64 = 1;
    pub(super) const TENSOR_DIMS: u64 = 1;
    pub(super) const TENSOR_NAME: u64 = 8;
}

/// A graph cut down to some outputs.
pub(crate) struct Pruned {
    /// The file's bytes.
    pub(crate) model: Vec<u8>,
    /// Share of the weights of matrix products that is left, 0 to 1: about the share of the work.
    pub(crate) share: f64,
}

/// The graph in `model` with only the outputs named. `None` where the file cannot be walked: the
/// whole graph is then run, which gives the same scores.
pub(crate) fn prune(model: &[u8], outputs: &[&str]) -> Option<Pruned> {
    let graph = fields(model)?.into_iter().find(|field| field.number == field::MODEL_GRAPH)?;
    let graph_fields = fields(graph.bytes)?;
    let nodes: Vec<Node> = of(&graph_fields, field::GRAPH_NODE).map(Node::read).collect::<Option<_>>()?;

    // From the outputs back to everything they are computed from.
    let mut producer = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        producer.extend(node.outputs.iter().map(|name| (*name, index)));
    }
    let mut needed: HashSet<&[u8]> = HashSet::new();
    let mut kept = vec![false; nodes.len()];
    let mut open: Vec<&[u8]> = outputs.iter().map(|name| name.as_bytes()).collect();
    while let Some(name) = open.pop() {
        if !needed.insert(name) {
            continue;
        }
        if let Some(&index) = producer.get(name)
            && !std::mem::replace(&mut kept[index], true)
        {
            open.extend(&nodes[index].reads);
        }
    }

    let mut elements = HashMap::new();
    for tensor in of(&graph_fields, field::GRAPH_INITIALIZER) {
        elements.insert(text(tensor, field::TENSOR_NAME)?, matrix_elements(tensor)?);
    }
    let work = |wanted: &dyn Fn(usize) -> bool| -> f64 {
        let products = nodes.iter().enumerate().filter(|(index, node)| wanted(*index) && node.is_product());
        products.flat_map(|(_, node)| &node.reads).filter_map(|name| elements.get(name)).sum()
    };
    let whole = work(&|_| true);
    let share = if whole > 0.0 { work(&|index| kept[index]) / whole } else { 1.0 };

    let wanted: HashSet<&[u8]> = outputs.iter().map(|name| name.as_bytes()).collect();
    let mut cut = Vec::with_capacity(graph.bytes.len());
    let mut node = 0;
    for field in &graph_fields {
        let keep = match field.number {
            field::GRAPH_NODE => {
                node += 1;
                kept[node - 1]
            }
            field::GRAPH_INITIALIZER => needed.contains(text(field.bytes, field::TENSOR_NAME)?),
            field::GRAPH_INPUT | field::GRAPH_VALUE_INFO => {
                needed.contains(text(field.bytes, field::VALUE_NAME)?)
            }
            field::GRAPH_OUTPUT => wanted.contains(text(field.bytes, field::VALUE_NAME)?),
            _ => true,
        };
        if keep {
            cut.extend_from_slice(field.whole);
        }
    }
    let mut pruned = Vec::with_capacity(cut.len() + 64);
    for field in fields(model)? {
        if field.number == field::MODEL_GRAPH {
            write_varint(&mut pruned, field::MODEL_GRAPH << 3 | LENGTH_DELIMITED);
            write_varint(&mut pruned, cut.len() as u64);
            pruned.extend_from_slice(&cut);
        } else {
            pruned.extend_from_slice(field.whole);
        }
    }
    Some(Pruned { model: pruned, share })
}

/// What a node reads and makes.
struct Node<'a> {
    operator: &'a [u8],
    /// Inputs, and every name that graphs inside it mention.
    reads: Vec<&'a [u8]>,
    outputs: Vec<&'a [u8]>,
}

impl<'a> Node<'a> {
    fn read(message: &'a [u8]) -> Option<Node<'a>> {
        let mut node = Node { operator: b"", reads: Vec::new(), outputs: Vec::new() };
        for field in fields(message)? {
            match field.number {
                field::NODE_INPUT if !field.bytes.is_empty() => node.reads.push(field.bytes),
                field::NODE_OUTPUT if !field.bytes.is_empty() => node.outputs.push(field.bytes),
                field::NODE_OPERATOR => node.operator = field.bytes,
                field::NODE_ATTRIBUTE => {
                    let graph = |found: &Field<'_>| {
                        matches!(found.number, field::ATTRIBUTE_GRAPH | field::ATTRIBUTE_GRAPHS)
                    };
                    for inner in fields(field.bytes)?.into_iter().filter(graph) {
                        for message in of(&fields(inner.bytes)?, field::GRAPH_NODE) {
                            node.reads.extend(Node::read(message)?.reads);
                        }
                        // A graph inside may hand out a value of the one around it as it is.
                        for output in of(&fields(inner.bytes)?, field::GRAPH_OUTPUT) {
                            node.reads.push(text(output, field::VALUE_NAME)?);
                        }
                    }
                }
                _ => {}
            }
        }
        Some(node)
    }

    fn is_product(&self) -> bool {
        let contains = |part: &[u8]| self.operator.windows(part.len()).any(|window| window == part);
        contains(b"MatMul") || contains(b"Gemm")
    }
}

/// Elements of a tensor that is a matrix or more; a vector is no weight of a product.
fn matrix_elements(tensor: &[u8]) -> Option<f64> {
    let mut dims = Vec::new();
    for field in fields(tensor)?.iter().filter(|field| field.number == field::TENSOR_DIMS) {
        match field.varint {
            Some(dim) => dims.push(dim),
            None => {
                let mut rest = field.bytes;
                while !rest.is_empty() {
                    dims.push(read_varint(&mut rest)?);
                }
            }
        }
    }
    Some(if dims.len() < 2 { 0.0 } else { dims.iter().map(|dim| *dim as f64).product() })
}

const LENGTH_DELIMITED: u64 = 2;

/// One field of a message.
struct Field<'a> {
    number: u64,
    /// Tag and value, as they stand in the file.
    whole: &'a [u8],
    /// The value of a length-delimited field; else empty.
    bytes: &'a [u8],
    /// The value of a varint field.
    varint: Option<u64>,
}

/// The fields of a message; `None` where it is no message.
fn fields(message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut found = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let start = rest;
        let tag = read_varint(&mut rest)?;
        let (mut bytes, mut varint) = (&rest[..0], None);
        match tag & 7 {
            0 => varint = Some(read_varint(&mut rest)?),
            1 => rest = rest.get(8..)?,
            LENGTH_DELIMITED => {
                let length = usize::try_from(read_varint(&mut rest)?).ok()?;
                bytes = rest.get(..length)?;
                rest = &rest[length..];
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
        let whole = &start[..start.len() - rest.len()];
        found.push(Field { number: tag >> 3, whole, bytes, varint });
    }
    Some(found)
}

/// Values of the length-delimited fields of one number.
fn of<'f, 'a>(fields: &'f [Field<'a>], number: u64) -> impl Iterator<Item = &'a [u8]> + use<'f, 'a> {
    fields.iter().filter(move |field| field.number == number).map(|field| field.bytes)
}

/// The last value of a text field; empty where there is none.
fn text(message: &[u8], number: u64) -> Option<&[u8]> {
    let fields = fields(message)?;
    Some(of(&fields, number).last().unwrap_or_default())
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use gatefold_proto::onnx::{
        AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
    };
    use prost::Message;

    use super::*;

    fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: operator.into(),
            input: inputs.iter().map(|input| (*input).into()).collect(),
            output: vec![output.into()],
            ..NodeProto::default()
        }
    }

    fn value(name: &str) -> ValueInfoProto {
        ValueInfoProto { name: name.into(), ..ValueInfoProto::default() }
    }

    fn matrix(name: &str, rows: i64, columns: i64) -> TensorProto {
        TensorProto { name: name.into(), dims: vec![rows, columns], ..TensorProto::default() }
    }

    /// `x · shared` feeds the products `a` (10 × 30) and `b` (10 × 10); `chosen` picks one of them
    /// in graphs of its own.
    fn model() -> ModelProto {
        let branch = |name: &str| GraphProto { output: vec![value(name)], ..GraphProto::default() };
        let mut choice = node("If", &["flag"], "chosen");
        choice.attribute = ["a", "b"]
            .map(|name| AttributeProto { g: Some(branch(name)), ..AttributeProto::default() })
            .into();
        let graph = GraphProto {
            node: vec![
                node("MatMul", &["x", "shared"], "bottom"),
                node("Gemm", &["bottom", "wa", "bias"], "a"),
                node("MatMul", &["bottom", "wb"], "b"),
                node("Gather", &["table", "y"], "c"),
                choice,
            ],
            initializer: vec![
                matrix("shared", 20, 10),
                matrix("wa", 10, 30),
                TensorProto { name: "bias".into(), dims: vec![30], ..TensorProto::default() },
                matrix("wb", 10, 10),
                matrix("table", 1000, 1000),
            ],
            input: vec![value("x"), value("y"), value("flag")],
            output: vec![value("a"), value("b"), value("c"), value("chosen")],
            value_info: vec![value("bottom"), value("b")],
            doc_string: "kept".into(),
            ..GraphProto::default()
        };
        ModelProto {
            ir_version: 8,
            producer_name: "kept too".into(),
            graph: Some(graph),
            ..ModelProto::default()
        }
    }

    #[track_caller]
    fn check(outputs: &[&str], nodes: &[&str], initializers: &[&str], inputs: &[&str], share: f64) {
        let pruned = prune(&model().encode_to_vec(), outputs).unwrap();
        assert!((pruned.share - share).abs() < 1e-12, "{}", pruned.share);
        let model = ModelProto::decode(pruned.model.as_slice()).unwrap();
        assert_eq!((model.ir_version, model.producer_name.as_str()), (8, "kept too"));
        let graph = model.graph.unwrap();
        assert_eq!(graph.doc_string, "kept");
        let made: Vec<&str> = graph.node.iter().map(|node| node.output[0].as_str()).collect();
        assert_eq!(made, nodes);
        let tensors: Vec<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(tensors, initializers);
        let names =
            |values: &[ValueInfoProto]| values.iter().map(|value| value.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&graph.input), inputs);
        assert_eq!(names(&graph.output), outputs);
    }

    #[test]
    fn only_what_the_outputs_need_is_left() {
        // Weights of products: shared 200, wa 300, wb 100.
        check(&["a"], &["bottom", "a"], &["shared", "wa", "bias"], &["x"], 500.0 / 600.0);
        check(&["b"], &["bottom", "b"], &["shared", "wb"], &["x"], 300.0 / 600.0);
        check(&["c"], &["c"], &["table"], &["y"], 0.0);
        let all = ["bottom", "a", "b", "chosen"];
        check(&["chosen"], &all, &["shared", "wa", "bias", "wb"], &["x", "flag"], 1.0);
    }

    #[test]
    fn asking_for_everything_changes_no_byte() {
        let model = model().encode_to_vec();
        let pruned = prune(&model, &["a", "b", "c", "chosen"]).unwrap();
        assert_eq!(pruned.model, model);
        assert_eq!(pruned.share, 1.0);
    }

    #[test]
    fn what_is_no_model_is_left_alone() {
        let model = model().encode_to_vec();
        for length in 0..model.len() {
            // A cut at a field's end is a shorter model; no cut may panic.
            let _ = prune(&model[..length], &["a"]);
        }
        for junk in
            [&b"not a model"[..], b"", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x3a\xff\x01"]
        {
            assert!(prune(junk, &["a"]).is_none());
        }
    }
}
