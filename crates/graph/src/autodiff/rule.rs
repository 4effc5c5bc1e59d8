//! The derivative of each op, with y its result and g the gradient of y.

use super::error;
use crate::{
    fact::Level,
    gradient_op::GradientOp,
    graph::{Graph, GraphError, NodeId},
    op::Op,
};

/// The gradients of the inputs of `node` that are wanted, in the order of the inputs, as new nodes
/// of the graph; `gradient` is that of its result.
pub(super) fn input_gradients(
    graph: &mut Graph,
    node: NodeId,
    gradient: NodeId,
    wanted: &[bool],
) -> Result<Vec<Option<NodeId>>, GraphError> {
    let op = graph.node(node).op.clone();
    let inputs = graph.node(node).inputs.clone();
    let is_wanted = |input: usize| wanted.get(input).copied().unwrap_or(false);
    let mut result = vec![None; inputs.len()];
    match op {
        Op::Input { .. } | Op::Parameter(_) | Op::Lookup | Op::LookupMean | Op::LookupEach | Op::Detach => {
            return Err(error(graph, node, "is a leaf of the derivative: the walker treats it".into()));
        }
        Op::Concat => {
            let mut start = 0;
            for (input, value) in inputs.iter().enumerate() {
                let fact = graph.fact(*value);
                let (end, is_number) = (start + fact.columns(), fact.dims.is_empty());
                if is_wanted(input) {
                    let part = graph.apply(Op::SliceColumns { start, end }, &[gradient])?;
                    result[input] = Some(if is_number { graph.apply(Op::Squeeze, &[part])? } else { part });
                }
                start = end;
            }
        }
        Op::SliceColumns { start, .. } => {
            let columns = graph.fact(inputs[0]).columns();
            result[0] = Some(apply(graph, GradientOp::PadColumns { start, columns }, &[gradient])?);
        }
        Op::SliceRows { ranges } => {
            let rows = graph.fact(inputs[0]).dims[0];
            result[0] = Some(apply(graph, GradientOp::ScatterRows { ranges, rows }, &[gradient])?);
        }
        Op::MatMul => {
            if is_wanted(0) {
                result[0] = Some(apply(graph, GradientOp::MatMulInput, &[gradient, inputs[1]])?);
            }
            if is_wanted(1) {
                result[1] = Some(apply(graph, GradientOp::MatMulWeight, &[inputs[0], gradient])?);
            }
        }
        Op::Add => {
            for input in (0..2).filter(|input| is_wanted(*input)) {
                result[input] = Some(over_rows_of(graph, inputs[input], gradient)?);
            }
        }
        Op::Mul => {
            for input in (0..2).filter(|input| is_wanted(*input)) {
                let product = graph.apply(Op::Mul, &[gradient, inputs[1 - input]])?;
                result[input] = Some(over_rows_of(graph, inputs[input], product)?);
            }
        }
        Op::Dot => {
            for input in (0..2).filter(|input| is_wanted(*input)) {
                let share = apply(graph, GradientOp::Unsqueeze, &[gradient])?;
                let rule = GradientOp::MixExpert { expert: 0 };
                result[input] = Some(apply(graph, rule, &[inputs[1 - input], share])?);
            }
        }
        Op::Exp => result[0] = Some(graph.apply(Op::Mul, &[gradient, node])?),
        Op::Activation(activation) => {
            result[0] = Some(apply(graph, GradientOp::Activation(activation), &[gradient, inputs[0]])?);
        }
        Op::Relu => result[0] = Some(apply(graph, GradientOp::Relu, &[gradient, node])?),
        Op::Sigmoid => result[0] = Some(apply(graph, GradientOp::Sigmoid, &[gradient, node])?),
        Op::Softmax => result[0] = Some(apply(graph, GradientOp::Softmax, &[gradient, node])?),
        Op::Squeeze => result[0] = Some(apply(graph, GradientOp::Unsqueeze, &[gradient])?),
        Op::Mix => {
            if is_wanted(0) {
                let operands: Vec<NodeId> = [&[gradient], &inputs[1..]].concat();
                let shares = apply(graph, GradientOp::MixGate, &operands)?;
                result[0] = Some(over_rows_of(graph, inputs[0], shares)?);
            }
            for input in (1..inputs.len()).filter(|input| is_wanted(*input)) {
                let rule = GradientOp::MixExpert { expert: input - 1 };
                result[input] = Some(apply(graph, rule, &[gradient, inputs[0]])?);
            }
        }
        Op::Expand => result[0] = Some(apply(graph, GradientOp::SumByRequest, &[gradient, inputs[1]])?),
        Op::BceWithLogits | Op::Bce | Op::SquaredError => {
            if is_wanted(1) || is_wanted(2) {
                let message = "has no derivative by its labels and weights, which depend on a parameter here";
                return Err(error(graph, node, message.into()));
            }
            let weights = inputs[2];
            let total = match graph.fact(weights).level {
                Level::Constant => weights,
                Level::Request | Level::Candidate => sum_of_weights(graph, weights)?,
            };
            let rule = match op {
                Op::Bce => GradientOp::Bce,
                Op::SquaredError => GradientOp::SquaredError,
                _ => GradientOp::BceWithLogits,
            };
            result[0] = Some(apply(graph, rule, &[gradient, inputs[0], inputs[1], weights, total])?);
        }
        Op::MeanRows => {
            let mut operands = vec![gradient, inputs[0]];
            if let Some(weights) = inputs.get(1) {
                if is_wanted(1) {
                    let message = "has no derivative by its weights, which depend on a parameter here";
                    return Err(error(graph, node, message.into()));
                }
                operands.extend([*weights, sum_of_weights(graph, *weights)?]);
            }
            result[0] = Some(apply(graph, GradientOp::MeanRows, &operands)?);
        }
        Op::RepeatRows { .. } => result[0] = Some(apply(graph, GradientOp::SumSequence, &[gradient])?),
        Op::PoolSequence(pool) => {
            let operands = [gradient, inputs[0], inputs[1]];
            result[0] = Some(apply(graph, GradientOp::PoolSequence(pool), &operands)?);
        }
        Op::WeightedSum => {
            if is_wanted(0) {
                let rule = GradientOp::WeightedSumWeights;
                result[0] = Some(apply(graph, rule, &[gradient, inputs[1]])?);
            }
            if is_wanted(1) {
                result[1] = Some(apply(graph, GradientOp::WeightedSumRows, &[gradient, inputs[0]])?);
            }
        }
        Op::Gru => return gru(graph, &inputs, gradient, &is_wanted),
        Op::SumSquares => {
            let twice = graph.apply(Op::Scale(2.0), &inputs)?;
            result[0] = Some(graph.apply(Op::Mul, &[twice, gradient])?);
        }
        Op::TraceNorm => {
            let root = apply(graph, GradientOp::InverseRoot, &inputs)?;
            let operands = [&[gradient, root], inputs.as_slice()].concat();
            for column in (0..inputs.len()).filter(|input| is_wanted(*input)) {
                result[column] = Some(apply(graph, GradientOp::TraceNorm { column }, &operands)?);
            }
        }
        Op::LayerNorm { epsilon } => {
            let [x, gamma, beta] = inputs[..] else { unreachable!("by its shape rule") };
            if is_wanted(0) {
                let scaled = graph.apply(Op::Mul, &[gradient, gamma])?;
                result[0] = Some(apply(graph, GradientOp::StandardizeInput { epsilon }, &[scaled, x])?);
            }
            if is_wanted(1) {
                let standard = apply(graph, GradientOp::Standardize { epsilon }, &[x])?;
                let product = graph.apply(Op::Mul, &[gradient, standard])?;
                result[1] = Some(over_rows_of(graph, gamma, product)?);
            }
            if is_wanted(2) {
                result[2] = Some(over_rows_of(graph, beta, gradient)?);
            }
        }
        Op::BatchNorm { epsilon } => return batch_norm(graph, &inputs, epsilon, gradient, &is_wanted),
        Op::Dropout { .. } => result[0] = Some(graph.apply(op, &[gradient, inputs[1]])?),
        Op::Calibrate => {
            let message =
                "has no derivative: calibrate a model after it is trained, in a graph that only scores";
            return Err(error(graph, node, message.into()));
        }
        Op::Scale(factor) => result[0] = Some(graph.apply(Op::Scale(factor), &[gradient])?),
        Op::Gradient(_) => {
            return Err(error(graph, node, "belongs to a derivative and has none of its own".into()));
        }
    }
    Ok(result)
}

/// Through what each step adds up, `a = x·W + b` and `c = h·U + d`: the derivatives by `a` and `c`
/// are those of two layers.
fn gru(
    graph: &mut Graph,
    inputs: &[NodeId],
    gradient: NodeId,
    is_wanted: &dyn Fn(usize) -> bool,
) -> Result<Vec<Option<NodeId>>, GraphError> {
    let [x, _, input_weights, ..] = inputs[..] else { unreachable!("by its shape rule") };
    let states = apply(graph, GradientOp::GruStates, inputs)?;
    let gates = apply(graph, GradientOp::GruGates, &[&[gradient, states], inputs].concat())?;
    let width = graph.fact(states).columns();
    let of_input = graph.apply(Op::SliceColumns { start: 0, end: 3 * width }, &[gates])?;
    let mut result = vec![None; inputs.len()];
    if is_wanted(0) {
        result[0] = Some(apply(graph, GradientOp::MatMulInput, &[of_input, input_weights])?);
    }
    if is_wanted(2) {
        result[2] = Some(apply(graph, GradientOp::MatMulWeight, &[x, of_input])?);
    }
    if is_wanted(4) {
        result[4] = Some(over_rows_of(graph, inputs[4], of_input)?);
    }
    if is_wanted(3) || is_wanted(5) {
        let first = graph.apply(Op::SliceColumns { start: 0, end: 2 * width }, &[gates])?;
        let last = graph.apply(Op::SliceColumns { start: 3 * width, end: 4 * width }, &[gates])?;
        let of_state = graph.apply(Op::Concat, &[first, last])?;
        if is_wanted(3) {
            result[3] = Some(apply(graph, GradientOp::MatMulWeight, &[states, of_state])?);
        }
        if is_wanted(5) {
            result[5] = Some(over_rows_of(graph, inputs[5], of_state)?);
        }
    }
    Ok(result)
}

/// With i = (variance + ε)^(−1/2) and x̂ = (x − mean)·i, the result is y = γ·x̂ + β, so that
/// ∂y/∂x = γ·i, ∂y/∂mean = −γ·i, ∂y/∂variance = −γ·x̂·i²/2, ∂y/∂γ = x̂ and ∂y/∂β = 1, all but the
/// first summed over rows.
fn batch_norm(
    graph: &mut Graph,
    inputs: &[NodeId],
    epsilon: f32,
    gradient: NodeId,
    is_wanted: &dyn Fn(usize) -> bool,
) -> Result<Vec<Option<NodeId>>, GraphError> {
    let [x, mean, variance, gamma, beta] = inputs[..] else { unreachable!("by its shape rule") };
    let inverse = apply(graph, GradientOp::InverseDeviation { epsilon }, &[variance])?;
    let slope = graph.apply(Op::Mul, &[gamma, inverse])?;
    let of_x = graph.apply(Op::Mul, &[gradient, slope])?;
    let mut result = vec![None; inputs.len()];
    result[0] = is_wanted(0).then_some(of_x);
    if is_wanted(1) {
        let sum = over_rows_of(graph, mean, of_x)?;
        result[1] = Some(graph.apply(Op::Scale(-1.0), &[sum])?);
    }
    if is_wanted(2) || is_wanted(3) {
        let below = graph.apply(Op::Scale(-1.0), &[mean])?;
        let centered = graph.apply(Op::Add, &[x, below])?;
        let standard = graph.apply(Op::Mul, &[centered, inverse])?;
        let product = graph.apply(Op::Mul, &[gradient, standard])?;
        let of_gamma = over_rows_of(graph, gamma, product)?;
        result[3] = is_wanted(3).then_some(of_gamma);
        if is_wanted(2) {
            let product = graph.apply(Op::Mul, &[of_gamma, slope])?;
            let product = graph.apply(Op::Mul, &[product, inverse])?;
            result[2] = Some(graph.apply(Op::Scale(-0.5), &[product])?);
        }
    }
    if is_wanted(4) {
        result[4] = Some(over_rows_of(graph, beta, gradient)?);
    }
    Ok(result)
}

/// The gradient of an operand of an element-wise op: summed up where the operand was a constant
/// that the op repeated.
fn over_rows_of(graph: &mut Graph, operand: NodeId, gradient: NodeId) -> Result<NodeId, GraphError> {
    let (of_operand, of_gradient) = (graph.fact(operand), graph.fact(gradient));
    if of_operand == of_gradient || of_operand.level != Level::Constant {
        return Ok(gradient);
    }
    let rank = of_operand.dims.len();
    apply(graph, GradientOp::SumRows { rank }, &[gradient])
}

fn sum_of_weights(graph: &mut Graph, weights: NodeId) -> Result<NodeId, GraphError> {
    apply(graph, GradientOp::SumRows { rank: 0 }, &[weights])
}

fn apply(graph: &mut Graph, op: GradientOp, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
    graph.apply(Op::Gradient(op), inputs)
}
