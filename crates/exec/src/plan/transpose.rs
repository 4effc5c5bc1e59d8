//! Transposes operands of products once instead of in every product that reads them.
//!
//! The gradient of a layer's input is `g · wᵀ`. The matrix kernel would pack `wᵀ` anew for every
//! chunk, against the grain of its memory; a transposed copy is read as it lies. So is the
//! transposed input `xᵀ` of several layers by `xᵀ · g`, the gradients of their weights.

use std::collections::BTreeMap;

use gatefold_graph::{Fact, GradientOp, Level, NodeId, Op};

use super::{Step, StepKind};

/// Lets every [`StepKind::MatMulInputSum`] read transposed weights, and makes one of every
/// gradient of a layer's input that is still a step by itself. The transposed weights are new
/// values, behind those of the graph in `facts`.
pub(super) fn weights_once(facts: &mut Vec<Fact>, steps: Vec<Step>) -> Vec<Step> {
    let mut transposed: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    let mut result = Vec::with_capacity(steps.len());
    for mut step in steps {
        if step.kind == StepKind::Single(Op::Gradient(GradientOp::MatMulInput)) {
            step.kind = StepKind::MatMulInputSum { masked: false };
        }
        if let StepKind::MatMulInputSum { masked } = step.kind {
            let end = step.inputs.len() - usize::from(masked);
            for weight in step.inputs[..end].iter_mut().skip(1).step_by(2) {
                *weight = *transposed.entry(*weight).or_insert_with(|| {
                    let output = NodeId(facts.len());
                    let dims = &facts[weight.0].dims;
                    facts.push(Fact::f32(Level::Constant, &[dims[1], dims[0]]));
                    result.push(Step { kind: StepKind::Transpose, inputs: vec![*weight], output });
                    output
                });
            }
        }
        result.push(step);
    }
    result
}

/// From this many layers on that read the same rows, the rows are transposed once for the
/// gradients of all their weights: for fewer the transposition costs more than it saves.
const READERS: usize = 3;

/// Lets the gradients of weights that multiply the same rows read those rows transposed, each
/// chunk by itself while it is in cache.
pub(super) fn rows_once(facts: &mut Vec<Fact>, steps: Vec<Step>) -> Vec<Step> {
    let is_weight_gradient =
        |step: &Step| step.kind == StepKind::Single(Op::Gradient(GradientOp::MatMulWeight));
    let mut readers: BTreeMap<NodeId, usize> = BTreeMap::new();
    for step in steps.iter().filter(|step| is_weight_gradient(step)) {
        *readers.entry(step.inputs[0]).or_default() += 1;
    }
    readers.retain(|rows, count| *count >= READERS && facts[rows.0].dims.len() == 1);
    let mut transposed: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    let mut result = Vec::with_capacity(steps.len());
    for mut step in steps {
        let rows = step.inputs.first().copied();
        if let Some(rows) = rows.filter(|rows| is_weight_gradient(&step) && readers.contains_key(rows)) {
            step.inputs[0] = *transposed.entry(rows).or_insert_with(|| {
                let output = NodeId(facts.len());
                facts.push(facts[rows.0].clone());
                result.push(Step { kind: StepKind::TransposeRows, inputs: vec![rows], output });
                output
            });
            step.kind = StepKind::MatMulWeightTransposed;
        }
        result.push(step);
    }
    result
}
