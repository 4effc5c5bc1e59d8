//! Every gradient against central differences, on random shapes.

use gatefold_graph::{Gradient, Graph, GraphError, Level, NodeId, Op, ParamId, differentiate};

use crate::model::Model;

/// Step of a central difference. Its own error is of the order of the step squared.
const STEP: f32 = 4e-3;
/// Losses are near 1, so rounding moves a difference by about 6e-8 / STEP.
const TOLERANCE: f32 = 2e-4;
const ROUNDS: u64 = 8;

/// Builds models with a loss and compares its derivative by every number of every parameter.
#[track_caller]
pub(crate) fn check(build: impl Fn(&mut Model) -> NodeId) {
    for seed in 0..ROUNDS {
        let mut model = Model::new(seed, 4, 9);
        let loss = build(&mut model);
        let gradients = differentiate(&mut model.graph, loss).unwrap();
        let mut executor = model.executor(&[&[loss], gradients.targets().as_slice()].concat(), 1);
        let mut parameters = model.parameters();
        model.run(&mut executor, &parameters);
        let found: Vec<Vec<f32>> = (0..model.values.len())
            .map(|parameter| model.gradient(&gradients, parameter, &executor))
            .collect();

        let mut executor = model.executor(&[loss], 1);
        for (parameter, found) in found.iter().enumerate() {
            let declared = &model.graph.parameters()[parameter];
            let padding = if declared.table { declared.dims[1] } else { 0 };
            for place in padding..found.len() {
                let mut loss_at = |offset: f32| {
                    let values = parameters.get_mut(ParamId(parameter));
                    let before = values[place];
                    values[place] += offset;
                    model.run(&mut executor, &parameters);
                    parameters.get_mut(ParamId(parameter))[place] = before;
                    executor.value(loss)[0]
                };
                let expected = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);
                let difference = (found[place] - expected).abs();
                assert!(
                    difference <= TOLERANCE * expected.abs().max(1.0),
                    "seed {seed}, parameter {parameter}, number {place}: {} for {expected}",
                    found[place]
                );
            }
        }
    }
}

/// For an op on one row-level operand.
#[track_caller]
pub(crate) fn check_on_rows(op: Op, level: Level) {
    check(|model| {
        let width = model.width();
        let x = model.rows(level, width);
        let y = model.apply(op.clone(), &[x]);
        model.loss_of_rows(y)
    });
}

#[test]
fn lookups() {
    check(|model| {
        let width = model.width();
        let (table, codes, lists) =
            (model.table(width), model.codes(Level::Candidate, &[]), model.codes(Level::Candidate, &[3]));
        let one = model.apply(Op::Lookup, &[table, codes]);
        let mean = model.apply(Op::LookupMean, &[table, lists]);
        let both = model.apply(Op::Concat, &[one, mean]);
        model.loss_of_rows(both)
    });
}

#[test]
fn columns() {
    check(|model| {
        let (first, second) = (model.width(), model.width());
        let a = model.rows(Level::Candidate, first);
        let b = model.rows(Level::Candidate, 1);
        let b = model.apply(Op::Squeeze, &[b]);
        let c = model.rows(Level::Candidate, second);
        let all = model.apply(Op::Concat, &[a, b, c, a]);
        let part = model.apply(Op::SliceColumns { start: first, end: first + 1 + second }, &[all]);
        model.loss_of_rows(part)
    });
}

#[test]
fn rows_of_a_matrix() {
    check(|model| {
        let w = model.parameter(&[5, 3]);
        let part = model.apply(Op::SliceRows { ranges: vec![(3, 5), (0, 1), (3, 4)] }, &[w]);
        let x = model.rows(Level::Candidate, 4);
        let y = model.apply(Op::MatMul, &[x, part]);
        model.loss_of_rows(y)
    });
}

#[test]
fn matrix_product() {
    check(|model| {
        let (inner, columns) = (model.width(), model.width());
        let x = model.rows(Level::Request, inner);
        let w = model.parameter(&[inner, columns]);
        let y = model.apply(Op::MatMul, &[x, w]);
        model.loss_of_rows(y)
    });
}

#[test]
fn sums_and_products_of_elements() {
    for op in [Op::Add, Op::Mul] {
        check(|model| {
            let width = model.width();
            let a = model.rows(Level::Candidate, width);
            let b = model.rows(Level::Candidate, width);
            let (c, d) = (model.parameter(&[width]), model.parameter(&[width]));
            let rows = model.apply(op.clone(), &[a, b]);
            let rows = model.apply(op.clone(), &[c, rows]);
            let rows = model.apply(op.clone(), &[rows, c]);
            let constants = model.apply(op.clone(), &[c, d]);
            let rows = model.apply(Op::Add, &[rows, constants]);
            let number = model.parameter(&[]);
            let rows = model.apply(op.clone(), &[rows, number]);
            let twice = model.apply(op.clone(), &[rows, rows]);
            model.loss_of_rows(twice)
        });
    }
    check_on_rows(Op::Scale(-1.5), Level::Candidate);
}

#[test]
fn activations() {
    for op in [Op::Relu, Op::Sigmoid, Op::Softmax] {
        check_on_rows(op.clone(), Level::Candidate);
        check_on_rows(op, Level::Request);
    }
    check(|model| {
        let (width, logits) = (model.width(), model.parameter(&[4]));
        let shares = model.apply(Op::Softmax, &[logits]);
        let x = model.rows(Level::Candidate, 4);
        let y = model.apply(Op::Mul, &[x, shares]);
        let w = model.parameter(&[4, width]);
        let y = model.apply(Op::MatMul, &[y, w]);
        model.loss_of_rows(y)
    });
}

#[test]
fn mixture() {
    check(|model| {
        let (width, experts) = (model.width(), 3);
        let gate = model.rows(Level::Candidate, experts);
        let gate = model.apply(Op::Softmax, &[gate]);
        let mut inputs = vec![gate];
        inputs.extend((0..experts).map(|_| model.rows(Level::Candidate, width)));
        let y = model.apply(Op::Mix, &inputs);
        model.loss_of_rows(y)
    });
}

#[test]
fn mixture_by_a_constant_gate() {
    check(|model| {
        let (width, gate) = (model.width(), model.parameter(&[2]));
        let inputs = [gate, model.rows(Level::Candidate, width), model.rows(Level::Candidate, width)];
        let y = model.apply(Op::Mix, &inputs);
        model.loss_of_rows(y)
    });
}

#[test]
fn inner_products() {
    check(|model| {
        let width = model.width();
        let (a, b) = (model.rows(Level::Candidate, width), model.rows(Level::Candidate, width));
        let product = model.apply(Op::Dot, &[a, b]);
        let square = model.apply(Op::Dot, &[a, a]);
        let both = model.apply(Op::Concat, &[product, square]);
        model.loss_of_rows(both)
    });
}

#[test]
fn means_of_rows() {
    check(|model| {
        let x = model.rows(Level::Candidate, 2);
        let mean = model.apply(Op::MeanRows, &[x]);
        let centered = model.apply(Op::Mul, &[x, mean]);
        let own = model.loss_of_rows(centered);
        // How much likelier a later outcome is than an earlier one, on average.
        let [a, b] = [(); 2].map(|()| {
            let rows = model.rows(Level::Candidate, 1);
            model.apply(Op::Squeeze, &[rows])
        });
        let negative = model.apply(Op::Scale(-1.0), &[a]);
        let excess = model.apply(Op::Add, &[b, negative]);
        let excess = model.apply(Op::Relu, &[excess]);
        let weights = model.numbers(Level::Candidate, &[]);
        let hinge = model.apply(Op::MeanRows, &[excess, weights]);
        model.apply(Op::Add, &[own, hinge])
    });
}

/// Uncertainty weighting: `Σ exp(−s_t)·L_t + s_t / 2`, and a weight given at run time.
#[test]
fn weights_of_losses() {
    check(|model| {
        let mut total = None;
        for _ in 0..2 {
            let x = model.rows(Level::Candidate, 2);
            let loss = model.loss_of_rows(x);
            let uncertainty = model.parameter(&[]);
            let precision = model.apply(Op::Scale(-1.0), &[uncertainty]);
            let precision = model.apply(Op::Exp, &[precision]);
            let weighted = model.apply(Op::Mul, &[precision, loss]);
            let half = model.apply(Op::Scale(0.5), &[uncertainty]);
            let term = model.apply(Op::Add, &[weighted, half]);
            let given = model.numbers(Level::Constant, &[]);
            let term = model.apply(Op::Mul, &[term, given]);
            total = Some(total.map_or(term, |sum| model.apply(Op::Add, &[sum, term])));
        }
        total.unwrap()
    });
}

#[test]
fn expansion_of_requests() {
    check(|model| {
        let width = model.width();
        let (x, request_of) = (model.rows(Level::Request, width), model.request_of());
        let y = model.apply(Op::Expand, &[x, request_of]);
        let z = model.rows(Level::Candidate, width);
        let y = model.apply(Op::Mul, &[y, z]);
        model.loss_of_rows(y)
    });
}

#[test]
fn losses_of_several_tasks() {
    check(|model| {
        let x = model.rows(Level::Candidate, 3);
        let mut losses = Vec::new();
        let mut probability = None;
        for factor in [1.0, 0.4] {
            let w = model.parameter(&[3, 1]);
            let logit = model.apply(Op::MatMul, &[x, w]);
            let logit = model.apply(Op::Squeeze, &[logit]);
            let own = model.loss(Op::BceWithLogits, logit);
            losses.push(model.apply(Op::Scale(factor), &[own]));
            let own = model.apply(Op::Sigmoid, &[logit]);
            let product = probability.map(|before| model.apply(Op::Mul, &[before, own]));
            probability = Some(product.unwrap_or(own));
        }
        losses.push(model.loss(Op::Bce, probability.unwrap()));
        let w = model.parameter(&[3, 1]);
        let value = model.apply(Op::MatMul, &[x, w]);
        let value = model.apply(Op::Squeeze, &[value]);
        losses.push(model.loss(Op::SquaredError, value));
        let sums = losses.into_iter().reduce(|sum, loss| model.apply(Op::Add, &[sum, loss]));
        sums.unwrap()
    });
}

#[test]
fn what_has_no_derivative_is_refused() {
    #[track_caller]
    fn check(build: impl Fn(&mut Model) -> NodeId, expected: &str) {
        let mut model = Model::new(0, 2, 2);
        let loss = build(&mut model);
        let error: GraphError = differentiate(&mut model.graph, loss).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    check(
        |model| model.rows(Level::Candidate, 2),
        "node 2 (lookup): a loss is one number, found F32 [candidates [2]]",
    );
    check(
        |model| {
            let x = model.rows(Level::Candidate, 6);
            let table = model.table(2);
            let y = model.apply(Op::MatMul, &[x, table]);
            model.loss_of_rows(y)
        },
        "node 3 (parameter): is a table: only lookups may read it",
    );
    check(
        |model| {
            let (dense, codes) = (model.parameter(&[6, 2]), model.codes(Level::Candidate, &[]));
            let y = model.apply(Op::Lookup, &[dense, codes]);
            model.loss_of_rows(y)
        },
        "node 2 (lookup): is trained, but does not read a parameter marked as a table",
    );
    check(
        |model| {
            let [a, b, c] = [(); 3].map(|()| {
                let x = model.rows(Level::Candidate, 1);
                model.apply(Op::Squeeze, &[x])
            });
            model.apply(Op::BceWithLogits, &[a, b, c])
        },
        "node 12 (bce-with-logits): has no derivative by its labels and weights, which depend on a parameter here",
    );
}

#[test]
fn only_what_a_loss_depends_on_has_a_gradient() {
    let mut model = Model::new(0, 3, 3);
    let x = model.rows(Level::Candidate, 2);
    let first = model.loss_of_rows(x);
    let second = model.loss_of_rows(x);
    let reached = |graph: &mut Graph, loss| -> Vec<usize> {
        differentiate(graph, loss).unwrap().iter().map(|(parameter, _)| parameter.0).collect()
    };
    assert_eq!(reached(&mut model.graph, first), [0, 1]);
    assert_eq!(reached(&mut model.graph, second), [0, 2]);
    let gradients = differentiate(&mut model.graph, first).unwrap();
    assert!(matches!(gradients.get(ParamId(0)), Some(Gradient::Table(lookups)) if lookups.len() == 1));
    assert!(matches!(gradients.get(ParamId(1)), Some(Gradient::Dense(_))));
    assert_eq!(gradients.get(ParamId(2)), None);
}

/// Of `Σ (w · c)²` where c is w as it is: `2·w·c²`, half of what it would be through c as well.
#[test]
fn no_gradient_goes_through_what_is_detached() {
    let mut model = Model::new(0, 3, 3);
    let w = model.parameter(&[2]);
    let constant = model.apply(Op::Detach, &[w]);
    let product = model.apply(Op::Mul, &[w, constant]);
    let loss = model.apply(Op::SumSquares, &[product]);
    let gradients = differentiate(&mut model.graph, loss).unwrap();
    let mut executor = model.executor(&gradients.targets(), 1);
    let parameters = model.parameters();
    model.run(&mut executor, &parameters);
    let found = model.gradient(&gradients, 0, &executor);
    for (found, w) in found.iter().zip(parameters.get(ParamId(0))) {
        assert!((found - 2.0 * w.powi(3)).abs() < 1e-6, "{found} at {w}");
    }
    let alone = model.apply(Op::SumSquares, &[constant]);
    assert_eq!(differentiate(&mut model.graph, alone).unwrap().iter().count(), 0);
}
