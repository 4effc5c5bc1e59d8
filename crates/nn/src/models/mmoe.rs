//! MMoE: experts that every task reads, mixed by a softmax gate of the task's own.
//!
//! Jiaqi Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
//! Mixture-of-Experts", KDD 2018, section 4.2: `f^k(x) = Σ_i g^k(x)_i · f_i(x)`,
//! `g^k(x) = softmax(W^k x)`. The gate may have hidden layers before its softmax layer.

use gatefold_graph::{Graph, NodeId, Op};
use gatefold_schema::{ModelConfig, Task};

use crate::{
    NnError,
    layers::{mlp, mlp_to, tower},
};

pub(super) fn logits(
    graph: &mut Graph,
    x: NodeId,
    tasks: &[Task],
    model: &ModelConfig,
) -> Result<Vec<NodeId>, NnError> {
    if model.experts == 0 || model.expert.is_empty() {
        return Err(NnError::Model {
            kind: model.kind.name(),
            message: "needs at least one expert of at least one width: set experts and expert".into(),
        });
    }
    let mut gate_and_experts = vec![x];
    for expert in 0..model.experts {
        gate_and_experts.push(mlp(graph, &format!("expert.{expert}"), x, &model.expert)?);
    }
    let mut logits = Vec::with_capacity(tasks.len());
    for task in tasks {
        let gate = mlp_to(graph, &format!("gate.{}", task.name), x, &model.gate, model.experts)?;
        gate_and_experts[0] = graph.apply(Op::Softmax, &[gate])?;
        let mixture = graph.apply(Op::Mix, &gate_and_experts)?;
        logits.push(tower(graph, &task.name, mixture, &model.tower)?);
    }
    Ok(logits)
}
