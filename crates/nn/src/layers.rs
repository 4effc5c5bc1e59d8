//! Layers that the models are made of. Each adds nodes to a graph and returns the last.

use gatefold_graph::{Graph, GraphError, Init, NodeId, Op, Parameter};

/// `x·W + b`: `[in]` → `[outputs]`, with parameters `<name>.weight` (Glorot and Bengio, 2010) and
/// `<name>.bias` (zeros).
///
/// # Errors
/// When `x` is no row of numbers.
pub fn linear(graph: &mut Graph, name: &str, x: NodeId, outputs: usize) -> Result<NodeId, GraphError> {
    let inputs = graph.fact(x).row_len();
    let weight = graph.parameter(Parameter {
        name: format!("{name}.weight"),
        dims: vec![inputs, outputs],
        init: Init::GlorotUniform,
        table: false,
    });
    let bias = graph.parameter(Parameter {
        name: format!("{name}.bias"),
        dims: vec![outputs],
        init: Init::Zeros,
        table: false,
    });
    let product = graph.apply(Op::MatMul, &[x, weight])?;
    graph.apply(Op::Add, &[product, bias])
}

/// Linear layers `<name>.0`, `<name>.1`, … of these widths, each followed by a ReLU. No width:
/// `x` itself.
///
/// # Errors
/// As [`linear`].
pub fn mlp(graph: &mut Graph, name: &str, x: NodeId, widths: &[usize]) -> Result<NodeId, GraphError> {
    let mut value = x;
    for (layer, width) in widths.iter().enumerate() {
        let sum = linear(graph, &format!("{name}.{layer}"), value, *width)?;
        value = graph.apply(Op::Relu, &[sum])?;
    }
    Ok(value)
}

/// An [`mlp`] and one more linear layer, without ReLU, to `outputs` numbers.
///
/// # Errors
/// As [`linear`].
pub fn mlp_to(
    graph: &mut Graph,
    name: &str,
    x: NodeId,
    widths: &[usize],
    outputs: usize,
) -> Result<NodeId, GraphError> {
    let hidden = mlp(graph, name, x, widths)?;
    linear(graph, &format!("{name}.{}", widths.len()), hidden, outputs)
}

/// A task's tower, `tower.<task>`: hidden layers of these widths, then one unit, the logit `[]`.
///
/// # Errors
/// As [`linear`].
pub fn tower(graph: &mut Graph, task: &str, x: NodeId, widths: &[usize]) -> Result<NodeId, GraphError> {
    let unit = mlp_to(graph, &format!("tower.{task}"), x, widths, 1)?;
    graph.apply(Op::Squeeze, &[unit])
}
