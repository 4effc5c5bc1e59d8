//! The whole models against PyTorch: forward pass, losses, and the gradient of every parameter, in
//! the plain graph and in the one that computes a request once.
//!
//! The files in `tests/golden` are written by `training/reference/golden.py`, which computes in
//! double precision.

use std::collections::BTreeMap;

use gatefold_exec::{Executor, InputValue, Parameters, Plan};
use gatefold_graph::{Gradient, Gradients, Graph, NodeId, differentiate, passes};
use gatefold_nn::{LOSS, label_name, loss_name, loss_weight_name, training, weight_name};
use gatefold_schema::{Derived, FittedFeature, Kind, Level, ModelConfig, Task};
use serde::Deserialize;

/// Scores are probabilities; everything here is of the order of one.
const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct GoldenModel {
    features: Vec<FittedFeature>,
    tasks: Vec<Task>,
    derived: Vec<Derived>,
    model: ModelConfig,
    /// Request row of each candidate.
    request_of: Vec<i32>,
    /// One row a candidate, also of request-level features.
    inputs: BTreeMap<String, Vec<f64>>,
    labels: BTreeMap<String, Vec<f32>>,
    outputs: BTreeMap<String, Vec<f64>>,
    losses: BTreeMap<String, f64>,
    parameters: BTreeMap<String, GoldenParameter>,
}

#[derive(Deserialize)]
struct GoldenParameter {
    shape: Vec<usize>,
    values: Vec<f32>,
    gradient: Vec<f64>,
}

/// A graph input's numbers.
enum Numbers {
    Codes(Vec<i32>),
    Floats(Vec<f32>),
}

impl Numbers {
    fn view(&self) -> InputValue<'_> {
        match self {
            Numbers::Codes(values) => InputValue::I32(values),
            Numbers::Floats(values) => InputValue::F32(values),
        }
    }
}

#[test]
fn shared_bottom_agrees_with_pytorch() {
    check("shared-bottom");
}

#[test]
fn esmm_agrees_with_pytorch() {
    check("esmm");
}

#[test]
fn mmoe_agrees_with_pytorch() {
    check("mmoe");
}

#[track_caller]
fn check(kind: &str) {
    let golden = read(kind);
    let plain = training(&golden.features, &golden.tasks, &golden.derived, &golden.model).expect("a model");
    check_graph(&golden, plain.clone(), Level::Candidate);
    let is_request = |name: &str| {
        golden
            .features
            .iter()
            .any(|fitted| fitted.feature.name == name && fitted.feature.side.level() == Level::Request)
    };
    let user_once = passes::user_once(&plain, &is_request).expect("the levels can be split");
    check_graph(&golden, user_once, Level::Request);
}

/// Checks one form of the graph; `level` is that of its user and context inputs.
#[track_caller]
fn check_graph(golden: &GoldenModel, mut graph: Graph, level: Level) {
    let named =
        |graph: &Graph, name: &str| graph.output_named(name).unwrap_or_else(|| panic!("no output {name}"));
    let loss = named(&graph, LOSS);
    let losses: Vec<(String, NodeId)> =
        golden.losses.keys().map(|name| (name.clone(), named(&graph, name))).collect();
    assert_eq!(losses.len(), golden.tasks.len() + 1);
    assert!(golden.tasks.iter().all(|task| golden.losses.contains_key(&loss_name(&task.name))));
    let outputs: Vec<(String, NodeId)> =
        golden.outputs.keys().map(|name| (name.clone(), named(&graph, name))).collect();
    let gradients = differentiate(&mut graph, loss).expect("derivatives");

    let parameters = parameters(golden, &graph);
    let inputs = inputs(golden, level);
    let views: Vec<(&str, InputValue)> =
        inputs.iter().map(|(name, numbers)| (name.as_str(), numbers.view())).collect();
    let mut targets: Vec<NodeId> = losses.iter().chain(&outputs).map(|(_, node)| *node).collect();
    targets.extend(gradients.targets());
    let plan = Plan::compile(&graph, &targets).expect("a plan");
    let mut executor = Executor::new(plan, 2).expect("threads");
    let candidates = golden.request_of.len();
    let requests = match level {
        Level::Request => request_rows(golden).len(),
        _ => candidates,
    };
    executor.run(&parameters, requests, candidates, &views).expect("a run");

    for (name, node) in &outputs {
        assert_close(&format!("output {name}"), executor.value(*node), &golden.outputs[name]);
    }
    for (name, node) in &losses {
        assert_close(name, executor.value(*node), &[golden.losses[name]]);
    }
    for (index, declared) in graph.parameters().iter().enumerate() {
        let expected = &golden.parameters[&declared.name].gradient;
        let found = gradient_of(gatefold_graph::ParamId(index), &gradients, &graph, &executor, &inputs);
        assert_close(&format!("gradient of {}", declared.name), &found, expected);
    }
}

fn read(kind: &str) -> GoldenModel {
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let path = format!("{folder}/../../tests/golden/{kind}.json");
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The golden weights; names and shapes must be those of the graph, neither more nor fewer.
fn parameters(golden: &GoldenModel, graph: &Graph) -> Parameters {
    assert_eq!(graph.parameters().len(), golden.parameters.len(), "the models have other parameters");
    let values = graph.parameters().iter().map(|declared| {
        let golden = golden.parameters.get(&declared.name);
        let golden = golden.unwrap_or_else(|| panic!("PyTorch has no parameter {}", declared.name));
        assert_eq!(declared.dims, golden.shape, "{}", declared.name);
        golden.values.clone()
    });
    Parameters::from_values(graph.parameters(), values.collect()).expect("values of the declared sizes")
}

/// First candidate row of each request.
fn request_rows(golden: &GoldenModel) -> Vec<usize> {
    let request_of = &golden.request_of;
    (0..request_of.len()).filter(|&row| row == 0 || request_of[row] != request_of[row - 1]).collect()
}

/// Features, labels and weights by name, with the user and context inputs at `level`.
fn inputs(golden: &GoldenModel, level: Level) -> BTreeMap<String, Numbers> {
    let all: Vec<usize> = (0..golden.request_of.len()).collect();
    let mut inputs = BTreeMap::new();
    for FittedFeature { feature, .. } in &golden.features {
        let per_request = level == Level::Request && feature.side.level() == Level::Request;
        let rows = if per_request { request_rows(golden) } else { all.clone() };
        let (values, width) = (&golden.inputs[&feature.name], feature.width());
        let taken = rows.iter().flat_map(|row| &values[row * width..(row + 1) * width]);
        let numbers = match feature.kind {
            Kind::Numeric => Numbers::Floats(taken.map(|value| *value as f32).collect()),
            Kind::Categorical | Kind::Sequence => Numbers::Codes(taken.map(|value| *value as i32).collect()),
        };
        inputs.insert(feature.name.clone(), numbers);
    }
    for task in &golden.tasks {
        let weight = match &task.given {
            Some(given) => golden.labels[given].clone(),
            None => vec![1.0; all.len()],
        };
        inputs.insert(label_name(&task.name), Numbers::Floats(golden.labels[&task.name].clone()));
        inputs.insert(weight_name(&task.name), Numbers::Floats(weight));
        inputs.insert(loss_weight_name(&task.name), Numbers::Floats(vec![task.weight]));
    }
    if level == Level::Request {
        inputs.insert(gatefold_schema::REQUEST_OF.to_owned(), Numbers::Codes(golden.request_of.clone()));
    }
    inputs
}

/// A parameter's whole gradient; that of a table is added up from its lookups.
fn gradient_of(
    parameter: gatefold_graph::ParamId,
    gradients: &Gradients,
    graph: &Graph,
    executor: &Executor,
    inputs: &BTreeMap<String, Numbers>,
) -> Vec<f32> {
    let declared = &graph.parameters()[parameter.0];
    let lookups = match gradients.get(parameter).expect("the loss depends on every parameter") {
        Gradient::Dense(node) => return executor.value(*node).to_vec(),
        Gradient::Table(lookups) => lookups,
    };
    let width = declared.dims[1];
    let mut whole = vec![0.0; declared.dims[0] * width];
    for lookup in lookups {
        let name = graph.inputs().find(|(_, node)| *node == lookup.codes).map(|(name, _)| name);
        let Some(Numbers::Codes(codes)) = name.map(|name| &inputs[name]) else {
            panic!("the codes of a lookup are an input");
        };
        let rows = executor.value(lookup.rows);
        let codes_a_row = codes.len() / (rows.len() / width);
        for (codes, row) in codes.chunks(codes_a_row).zip(rows.chunks(width)) {
            let present = codes.iter().filter(|code| **code != 0).count().max(1);
            let share = if lookup.mean { 1.0 / present as f32 } else { 1.0 };
            // Row 0 is padding and never learns.
            for &code in codes.iter().filter(|code| **code != 0) {
                let target = &mut whole[code as usize * width..][..width];
                target.iter_mut().zip(row).for_each(|(sum, value)| *sum += share * value);
            }
        }
    }
    whole
}

#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}: another number of values");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(*found) - expected).abs();
        assert!(
            difference <= TOLERANCE * expected.abs().max(1.0),
            "{what}[{index}]: {found}, PyTorch has {expected}"
        );
    }
}
