//! The losses of a model: one for each task, over a sample space, and their weighted sum.

use gatefold_graph::{Fact, Level, NodeId, Op};
use gatefold_schema::Task;

use crate::{
    LOSS, NnError, PENALTY, label_name, loss_name, loss_weight_name,
    models::{Head, Learned},
    net::Net,
    weight_name,
};

/// Appends inputs for labels and weights, the loss of each task and the weighted sum.
///
/// A task's loss is the mean over its sample space, the rows of weight 1: the cross-entropy of a
/// probability, or the squared difference of a number.
pub(crate) fn append(net: &mut Net, tasks: &[Task], heads: &[Head]) -> Result<(), NnError> {
    let row = Fact::f32(Level::Candidate, &[]);
    let number = Fact::f32(Level::Constant, &[]);
    let mut labels = Vec::with_capacity(tasks.len());
    let mut weights = Vec::with_capacity(tasks.len());
    let mut loss_weights = Vec::with_capacity(tasks.len());
    for task in tasks {
        labels.push(net.graph.input(&label_name(&task.name), row.clone()));
        weights.push(net.graph.input(&weight_name(&task.name), row.clone()));
        loss_weights.push(net.graph.input(&loss_weight_name(&task.name), number.clone()));
    }

    let mut total: Option<NodeId> = None;
    for (index, (task, head)) in tasks.iter().zip(heads).enumerate() {
        let (op, learned) = match head.learned {
            Learned::Logit(logit) => (Op::BceWithLogits, logit),
            Learned::Probability(probability) => (Op::Bce, probability),
            Learned::Number(number) => (Op::SquaredError, number),
        };
        let loss = net.apply(op, &[learned, labels[index], weights[head.space]])?;
        net.graph.output(&loss_name(&task.name), loss);
        let weighted = net.apply(Op::Mul, &[loss, loss_weights[index]])?;
        total = add(net, total, weighted)?;
    }
    if let Some(penalty) = penalty(net, &weights)? {
        net.graph.output(PENALTY, penalty);
        total = add(net, total, penalty)?;
    }
    if let Some(total) = total {
        net.graph.output(LOSS, total);
    }
    net.graph.check()?;
    Ok(())
}

/// The sum of the penalties by their strengths.
fn penalty(net: &mut Net, weights: &[NodeId]) -> Result<Option<NodeId>, NnError> {
    let mut total = None;
    for penalty in std::mem::take(&mut net.penalties) {
        let value = match penalty.space {
            Some(space) => net.apply(Op::MeanRows, &[penalty.value, weights[space]])?,
            None => penalty.value,
        };
        let weighted = net.apply(Op::Scale(penalty.strength), &[value])?;
        total = add(net, total, weighted)?;
    }
    Ok(total)
}

fn add(net: &mut Net, total: Option<NodeId>, term: NodeId) -> Result<Option<NodeId>, NnError> {
    match total {
        None => Ok(Some(term)),
        Some(total) => net.apply(Op::Add, &[total, term]).map(Some),
    }
}
