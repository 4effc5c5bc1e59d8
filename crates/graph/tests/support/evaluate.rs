//! An evaluator of forward graphs that is slow and obvious: every value is a list of `f64`, every
//! op a loop over rows. Passes are proved with it, and models, before and after.

use std::collections::BTreeMap;

use gatefold_graph::{ElementType, Fact, Graph, Level, Op};

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

/// The outputs of a forward graph. Parameters are pseudo-random, row 0 of tables zero.
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
                let mut value = pseudo_random(&parameter.name, parameter.dims.iter().product());
                if parameter.table {
                    value[..parameter.dims[1]].fill(0.0);
                }
                value
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
            Op::Concat => (0..rows)
                .flat_map(|r| {
                    let parts = (0..node.inputs.len()).map(move |place| (place, r));
                    parts.flat_map(|(place, r)| row(of(place), fact(place).row_len(), r).to_vec())
                })
                .collect(),
            Op::SliceColumns { start, end } => {
                of(0).chunks(fact(0).row_len()).flat_map(|row| &row[*start..*end]).copied().collect()
            }
            Op::SliceRows { ranges } => {
                let columns = node.fact.dims[1];
                ranges
                    .iter()
                    .flat_map(|(start, end)| &of(0)[start * columns..end * columns])
                    .copied()
                    .collect()
            }
            Op::MatMul => of(0)
                .chunks(fact(0).row_len())
                .flat_map(|x| {
                    let weight = of(1);
                    (0..width).map(move |o| {
                        x.iter().enumerate().map(|(i, x)| x * weight[i * width + o]).sum::<f64>()
                    })
                })
                .collect(),
            Op::Add | Op::Mul => (0..rows * width)
                .map(|i| {
                    let get = |place: usize| of(place)[i % of(place).len()];
                    if node.op == Op::Add { get(0) + get(1) } else { get(0) * get(1) }
                })
                .collect(),
            Op::Relu => each(&|x| x.max(0.0)),
            Op::Sigmoid => each(&|x| 1.0 / (1.0 + (-x).exp())),
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
                    let gate = row(of(0), fact(0).row_len(), i / width);
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

/// Repeats the rows of request-level inputs, as the plain graph wants them.
pub(crate) fn repeat_rows(value: &[f64], width: usize, request_of: &[f64]) -> Vec<f64> {
    request_of.iter().flat_map(|request| row(value, width, *request as usize)).copied().collect()
}

/// Asserts that two graphs give the same outputs on the same rows: `plain` has every input at
/// candidate level, `split` those that `is_request` names at request level. Codes are below 3.
#[track_caller]
pub(crate) fn assert_same_function(plain: &Graph, split: &Graph, is_request: &dyn Fn(&str) -> bool) {
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
        }
        if name.starts_with("label") || name.starts_with("weight") {
            value.iter_mut().for_each(|x| *x = f64::from(*x > 0.0));
            value[0] = 1.0;
        }
        let repeated =
            if is_request(name) { repeat_rows(&value, fact.row_len(), &request_of) } else { value.clone() };
        of_plain.insert(name.to_owned(), repeated);
        of_split.insert(name.to_owned(), value);
    }
    let expected = evaluate(plain, &of_plain, requests, candidates);
    let found = evaluate(split, &of_split, requests, candidates);
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    for (name, expected) in &expected {
        let found = &found[name];
        assert_eq!(expected.len(), found.len(), "{name}");
        for (row, (a, b)) in expected.iter().zip(found).enumerate() {
            assert!(
                (a - b).abs() < 1e-12,
                "{name} of row {row}: {a} in the plain graph, {b} in the split one"
            );
        }
    }
}

fn row(value: &[f64], width: usize, row: usize) -> &[f64] {
    &value[row * width..(row + 1) * width]
}
