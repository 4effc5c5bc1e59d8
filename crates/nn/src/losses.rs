//! The losses of a model: one for each task, over a sample space, and their weighted sum.

use gatefold_graph::{Fact, Level, NodeId, Op};
use gatefold_schema::{FakeNegatives, Task};

use crate::{
    LATE, LOSS, NnError, PENALTY, label_name, loss_name, loss_weight_name,
    models::{Head, Learned},
    net::Net,
    weight_name,
};

/// Appends inputs for labels and weights, the loss of each task and the weighted sum.
///
/// A task's loss is the mean over its sample space, the rows of weight 1: the cross-entropy of a
/// probability, or the squared difference of a number. Where some tasks learn from fake negatives,
/// the rows that are there again because their outcome came late count for those tasks alone.
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

    let has_late_rows = tasks.iter().any(|task| task.fake_negatives.is_some());
    let late = has_late_rows.then(|| net.graph.input(LATE, row));

    let mut total: Option<NodeId> = None;
    for (index, (task, head)) in tasks.iter().zip(heads).enumerate() {
        let weight = match (task.fake_negatives, late) {
            (Some(FakeNegatives::Weighted), _) => {
                let predicted = predicted(net, head, &task.name)?;
                true_share(net, weights[head.space], predicted, labels[index])?
            }
            (None, Some(late)) => without(net, weights[head.space], late)?,
            _ => weights[head.space],
        };
        let (op, learned) = match head.learned {
            Learned::Logit(logit) => (Op::BceWithLogits, logit),
            Learned::Probability(probability) => (Op::Bce, probability),
            Learned::Number(number) => (Op::SquaredError, number),
        };
        let loss = net.apply(op, &[learned, labels[index], weight])?;
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

/// What is predicted now of the outcome that a loss compares with the label, a constant to the derivative.
fn predicted(net: &mut Net, head: &Head, task: &str) -> Result<NodeId, NnError> {
    let probability = match head.learned {
        Learned::Logit(logit) => net.apply(Op::Sigmoid, &[logit])?,
        Learned::Probability(probability) => probability,
        Learned::Number(_) => return Err(NnError::NoProbability { task: task.to_owned() }),
    };
    net.apply(Op::Detach, &[probability])
}

/// Weights by which rows with fake negatives count as the true rows would, for predictions p
/// ([`FakeNegatives::Weighted`]): `w·(1 + p)` of a positive, `w·(1 + p)(1 − p)` of a negative.
fn true_share(net: &mut Net, weight: NodeId, p: NodeId, label: NodeId) -> Result<NodeId, NnError> {
    let more = net.apply(Op::Mul, &[weight, p])?;
    let positive = net.apply(Op::Add, &[weight, more])?;
    let excess = net.apply(Op::Mul, &[positive, p])?;
    let of_negatives = without(net, excess, label)?;
    subtract(net, positive, of_negatives)
}

/// The weights of the rows that `marks` (0 or 1) does not mark, and 0 for the others.
fn without(net: &mut Net, weights: NodeId, marks: NodeId) -> Result<NodeId, NnError> {
    let marked = net.apply(Op::Mul, &[weights, marks])?;
    subtract(net, weights, marked)
}

fn subtract(net: &mut Net, from: NodeId, what: NodeId) -> Result<NodeId, NnError> {
    let minus = net.apply(Op::Scale(-1.0), &[what])?;
    net.apply(Op::Add, &[from, minus])
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
