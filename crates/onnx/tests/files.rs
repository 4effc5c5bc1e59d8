//! Exported files, decoded again: the structure that ONNX demands, the forms chosen, the external
//! weights, and what is refused.

use std::collections::{BTreeMap, BTreeSet};

use gatefold_graph::{Fact, GradientOp, Graph, Init, Level, NodeId, Op, Parameter, passes};
use gatefold_onnx::{ExportOptions, ExternalWeights, Folded, OnnxError, export, fold};
use gatefold_proto::onnx::{
    GraphProto, ModelProto, TensorProto, ValueInfoProto, tensor_proto::DataLocation,
    tensor_shape_proto::dimension, type_proto,
};
use prost::Message as _;

/// Every op that a file can hold: a mixture of experts over codes, a sequence and numbers.
fn model() -> Graph {
    let mut graph = Graph::new();
    let user = graph.input("user", Fact::i32(Level::Candidate, &[]));
    let recent = graph.input("recent", Fact::i32(Level::Candidate, &[5]));
    let age = graph.input("age", Fact::f32(Level::Candidate, &[]));
    let price = graph.input("price", Fact::f32(Level::Candidate, &[]));
    let table = parameter(&mut graph, "embedding.user", &[9, 4], true);
    let items = parameter(&mut graph, "embedding.item", &[7, 4], true);
    let user = graph.apply(Op::Lookup, &[table, user]).unwrap();
    let recent = graph.apply(Op::LookupMean, &[items, recent]).unwrap();
    let x = graph.apply(Op::Concat, &[user, recent, age, price]).unwrap();
    let mut mixed = vec![x];
    for expert in 0..3 {
        let sum = linear(&mut graph, &format!("expert.{expert}"), x, 6);
        mixed.push(graph.apply(Op::Relu, &[sum]).unwrap());
    }
    for task in ["ctr", "cvr"] {
        let gate = linear(&mut graph, &format!("gate.{task}"), x, 3);
        mixed[0] = graph.apply(Op::Softmax, &[gate]).unwrap();
        let mixture = graph.apply(Op::Mix, &mixed).unwrap();
        let part = graph.apply(Op::SliceColumns { start: 1, end: 6 }, &[mixture]).unwrap();
        let tower = linear(&mut graph, &format!("tower.{task}"), part, 1);
        let logit = graph.apply(Op::Squeeze, &[tower]).unwrap();
        let colder = graph.apply(Op::Scale(0.5), &[logit]).unwrap();
        let probability = graph.apply(Op::Sigmoid, &[colder]).unwrap();
        graph.output(task, probability);
    }
    let both = [graph.output_named("ctr").unwrap(), graph.output_named("cvr").unwrap()];
    let ctcvr = graph.apply(Op::Mul, &both).unwrap();
    graph.output("ctcvr", ctcvr);
    graph
}

fn parameter(graph: &mut Graph, name: &str, dims: &[usize], table: bool) -> NodeId {
    graph.parameter(Parameter { name: name.into(), dims: dims.to_vec(), init: Init::Zeros, table })
}

fn linear(graph: &mut Graph, name: &str, x: NodeId, outputs: usize) -> NodeId {
    let inputs = graph.fact(x).dims[0];
    let weight = parameter(graph, &format!("{name}.weight"), &[inputs, outputs], false);
    let bias = parameter(graph, &format!("{name}.bias"), &[outputs], false);
    let product = graph.apply(Op::MatMul, &[x, weight]).unwrap();
    graph.apply(Op::Add, &[product, bias]).unwrap()
}

fn split(plain: &Graph) -> Graph {
    passes::user_once(plain, &|name| name != "price").unwrap()
}

/// Values that say where they come from: parameter number and place.
fn values_of(graph: &Graph) -> BTreeMap<String, Vec<f32>> {
    let parameters = graph.parameters().iter().enumerate();
    parameters
        .map(|(number, parameter)| {
            let len: usize = parameter.dims.iter().product();
            (parameter.name.clone(), (0..len).map(|place| (1000 * number + place) as f32).collect())
        })
        .collect()
}

fn file(graph: &Graph, values: &BTreeMap<String, Vec<f32>>) -> (ModelProto, Vec<u8>, Vec<u8>) {
    let mut external = ExternalWeights::new("weights.bin");
    let options = ExportOptions {
        name: "demo".into(),
        doc: "a model".into(),
        metadata: BTreeMap::from([("kind".into(), "mmoe".into())]),
    };
    let bytes = export(graph, &|name| values.get(name).map(Vec::as_slice), &mut external, &options).unwrap();
    let mut weights = Vec::new();
    external.write_to(&mut weights).unwrap();
    assert_eq!(weights.len() as u64, external.bytes());
    (ModelProto::decode(bytes.as_slice()).unwrap(), bytes, weights)
}

/// What every ONNX file must be; returns its graph.
#[track_caller]
fn check_structure(model: ModelProto, weights: &[u8]) -> GraphProto {
    assert_eq!(model.producer_name, "gatefold");
    assert_eq!(model.ir_version, 8);
    assert_eq!(model.opset_import.len(), 1);
    assert_eq!((model.opset_import[0].domain.as_str(), model.opset_import[0].version), ("", 17));
    let graph = model.graph.expect("a model has a graph");
    let mut known = BTreeSet::new();
    for input in &graph.input {
        assert!(known.insert(input.name.clone()), "input {} is there twice", input.name);
    }
    for tensor in &graph.initializer {
        assert!(known.insert(tensor.name.clone()), "constant {} is there twice", tensor.name);
        let elements: i64 = tensor.dims.iter().product();
        let size = if tensor.data_type == 7 { 8 } else { 4 };
        assert_eq!(bytes_of(tensor, weights).len() as i64, elements * size, "{}", tensor.name);
    }
    let mut read = BTreeSet::new();
    let mut names = BTreeSet::new();
    for node in &graph.node {
        assert!(names.insert(node.name.clone()), "node {} is there twice", node.name);
        for input in &node.input {
            assert!(known.contains(input), "{} reads {input}, which is not there yet", node.name);
            read.insert(input.clone());
        }
        for output in &node.output {
            assert!(known.insert(output.clone()), "value {output} is there twice");
        }
    }
    for output in &graph.output {
        assert!(known.contains(&output.name), "output {} is never made", output.name);
        read.insert(output.name.clone());
    }
    for tensor in &graph.initializer {
        assert!(read.contains(&tensor.name), "constant {} is never read", tensor.name);
    }
    graph
}

fn bytes_of<'a>(tensor: &'a TensorProto, weights: &'a [u8]) -> &'a [u8] {
    if tensor.data_location != DataLocation::External as i32 {
        return &tensor.raw_data;
    }
    let field = |key: &str| {
        let entry = tensor.external_data.iter().find(|entry| entry.key == key);
        entry.unwrap_or_else(|| panic!("{} has no {key}", tensor.name)).value.clone()
    };
    assert_eq!(field("location"), "weights.bin");
    let (offset, length): (usize, usize) =
        (field("offset").parse().unwrap(), field("length").parse().unwrap());
    assert_eq!(offset % 4096, 0);
    &weights[offset..offset + length]
}

fn floats(tensor: &TensorProto, weights: &[u8]) -> Vec<f32> {
    let chunks = bytes_of(tensor, weights).chunks(4);
    chunks.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn constant<'a>(graph: &'a GraphProto, name: &str) -> &'a TensorProto {
    graph
        .initializer
        .iter()
        .find(|tensor| tensor.name == name)
        .unwrap_or_else(|| panic!("no constant {name}"))
}

/// `name: element type [dimensions]`.
fn describe(values: &[ValueInfoProto]) -> Vec<String> {
    let text = |value: &ValueInfoProto| {
        let Some(type_proto::Value::TensorType(tensor)) = value.r#type.clone().unwrap().value else {
            panic!("{} is no tensor", value.name)
        };
        let dim = |dim: dimension::Value| match dim {
            dimension::Value::DimParam(name) => name,
            dimension::Value::DimValue(size) => size.to_string(),
        };
        let dims = tensor.shape.unwrap().dim.into_iter().map(|each| dim(each.value.unwrap()));
        format!("{}: {} [{}]", value.name, tensor.elem_type, dims.collect::<Vec<_>>().join(", "))
    };
    values.iter().map(text).collect()
}

fn count(graph: &GraphProto, operator: &str) -> usize {
    graph.node.iter().filter(|node| node.op_type == operator).count()
}

#[test]
fn the_plain_file_has_one_row_a_candidate() {
    let plain = model();
    let (model, _, weights) = file(&plain, &values_of(&plain));
    assert_eq!(model.doc_string, "a model");
    assert_eq!(model.metadata_props.len(), 1);
    let graph = check_structure(model, &weights);
    assert_eq!(graph.name, "demo");
    // Element types: 1 is float, 6 is a 32-bit integer.
    let inputs =
        ["user: 6 [candidates]", "recent: 6 [candidates, 5]", "age: 1 [candidates]", "price: 1 [candidates]"];
    assert_eq!(describe(&graph.input), inputs);
    assert_eq!(
        describe(&graph.output),
        ["ctr: 1 [candidates]", "cvr: 1 [candidates]", "ctcvr: 1 [candidates]"]
    );
    assert_eq!(count(&graph, "Gemm"), 7, "3 experts, 2 gates, 2 towers, each with its bias");
    assert_eq!(count(&graph, "Add"), 0);
    assert_eq!(count(&graph, "Reshape"), 1, "the experts are stacked once for both gates");
}

#[test]
fn the_user_once_file_feeds_the_request_part_to_the_candidates_gemm() {
    let plain = model();
    let values = values_of(&plain);
    let (model, _, weights) = file(&split(&plain), &values);
    let graph = check_structure(model, &weights);
    let inputs = [
        "user: 6 [requests]",
        "recent: 6 [requests, 5]",
        "age: 1 [requests]",
        "price: 1 [candidates]",
        "request_of: 6 [one_or_candidates]",
    ];
    assert_eq!(describe(&graph.input), inputs);
    assert_eq!(count(&graph, "Gemm"), 12, "experts and gates in two parts, towers in one");
    assert_eq!(count(&graph, "Add"), 0);

    let producer = |name: &str| graph.node.iter().find(|node| node.output[0] == name);
    let joined: Vec<_> = graph
        .node
        .iter()
        .filter(|node| node.op_type == "Gemm")
        .filter_map(|node| producer(&node.input[2]))
        .map(|node| node.op_type.as_str())
        .collect();
    assert_eq!(joined, ["Gather"; 5], "experts and gates take the repeated request part as C");

    // Rows 0..9 of the weight belong to the user, row 9 to the price; both are cut when exported.
    let whole = &values["expert.0.weight"];
    let user = constant(&graph, "expert.0.weight[0:9]");
    let item = constant(&graph, "expert.0.weight[9:10]");
    assert_eq!((user.dims.as_slice(), floats(user, &weights)), ([9, 6].as_slice(), whole[..54].to_vec()));
    assert_eq!((item.dims.as_slice(), floats(item, &weights)), ([1, 6].as_slice(), whole[54..].to_vec()));
    assert!(!graph.initializer.iter().any(|tensor| tensor.name == "expert.0.weight"));
}

#[test]
fn a_request_row_that_is_more_than_added_needs_one_row_a_candidate() {
    // A sum of request rows alone, and one that is an output, could not be broadcast.
    for second in ["user", "item"] {
        let mut graph = Graph::new();
        let rows = graph.input("request_of", Fact::i32(Level::Candidate, &[]));
        let user = graph.input("user", Fact::f32(Level::Request, &[3]));
        let item = graph.input("item", Fact::f32(Level::Candidate, &[3]));
        let expanded = graph.apply(Op::Expand, &[user, rows]).unwrap();
        let other = if second == "user" { expanded } else { item };
        let sum = graph.apply(Op::Add, &[expanded, other]).unwrap();
        graph.output("sum", sum);
        let dims = if second == "user" { "candidates" } else { "one_or_candidates" };
        let bytes =
            export(&graph, &|_| None, &mut ExternalWeights::new("w"), &ExportOptions::default()).unwrap();
        let model = ModelProto::decode(bytes.as_slice()).unwrap();
        let inputs = describe(&model.graph.unwrap().input);
        assert!(inputs.contains(&format!("request_of: 6 [{dims}]")), "{inputs:?}");
    }
}

#[test]
fn both_files_share_the_tables() {
    let plain = model();
    let values = values_of(&plain);
    let mut external = ExternalWeights::new("weights.bin");
    let values_by_name = |name: &str| values.get(name).map(Vec::as_slice);
    let options = ExportOptions::default();
    let first = export(&plain, &values_by_name, &mut external, &options).unwrap();
    let size = external.bytes();
    let second = export(&split(&plain), &values_by_name, &mut external, &options).unwrap();
    assert_eq!(external.bytes(), size, "the second file adds nothing");
    assert_eq!(size, 4096 + 4 * 28, "36 numbers, filled up to a page, and 28");

    let mut weights = Vec::new();
    external.write_to(&mut weights).unwrap();
    for bytes in [first, second] {
        let graph = check_structure(ModelProto::decode(bytes.as_slice()).unwrap(), &weights);
        for table in ["embedding.user", "embedding.item"] {
            let tensor = constant(&graph, table);
            assert_eq!(tensor.data_location, DataLocation::External as i32);
            assert_eq!(floats(tensor, &weights), values[table]);
        }
    }
}

#[test]
fn large_weights_stand_outside_the_file() {
    let mut graph = Graph::new();
    let x = graph.input("x", Fact::f32(Level::Candidate, &[512]));
    let y = linear(&mut graph, "wide", x, 512);
    graph.output("y", y);
    let values = values_of(&graph);
    let (model, bytes, weights) = file(&graph, &values);
    let graph = check_structure(model, &weights);
    assert_eq!(weights.len(), 512 * 512 * 4);
    assert!(bytes.len() < 4096);
    assert_eq!(floats(constant(&graph, "wide.weight"), &weights), values["wide.weight"]);
}

#[test]
fn the_same_graph_gives_the_same_bytes() {
    let plain = model();
    let values = values_of(&plain);
    for graph in [&plain, &split(&plain)] {
        let (_, first, first_weights) = file(graph, &values);
        let (_, second, second_weights) = file(graph, &values);
        assert_eq!(first, second);
        assert_eq!(first_weights, second_weights);
    }
}

#[test]
fn outputs_that_have_a_name_already_are_copied() {
    let mut graph = Graph::new();
    let x = graph.input("x", Fact::f32(Level::Candidate, &[]));
    let y = graph.apply(Op::Relu, &[x]).unwrap();
    for (name, id) in [("same", x), ("first", y), ("second", y)] {
        graph.output(name, id);
    }
    let (model, _, weights) = file(&graph, &BTreeMap::new());
    let graph = check_structure(model, &weights);
    assert_eq!(describe(&graph.output).len(), 3);
    assert_eq!(count(&graph, "Identity"), 2);
}

#[track_caller]
fn check_refused(graph: &Graph, values: &BTreeMap<String, Vec<f32>>, message: &str) {
    let mut external = ExternalWeights::new("weights.bin");
    let values = |name: &str| values.get(name).map(Vec::as_slice);
    let error =
        export(graph, &values, &mut external, &ExportOptions::default()).expect_err("this must be refused");
    assert!(error.to_string().contains(message), "{error}");
}

#[test]
fn what_cannot_be_written_is_refused_by_name() {
    let plain = model();
    let values = values_of(&plain);
    let mut missing = values.clone();
    missing.remove("tower.cvr.bias");
    check_refused(&plain, &missing, "parameter 'tower.cvr.bias' has no values");
    let mut short = values.clone();
    short.insert("embedding.item".into(), vec![0.0; 4]);
    check_refused(&plain, &short, "parameter 'embedding.item' needs 28 values, found 4");

    check_refused(&Graph::new(), &values, "no output");
    let mut renamed = plain.clone();
    let ctr = renamed.output_named("ctr").unwrap();
    let warm = renamed.apply(Op::Scale(2.0), &[ctr]).unwrap();
    renamed.output("user", warm);
    check_refused(&renamed, &values, "the name 'user' stands for two values");

    let mut training = plain.clone();
    let price = training.inputs().find(|(name, _)| *name == "price").unwrap().1;
    let loss = training.apply(Op::Bce, &[ctr, price, price]).unwrap();
    training.output("loss", loss);
    check_refused(&training, &values, "(bce) has no ONNX form: a loss is not served");
    let served = passes::prune(&training, &["ctr", "cvr", "ctcvr"]).unwrap();
    file(&served, &values);

    let mut derivative = Graph::new();
    let x = derivative.input("x", Fact::f32(Level::Candidate, &[]));
    let row = derivative.apply(Op::Gradient(GradientOp::Unsqueeze), &[x]).unwrap();
    derivative.output("row", row);
    check_refused(&derivative, &values, "(unsqueeze) has no ONNX form: a derivative is not served");
}

/// A layer over both levels with batch normalisation behind it.
fn normalised() -> Graph {
    let mut graph = Graph::new();
    let user = graph.input("user", Fact::f32(Level::Candidate, &[2]));
    let price = graph.input("price", Fact::f32(Level::Candidate, &[]));
    let x = graph.apply(Op::Concat, &[user, price]).unwrap();
    let first = linear(&mut graph, "first", x, 2);
    let statistics = ["mean", "variance", "gamma", "beta"]
        .map(|name| parameter(&mut graph, &format!("first.{name}"), &[2], false));
    let normal =
        graph.apply(Op::BatchNorm { epsilon: 1.0 }, &[&[first], statistics.as_slice()].concat()).unwrap();
    graph.output("normal", normal);
    graph
}

#[test]
fn batch_normalisation_is_folded_into_the_layer_before_it() {
    let plain = normalised();
    let mut values: BTreeMap<String, Vec<f32>> = BTreeMap::from([
        ("first.weight".into(), vec![1.0, 10.0, 2.0, 20.0, 3.0, 30.0]),
        ("first.bias".into(), vec![5.0, -4.0]),
        ("first.mean".into(), vec![1.0, 6.0]),
        ("first.variance".into(), vec![3.0, 24.0]),
        ("first.gamma".into(), vec![4.0, 1.0]),
        ("first.beta".into(), vec![0.5, -0.5]),
    ]);
    let Folded { graph, values: folded } = fold(&plain, &|name| values.get(name).map(Vec::as_slice)).unwrap();
    // The scales are 4/√(3 + 1) = 2 and 1/√(24 + 1) = 0.2; (5 − 1)·2 + 0.5 and (−4 − 6)·0.2 − 0.5.
    let expected = BTreeMap::from([
        ("first.weight.folded".to_owned(), vec![2.0, 2.0, 4.0, 4.0, 6.0, 6.0]),
        ("first.bias.folded".to_owned(), vec![8.5, -2.5]),
    ]);
    assert_eq!(folded, expected);
    let names: Vec<&str> = graph.parameters().iter().map(|parameter| parameter.name.as_str()).collect();
    assert_eq!(names, ["first.weight.folded", "first.bias.folded"], "nothing else is left");
    values.extend(folded);
    for graph in [&graph, &split(&graph)] {
        let (model, _, weights) = file(graph, &values);
        let graph = check_structure(model, &weights);
        assert!(count(&graph, "Gemm") > 0);
        assert_eq!((count(&graph, "Mul"), count(&graph, "Add")), (0, 0));
    }
    let model = model();
    assert_eq!(fold(&model, &|_| None).unwrap().graph.outputs().len(), model.outputs().len());
}

#[test]
fn what_is_for_training_is_refused_by_name() {
    let plain = normalised();
    check_refused(
        &plain,
        &values_of(&plain),
        "(batch-norm) has no ONNX form: fold it into the layer before it",
    );
    let error = fold(&plain, &|_| None).unwrap_err().to_string();
    assert!(error.contains("parameter 'first.mean' has no values"), "{error}");

    #[track_caller]
    fn check(op: Op, of_constant: bool, message: &str) {
        let mut graph = Graph::new();
        let x = graph.input("x", Fact::f32(Level::Candidate, &[2]));
        let constant = parameter(&mut graph, "constant", &[2], false);
        let seed = graph.input("seed", Fact::i32(Level::Constant, &[]));
        let inputs: &[NodeId] = match op {
            Op::Dropout { .. } => &[x, seed],
            _ if of_constant => &[constant],
            _ => &[x],
        };
        let value = graph.apply(op, inputs).unwrap();
        graph.output("value", value);
        check_refused(&graph, &values_of(&graph), message);
    }
    check(Op::Dropout { rate: 0.5, salt: 0 }, false, "(dropout) has no ONNX form: dropout is for training");
    check(Op::Detach, false, "(detach) has no ONNX form: it is for training");
    check(Op::MeanRows, false, "(mean-rows) has no ONNX form: a mean over rows is for training");
    check(Op::SumSquares, true, "(sum-squares) has no ONNX form: a loss is not served");

    let mut graph = Graph::new();
    let x = graph.input("x", Fact::f32(Level::Candidate, &[]));
    let [knots, heights] = ["knots", "heights"].map(|name| parameter(&mut graph, name, &[3], false));
    let calibrated = graph.apply(Op::Calibrate, &[x, knots, heights]).unwrap();
    graph.output("calibrated", calibrated);
    let mut values = values_of(&graph);
    values.insert("knots".into(), vec![0.25, 0.5, 0.5]);
    check_refused(&graph, &values, "the knots 'knots' must increase strictly, found 0.5 after 0.5");
}

#[test]
fn two_contents_of_one_table_are_refused() {
    let plain = model();
    let first = values_of(&plain);
    let mut second = first.clone();
    second.get_mut("embedding.user").unwrap()[5] += 1.0;
    let mut external = ExternalWeights::new("weights.bin");
    let options = ExportOptions::default();
    export(&plain, &|name| first.get(name).map(Vec::as_slice), &mut external, &options).unwrap();
    let error = export(&plain, &|name| second.get(name).map(Vec::as_slice), &mut external, &options);
    assert!(matches!(error, Err(OnnxError::ExternalConflict { name }) if name == "embedding.user"));
}
