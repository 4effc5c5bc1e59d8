//! The zoo: how the tasks share what they learn.

mod esmm;
mod mmoe;
mod shared_bottom;

use gatefold_graph::{Graph, NodeId, Op};
use gatefold_schema::{ModelConfig, ModelKind, Task};

use crate::{Head, NnError};

/// Builds the configured model on the rows `x` and returns a head for each task, in order.
pub(crate) fn heads(
    graph: &mut Graph,
    x: NodeId,
    tasks: &[Task],
    model: &ModelConfig,
) -> Result<Vec<Head>, NnError> {
    if tasks.is_empty() {
        return Err(NnError::NoTask);
    }
    let logits = match model.kind {
        ModelKind::SharedBottom => shared_bottom::logits(graph, x, tasks, model)?,
        ModelKind::Esmm => esmm::logits(graph, x, tasks, model)?,
        ModelKind::Mmoe => mmoe::logits(graph, x, tasks, model)?,
    };
    let mut heads = Vec::with_capacity(logits.len());
    for logit in logits {
        heads.push(Head { logit, probability: graph.apply(Op::Sigmoid, &[logit])? });
    }
    Ok(heads)
}
