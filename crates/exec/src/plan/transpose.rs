//! Transposes weights once a run instead of once a chunk of rows.
//!
//! The gradient of a layer's input is `g · wᵀ`. The matrix kernel would pack `wᵀ` anew for every
//! chunk, against the grain of its memory; a transposed copy is read as it lies.

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
