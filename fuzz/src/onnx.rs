//! An ONNX file of another program, as `gatefold bundle import` reads it.

use std::path::Path;
use std::sync::LazyLock;

use gatefold_onnx::{ExternalWeights, foreign::ForeignModel};
use gatefold_proto::onnx::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use gatefold_schema::{ImportMap, strict};
use prost::Message;

use super::Reached;

/// What [`file`] is imported by.
pub(crate) const MAP: &str = r#"
name = "shop"
[[feature]]
name = "age"
side = "user"
kind = "numeric"
type = "float"
encoder = { kind = "none" }
input = "X"
column = 0
[[feature]]
name = "seen"
side = "user"
kind = "sequence"
type = "int"
max_len = 2
encoder = { kind = "given", codes = 9 }
input = "X"
column = 1
[[feature]]
name = "ad"
side = "item"
kind = "categorical"
type = "int"
encoder = { kind = "given", codes = 9 }
[[task]]
name = "ctr"
label = "click"
output = "y"
column = 0
sigmoid = true
[[task]]
name = "cvr"
label = "buy"
given = "ctr"
output = "y"
column = 1
[[derived]]
name = "ctcvr"
product = ["ctr", "cvr"]
label = "buy"
"#;

static PARSED: LazyLock<ImportMap> =
    LazyLock::new(|| ImportMap::parse(MAP, "map.toml").expect("the map is well formed"));

/// Reads a file, suggests a map of it, and gives it the inputs and outputs of a bundle.
pub(crate) fn import(bytes: &[u8]) -> Reached {
    let path = Path::new("model.onnx");
    let Ok(model) = ForeignModel::from_bytes(bytes, path) else { return Reached::Nothing };
    let _ = (model.producer(), model.external_files());
    if let Ok(text) = model.suggest("shop") {
        let parsed = strict::from_toml::<serde_json::Value>(&text, "line");
        assert!(parsed.is_ok(), "{parsed:?} in {text}");
    }
    let Ok(adapted) = model.adapt(&PARSED, &mut ExternalWeights::new("weights.bin")) else {
        return Reached::Refused;
    };
    let adapted = ForeignModel::from_bytes(&adapted, path).expect("what is written can be read");
    let outputs: Vec<String> = adapted.outputs().into_iter().map(|port| port.name).collect();
    assert_eq!(outputs, PARSED.outputs());
    Reached::Taken
}

/// A file whose inputs are looked up, cut and summed, and whose output is a join of two.
pub(crate) fn file() -> Vec<u8> {
    let graph = GraphProto {
        node: vec![
            node("Gather", &["table", "ad"], &["rows"]),
            node("Slice", &["X", "one", "three", "one"], &["cut"]),
            node("Gather", &["table", "cut"], &["seen"]),
            node("Identity", &["seen"], &["same"]),
            node("Concat", &["rows", "same"], &["joined"]),
            node("Sigmoid", &["joined"], &["y"]),
        ],
        initializer: vec![
            TensorProto { float_data: vec![0.5; 9], ..tensor("table", &[9, 1], DataType::Float) },
            TensorProto { int64_data: vec![1], ..tensor("one", &[1], DataType::Int64) },
            TensorProto { raw_data: vec![3, 0, 0, 0, 0, 0, 0, 0], ..tensor("three", &[1], DataType::Int64) },
        ],
        input: vec![value("ad", DataType::Int64, &[]), value("X", DataType::Float, &[3])],
        output: vec![value("y", DataType::Float, &[2])],
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: 8,
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: operator.into(),
        input: inputs.iter().map(|name| (*name).into()).collect(),
        output: outputs.iter().map(|name| (*name).into()).collect(),
        ..NodeProto::default()
    }
}

fn tensor(name: &str, dims: &[i64], kind: DataType) -> TensorProto {
    TensorProto { name: name.into(), dims: dims.to_vec(), data_type: kind as i32, ..TensorProto::default() }
}

/// A value of open rows.
fn value(name: &str, kind: DataType, trailing: &[i64]) -> ValueInfoProto {
    let sizes = trailing.iter().map(|size| dimension::Value::DimValue(*size));
    let dims = std::iter::once(dimension::Value::DimParam("batch".into())).chain(sizes);
    let dim = dims.map(|value| Dimension { value: Some(value), ..Dimension::default() }).collect();
    let shape = Some(TensorShapeProto { dim });
    let tensor = type_proto::Tensor { elem_type: kind as i32, shape };
    let value = Some(type_proto::Value::TensorType(tensor));
    let r#type = Some(TypeProto { value, ..TypeProto::default() });
    ValueInfoProto { name: name.into(), r#type, ..ValueInfoProto::default() }
}
