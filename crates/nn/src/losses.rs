//! The losses of a model: one for each task, over the task's sample space, and their sum.

use gatefold_graph::{Fact, Graph, Level, NodeId, Op};
use gatefold_schema::{ModelKind, Task};

use crate::{Head, LOSS, NnError, label_name, loss_name, weight_name};

/// Appends inputs for labels and weights, the loss of each task and the weighted sum.
///
/// A task's loss is the mean cross-entropy over its sample space: the rows of weight 1. In ESMM
/// the second task's loss is that of the product of both probabilities over the first task's
/// space (Ma et al., SIGIR 2018, equation 3): its label must be 0 wherever the first label is 0.
pub(crate) fn append(
    graph: &mut Graph,
    tasks: &[Task],
    heads: &[Head],
    kind: ModelKind,
) -> Result<(), NnError> {
    let row = Fact::f32(Level::Candidate, &[]);
    let mut labels = Vec::with_capacity(tasks.len());
    let mut weights = Vec::with_capacity(tasks.len());
    for task in tasks {
        labels.push(graph.input(&label_name(&task.name), row.clone()));
        weights.push(graph.input(&weight_name(&task.name), row.clone()));
    }

    let mut total: Option<NodeId> = None;
    for (index, task) in tasks.iter().enumerate() {
        let loss = if kind == ModelKind::Esmm && index == 1 {
            let joint = graph.apply(Op::Mul, &[heads[0].probability, heads[1].probability])?;
            graph.apply(Op::Bce, &[joint, labels[1], weights[0]])?
        } else {
            graph.apply(Op::BceWithLogits, &[heads[index].logit, labels[index], weights[index]])?
        };
        graph.output(&loss_name(&task.name), loss);
        let weighted =
            if task.weight == 1.0 { loss } else { graph.apply(Op::Scale(task.weight), &[loss])? };
        total = Some(match total {
            None => weighted,
            Some(total) => graph.apply(Op::Add, &[total, weighted])?,
        });
    }
    if let Some(total) = total {
        graph.output(LOSS, total);
    }
    graph.check()?;
    Ok(())
}
