//! Ops on sequences: by hand, against PyTorch 2.15, and by central differences.

use gatefold_exec::{Executor, InputValue, Parameters, Plan};
use gatefold_graph::{
    Fact, Gradient, GradientOp, Graph, Init, Level, NodeId, Op, Parameter, Pool, differentiate,
};

use crate::{
    case::{candidates, check, check_gradient, codes, constant},
    gradient,
    model::Model,
};

#[test]
fn a_row_for_each_code() {
    let table = constant(&[3, 2], [0.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
    check(
        Op::LookupEach,
        &[table, codes(&[3], [2, 1, 0, 2, 0, 0])],
        &[3.0, 4.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0],
    );
}

#[test]
fn a_row_for_each_position() {
    let x = candidates(&[2], [1.0, 2.0, 3.0, 4.0]);
    check(Op::RepeatRows { length: 2 }, &[x], &[1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
    let g = candidates(&[2, 2], [1.0, 2.0, 10.0, 20.0, 3.0, 4.0, 30.0, 40.0]);
    check_gradient(GradientOp::SumSequence, &[g], &[11.0, 22.0, 33.0, 44.0]);
}

#[test]
fn rows_of_sequences_are_joined_cut_and_multiplied_by_their_last_dimension() {
    let x = || candidates(&[2, 2], [1.0, 2.0, 3.0, 4.0]);
    let parts = [x(), candidates(&[2, 1], [5.0, 6.0])];
    check(Op::Concat, &parts, &[1.0, 2.0, 5.0, 3.0, 4.0, 6.0]);
    check(Op::SliceColumns { start: 1, end: 2 }, &[x()], &[2.0, 4.0]);
    check_gradient(GradientOp::PadColumns { start: 1, columns: 3 }, &[x()], &[0.0, 1.0, 2.0, 0.0, 3.0, 4.0]);
    let w = || constant(&[2, 1], [10.0, 1.0]);
    check(Op::MatMul, &[x(), w()], &[12.0, 34.0]);
    let g = || candidates(&[2, 1], [1.0, -2.0]);
    check_gradient(GradientOp::MatMulInput, &[g(), w()], &[10.0, 1.0, -20.0, -2.0]);
    // Summed over positions too: 1·1 − 2·3 and 2·1 − 2·4.
    check_gradient(GradientOp::MatMulWeight, &[x(), g()], &[-5.0, -6.0]);
    check(Op::Add, &[x(), constant(&[2], [10.0, 20.0])], &[11.0, 22.0, 13.0, 24.0]);
    check_gradient(GradientOp::SumRows { rank: 1 }, &[x()], &[4.0, 6.0]);
    check(Op::Squeeze, &[g()], &[1.0, -2.0]);
    check_gradient(GradientOp::Unsqueeze, &[candidates(&[2], [1.0, 2.0])], &[1.0, 2.0]);
}

/// Three positions of which the last is padding, then nothing but padding.
#[test]
fn pooled_sequences() {
    let x = || candidates(&[3, 2], [1.0, -2.0, 3.0, -2.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0]);
    let of = || codes(&[3], [5, 2, 0, 0, 0, 0]);
    check(Op::PoolSequence(Pool::Sum), &[x(), of()], &[4.0, -4.0, 0.0, 0.0]);
    check(Op::PoolSequence(Pool::Mean), &[x(), of()], &[2.0, -2.0, 0.0, 0.0]);
    check(Op::PoolSequence(Pool::Max), &[x(), of()], &[3.0, -2.0, 0.0, 0.0]);
    let check = |pool: Pool, first: [f32; 4]| {
        let g = candidates(&[2], [8.0, -6.0, 1.0, 1.0]);
        let expected = [first.as_slice(), &[0.0; 8]].concat();
        check_gradient(GradientOp::PoolSequence(pool), &[g, x(), of()], &expected);
    };
    check(Pool::Sum, [8.0, -6.0, 8.0, -6.0]);
    check(Pool::Mean, [4.0, -3.0, 4.0, -3.0]);
    // The largest of the second column stands twice: the first receives the gradient.
    check(Pool::Max, [0.0, -6.0, 8.0, 0.0]);
}

#[test]
fn weighted_sums() {
    let x = || candidates(&[2, 3], [1.0, 2.0, 3.0, 10.0, 20.0, 30.0]);
    let weights = || candidates(&[2], [2.0, -0.5]);
    check(Op::WeightedSum, &[weights(), x()], &[-3.0, -6.0, -9.0]);
    let g = || candidates(&[3], [1.0, 0.0, -1.0]);
    // ∂/∂w_i = ⟨g, x_i⟩ and ∂/∂x_i = w_i · g.
    check_gradient(GradientOp::WeightedSumWeights, &[g(), x()], &[-2.0, -20.0]);
    check_gradient(GradientOp::WeightedSumRows, &[g(), weights()], &[2.0, 0.0, -2.0, -0.5, 0.0, 0.5]);
}

/// Sequences of 3, 1 and 0 steps.
///
/// ```python
/// gru = torch.nn.GRU(2, 2, batch_first=True).double()  # with the weights below, transposed
/// x = torch.tensor([[[1., -1.], [0.5, 2.], [-1., 0.5]], [[2., 1.], [0, 0], [0, 0]]])
/// packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor([3, 1]), batch_first=True)
/// (gru(packed)[1][0] * torch.tensor([[1., -2.], [0.5, 3.]])).sum().backward()
/// ```
#[test]
fn a_gru_is_that_of_pytorch() {
    let mut graph = Graph::new();
    let mut declare = |name: &str, dims: &[usize], table: bool| {
        graph.parameter(Parameter { name: name.into(), dims: dims.to_vec(), init: Init::Zeros, table })
    };
    let table = declare("x", &[5, 2], true);
    let weights: Vec<NodeId> = [("w", vec![2, 6]), ("u", vec![2, 6]), ("b", vec![6]), ("c", vec![6])]
        .iter()
        .map(|(name, dims)| declare(name, dims, false))
        .collect();
    let codes = graph.input("codes", Fact::i32(Level::Candidate, &[3]));
    let g = graph.input("g", Fact::f32(Level::Candidate, &[2]));
    let x = graph.apply(Op::LookupEach, &[table, codes]).unwrap();
    let state = graph.apply(Op::Gru, &[&[x, codes], weights.as_slice()].concat()).unwrap();
    let products = graph.apply(Op::Dot, &[state, g]).unwrap();
    let mean = graph.apply(Op::MeanRows, &[products]).unwrap();
    let loss = graph.apply(Op::Scale(3.0), &[mean]).unwrap();
    let gradients = differentiate(&mut graph, loss).unwrap();
    let targets = [vec![state], gradients.targets()].concat();
    let mut executor = Executor::new(Plan::compile(&graph, &targets).unwrap(), 2).unwrap();
    let values = vec![
        vec![0.0, 0.0, 1.0, -1.0, 0.5, 2.0, -1.0, 0.5, 2.0, 1.0],
        vec![0.5, -0.2, 0.1, 0.3, -0.4, 0.6, 0.2, 0.7, -0.5, 0.1, 0.3, -0.6],
        vec![-0.3, 0.4, 0.2, -0.1, 0.5, 0.2, 0.6, -0.5, 0.3, 0.2, -0.2, 0.4],
        vec![0.1, -0.1, 0.2, 0.0, 0.05, -0.3],
        vec![-0.2, 0.3, 0.0, 0.1, 0.4, -0.1],
    ];
    let parameters = Parameters::from_values(graph.parameters(), values).unwrap();
    let inputs = [
        ("codes", InputValue::I32(&[1, 2, 3, 4, 0, 0, 0, 0, 0])),
        ("g", InputValue::F32(&[1.0, -2.0, 0.5, 3.0, 7.0, 7.0])),
    ];
    executor.run(&parameters, 0, 3, &inputs).unwrap();
    let close = |found: &[f32], expected: &[f32]| {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
        }
    };
    close(executor.value(state), &[0.508_544_7, -0.525_211_2, -0.078_108_1, 0.072_351_7, 0.0, 0.0]);
    let expected: [&[f32]; 5] = [
        &[
            -0.084_138_7,
            0.132_310_9,
            -0.247_671_2,
            0.150_531,
            -0.398_760_6,
            0.288_205_7,
            0.395_66,
            -0.485_520_5,
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
        ],
        &[
            0.011_740_3,
            -0.042_423_2,
            0.101_879,
            0.056_980_4,
            0.386_112_3,
            1.824_857_2,
            0.059_455_4,
            -0.021_813_1,
            -0.191_833_9,
            -1.041_098_6,
            0.785_967_8,
            0.661_476_3,
        ],
        &[
            0.011_409,
            0.001_680_8,
            -0.018_052_6,
            -0.083_941_9,
            0.014_472_8,
            -0.061_068_3,
            -0.000_922_9,
            -0.000_594_5,
            -0.012_035_5,
            -0.040_517_6,
            0.032_338_4,
            -0.001_278_2,
        ],
        &[0.077_547_7, -0.011_518_1, -0.118_659_6, -0.655_306_2, 0.832_491_4, 0.275_777_3],
        &[0.077_547_7, -0.011_518_1, -0.118_659_6, -0.655_306_2, 0.475_475_4, 0.173_630_1],
    ];
    for ((_, gradient), expected) in gradients.iter().zip(expected) {
        match gradient {
            Gradient::Dense(node) => close(executor.value(*node), expected),
            Gradient::Table(lookups) => close(executor.value(lookups[0].rows), expected),
        }
    }
}

#[test]
fn sequences_by_central_differences() {
    for pool in [Pool::Sum, Pool::Mean, Pool::Max] {
        gradient::check(|model| {
            let (table, lists) = (model.table(2), model.codes(Level::Candidate, &[3]));
            // Further apart than a step, or the largest would change within one.
            let numbers = model.values[0].iter_mut().enumerate().skip(2);
            numbers.for_each(|(place, value)| *value = (5 * place % 12) as f32 * 0.15 - 0.8);
            let each = model.apply(Op::LookupEach, &[table, lists]);
            let pooled = model.apply(Op::PoolSequence(pool), &[each, lists]);
            model.loss_of_rows(pooled)
        });
    }
    gradient::check(|model| {
        let width = model.width();
        let state = gru(model, Level::Request, width);
        model.loss_of_rows(state)
    });
}

/// A GRU over sequences of four trained rows.
fn gru(model: &mut Model, level: Level, width: usize) -> NodeId {
    let (table, lists) = (model.table(3), model.codes(level, &[4]));
    let x = model.apply(Op::LookupEach, &[table, lists]);
    let weights = [vec![3, 3 * width], vec![width, 3 * width], vec![3 * width], vec![3 * width]]
        .map(|dims| model.parameter(&dims));
    model.apply(Op::Gru, &[&[x, lists], weights.as_slice()].concat())
}

/// Target attention, with keys at request level and queries at candidate level.
fn attention(model: &mut Model) -> NodeId {
    let request_of = model.request_of();
    let (table, lists) = (model.table(2), model.codes(Level::Request, &[3]));
    let keys = model.apply(Op::LookupEach, &[table, lists]);
    let keys = model.apply(Op::Expand, &[keys, request_of]);
    let query = model.rows(Level::Candidate, 2);
    let queries = model.apply(Op::RepeatRows { length: 3 }, &[query]);
    let products = model.apply(Op::Mul, &[queries, keys]);
    let x = model.apply(Op::Concat, &[queries, keys, products]);
    let x = model.apply(Op::SliceColumns { start: 1, end: 6 }, &[x]);
    let (first, bias, gamma) = (model.parameter(&[5, 4]), model.parameter(&[4]), model.parameter(&[4]));
    let hidden = model.apply(Op::MatMul, &[x, first]);
    let hidden = model.apply(Op::Add, &[hidden, bias]);
    let hidden = model.apply(Op::LayerNorm { epsilon: 0.2 }, &[hidden, gamma, bias]);
    let second = model.parameter(&[4, 1]);
    let weights = model.apply(Op::MatMul, &[hidden, second]);
    let weights = model.apply(Op::Squeeze, &[weights]);
    model.apply(Op::WeightedSum, &[weights, keys])
}

#[test]
fn target_attention_by_central_differences() {
    gradient::check(|model| {
        let attended = attention(model);
        model.loss_of_rows(attended)
    });
}

/// More rows than a chunk holds.
#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let mut model = Model::new(7, 90, 600);
    let (attended, state) = (attention(&mut model), gru(&mut model, Level::Candidate, 5));
    let x = model.apply(Op::Concat, &[attended, state]);
    let loss = model.loss_of_rows(x);
    let gradients = differentiate(&mut model.graph, loss).unwrap();
    let results = |threads: usize| {
        let mut executor = model.executor(&[&[loss], gradients.targets().as_slice()].concat(), threads);
        model.run(&mut executor, &model.parameters());
        let parameters = 0..model.values.len();
        parameters.map(|parameter| model.gradient(&gradients, parameter, &executor)).collect::<Vec<_>>()
    };
    let expected = results(1);
    assert!(expected.iter().all(|gradient| gradient.iter().any(|value| *value != 0.0)));
    for threads in [2, 5] {
        assert_eq!(results(threads), expected);
    }
}
