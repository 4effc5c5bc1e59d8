//! Every op on a case small enough to follow by hand.

use gatefold_exec::{Executor, InputValue, Parameters, Plan};
use gatefold_graph::{Fact, GradientOp, Graph, Level, Op};

use crate::case::{candidates, check, check_gradient, codes, constant, requests};

const LN_2: f32 = std::f32::consts::LN_2;
/// σ(ln 3) = 3/4.
const LN_3: f32 = 1.098_612_3;

#[test]
fn lookup() {
    let table = || constant(&[3, 2], [0.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
    check(Op::Lookup, &[table(), codes(&[], [2, 0, 1, 2])], &[3.0, 4.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
    // Means of two rows, of one row and a padding, and of nothing.
    check(Op::LookupMean, &[table(), codes(&[2], [1, 2, 2, 0, 0, 0])], &[2.0, 3.0, 3.0, 4.0, 0.0, 0.0]);
}

#[test]
fn columns_and_rows() {
    let parts =
        [candidates(&[2], [1.0, 2.0, 3.0, 4.0]), candidates(&[], [5.0, 6.0]), candidates(&[1], [7.0, 8.0])];
    check(Op::Concat, &parts, &[1.0, 2.0, 5.0, 7.0, 3.0, 4.0, 6.0, 8.0]);
    let x = || candidates(&[3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    check(Op::SliceColumns { start: 1, end: 3 }, &[x()], &[2.0, 3.0, 5.0, 6.0]);
    check_gradient(
        GradientOp::PadColumns { start: 1, columns: 5 },
        &[x()],
        &[0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 4.0, 5.0, 6.0, 0.0],
    );
    let matrix = constant(&[3, 2], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    check(Op::SliceRows { ranges: vec![(2, 3), (0, 1)] }, &[matrix], &[5.0, 6.0, 1.0, 2.0]);
    // The ranges overlap in row 1, which receives two rows: 3 + 5 and 4 + 6.
    let ranges = vec![(0, 2), (1, 2)];
    let matrix = constant(&[3, 2], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    check_gradient(GradientOp::ScatterRows { ranges, rows: 3 }, &[matrix], &[1.0, 2.0, 8.0, 10.0, 0.0, 0.0]);
    check(Op::Squeeze, &[candidates(&[1], [1.0, 2.0])], &[1.0, 2.0]);
    check_gradient(GradientOp::Unsqueeze, &[candidates(&[], [1.0, 2.0])], &[1.0, 2.0]);
}

#[test]
fn matrix_product() {
    let x = || candidates(&[3], [1.0, 2.0, 3.0, 0.0, -1.0, 2.0]);
    let w = || constant(&[3, 2], [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
    let g = || candidates(&[2], [1.0, 2.0, -1.0, 0.5]);
    check(Op::MatMul, &[x(), w()], &[14.0, 140.0, 4.0, 40.0]);
    // ∂/∂x_i = Σ_o g_o · w_io: row 0 is 1·1 + 2·10, 1·2 + 2·20, 1·3 + 2·30.
    check_gradient(GradientOp::MatMulInput, &[g(), w()], &[21.0, 42.0, 63.0, 4.0, 8.0, 12.0]);
    // ∂/∂w_io = Σ_rows x_i · g_o: for i = 1, 2·1 + (−1)(−1) and 2·2 + (−1)·0.5.
    check_gradient(GradientOp::MatMulWeight, &[x(), g()], &[1.0, 2.0, 3.0, 3.5, 1.0, 7.0]);
}

#[test]
fn sums_and_products_of_elements() {
    let a = || candidates(&[2], [1.0, -2.0, 3.0, 4.0]);
    let b = || candidates(&[2], [0.5, 5.0, -3.0, 1.0]);
    let c = || constant(&[2], [10.0, 100.0]);
    check(Op::Add, &[a(), b()], &[1.5, 3.0, 0.0, 5.0]);
    check(Op::Add, &[a(), c()], &[11.0, 98.0, 13.0, 104.0]);
    check(Op::Add, &[c(), a()], &[11.0, 98.0, 13.0, 104.0]);
    check(Op::Add, &[c(), c()], &[20.0, 200.0]);
    // A constant that lacks dimensions is repeated over them.
    let three = || constant(&[], [3.0]);
    check(Op::Add, &[a(), three()], &[4.0, 1.0, 6.0, 7.0]);
    check(Op::Mul, &[three(), c()], &[30.0, 300.0]);
    check(Op::Mul, &[a(), three()], &[3.0, -6.0, 9.0, 12.0]);
    check_gradient(GradientOp::SumRows { rank: 0 }, &[a()], &[6.0]);
    check(Op::Mul, &[a(), b()], &[0.5, -10.0, -9.0, 4.0]);
    check(Op::Mul, &[a(), c()], &[10.0, -200.0, 30.0, 400.0]);
    check(Op::Mul, &[c(), a()], &[10.0, -200.0, 30.0, 400.0]);
    check(Op::Scale(-0.5), &[a()], &[-0.5, 1.0, -1.5, -2.0]);
    check(Op::Detach, &[a()], &[1.0, -2.0, 3.0, 4.0]);
    check_gradient(GradientOp::SumRows { rank: 1 }, &[a()], &[4.0, 2.0]);
    check_gradient(GradientOp::One, &[], &[1.0]);
}

#[test]
fn activations() {
    check(Op::Relu, &[candidates(&[2], [-1.0, 2.0, 0.0, -0.5])], &[0.0, 2.0, 0.0, 0.0]);
    check(Op::Sigmoid, &[candidates(&[], [0.0, LN_3, -LN_3, 200.0, -200.0])], &[0.5, 0.75, 0.25, 1.0, 0.0]);
    check(Op::Softmax, &[candidates(&[2], [0.0, LN_3, 500.0, 500.0])], &[0.25, 0.75, 0.5, 0.5]);
    let g = || candidates(&[2], [1.0, -2.0, 3.0, 4.0]);
    // y > 0 ? g : 0.
    check_gradient(GradientOp::Relu, &[g(), candidates(&[2], [0.5, 0.0, 0.0, 2.0])], &[1.0, 0.0, 0.0, 4.0]);
    // g·y·(1 − y) with y = 1/2, 1/4, 3/4, 1.
    check_gradient(
        GradientOp::Sigmoid,
        &[g(), candidates(&[2], [0.5, 0.25, 0.75, 1.0])],
        &[0.25, -0.375, 0.5625, 0.0],
    );
    // y·(g − Σ g·y): Σ = 0.25 − 1.5 = −1.25 in row 0 and 1.5 + 2 = 3.5 in row 1.
    check_gradient(
        GradientOp::Softmax,
        &[g(), candidates(&[2], [0.25, 0.75, 0.5, 0.5])],
        &[0.5625, -0.5625, -0.25, 0.25],
    );
}

#[test]
fn not_a_number_stays_visible() {
    let x = [f32::NAN, 1.0];
    let mut graph = Graph::new();
    let input = graph.input("x", Fact::f32(Level::Candidate, &[]));
    let relu = graph.apply(Op::Relu, &[input]).unwrap();
    let sigmoid = graph.apply(Op::Sigmoid, &[input]).unwrap();
    let mut executor = Executor::new(Plan::compile(&graph, &[relu, sigmoid]).unwrap(), 1).unwrap();
    let parameters = Parameters::initialise(&[], 0);
    executor.run(&parameters, 0, 2, &[("x", InputValue::F32(&x))]).unwrap();
    assert!(executor.value(relu)[0].is_nan() && executor.value(sigmoid)[0].is_nan());
}

#[test]
fn mixture() {
    let gate = || candidates(&[2], [0.25, 0.75, 1.0, 0.0]);
    let first = || candidates(&[3], [4.0, 8.0, 0.0, 1.0, 2.0, 3.0]);
    let second = || candidates(&[3], [0.0, 4.0, 4.0, 5.0, 5.0, 5.0]);
    check(Op::Mix, &[gate(), first(), second()], &[1.0, 5.0, 3.0, 1.0, 2.0, 3.0]);
    let g = || candidates(&[3], [1.0, 2.0, -1.0, 0.5, 1.0, 1.0]);
    // ∂/∂gate_i = ⟨g, expert_i⟩: 4 + 16 − 0, 0 + 8 − 4; 0.5 + 2 + 3, 2.5 + 5 + 5.
    check_gradient(GradientOp::MixGate, &[g(), first(), second()], &[20.0, 4.0, 5.5, 12.5]);
    // A constant gate is that of every row.
    let shared = || constant(&[2], [0.25, -2.0]);
    check(Op::Mix, &[shared(), first(), second()], &[1.0, -6.0, -8.0, -9.75, -9.5, -9.25]);
    check_gradient(
        GradientOp::MixExpert { expert: 1 },
        &[g(), shared()],
        &[-2.0, -4.0, 2.0, -1.0, -2.0, -2.0],
    );
    // ∂/∂expert_i = gate_i · g.
    check_gradient(GradientOp::MixExpert { expert: 1 }, &[g(), gate()], &[0.75, 1.5, -0.75, 0.0, 0.0, 0.0]);
}

#[test]
fn inner_products() {
    let a = candidates(&[3], [1.0, 2.0, -1.0, 0.5, 1.0, 1.0]);
    check(Op::Dot, &[a, candidates(&[3], [4.0, 0.5, 3.0, 2.0, 0.0, -3.0])], &[2.0, -2.0]);
}

#[test]
fn means_of_rows() {
    let x = || candidates(&[2], [1.0, 2.0, 3.0, 6.0, -1.0, 4.0]);
    check(Op::MeanRows, &[x()], &[1.0, 4.0]);
    // (2·1 + 0 + 6·(−1)) / 8 and (2·2 + 0 + 6·4) / 8.
    let weights = || candidates(&[], [2.0, 0.0, 6.0]);
    check(Op::MeanRows, &[x(), weights()], &[-0.5, 3.5]);
    check(Op::MeanRows, &[x(), candidates(&[], [0.0; 3])], &[0.0, 0.0]);
    let nan = candidates(&[], [f32::NAN, 1.0, 2.0]);
    check(Op::MeanRows, &[nan, candidates(&[], [0.0, 1.0, 1.0])], &[1.5]);
    // g / rows, and g·w/total.
    let g = || constant(&[2], [3.0, -6.0]);
    check_gradient(GradientOp::MeanRows, &[g(), x()], &[1.0, -2.0, 1.0, -2.0, 1.0, -2.0]);
    let operands = [g(), x(), weights(), constant(&[], [8.0])];
    check_gradient(GradientOp::MeanRows, &operands, &[0.75, -1.5, 0.0, 0.0, 2.25, -4.5]);
    let operands = [g(), x(), candidates(&[], [0.0; 3]), constant(&[], [0.0])];
    check_gradient(GradientOp::MeanRows, &operands, &[0.0; 6]);
}

#[test]
fn requests_and_candidates() {
    let request_of = || codes(&[], [0, 0, 2]);
    let x = requests(&[2], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    check(Op::Expand, &[x, request_of()], &[1.0, 2.0, 1.0, 2.0, 5.0, 6.0]);

    // Request 1 has no candidate. The number of requests is given by another input.
    let mut graph = Graph::new();
    let g = graph.input("g", Fact::f32(Level::Candidate, &[2]));
    let request_of = graph.input("request_of", Fact::i32(Level::Candidate, &[]));
    let sum = graph.apply(Op::Gradient(GradientOp::SumByRequest), &[g, request_of]).unwrap();
    let mut executor = Executor::new(Plan::compile(&graph, &[sum]).unwrap(), 1).unwrap();
    let inputs = [
        ("g", InputValue::F32(&[1.0, 2.0, 10.0, 20.0, 5.0, 6.0])),
        ("request_of", InputValue::I32(&[0, 0, 2])),
    ];
    executor.run(&Parameters::initialise(&[], 0), 3, 3, &inputs).unwrap();
    assert_eq!(executor.value(sum), [11.0, 22.0, 0.0, 0.0, 5.0, 6.0]);
}

#[test]
fn losses() {
    let rows = |values: [f32; 3]| candidates(&[], values);
    let (labels, weights) = (|| rows([1.0, 1.0, 0.0]), || rows([1.0, 2.0, 1.0]));
    let logits = || rows([0.0, LN_3, LN_3]);
    // −ln σ(0) = ln 2, −ln σ(ln 3) = ln 4/3, −ln(1 − σ(ln 3)) = ln 4.
    let expected = (LN_2 + 2.0 * (4.0_f32 / 3.0).ln() + 4.0_f32.ln()) / 4.0;
    check(Op::BceWithLogits, &[logits(), labels(), weights()], &[expected]);
    check(Op::Bce, &[rows([0.5, 0.75, 0.75]), labels(), weights()], &[expected]);
    check(Op::BceWithLogits, &[logits(), labels(), rows([0.0; 3])], &[0.0]);
    check(Op::Bce, &[rows([0.5; 3]), labels(), rows([0.0; 3])], &[0.0]);
    // (1·(0 − 1)² + 2·(2 − 1)² + 1·(−1 − 0)²) / 4.
    let values = || rows([0.0, 2.0, -1.0]);
    check(Op::SquaredError, &[values(), labels(), weights()], &[1.0]);
    check(Op::SquaredError, &[values(), labels(), rows([0.0; 3])], &[0.0]);
    check(Op::SquaredError, &[rows([f32::NAN, 3.0, 0.0]), labels(), rows([0.0, 1.0, 1.0])], &[2.0]);
    // Far from 0 the loss grows like −z·y, and a probability of 0 counts as 1e-7.
    check(Op::BceWithLogits, &[rows([-500.0, 500.0, -500.0]), labels(), rows([1.0; 3])], &[500.0 / 3.0]);
    check(Op::Bce, &[rows([0.0, 1.0, 0.0]), labels(), rows([1.0; 3])], &[-(1e-7_f32.ln()) / 3.0]);
    // A row without weight may hold anything.
    check(Op::BceWithLogits, &[rows([f32::NAN, 0.0, 0.0]), labels(), rows([0.0, 1.0, 1.0])], &[LN_2]);
}

#[test]
fn gradients_of_losses() {
    let rows = |values: [f32; 3]| candidates(&[], values);
    let (labels, weights) = (|| rows([1.0, 1.0, 0.0]), || rows([1.0, 2.0, 1.0]));
    let (g, total) = (|| constant(&[], [8.0]), || constant(&[], [4.0]));
    // g·w·(σ(z) − y)/total with σ = 1/2, 3/4, 3/4.
    let operands = [g(), rows([0.0, LN_3, LN_3]), labels(), weights(), total()];
    check_gradient(GradientOp::BceWithLogits, &operands, &[-1.0, -1.0, 1.5]);
    // g·w·(p − y)/(p·(1 − p))/total with p = 1/2, 3/4, 3/4: the slopes are −2, −4/3 and 4.
    let operands = [g(), rows([0.5, 0.75, 0.75]), labels(), weights(), total()];
    check_gradient(GradientOp::Bce, &operands, &[-4.0, -16.0 / 3.0, 8.0]);
    // g·w·2(v − y)/total.
    let operands = [g(), rows([0.0, 2.0, -1.0]), labels(), weights(), total()];
    check_gradient(GradientOp::SquaredError, &operands, &[-4.0, 8.0, -4.0]);
    // Clamped probabilities do not move the loss.
    let operands = [g(), rows([0.0, 0.75, 1.0]), labels(), weights(), total()];
    check_gradient(GradientOp::Bce, &operands, &[0.0, -16.0 / 3.0, 0.0]);
    for op in [GradientOp::BceWithLogits, GradientOp::Bce, GradientOp::SquaredError] {
        let operands = [g(), rows([0.5; 3]), labels(), rows([0.0; 3]), constant(&[], [0.0])];
        check_gradient(op, &operands, &[0.0; 3]);
    }
}
