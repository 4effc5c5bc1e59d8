//! Layer and batch normalisation, dropout, and penalties on weights, against PyTorch 2.15.
//!
//! ```python
//! x = torch.tensor([[1., 2., 4.], [0.5, -1., 3.], [2., 2., -2.], [0., 1., 1.]], requires_grad=True)
//! gamma = torch.tensor([0.5, 1., 2.], requires_grad=True)
//! beta = torch.tensor([0.1, -0.2, 0.3], requires_grad=True)
//! g = torch.tensor([[1., -1., 2.], [0., 3., 1.], [0.5, 0.5, -1.], [2., 0., 1.]])
//! y = F.layer_norm(x, [3], gamma, beta)  # F.batch_norm(x, None, None, gamma, beta, training=True)
//! torch.autograd.grad((y * g).sum(), [x, gamma, beta])
//! ```

use gatefold_exec::{Executor, InputValue, Parameters, Plan};
use gatefold_graph::{Fact, Gradient, GradientOp, Graph, Init, Level, NodeId, Op, Parameter, differentiate};

use crate::{
    case::{candidates, check, constant, requests},
    gradient,
    model::Model,
};

const X: [f32; 12] = [1.0, 2.0, 4.0, 0.5, -1.0, 3.0, 2.0, 2.0, -2.0, 0.0, 1.0, 1.0];
const G: [f32; 12] = [1.0, -1.0, 2.0, 0.0, 3.0, 1.0, 0.5, 0.5, -1.0, 2.0, 0.0, 1.0];
const GAMMA: [f32; 3] = [0.5, 1.0, 2.0];
const BETA: [f32; 3] = [0.1, -0.2, 0.3];
const EPSILON: f32 = 1e-5;
/// Numbers near 10, from sums of several.
const TOLERANCE: f32 = 1e-5;

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= TOLERANCE, "{found} for {expected}");
    }
}

/// Normalises `X` by a layer's graph and compares the result and the derivatives of `Σ y·G`.
#[track_caller]
fn check_against_pytorch(
    build: impl Fn(&mut Graph, f32, [NodeId; 3]) -> NodeId,
    result: &[f32],
    derivatives: [&[f32]; 3],
) {
    let mut graph = Graph::new();
    let mut declare = |name: &str, dims: &[usize], table: bool| {
        graph.parameter(Parameter { name: name.into(), dims: dims.to_vec(), init: Init::Zeros, table })
    };
    let (table, gamma, beta) =
        (declare("x", &[5, 3], true), declare("gamma", &[3], false), declare("beta", &[3], false));
    let codes = graph.input("codes", Fact::i32(Level::Candidate, &[]));
    let g = graph.input("g", Fact::f32(Level::Candidate, &[3]));
    let x = graph.apply(Op::Lookup, &[table, codes]).unwrap();
    let y = build(&mut graph, EPSILON, [x, gamma, beta]);
    let products = graph.apply(Op::Dot, &[y, g]).unwrap();
    let mean = graph.apply(Op::MeanRows, &[products]).unwrap();
    let loss = graph.apply(Op::Scale(4.0), &[mean]).unwrap();
    let gradients = differentiate(&mut graph, loss).unwrap();
    let targets = [vec![y], gradients.targets()].concat();
    let mut executor = Executor::new(Plan::compile(&graph, &targets).unwrap(), 2).unwrap();
    let values = vec![[&[0.0; 3], X.as_slice()].concat(), GAMMA.to_vec(), BETA.to_vec()];
    let parameters = Parameters::from_values(graph.parameters(), values).unwrap();
    let inputs = [("codes", InputValue::I32(&[1, 2, 3, 4])), ("g", InputValue::F32(&G))];
    executor.run(&parameters, 0, 4, &inputs).unwrap();
    assert_close(executor.value(y), result);
    for ((_, gradient), expected) in gradients.iter().zip(derivatives) {
        match gradient {
            Gradient::Dense(node) => assert_close(executor.value(*node), expected),
            Gradient::Table(lookups) => assert_close(executor.value(lookups[0].rows), expected),
        }
    }
}

fn layer_norm(graph: &mut Graph, epsilon: f32, [x, gamma, beta]: [NodeId; 3]) -> NodeId {
    graph.apply(Op::LayerNorm { epsilon }, &[x, gamma, beta]).unwrap()
}

/// By the statistics of the batch.
fn batch_norm(graph: &mut Graph, epsilon: f32, [x, gamma, beta]: [NodeId; 3]) -> NodeId {
    let mean = graph.apply(Op::MeanRows, &[x]).unwrap();
    let below = graph.apply(Op::Scale(-1.0), &[mean]).unwrap();
    let centered = graph.apply(Op::Add, &[x, below]).unwrap();
    let squares = graph.apply(Op::Mul, &[centered, centered]).unwrap();
    let variance = graph.apply(Op::MeanRows, &[squares]).unwrap();
    graph.apply(Op::BatchNorm { epsilon }, &[x, mean, variance, gamma, beta]).unwrap()
}

#[test]
fn layer_normalisation_is_that_of_pytorch() {
    check_against_pytorch(
        layer_norm,
        &[
            -0.434_520_7,
            -0.467_260_3,
            2.972_603_6,
            -0.001_015_1,
            -1.311_165_8,
            2.926_391_6,
            0.453_552_9,
            0.507_105_8,
            -2.528_423,
            -0.607_091,
            0.507_090_9,
            1.714_181_9,
        ],
        [
            &[
                0.916_311_6,
                -1.374_484_4,
                0.458_172_4,
                -1.039_012_1,
                0.649_383_1,
                0.389_628_9,
                -0.066_290_1,
                0.066_292_3,
                -2.3e-6,
                -2e-7,
                -2.121_272_8,
                2.121_272_6,
            ],
            &[-3.543_852_3, -2.712_684_2, 6.107_102],
            &[3.5, 2.5, 3.0],
        ],
    );
}

#[test]
fn batch_normalisation_in_training_is_that_of_pytorch() {
    check_against_pytorch(
        batch_norm,
        &[
            0.184_514_6,
            0.616_493_8,
            2.482_176_8,
            -0.153_544,
            -1.832_987_8,
            1.609_306_1,
            0.860_631_9,
            0.616_493_8,
            -2.755_047_6,
            -0.491_602_6,
            -0.2,
            -0.136_435_3,
        ],
        [
            &[
                0.125_563_9,
                -0.442_273_4,
                0.103_915_1,
                -0.714_750_2,
                0.170_114_7,
                -0.374_086_4,
                0.115_899_1,
                0.782_467_4,
                -0.145_481_1,
                0.473_287_3,
                -0.510_308_7,
                0.415_652_3,
            ],
            &[-1.436_749_1, -5.307_21, 4.146_136],
            &[3.5, 2.5, 3.0],
        ],
    );
}

/// `F.batch_norm(x, [0.5, 1, -1], [2, 0.5, 1], gamma, beta, training=False)`.
#[test]
fn batch_normalisation_by_running_statistics_is_that_of_pytorch() {
    let statistics = [constant(&[3], [0.5, 1.0, -1.0]), constant(&[3], [2.0, 0.5, 1.0])];
    let [mean, variance] = statistics;
    let operands = [candidates(&[3], X), mean, variance, constant(&[3], GAMMA), constant(&[3], BETA)];
    let expected = [
        0.276_776_3,
        1.214_199_3,
        10.299_95,
        0.1,
        -3.028_398_8,
        8.299_96,
        0.630_328_7,
        1.214_199_3,
        -1.699_99,
        -0.076_776_2,
        -0.2,
        4.299_98,
    ];
    check(Op::BatchNorm { epsilon: EPSILON }, &operands, &expected);
}

#[test]
fn parts_of_the_derivatives() {
    // (x − 2) / √(8/3 + 0) and 1/√(v + 1/4).
    let third = 1.5_f32.sqrt();
    check(
        Op::Gradient(GradientOp::Standardize { epsilon: 0.0 }),
        &[candidates(&[3], [0.0, 2.0, 4.0])],
        &[-third, 0.0, third],
    );
    // g = (1, 0, 0): (g − 1/3 − x̂·(−√1.5)/3) · √(3/8) = (2/3 − 1/2, −1/3, −1/3 + 1/2) · √(3/8).
    let root = 0.375_f32.sqrt();
    check(
        Op::Gradient(GradientOp::StandardizeInput { epsilon: 0.0 }),
        &[candidates(&[3], [1.0, 0.0, 0.0]), candidates(&[3], [0.0, 2.0, 4.0])],
        &[root / 6.0, -root / 3.0, root / 6.0],
    );
    let variances = constant(&[3], [0.0, 0.75, 3.75]);
    check(Op::Gradient(GradientOp::InverseDeviation { epsilon: 0.25 }), &[variances], &[2.0, 1.0, 0.5]);
}

#[test]
fn normalisations_by_central_differences() {
    for level in [Level::Candidate, Level::Request] {
        for build in [layer_norm, batch_norm] {
            gradient::check(|model| {
                let width = model.width() + 1;
                let x = model.rows(level, width);
                let (gamma, beta) = (model.parameter(&[width]), model.parameter(&[width]));
                // Rows may be equal; with a small epsilon the function would then bend within a step.
                let y = build(&mut model.graph, 0.2, [x, gamma, beta]);
                model.loss_of_rows(y)
            });
        }
    }
    // Statistics may be trained like any operand.
    gradient::check(|model| {
        let x = model.rows(Level::Candidate, 3);
        let [mean, deviation, gamma, beta] = [(); 4].map(|()| model.parameter(&[3]));
        let variance = model.apply(Op::Mul, &[deviation, deviation]);
        let y = model.apply(Op::BatchNorm { epsilon: 0.5 }, &[x, mean, variance, gamma, beta]);
        model.loss_of_rows(y)
    });
}

/// `torch.linalg.matrix_norm(A, 'nuc')` of the columns below, and its derivative.
#[test]
fn the_trace_norm_is_that_of_pytorch() {
    let columns = || {
        [
            constant(&[2, 2], [1.0, 0.5, 2.0, 0.0]),
            constant(&[2, 2], [2.0, -1.0, 2.0, 1.0]),
            constant(&[2, 2], [0.0, 3.0, -2.0, 1.0]),
        ]
    };
    check(Op::TraceNorm, &columns(), &[8.458_538]);
    let derivative = [
        [0.139_551_64, 0.526_744_6, 0.797_432_9, -0.259_164_8],
        [0.708_911_6, -0.308_290_03, 0.266_646_65, 0.575_588_17],
        [0.183_100_15, 0.792_147_6, -0.426_485_27, 0.396_342_64],
    ];
    for (column, derivative) in derivative.iter().enumerate() {
        assert_close(&trace_norm_gradient(columns(), column), derivative);
    }
    // The third column is the sum of the others: U·Vᵀ of the two singular values that are not 0.
    let dependent = || {
        [
            constant(&[2, 2], [1.0, 0.5, 2.0, 0.0]),
            constant(&[2, 2], [2.0, -1.0, 2.0, 1.0]),
            constant(&[2, 2], [3.0, -0.5, 4.0, 1.0]),
        ]
    };
    check(Op::TraceNorm, &dependent(), &[6.310_615_6 + 1.294_654_6]);
    assert_close(
        &trace_norm_gradient(dependent(), 2),
        &[0.458_838_7, -0.025_509_3, 0.662_748_7, 0.127_464_3],
    );
    // Nothing is 0 in a matrix of zeros but its norm, and 0 is among its derivatives.
    let zeros = || [constant(&[2], [0.0; 2]), constant(&[2], [0.0; 2])];
    check(Op::TraceNorm, &zeros(), &[0.0]);
    assert_close(&trace_norm_gradient(zeros(), 1), &[0.0; 2]);
}

/// One column of the derivative, through autodiff.
fn trace_norm_gradient<const N: usize>(columns: [crate::case::Operand; N], column: usize) -> Vec<f32> {
    let mut graph = Graph::new();
    let (mut nodes, mut values) = (Vec::new(), Vec::new());
    for (index, operand) in columns.into_iter().enumerate() {
        let crate::case::Operand::Constant(dims, numbers) = operand else { panic!("columns are constants") };
        let (name, dims) = (index.to_string(), dims.to_vec());
        nodes.push(graph.parameter(Parameter { name, dims, init: Init::Zeros, table: false }));
        values.push(numbers);
    }
    let norm = graph.apply(Op::TraceNorm, &nodes).unwrap();
    let gradients = differentiate(&mut graph, norm).unwrap();
    let mut executor = Executor::new(Plan::compile(&graph, &gradients.targets()).unwrap(), 1).unwrap();
    let parameters = Parameters::from_values(graph.parameters(), values).unwrap();
    executor.run(&parameters, 0, 0, &[]).unwrap();
    let gradient = gradients.iter().nth(column).map(|(_, gradient)| gradient);
    let Some(Gradient::Dense(node)) = gradient else { panic!("a column is dense") };
    executor.value(*node).to_vec()
}

#[test]
fn penalties() {
    check(Op::SumSquares, &[constant(&[2, 2], [1.0, -2.0, 3.0, 0.5])], &[14.25]);
    gradient::check(|model| {
        let (a, b, c) = (model.parameter(&[4, 2]), model.parameter(&[4, 2]), model.parameter(&[4, 2]));
        let x = model.rows(Level::Candidate, 4);
        let y = model.apply(Op::MatMul, &[x, a]);
        let loss = model.loss_of_rows(y);
        let squares = model.apply(Op::SumSquares, &[a]);
        let norm = model.apply(Op::TraceNorm, &[a, b, c]);
        let both = model.apply(Op::Add, &[squares, norm]);
        let small = model.apply(Op::Scale(0.1), &[both]);
        model.apply(Op::Add, &[loss, small])
    });
}

/// What dropout leaves of ones, by seed, salt, rows and threads.
fn dropped(seed: i32, salt: u32, rows: usize, threads: usize) -> Vec<f32> {
    let mut graph = Graph::new();
    let x = graph.input("x", Fact::f32(Level::Candidate, &[8]));
    let seeds = graph.input("seed", Fact::i32(Level::Constant, &[]));
    let y = graph.apply(Op::Dropout { rate: 0.25, salt }, &[x, seeds]).unwrap();
    let mut executor = Executor::new(Plan::compile(&graph, &[y]).unwrap(), threads).unwrap();
    let ones = vec![1.0; 8 * rows];
    let inputs = [("x", InputValue::F32(&ones)), ("seed", InputValue::I32(&[seed]))];
    executor.run(&Parameters::initialise(&[], 0), 0, rows, &inputs).unwrap();
    executor.value(y).to_vec()
}

#[test]
fn dropout_is_a_function_of_seed_salt_row_and_column() {
    let rows = 5000;
    let found = dropped(7, 1, rows, 1);
    assert!(found.iter().all(|value| *value == 0.0 || *value == 4.0 / 3.0));
    let share = |values: &mut dyn Iterator<Item = bool>| {
        let (mut count, mut hits) = (0, 0);
        for hit in values {
            count += 1;
            hits += usize::from(hit);
        }
        hits as f64 / f64::from(count)
    };
    // Of 40,000 numbers a quarter, give or take five standard deviations of 0.0022.
    assert!((share(&mut found.iter().map(|value| *value == 0.0)) - 0.25).abs() < 0.011);
    assert_eq!(dropped(7, 1, rows, 3), found, "threads change nothing");
    assert_eq!(dropped(7, 1, 300, 1), found[..2400], "nor do the rows that follow");
    // Independent draws agree in 1/16 + 9/16 of all places.
    for other in [dropped(8, 1, rows, 1), dropped(7, 2, rows, 1), dropped(-7, 1, rows, 1)] {
        let same = share(&mut found.iter().zip(&other).map(|(a, b)| a == b));
        assert!((same - 0.625).abs() < 0.013, "{same}");
    }
    let next_row = share(&mut found.iter().zip(&found[8..]).map(|(a, b)| a == b));
    assert!((next_row - 0.625).abs() < 0.013, "{next_row}");
}

#[test]
fn dropout_lets_the_gradient_through_where_it_let_the_number_through() {
    gradient::check(|model| {
        let x = model.rows(Level::Candidate, 5);
        let seed = model.codes(Level::Constant, &[]);
        let y = model.apply(Op::Dropout { rate: 0.5, salt: 9 }, &[x, seed]);
        model.loss_of_rows(y)
    });
}

#[test]
fn calibration_is_linear_between_knots_and_constant_outside() {
    let operands = |x| [x, constant(&[3], [0.0, 0.5, 0.6]), constant(&[3], [0.1, 0.2, 0.8])];
    let x = || requests(&[], [-1.0, 0.0, 0.25, 0.5, 0.55, 0.6, 3.0]);
    check(Op::Calibrate, &operands(x()), &[0.1, 0.1, 0.15, 0.2, 0.5, 0.8, 0.8]);
    let mut model = Model::new(0, 2, 2);
    let x = model.rows(Level::Candidate, 1);
    let x = model.apply(Op::Squeeze, &[x]);
    let (knots, values) = (model.parameter(&[2]), model.parameter(&[2]));
    let y = model.apply(Op::Calibrate, &[x, knots, values]);
    let loss = model.loss(Op::Bce, y);
    let error = differentiate(&mut model.graph, loss).unwrap_err().to_string();
    assert!(
        error.contains("(calibrate): has no derivative: calibrate a model after it is trained"),
        "{error}"
    );
}
