//! One op on literal operands, against a literal result.

use gatefold_exec::{Executor, InputValue, Parameters, Plan};
use gatefold_graph::{Fact, GradientOp, Graph, Init, Level, Op, Parameter};

/// Values here are below 10 and come from a few operations.
const TOLERANCE: f32 = 2e-6;

/// A value that the op under test reads.
pub(crate) enum Operand {
    Constant(&'static [usize], Vec<f32>),
    Floats(Level, &'static [usize], Vec<f32>),
    Codes(Level, &'static [usize], Vec<i32>),
}

pub(crate) fn constant<const N: usize>(dims: &'static [usize], values: [f32; N]) -> Operand {
    Operand::Constant(dims, values.to_vec())
}

pub(crate) fn requests<const N: usize>(dims: &'static [usize], values: [f32; N]) -> Operand {
    Operand::Floats(Level::Request, dims, values.to_vec())
}

pub(crate) fn candidates<const N: usize>(dims: &'static [usize], values: [f32; N]) -> Operand {
    Operand::Floats(Level::Candidate, dims, values.to_vec())
}

pub(crate) fn codes<const N: usize>(dims: &'static [usize], values: [i32; N]) -> Operand {
    Operand::Codes(Level::Candidate, dims, values.to_vec())
}

/// Runs one op and compares its result; levels without an operand have two rows.
#[track_caller]
pub(crate) fn check(op: Op, operands: &[Operand], expected: &[f32]) {
    let mut graph = Graph::new();
    let (mut nodes, mut values, mut inputs) = (Vec::new(), Vec::new(), Vec::new());
    let mut counts = [2, 2];
    let mut count = |level: Level, dims: &[usize], len: usize| {
        counts[usize::from(level == Level::Candidate)] = len / dims.iter().product::<usize>();
    };
    let names: Vec<String> = (0..operands.len()).map(|index| format!("operand {index}")).collect();
    for (name, operand) in names.iter().zip(operands) {
        nodes.push(match operand {
            Operand::Constant(dims, numbers) => {
                values.push(numbers.clone());
                let (name, dims) = (name.clone(), dims.to_vec());
                graph.parameter(Parameter { name, dims, init: Init::Zeros, table: false })
            }
            Operand::Floats(level, dims, numbers) => {
                count(*level, dims, numbers.len());
                inputs.push((name.as_str(), InputValue::F32(numbers)));
                graph.input(name, Fact::f32(*level, dims))
            }
            Operand::Codes(level, dims, numbers) => {
                count(*level, dims, numbers.len());
                inputs.push((name.as_str(), InputValue::I32(numbers)));
                graph.input(name, Fact::i32(*level, dims))
            }
        });
    }
    let result = graph.apply(op, &nodes).unwrap();
    graph.check().unwrap();
    let parameters = Parameters::from_values(graph.parameters(), values).unwrap();
    let mut executor = Executor::new(Plan::compile(&graph, &[result]).unwrap(), 1).unwrap();
    executor.run(&parameters, counts[0], counts[1], &inputs).unwrap();
    let found = executor.value(result);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= TOLERANCE * expected.abs().max(1.0), "{found} for {expected}");
    }
}

#[track_caller]
pub(crate) fn check_gradient(op: GradientOp, operands: &[Operand], expected: &[f32]) {
    check(Op::Gradient(op), operands, expected);
}
