//! The whole models against PyTorch: outputs, losses and the gradient of every parameter, from
//! golden files that `training/reference/golden.py` writes.

use std::collections::BTreeMap;

use gatefold_exec::{Executor, InputValue, Parameters, Plan};
use gatefold_graph::{Graph, autodiff, autodiff::Gradient, passes};
use gatefold_schema::{Derived, FittedFeature, Level, ModelConfig, REQUEST_OF, Task};
use gatefold_tests::tests_folder;
use serde::Deserialize;

/// PyTorch and the executor both compute in f32; the values are of order 1.
const TOLERANCE: f32 = 2e-6;

#[derive(Deserialize)]
struct GoldenFile {
    features: Vec<FittedFeature>,
    tasks: Vec<Task>,
    derived: Vec<Derived>,
    model: ModelConfig,
    request_of: Vec<i32>,
    inputs: BTreeMap<String, Vec<f64>>,
    labels: BTreeMap<String, Vec<f32>>,
    outputs: BTreeMap<String, Vec<f32>>,
    losses: BTreeMap<String, f32>,
    parameters: BTreeMap<String, GoldenParameter>,
}

#[derive(Deserialize)]
struct GoldenParameter {
    shape: Vec<usize>,
    values: Vec<f32>,
    gradient: Vec<f32>,
}

/// Owned values of one graph input.
enum Owned {
    Codes(Vec<i32>),
    Numbers(Vec<f32>),
}

impl Owned {
    fn view(&self) -> InputValue<'_> {
        match self {
            Owned::Codes(values) => InputValue::I32(values),
            Owned::Numbers(values) => InputValue::F32(values),
        }
    }
}

/// First candidate row of each request.
fn first_rows(request_of: &[i32]) -> Vec<usize> {
    let changes = |row: &usize| *row == 0 || request_of[*row] != request_of[row - 1];
    (0..request_of.len()).filter(changes).collect()
}

impl GoldenFile {
    fn read(model: &str) -> GoldenFile {
        let path = tests_folder().join(format!("golden/{model}.json"));
        let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Inputs of the training graph; request-level features have one row a request when `user_once`.
    fn graph_inputs(&self, user_once: bool) -> BTreeMap<String, Owned> {
        let first_rows = first_rows(&self.request_of);
        let mut inputs = BTreeMap::new();
        for fitted in &self.features {
            let feature = &fitted.feature;
            let (all, width) = (&self.inputs[&feature.name], feature.width());
            let values: Vec<f64> = if user_once && feature.side.level() == Level::Request {
                first_rows.iter().flat_map(|row| &all[row * width..(row + 1) * width]).copied().collect()
            } else {
                all.clone()
            };
            let owned = if feature.is_coded() {
                Owned::Codes(values.iter().map(|value| *value as i32).collect())
            } else {
                Owned::Numbers(values.iter().map(|value| *value as f32).collect())
            };
            inputs.insert(feature.name.clone(), owned);
        }
        for task in &self.tasks {
            let space = match &task.given {
                None => vec![1.0; self.request_of.len()],
                Some(given) => self.labels[given].clone(),
            };
            inputs
                .insert(gatefold_nn::label_name(&task.name), Owned::Numbers(self.labels[&task.name].clone()));
            inputs.insert(gatefold_nn::weight_name(&task.name), Owned::Numbers(space));
        }
        if user_once {
            inputs.insert(REQUEST_OF.to_owned(), Owned::Codes(self.request_of.clone()));
        }
        inputs
    }

    fn parameters(&self, graph: &Graph) -> Parameters {
        let declared = graph.parameters();
        assert_eq!(declared.len(), self.parameters.len(), "both sides have the same parameters");
        let values = declared.iter().map(|parameter| {
            let golden = &self.parameters[&parameter.name];
            assert_eq!(golden.shape, parameter.dims, "{}", parameter.name);
            golden.values.clone()
        });
        Parameters::from_values(declared, values.collect()).expect("the shapes agree")
    }
}

#[track_caller]
fn check_near(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(difference <= TOLERANCE, "{what}[{index}]: {found}, PyTorch has {expected}");
    }
}

/// The gradient of a table from the gradients of its looked-up rows.
fn table_gradient(
    parameter: &gatefold_graph::Parameter,
    rows: &[autodiff::Rows],
    graph: &Graph,
    executor: &Executor,
    inputs: &BTreeMap<String, Owned>,
) -> Vec<f32> {
    let width = parameter.dims[1];
    let mut sum = vec![0.0; parameter.dims.iter().product()];
    for part in rows {
        let (name, _) =
            graph.inputs().find(|(_, node)| *node == part.codes).expect("codes are read from graph inputs");
        let Owned::Codes(codes) = &inputs[name] else { panic!("{name} holds codes") };
        let gradient = executor.value(part.rows);
        let codes_a_row = codes.len() / (gradient.len() / width);
        for (row, codes) in codes.chunks(codes_a_row).enumerate() {
            let valid = codes.iter().filter(|code| **code != 0).count().max(1);
            let share = if part.mean { 1.0 / valid as f32 } else { 1.0 };
            for code in codes.iter().filter(|code| **code != 0) {
                let place = *code as usize * width;
                for column in 0..width {
                    sum[place + column] += share * gradient[row * width + column];
                }
            }
        }
    }
    sum
}

#[track_caller]
fn check(model: &str, user_once: bool) {
    let golden = GoldenFile::read(model);
    let plain = gatefold_nn::training(&golden.features, &golden.tasks, &golden.derived, &golden.model)
        .expect("the model can be built");
    let of_request = |name: &str| {
        golden
            .features
            .iter()
            .any(|fitted| fitted.feature.name == name && fitted.feature.side.level() == Level::Request)
    };
    let mut graph =
        if user_once { passes::user_once(&plain, &of_request).expect("the pass applies") } else { plain };
    let loss = graph.output_named(gatefold_nn::LOSS).expect("a training graph has a loss");
    let gradients = autodiff::differentiate(&mut graph, loss).expect("every op has a gradient");
    let mut targets: Vec<_> = graph.outputs().iter().map(|(_, node)| *node).collect();
    targets.extend(gradients.targets());
    let plan = Plan::compile(&graph, &targets).expect("the graph compiles");
    let mut executor = Executor::new(plan, 2).expect("two threads");

    let parameters = golden.parameters(&graph);
    let owned = golden.graph_inputs(user_once);
    let inputs: Vec<(&str, InputValue)> =
        owned.iter().map(|(name, value)| (name.as_str(), value.view())).collect();
    let candidates = golden.request_of.len();
    let requests = if user_once { first_rows(&golden.request_of).len() } else { candidates };
    executor.run(&parameters, requests, candidates, &inputs).expect("the inputs fit");

    for (name, expected) in &golden.outputs {
        let node = graph.output_named(name).expect("every output of PyTorch's exists");
        check_near(name, executor.value(node), expected);
    }
    for (name, expected) in &golden.losses {
        let node = graph.output_named(name).expect("every loss of PyTorch's exists");
        check_near(name, executor.value(node), &[*expected]);
    }
    let mut compared = 0;
    for (id, gradient) in gradients.iter() {
        let parameter = &graph.parameters()[id.0];
        let expected = &golden.parameters[&parameter.name].gradient;
        let found = match gradient {
            Gradient::Dense(node) => executor.value(*node).to_vec(),
            Gradient::Table(rows) => table_gradient(parameter, rows, &graph, &executor, &owned),
        };
        check_near(&parameter.name, &found, expected);
        compared += 1;
    }
    assert_eq!(compared, golden.parameters.len(), "every parameter has a gradient");
}

#[test]
fn shared_bottom_agrees_with_pytorch() {
    check("shared-bottom", false);
    check("shared-bottom", true);
}

#[test]
fn esmm_agrees_with_pytorch() {
    check("esmm", false);
    check("esmm", true);
}

#[test]
fn mmoe_agrees_with_pytorch() {
    check("mmoe", false);
    check("mmoe", true);
}
