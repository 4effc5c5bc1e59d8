//! The whole models against PyTorch: forward pass, losses, and the gradient of every parameter, in
//! the plain graph and in the one that computes a request once; and the graph that is served.
//!
//! The files in `tests/golden` are written by `training/reference/golden.py`, which computes in
//! double precision.

use std::collections::BTreeMap;

use gatefold_exec::{Executor, InputValue, Parameters, Plan};
use gatefold_graph::{Gradient, Gradients, Graph, NodeId, differentiate, passes};
use gatefold_nn::{LATE, LOSS, forward, label_name, loss_name, loss_weight_name, training, weight_name};
use gatefold_schema::{Derived, FittedFeature, Kind, Level, ModelConfig, ModelKind, Task};
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
    /// The rows that are there again as positives, where a task learns from fake negatives.
    #[serde(default)]
    late: Option<Vec<f32>>,
    /// As in training.
    outputs: BTreeMap<String, Vec<f64>>,
    /// As served.
    served: BTreeMap<String, Vec<f64>>,
    losses: BTreeMap<String, f64>,
    parameters: BTreeMap<String, GoldenParameter>,
}

#[derive(Deserialize)]
struct GoldenParameter {
    shape: Vec<usize>,
    values: Vec<f32>,
    /// None where it is not trained.
    gradient: Option<Vec<f64>>,
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
fn every_golden_model_agrees_with_pytorch() {
    let folder = folder();
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut cases: Vec<String> = files
        .map(|file| file.expect("a readable folder").file_name().to_string_lossy().into_owned())
        .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
        .collect();
    cases.sort();
    for kind in ModelKind::ALL {
        assert!(cases.iter().any(|case| case == kind.name()), "no golden file of {}", kind.name());
    }
    cases.iter().for_each(|case| check(case));
}

fn check(case: &str) {
    let golden = read(case);
    let (features, tasks, derived) = (&golden.features, &golden.tasks, &golden.derived);
    let is_request = |name: &str| {
        features
            .iter()
            .any(|fitted| fitted.feature.name == name && fitted.feature.side.level() == Level::Request)
    };
    let plain = training(features, tasks, derived, &golden.model).expect("a model");
    let user_once = passes::user_once(&plain, &is_request).expect("the levels can be split");
    check_training(case, &golden, plain, Level::Candidate);
    check_training(case, &golden, user_once, Level::Request);

    let plain = forward(features, tasks, derived, &golden.model).expect("a model");
    let user_once = passes::user_once(&plain, &is_request).expect("the levels can be split");
    check_served(case, &golden, &plain, Level::Candidate);
    check_served(case, &golden, &user_once, Level::Request);
}

/// Checks one form of the graph that is served; `level` is that of its user and context inputs.
fn check_served(case: &str, golden: &GoldenModel, graph: &Graph, level: Level) {
    let targets: Vec<NodeId> = graph.outputs().iter().map(|(_, node)| *node).collect();
    let executor = run(golden, graph, &targets, level, &inputs(golden, level));
    assert_eq!(graph.outputs().len(), golden.served.len());
    for (name, node) in graph.outputs() {
        assert_close(
            &format!("{case} {level:?}: served {name}"),
            executor.value(*node),
            &golden.served[name],
        );
    }
}

fn run(
    golden: &GoldenModel,
    graph: &Graph,
    targets: &[NodeId],
    level: Level,
    inputs: &BTreeMap<String, Numbers>,
) -> Executor {
    let views: Vec<(&str, InputValue)> =
        inputs.iter().map(|(name, numbers)| (name.as_str(), numbers.view())).collect();
    let plan = Plan::compile(graph, targets).expect("a plan");
    let mut executor = Executor::new(plan, 2).expect("threads");
    let candidates = golden.request_of.len();
    let requests = match level {
        Level::Request => request_rows(golden).len(),
        Level::Candidate => candidates,
    };
    executor.run(&parameters(golden, graph), requests, candidates, &views).expect("a run");
    executor
}

/// Checks one form of the graph in training; `level` is that of its user and context inputs.
fn check_training(case: &str, golden: &GoldenModel, mut graph: Graph, level: Level) {
    let named =
        |graph: &Graph, name: &str| graph.output_named(name).unwrap_or_else(|| panic!("no output {name}"));
    let loss = named(&graph, LOSS);
    assert!(golden.tasks.iter().all(|task| golden.losses.contains_key(&loss_name(&task.name))));
    let losses = golden.losses.iter().map(|(name, value)| (name, vec![*value]));
    let expected: Vec<(&String, Vec<f64>)> =
        golden.outputs.iter().map(|(name, values)| (name, values.clone())).chain(losses).collect();

    let found: Vec<NodeId> = expected.iter().map(|(name, _)| named(&graph, name)).collect();
    let gradients = differentiate(&mut graph, loss).expect("derivatives");

    let inputs = inputs(golden, level);
    let executor = run(golden, &graph, &[&found[..], &gradients.targets()].concat(), level, &inputs);
    for ((name, expected), node) in expected.iter().zip(found) {
        assert_close(&format!("{case} {level:?}: {name}"), executor.value(node), expected);
    }
    for (index, declared) in graph.parameters().iter().enumerate() {
        let parameter = gatefold_graph::ParamId(index);
        let Some(expected) = &golden.parameters[&declared.name].gradient else {
            assert!(gradients.get(parameter).is_none(), "{case}: {} is not trained", declared.name);
            continue;
        };
        let found = gradient_of(parameter, &gradients, &graph, &executor, &inputs);
        assert_close(&format!("{case} {level:?}: gradient of {}", declared.name), &found, expected);
    }
}

fn folder() -> String {
    let crate_folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    format!("{crate_folder}/../../tests/golden")
}

fn read(case: &str) -> GoldenModel {
    let path = format!("{}/{case}.json", folder());
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
    if let Some(late) = &golden.late {
        inputs.insert(LATE.to_owned(), Numbers::Floats(late.clone()));
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
