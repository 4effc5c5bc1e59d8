//! Every op of a served graph, exported in both forms and run by the real ONNX Runtime, against the
//! naive evaluator.

#[path = "../../graph/tests/support/evaluate.rs"]
mod evaluate;

use std::{collections::BTreeMap, sync::OnceLock};

use evaluate::{Batch, Values, assert_close, assert_same_function, batch, evaluate, parameter_value};
use gatefold_backend_ort::find_library;
use gatefold_graph::{
    Activation, ElementType, Fact, Graph, Init, Level, NodeId, Op, Parameter, Pool, passes::user_once,
};
use gatefold_onnx::{ExportOptions, ExternalWeights, export, fold};
use ndarray::ArrayD;
use ort::{
    environment::Environment,
    session::{Session, SessionInputValue},
    value::Value,
};

/// Values are below 10 and computed in 32 bits.
const TOLERANCE: f64 = 2e-6;

fn is_request(name: &str) -> bool {
    name.starts_with('u')
}

/// Runs a graph in both forms and compares with the plain graph by the evaluator.
#[track_caller]
fn check(plain: &Graph) {
    let mut parameters: BTreeMap<String, Vec<f32>> = plain
        .parameters()
        .iter()
        .map(|parameter| {
            let values = parameter_value(parameter);
            (parameter.name.clone(), values.iter().map(|value| *value as f32).collect())
        })
        .collect();
    let Batch { requests, candidates, of_plain, of_split } = batch(plain, &is_request);
    let expected = evaluate(plain, &of_plain, requests, candidates);
    assert!(expected.values().flatten().any(|value| *value != 0.0), "nothing to compare");
    assert_same_function(plain, &user_once(plain, &is_request).unwrap(), &is_request);
    let folded = fold(plain, &|name| parameters.get(name).map(Vec::as_slice)).unwrap();
    parameters.extend(folded.values);
    let split = user_once(&folded.graph, &is_request).unwrap();
    for (graph, inputs) in [(&folded.graph, of_plain), (&split, of_split)] {
        assert_close(&expected, &run(graph, &parameters, &inputs), TOLERANCE);
    }
}

/// The outputs that ONNX Runtime gives.
fn run(graph: &Graph, parameters: &BTreeMap<String, Vec<f32>>, inputs: &Values) -> Values {
    let mut external = ExternalWeights::new("weights.bin");
    let values = |name: &str| parameters.get(name).map(Vec::as_slice);
    let bytes = export(graph, &values, &mut external, &ExportOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.onnx"), bytes).unwrap();
    external.write_to(std::fs::File::create(folder.path().join("weights.bin")).unwrap()).unwrap();
    let mut session =
        Session::builder(environment()).unwrap().commit_from_file(folder.path().join("model.onnx")).unwrap();
    let values: Vec<(String, SessionInputValue<'_>)> =
        graph.inputs().map(|(name, id)| (name.to_owned(), tensor(graph.fact(id), &inputs[name]))).collect();
    let results = session.run(values).unwrap();
    let numbers = |value: &ort::value::DynValue| -> Vec<f64> {
        value.try_extract_array::<f32>().unwrap().iter().map(|number| f64::from(*number)).collect()
    };
    graph.outputs().iter().map(|(name, _)| (name.clone(), numbers(&results[name.as_str()]))).collect()
}

fn tensor(fact: &Fact, values: &[f64]) -> SessionInputValue<'static> {
    let mut dims = fact.dims.clone();
    if fact.level != Level::Constant {
        dims.insert(0, values.len() / fact.row_len());
    }
    match fact.element {
        ElementType::F32 => {
            let values = values.iter().map(|value| *value as f32).collect();
            Value::from_array(ArrayD::from_shape_vec(dims, values).unwrap()).unwrap().into()
        }
        ElementType::I32 => {
            let values = values.iter().map(|value| *value as i32).collect();
            Value::from_array(ArrayD::from_shape_vec(dims, values).unwrap()).unwrap().into()
        }
    }
}

fn environment() -> &'static Environment {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let library = find_library(None).unwrap();
        ort::init_from(&library).unwrap().with_telemetry(false).build().unwrap()
    })
}

fn numbers(graph: &mut Graph, name: &str, columns: usize) -> NodeId {
    graph.input(name, Fact::f32(Level::Candidate, &[columns]))
}

fn parameter(graph: &mut Graph, name: &str, dims: &[usize]) -> NodeId {
    graph.parameter(Parameter { name: name.into(), dims: dims.to_vec(), init: Init::Zeros, table: false })
}

fn linear(graph: &mut Graph, name: &str, x: NodeId, outputs: usize) -> NodeId {
    let inputs = graph.fact(x).dims[0];
    let weight = parameter(graph, &format!("{name}.weight"), &[inputs, outputs]);
    let bias = parameter(graph, &format!("{name}.bias"), &[outputs]);
    let product = graph.apply(Op::MatMul, &[x, weight]).unwrap();
    graph.apply(Op::Add, &[product, bias]).unwrap()
}

/// A first layer over both levels.
fn first_layer(graph: &mut Graph) -> NodeId {
    let user = numbers(graph, "user", 3);
    let item = numbers(graph, "item", 4);
    let x = graph.apply(Op::Concat, &[user, item]).unwrap();
    linear(graph, "first", x, 5)
}

#[test]
fn activations() {
    let mut graph = Graph::new();
    let x = first_layer(&mut graph);
    let x = graph.apply(Op::Scale(3.0), &[x]).unwrap();
    let activations =
        [Activation::LeakyRelu(0.2), Activation::Elu, Activation::Gelu, Activation::Silu, Activation::Tanh];
    for op in activations.map(Op::Activation).into_iter().chain([Op::Relu, Op::Sigmoid, Op::Exp, Op::Softmax])
    {
        let name = op.name();
        let y = graph.apply(op, &[x]).unwrap();
        graph.output(name, y);
    }
    check(&graph);
}

#[test]
fn a_probability_stays_one_where_logits_are_large() {
    let mut graph = Graph::new();
    let logit = graph.input("c", Fact::f32(Level::Candidate, &[]));
    let probability = graph.apply(Op::Sigmoid, &[logit]).unwrap();
    graph.output("ctr", probability);
    let logits: Vec<f64> = (-4_000..4_000).map(|step| f64::from(step) / 100.0).collect();
    let inputs = [("c".to_owned(), logits)].into();
    let probabilities = &run(&graph, &BTreeMap::new(), &inputs)["ctr"];
    assert!(probabilities.iter().all(|probability| (0.0..=1.0).contains(probability)));
    assert!(probabilities[0] < 1e-10 && probabilities[7_999] == 1.0);
}

#[test]
fn mixtures_and_inner_products() {
    let mut graph = Graph::new();
    let x = first_layer(&mut graph);
    let user = graph.inputs().next().unwrap().1;
    let of_user = linear(&mut graph, "user", user, 5);
    let units = parameter(&mut graph, "units", &[2]);
    let gate = linear(&mut graph, "gate", user, 2);
    let gate = graph.apply(Op::Softmax, &[gate]).unwrap();
    for (name, gate) in [("stitched", units), ("mixed", gate)] {
        let mixture = graph.apply(Op::Mix, &[gate, x, of_user]).unwrap();
        graph.output(name, mixture);
    }
    let product = graph.apply(Op::Dot, &[x, of_user]).unwrap();
    let platt = [parameter(&mut graph, "platt.scale", &[]), parameter(&mut graph, "platt.shift", &[])];
    let scaled = graph.apply(Op::Mul, &[product, platt[0]]).unwrap();
    let shifted = graph.apply(Op::Add, &[scaled, platt[1]]).unwrap();
    graph.output("product", product);
    graph.output("shifted", shifted);
    check(&graph);
}

/// Batch normalisation by fixed statistics.
fn batch_norm(graph: &mut Graph, name: &str, x: NodeId) -> NodeId {
    let dims = graph.fact(x).dims.clone();
    let [mean, variance, gamma, beta] = ["running_mean", "running_variance", "gamma", "beta"]
        .map(|part| parameter(graph, &format!("{name}.{part}"), &dims));
    graph.apply(Op::BatchNorm { epsilon: 1e-3 }, &[x, mean, variance, gamma, beta]).unwrap()
}

#[test]
fn normalised_layers() {
    let mut graph = Graph::new();
    let x = first_layer(&mut graph);
    let user = graph.inputs().next().unwrap().1;
    let [gamma, beta] = ["gamma", "beta"].map(|name| parameter(&mut graph, name, &[5]));
    let layer = graph.apply(Op::LayerNorm { epsilon: 1e-5 }, &[x, gamma, beta]).unwrap();
    graph.output("layer", layer);
    // Behind a layer with and without bias, behind no layer, and twice in a row.
    let second = linear(&mut graph, "second", layer, 4);
    let second = batch_norm(&mut graph, "second", second);
    let weight = parameter(&mut graph, "third.weight", &[4, 3]);
    let third = graph.apply(Op::MatMul, &[second, weight]).unwrap();
    let third = batch_norm(&mut graph, "third", third);
    let third = batch_norm(&mut graph, "again", third);
    let input = batch_norm(&mut graph, "input", user);
    for (name, id) in [("second", second), ("third", third), ("input", input)] {
        graph.output(name, id);
    }
    check(&graph);
}

#[test]
fn a_first_layer_over_both_levels_is_folded_before_it_is_split() {
    let mut graph = Graph::new();
    let x = first_layer(&mut graph);
    let x = batch_norm(&mut graph, "first", x);
    let hidden = graph.apply(Op::Relu, &[x]).unwrap();
    graph.output("hidden", hidden);
    check(&graph);
}

#[test]
fn a_calibrated_tower() {
    let mut graph = Graph::new();
    let x = first_layer(&mut graph);
    let logit = linear(&mut graph, "tower", x, 1);
    let logit = graph.apply(Op::Squeeze, &[logit]).unwrap();
    let [x, y] = ["knots", "heights"].map(|name| parameter(&mut graph, name, &[4]));
    let calibrated = graph.apply(Op::Calibrate, &[logit, x, y]).unwrap();
    graph.output("calibrated", calibrated);
    check(&graph);
}

/// Hundreds of knots, some as close as 2⁻¹⁴, and probabilities below, on, between and above them. All
/// are whole numbers by a power of two, which 32 bits hold exactly.
#[test]
fn calibrated_probabilities_are_within_a_millionth() {
    let count = 500;
    let steps = |index: usize| 1 + [0, 0, 13, 1, 40, 2, 0][index % 7];
    let knots: Vec<f64> = (0..count)
        .scan(700, |knot, index| {
            *knot += steps(index);
            Some(*knot as f64 / 16384.0)
        })
        .collect();
    let heights: Vec<f64> = (0..count).map(|index| (index * index) as f64 / (count * count) as f64).collect();
    let mut graph = Graph::new();
    let p = graph.input("p", Fact::f32(Level::Candidate, &[]));
    let nodes = ["knots", "heights"].map(|name| parameter(&mut graph, name, &[count]));
    let calibrated = graph.apply(Op::Calibrate, &[p, nodes[0], nodes[1]]).unwrap();
    graph.output("calibrated", calibrated);

    let probabilities: Vec<f64> = (0..=8192).map(|index| f64::from(index) / 8192.0).collect();
    let expected: Vec<f64> = probabilities
        .iter()
        .map(|p| match knots.partition_point(|knot| knot <= p) {
            0 => heights[0],
            next if next == count => heights[count - 1],
            next => {
                let share = (p - knots[next - 1]) / (knots[next] - knots[next - 1]);
                heights[next - 1] + share * (heights[next] - heights[next - 1])
            }
        })
        .collect();
    let single = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<f32>>();
    let parameters =
        BTreeMap::from([("knots".to_owned(), single(&knots)), ("heights".to_owned(), single(&heights))]);
    let found = run(&graph, &parameters, &Values::from([("p".to_owned(), probabilities)]));
    assert_close(&Values::from([("calibrated".to_owned(), expected)]), &found, 1e-6);
}

/// Target attention: a small network of query and key weighs each position.
fn attention(graph: &mut Graph, query: NodeId, keys: NodeId) -> NodeId {
    let length = graph.fact(keys).dims[0];
    let queries = graph.apply(Op::RepeatRows { length }, &[query]).unwrap();
    let products = graph.apply(Op::Mul, &[queries, keys]).unwrap();
    let x = graph.apply(Op::Concat, &[queries, keys, products]).unwrap();
    let columns = graph.fact(x).columns();
    let [first, second] = [("first", [columns, 3]), ("second", [3, 1])]
        .map(|(name, dims)| parameter(graph, &format!("attention.{name}"), &dims));
    let [bias, gamma, beta] =
        ["bias", "gamma", "beta"].map(|name| parameter(graph, &format!("attention.{name}"), &[3]));
    let hidden = graph.apply(Op::MatMul, &[x, first]).unwrap();
    let hidden = graph.apply(Op::Add, &[hidden, bias]).unwrap();
    let hidden = graph.apply(Op::LayerNorm { epsilon: 0.1 }, &[hidden, gamma, beta]).unwrap();
    let part = graph.apply(Op::SliceColumns { start: 1, end: 3 }, &[hidden]).unwrap();
    let hidden = graph.apply(Op::Concat, &[hidden, part]).unwrap();
    let third = parameter(graph, "attention.third", &[5, 3]);
    let hidden = graph.apply(Op::MatMul, &[hidden, third]).unwrap();
    let weights = graph.apply(Op::MatMul, &[hidden, second]).unwrap();
    let weights = graph.apply(Op::Squeeze, &[weights]).unwrap();
    graph.apply(Op::WeightedSum, &[weights, keys]).unwrap()
}

/// Sequences of 4 codes below 3 of which some are padding; in one request all are.
#[test]
fn sequences() {
    let mut graph = Graph::new();
    let table =
        graph.parameter(Parameter { name: "table".into(), dims: vec![3, 4], init: Init::Zeros, table: true });
    let recent = graph.input("user_recent", Fact::i32(Level::Candidate, &[4]));
    let item = graph.input("item", Fact::i32(Level::Candidate, &[]));
    let keys = graph.apply(Op::LookupEach, &[table, recent]).unwrap();
    let query = graph.apply(Op::Lookup, &[table, item]).unwrap();
    let attended = attention(&mut graph, query, keys);
    graph.output("attended", attended);
    let mean = graph.apply(Op::LookupMean, &[table, recent]).unwrap();
    graph.output("mean", mean);
    for (name, pool) in [("sum", Pool::Sum), ("average", Pool::Mean), ("max", Pool::Max)] {
        let pooled = graph.apply(Op::PoolSequence(pool), &[keys, recent]).unwrap();
        graph.output(name, pooled);
    }
    let weights = [("w", vec![4, 9]), ("u", vec![3, 9]), ("b", vec![9]), ("c", vec![9])]
        .map(|(name, dims)| parameter(&mut graph, &format!("gru.{name}"), &dims));
    let state = graph.apply(Op::Gru, &[&[keys, recent], weights.as_slice()].concat()).unwrap();
    graph.output("state", state);
    let of_split = batch(&graph, &is_request).of_split;
    let lengths: Vec<usize> = of_split["user_recent"]
        .chunks(4)
        .map(|codes| codes.iter().filter(|code| **code != 0.0).count())
        .collect();
    assert_eq!(lengths, [3, 0, 3], "some sequences end early, one is empty");
    check(&graph);
}
