//! An evaluator of forward graphs that is slow and obvious: every value is a list of `f64`, every
//! op a loop over rows. Passes are proved with it, and models, before and after.

use std::collections::BTreeMap;

use gatefold_graph::{Activation, ElementType, Fact, Graph, Level, Op, Parameter, Pool};

/// Values by name: of inputs (codes as numbers) and of parameters, row-major.
pub(crate) type Values = BTreeMap<String, Vec<f64>>;

/// Numbers that look random: input and parameter `name` gets the same ones everywhere.
pub(crate) fn pseudo_random(name: &str, len: usize) -> Vec<f64> {
    let seed = name.bytes().fold(17_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    (0..len as u64)
        .map(|index| {
            let mut x = seed.wrapping_add(index).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            x ^= x >> 31;
            x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x ^= x >> 29;
            (x >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
        })
        .collect()
}

/// A parameter's value: pseudo-random, row 0 of tables zero, variances positive, knots in order.
pub(crate) fn parameter_value(parameter: &Parameter) -> Vec<f64> {
    let mut value = pseudo_random(&parameter.name, parameter.dims.iter().product());
    if parameter.name.ends_with("variance") {
        value.iter_mut().for_each(|x| *x += 0.75);
    }
    if parameter.name.ends_with("knots") {
        value.sort_by(f64::total_cmp);
    }
    if parameter.table {
        value[..parameter.dims[1]].fill(0.0);
    }
    value
}

/// The outputs of a forward graph. Parameters have [`parameter_value`].
pub(crate) fn evaluate(graph: &Graph, inputs: &Values, requests: usize, candidates: usize) -> Values {
    let mut values: Vec<Vec<f64>> = Vec::new();
    for (index, node) in graph.nodes().iter().enumerate() {
        let of = |place: usize| values[node.inputs[place].0].as_slice();
        let fact = |place: usize| graph.fact(node.inputs[place]);
        let count = |fact: &Fact| match fact.level {
            Level::Constant => 1,
            Level::Request => requests,
            Level::Candidate => candidates,
        };
        let rows = count(&node.fact);
        let width = node.fact.row_len();
        let each = |function: &dyn Fn(f64) -> f64| of(0).iter().map(|x| function(*x)).collect();
        let value: Vec<f64> = match &node.op {
            Op::Input { name } => inputs.get(name).unwrap_or_else(|| panic!("no input {name}")).clone(),
            Op::Parameter(id) => {
                let parameter = &graph.parameters()[id.0];
                parameter_value(parameter)
            }
            Op::Lookup => of(1).iter().flat_map(|code| row(of(0), width, *code as usize)).copied().collect(),
            Op::LookupMean => {
                let len = fact(1).row_len();
                let mean = |codes: &[f64]| {
                    let present = codes.iter().filter(|code| **code > 0.0).count().max(1);
                    let column = |column: usize| {
                        codes.iter().map(|code| row(of(0), width, *code as usize)[column]).sum::<f64>()
                    };
                    (0..width).map(|c| column(c) / present as f64).collect::<Vec<_>>()
                };
                of(1).chunks(len).flat_map(mean).collect()
            }
            Op::LookupEach => {
                let columns = node.fact.columns();
                of(1).iter().flat_map(|code| row(of(0), columns, *code as usize)).copied().collect()
            }
            Op::RepeatRows { length } => {
                of(0).chunks(fact(0).row_len()).flat_map(|row| vec![row; *length].concat()).collect()
            }
            Op::PoolSequence(pool) => {
                let sequences = of(0).chunks(fact(0).row_len()).zip(of(1).chunks(fact(1).row_len()));
                let one = |(x, codes): (&[f64], &[f64])| {
                    let present: Vec<usize> = (0..codes.len()).filter(|at| codes[*at] != 0.0).collect();
                    let of_column = |column: usize| {
                        let numbers = present.iter().map(|at| x[at * width + column]);
                        match pool {
                            _ if present.is_empty() => 0.0,
                            Pool::Sum => numbers.sum(),
                            Pool::Mean => numbers.sum::<f64>() / present.len() as f64,
                            Pool::Max => numbers.fold(f64::NEG_INFINITY, f64::max),
                        }
                    };
                    (0..width).map(of_column).collect::<Vec<f64>>()
                };
                sequences.flat_map(one).collect()
            }
            Op::WeightedSum => {
                let sequences = of(0).chunks(fact(0).row_len()).zip(of(1).chunks(fact(1).row_len()));
                let one = |(weights, x): (&[f64], &[f64])| {
                    let of_column = |column: usize| {
                        weights.iter().enumerate().map(|(at, weight)| weight * x[at * width + column]).sum()
                    };
                    (0..width).map(of_column).collect::<Vec<f64>>()
                };
                sequences.flat_map(one).collect()
            }
            Op::Gru => {
                let sequences = of(0).chunks(fact(0).row_len()).zip(of(1).chunks(fact(1).row_len()));
                let weights = [2, 3, 4, 5].map(of);
                sequences.flat_map(|(x, codes)| gru(x, codes, weights, width)).collect()
            }
            Op::Concat => (0..rows * width / node.fact.columns())
                .flat_map(|r| {
                    let parts = (0..node.inputs.len()).map(move |place| (place, r));
                    parts.flat_map(|(place, r)| row(of(place), fact(place).columns(), r).to_vec())
                })
                .collect(),
            Op::SliceColumns { start, end } => {
                of(0).chunks(fact(0).columns()).flat_map(|row| &row[*start..*end]).copied().collect()
            }
            Op::SliceRows { ranges } => {
                let columns = node.fact.dims[1];
                ranges
                    .iter()
                    .flat_map(|(start, end)| &of(0)[start * columns..end * columns])
                    .copied()
                    .collect()
            }
            Op::MatMul => {
                of(0).chunks(fact(0).columns()).flat_map(|x| product(x, of(1), fact(1).columns())).collect()
            }
            Op::Add | Op::Mul => (0..rows * width)
                .map(|i| {
                    // A constant is as long as the last dimensions it has.
                    let get = |place: usize| of(place)[i % of(place).len()];
                    if node.op == Op::Add { get(0) + get(1) } else { get(0) * get(1) }
                })
                .collect(),
            Op::Relu => each(&|x| x.max(0.0)),
            Op::Sigmoid => each(&|x| 1.0 / (1.0 + (-x).exp())),
            Op::Exp => each(&f64::exp),
            Op::Activation(activation) => each(&|x| match activation {
                Activation::LeakyRelu(slope) => x.max(f64::from(*slope) * x),
                Activation::Elu => {
                    if x > 0.0 {
                        x
                    } else {
                        x.exp() - 1.0
                    }
                }
                Activation::Gelu => x / 2.0 * (1.0 + erf(x / 2.0_f64.sqrt())),
                Activation::Silu => x / (1.0 + (-x).exp()),
                Activation::Tanh => (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
            }),
            Op::Dot => of(0)
                .chunks(fact(0).row_len())
                .zip(of(1).chunks(fact(0).row_len()))
                .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum())
                .collect(),
            Op::MeanRows => {
                let ones = vec![1.0; of(0).len() / width];
                let weights = if node.inputs.len() > 1 { of(1) } else { &ones };
                let sum = |column: usize| -> f64 {
                    weights.iter().enumerate().map(|(r, weight)| weight * row(of(0), width, r)[column]).sum()
                };
                let total = weights.iter().sum::<f64>();
                (0..width).map(|column| if total == 0.0 { 0.0 } else { sum(column) / total }).collect()
            }
            Op::SumSquares => vec![of(0).iter().map(|x| x * x).sum()],
            Op::TraceNorm => panic!("is a penalty of training, proved against PyTorch"),
            Op::LayerNorm { epsilon } => {
                let columns = fact(1).row_len();
                let normal = |x: &[f64]| {
                    let mean = x.iter().sum::<f64>() / columns as f64;
                    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / columns as f64;
                    let root = (variance + f64::from(*epsilon)).sqrt();
                    (0..columns).map(|c| of(1)[c] * (x[c] - mean) / root + of(2)[c]).collect::<Vec<_>>()
                };
                of(0).chunks(columns).flat_map(normal).collect()
            }
            Op::BatchNorm { epsilon } => (0..rows * width)
                .map(|i| {
                    let get = |place: usize| of(place)[i % width];
                    get(3) * (of(0)[i] - get(1)) / (get(2) + f64::from(*epsilon)).sqrt() + get(4)
                })
                .collect(),
            // Any function of seed, salt, row and column will do here.
            Op::Dropout { rate, salt } => (0..rows * width)
                .map(|i| {
                    let draw = pseudo_random(&format!("{} {salt} {}", of(1)[0], i / width), width)[i % width];
                    if draw + 0.5 < f64::from(*rate) { 0.0 } else { of(0)[i] / (1.0 - f64::from(*rate)) }
                })
                .collect(),
            Op::Calibrate => each(&|x| {
                let (knots, values) = (of(1), of(2));
                let piece = |i: usize| {
                    let share = (x - knots[i]) / (knots[i + 1] - knots[i]);
                    values[i] + share * (values[i + 1] - values[i])
                };
                match (0..knots.len() - 1).rev().find(|i| knots[*i] <= x) {
                    None => values[0],
                    Some(i) if x < knots[i + 1] => piece(i),
                    Some(_) => values[knots.len() - 1],
                }
            }),
            Op::Detach => of(0).to_vec(),
            Op::Scale(factor) => each(&|x| x * f64::from(*factor)),
            Op::Softmax => of(0)
                .chunks(width)
                .flat_map(|row| {
                    let sum: f64 = row.iter().map(|x| x.exp()).sum();
                    row.iter().map(move |x| x.exp() / sum)
                })
                .collect(),
            Op::Squeeze => of(0).to_vec(),
            Op::Mix => (0..rows * width)
                .map(|i| {
                    let gate = if fact(0).level == Level::Constant {
                        of(0)
                    } else {
                        row(of(0), fact(0).row_len(), i / width)
                    };
                    gate.iter().enumerate().map(|(expert, gate)| gate * of(1 + expert)[i]).sum()
                })
                .collect(),
            Op::Expand => {
                of(1).iter().flat_map(|request| row(of(0), width, *request as usize)).copied().collect()
            }
            Op::BceWithLogits | Op::Bce | Op::SquaredError => {
                let mut sum = 0.0;
                for ((x, label), weight) in of(0).iter().zip(of(1)).zip(of(2)) {
                    if node.op == Op::SquaredError {
                        sum += weight * (x - label) * (x - label);
                        continue;
                    }
                    let p = if node.op == Op::Bce { *x } else { 1.0 / (1.0 + (-x).exp()) };
                    sum -= weight * (label * p.ln() + (1.0 - label) * (1.0 - p).ln());
                }
                vec![sum / of(2).iter().sum::<f64>()]
            }
            Op::Gradient(op) => panic!("{} is no op of a forward graph", op.name()),
        };
        assert_eq!(value.len(), rows * width, "node {index} ({})", node.op.name());
        values.push(value);
    }
    graph.outputs().iter().map(|(name, id)| (name.clone(), values[id.0].clone())).collect()
}

/// `x · weight`, where the weight has so many columns.
fn product(x: &[f64], weight: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).map(|o| x.iter().enumerate().map(|(i, x)| x * weight[i * columns + o]).sum()).collect()
}

/// The last state of one sequence, by the formulas of PyTorch's `nn.GRU`.
fn gru(x: &[f64], codes: &[f64], weights: [&[f64]; 4], state: usize) -> Vec<f64> {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let steps = codes.iter().filter(|code| **code != 0.0).count();
    let mut h = vec![0.0; state];
    for x in x.chunks(x.len() / codes.len()).take(steps) {
        let [a, c] = [(x, 0), (h.as_slice(), 1)].map(|(x, place)| {
            let sums = product(x, weights[place], 3 * state);
            sums.iter().zip(weights[place + 2]).map(|(sum, bias)| sum + bias).collect::<Vec<f64>>()
        });
        h = (0..state)
            .map(|k| {
                let r = sigmoid(a[k] + c[k]);
                let z = sigmoid(a[state + k] + c[state + k]);
                let n = (a[2 * state + k] + r * c[2 * state + k]).tanh();
                (1.0 - z) * n + z * h[k]
            })
            .collect();
    }
    h
}

/// The error function by its Taylor series, which is exact enough for |x| < 4.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

/// Repeats the rows of request-level inputs, as the plain graph wants them.
pub(crate) fn repeat_rows(value: &[f64], width: usize, request_of: &[f64]) -> Vec<f64> {
    request_of.iter().flat_map(|request| row(value, width, *request as usize)).copied().collect()
}

/// Inputs of a plain graph and of its split form that describe the same rows.
pub(crate) struct Batch {
    pub(crate) requests: usize,
    pub(crate) candidates: usize,
    pub(crate) of_plain: Values,
    pub(crate) of_split: Values,
}

/// A batch of three requests with seven candidates. Codes are below 3; padding stands
/// after all other codes of a sequence, and the second sequence is nothing else. Labels and weights are 0 or 1.
pub(crate) fn batch(plain: &Graph, is_request: &dyn Fn(&str) -> bool) -> Batch {
    let request_of = vec![0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 2.0];
    let (requests, candidates) = (3, request_of.len());
    let mut of_plain = Values::new();
    let mut of_split = Values::from([("request_of".to_owned(), request_of.clone())]);
    for (name, id) in plain.inputs() {
        let fact = plain.fact(id);
        let rows = match fact.level {
            Level::Constant => 1,
            _ if is_request(name) => requests,
            _ => candidates,
        };
        let mut value = pseudo_random(name, rows * fact.row_len());
        if fact.element == ElementType::I32 {
            value.iter_mut().for_each(|x| *x = ((*x + 0.5) * 3.0).floor());
            value.chunks_mut(fact.row_len()).for_each(|codes| codes.sort_by_key(|code| *code == 0.0));
            if !fact.dims.is_empty() {
                value[fact.row_len()..2 * fact.row_len()].fill(0.0);
            }
        }
        if name.starts_with("label") || name.starts_with("weight") {
            value.iter_mut().for_each(|x| *x = f64::from(*x > 0.0));
            value[0] = 1.0;
        }
        let repeats = fact.level != Level::Constant && is_request(name);
        let repeated = if repeats { repeat_rows(&value, fact.row_len(), &request_of) } else { value.clone() };
        of_plain.insert(name.to_owned(), repeated);
        of_split.insert(name.to_owned(), value);
    }
    Batch { requests, candidates, of_plain, of_split }
}

/// Asserts that two graphs give the same outputs on the same rows: `plain` has every input at
/// candidate level, `split` those that `is_request` names at request level.
#[track_caller]
pub(crate) fn assert_same_function(plain: &Graph, split: &Graph, is_request: &dyn Fn(&str) -> bool) {
    let Batch { requests, candidates, of_plain, of_split } = batch(plain, is_request);
    let expected = evaluate(plain, &of_plain, requests, candidates);
    let found = evaluate(split, &of_split, requests, candidates);
    assert_close(&expected, &found, 1e-12);
}

/// Asserts that outputs agree within `tolerance`.
#[track_caller]
pub(crate) fn assert_close(expected: &Values, found: &Values, tolerance: f64) {
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    for (name, expected) in expected {
        let found = &found[name];
        assert_eq!(expected.len(), found.len(), "{name}");
        for (place, (a, b)) in expected.iter().zip(found).enumerate() {
            assert!((a - b).abs() < tolerance, "{name}, number {place}: {b} for {a}");
        }
    }
}

fn row(value: &[f64], width: usize, row: usize) -> &[f64] {
    &value[row * width..(row + 1) * width]
}
