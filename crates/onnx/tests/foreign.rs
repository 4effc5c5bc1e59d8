//! Files of other programs: what is read of them, the inputs and outputs they get, and what is refused.

use std::{collections::BTreeSet, path::Path};

use gatefold_onnx::{
    ExternalWeights,
    foreign::{ForeignError, ForeignModel},
};
use gatefold_proto::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_proto::{DataLocation, DataType},
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use gatefold_schema::ImportMap;
use prost::Message as _;

fn port(name: &str, kind: DataType, dims: &[i64]) -> ValueInfoProto {
    let dim = |dim: &i64| Dimension {
        value: Some(match *dim {
            -1 => dimension::Value::DimParam("batch".into()),
            size => dimension::Value::DimValue(size),
        }),
        ..Dimension::default()
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: kind as i32, shape: Some(shape) };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value, ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: operator.into(),
        input: inputs.iter().map(|name| (*name).into()).collect(),
        output: outputs.iter().map(|name| (*name).into()).collect(),
        ..NodeProto::default()
    }
}

fn with_axis(mut node: NodeProto, axis: i64) -> NodeProto {
    node.attribute.push(AttributeProto {
        name: "axis".into(),
        i: Some(axis),
        r#type: AttributeType::Int as i32,
        ..AttributeProto::default()
    });
    node
}

fn table(name: &str, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        float_data: vec![0.5; dims.iter().product::<i64>() as usize],
        ..TensorProto::default()
    }
}

/// `ad` is looked up, `X` holds three columns, both outputs are columns of one, `unused` is for nobody.
fn model() -> ModelProto {
    let graph = GraphProto {
        node: vec![
            node("Gather", &["table", "ad"], &["ctr"]),
            node("ReduceSum", &["X"], &["total"]),
            node("Mul", &["ctr", "total"], &["a"]),
            node("Sigmoid", &["a"], &["b"]),
            with_axis(node("Concat", &["a", "b"], &["y"]), 1),
            node("Neg", &["unused"], &["z"]),
        ],
        initializer: vec![table("table", &[9, 1])],
        input: vec![
            port("ad", DataType::Int64, &[-1]),
            port("X", DataType::Float, &[-1, 3]),
            port("unused", DataType::Float, &[-1]),
        ],
        output: vec![port("y", DataType::Float, &[-1, 2]), port("z", DataType::Float, &[-1])],
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: 8,
        producer_name: "test".into(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        functions: vec![vec![10, 1, b'f']],
        ..ModelProto::default()
    }
}

const MAP: &str = r#"
name = "shop"
[[feature]]
name = "ctr_before"
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

fn open(model: &ModelProto) -> Result<ForeignModel, ForeignError> {
    ForeignModel::from_bytes(&model.encode_to_vec(), Path::new("model.onnx"))
}

fn adapt(model: &ModelProto, map: &str) -> Result<ModelProto, ForeignError> {
    let map = ImportMap::parse(map, "map.toml").unwrap();
    let bytes = open(model)?.adapt(&map, &mut ExternalWeights::new("weights.bin"))?;
    Ok(ModelProto::decode(bytes.as_slice()).unwrap())
}

#[test]
fn inputs_and_outputs_become_those_of_a_bundle() {
    let adapted = adapt(&model(), MAP).unwrap();
    assert_eq!(adapted.functions, model().functions, "what is not understood is kept");
    let graph = adapted.graph.unwrap();
    let float = |name| port(name, DataType::Float, &[-1]);
    let mut expected = vec![
        float("ctr_before"),
        port("seen", DataType::Int32, &[-1, 2]),
        port("ad", DataType::Int32, &[-1]),
        float("ctr"),
        float("cvr"),
        float("ctcvr"),
    ];
    for value in &mut expected {
        let Some(type_proto::Value::TensorType(tensor)) = &mut value.r#type.as_mut().unwrap().value else {
            panic!()
        };
        tensor.shape.as_mut().unwrap().dim[0].value = Some(dimension::Value::DimParam("candidates".into()));
    }
    let found: Vec<ValueInfoProto> = graph.input.iter().chain(&graph.output).cloned().collect();
    assert_eq!(found, expected);

    let operators: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
    assert!(!operators.contains(&"Neg"), "what nothing needs is left out: {operators:?}");
    assert!(!operators.contains(&"Gather") || operators.iter().filter(|op| **op == "Gather").count() == 1);
    let mut made: BTreeSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    made.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
    for node in &graph.node {
        assert!(
            node.input.iter().all(|name| made.contains(name.as_str())),
            "{node:?} reads what is not there"
        );
        assert!(node.output.iter().all(|name| made.insert(name)), "{node:?} makes a name twice");
    }
    // The columns of `y` are parts of a join, so that each task reads its own.
    let reads_join = graph.node.iter().any(|node| node.op_type == "Concat" && node.output == ["y"]);
    assert!(!reads_join, "{operators:?}");
}

#[test]
fn what_does_not_fit_is_refused() {
    #[track_caller]
    fn refused(change: impl FnOnce(&mut GraphProto), from: &str, to: &str, words: &str) {
        assert!(MAP.contains(from));
        let mut model = model();
        change(model.graph.as_mut().unwrap());
        let error = adapt(&model, &MAP.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let same = |_: &mut GraphProto| {};
    refused(
        same,
        "input = \"X\"\ncolumn = 0",
        "input = \"Y\"",
        "feature 'ctr_before': the graph has no input 'Y'",
    );
    refused(
        same,
        "input = \"X\"\ncolumn = 0",
        "input = \"ad\"",
        "input 'ad': it takes int64 [?], and feature 'ctr_before' has fractions",
    );
    refused(same, "column = 1\n[[feature]]", "[[feature]]", "'seen' does not say which column");
    refused(
        same,
        "column = 1\n[[feature]]",
        "column = 2\n[[feature]]",
        "'seen' begins at column 2, expected 1",
    );
    refused(
        same,
        "max_len = 2",
        "max_len = 3",
        "input 'X': it takes float [?, 3], and its features give 4 values",
    );
    refused(same, "column = 0\nsigmoid", "sigmoid", "task 'ctr': output 'y' has 2 columns; add column");
    refused(same, "column = 0\nsigmoid", "column = 2\nsigmoid", "column = 2, but output 'y' has 2 columns");
    refused(
        same,
        "output = \"y\"\ncolumn = 1",
        "output = \"yy\"",
        "task 'cvr': the graph has no output 'yy'; did you mean 'y'?",
    );
    refused(
        same,
        "output = \"y\"\ncolumn = 1",
        "output = \"z\"",
        "input 'unused': no feature feeds it (float [?])",
    );
    refused(
        |graph| graph.input[0] = port("ad", DataType::Int64, &[4]),
        "name = \"shop\"",
        "name = \"shop\"",
        "input 'ad': its first dimension is fixed at 4",
    );
    refused(
        |graph| graph.input[0] = port("ad", DataType::String, &[-1]),
        "name = \"shop\"",
        "name = \"shop\"",
        "input 'ad': it is string [?], and features are numbers",
    );
    refused(
        |graph| graph.output[0] = port("y", DataType::Int64, &[-1, 2]),
        "name = \"shop\"",
        "name = \"shop\"",
        "output 'y' is int64 [?, 2], expected floats",
    );
}

#[test]
fn files_that_cannot_be_used_are_refused() {
    let mut old = model();
    old.opset_import[0].version = 9;
    let error = open(&old).unwrap_err().to_string();
    assert!(error.contains("version 9 of the ONNX operators; export it with opset 11"), "{error}");
    let error = open(&ModelProto::default()).unwrap_err().to_string();
    assert!(error.contains("it holds no graph"), "{error}");
    let error = ForeignModel::open(Path::new("nowhere.onnx")).unwrap_err().to_string();
    assert_eq!(error, "cannot read nowhere.onnx");

    for (location, inside) in
        [("model.onnx.data", true), ("data/1", true), ("../up", false), ("/etc/x", false)]
    {
        let mut model = model();
        let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
        tensor.data_location = DataLocation::External as i32;
        let value = location.to_owned();
        tensor.external_data = vec![StringStringEntryProto { key: "location".into(), value }];
        let files = open(&model).unwrap().external_files();
        match inside {
            true => assert_eq!(files.unwrap(), BTreeSet::from([location.to_owned()])),
            false => assert!(files.unwrap_err().to_string().contains("put it into the model's folder")),
        }
    }
}

#[test]
fn large_tensors_stand_outside_the_file() {
    let mut model = model();
    model.graph.as_mut().unwrap().initializer[0] = table("table", &[300_000, 1]);
    let map = ImportMap::parse(MAP, "map.toml").unwrap();
    let mut weights = ExternalWeights::new("weights.bin");
    let bytes = open(&model).unwrap().adapt(&map, &mut weights).unwrap();
    assert!(bytes.len() < 10_000 && weights.bytes() == 1_200_000, "{} {}", bytes.len(), weights.bytes());
}

#[test]
fn a_map_is_suggested_from_what_the_graph_shows() {
    let mut model = model();
    let graph = model.graph.as_mut().unwrap();
    let bound = |name: &str, value: i64| TensorProto {
        name: name.into(),
        dims: vec![1],
        data_type: DataType::Int64 as i32,
        int64_data: vec![value],
        ..TensorProto::default()
    };
    graph.initializer.extend([bound("one", 1), bound("three", 3)]);
    graph.node.insert(0, node("Slice", &["X", "one", "three", "one"], &["ids"]));
    graph.node.insert(1, node("Gather", &["table", "ids"], &["rows"]));
    let text = open(&model).unwrap().suggest("shop").unwrap();
    let map = ImportMap::parse(&text, "suggested").unwrap();
    let shape = |index: usize| {
        let feature = &map.features[index];
        (feature.name.as_str(), feature.input_name(), feature.column, feature.max_len)
    };
    assert_eq!(shape(0), ("ad", "ad", None, None));
    assert_eq!(map.features[0].side, gatefold_schema::Side::Item);
    assert_eq!(map.features[0].encoder, gatefold_schema::Encoder::Given { codes: 9, missing: 0, padding: 0 });
    assert_eq!(shape(1), ("x_0", "X", Some(0), None));
    assert_eq!(shape(2), ("x_1", "X", Some(1), Some(2)));
    let tasks: Vec<(&str, Option<usize>, bool)> =
        map.tasks.iter().map(|task| (task.name.as_str(), task.column, task.sigmoid)).collect();
    assert_eq!(tasks, [("y_0", Some(0), true), ("y_1", Some(1), true), ("z", None, true)]);
}

/// Names that TOML has to quote, nodes that read each other, and more columns than anyone lists.
#[test]
fn any_graph_gets_a_suggestion_that_can_be_read() {
    let mut model = model();
    let graph = model.graph.as_mut().unwrap();
    graph.node.push(node("Identity", &["loop"], &["back"]));
    graph.node.push(node("Cast", &["back"], &["loop"]));
    graph.input.push(port("loop", DataType::Float, &[-1]));
    graph.input.push(port("a \"b\"\\\n\u{7f}", DataType::Float, &[-1, i64::MAX]));
    graph.output.push(port("loop", DataType::Float, &[-1, 1 << 60]));
    // Each doubles what is followed, unless it is followed once.
    for depth in 0..64 {
        let (above, below) = (format!("j{depth}"), format!("j{}", depth + 1));
        graph.node.push(node("Concat", &[&below, &below], &[&above]));
    }
    graph.node.push(node("Sigmoid", &["a"], &["j64"]));
    graph.output.push(port("j0", DataType::Float, &[-1]));
    let text = open(&model).unwrap().suggest("shop").unwrap();
    let map: toml::Value = toml::from_str(&text).unwrap();
    let features = map["feature"].as_array().unwrap();
    assert_eq!(features.last().unwrap()["input"].as_str(), Some("a \"b\"\\\n\u{7f}"));
    assert!(text.contains("has 1152921504606846976 columns, here are the first 1000"), "{text}");
    assert_eq!(map["task"].as_array().unwrap().len(), 3 + 1000 + 1);
    assert_eq!(map["task"][1003].get("sigmoid"), None, "a join of sigmoids is one");
}
