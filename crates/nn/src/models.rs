//! The zoo: how the tasks share what they learn. One file a model, with its paper.

mod aitm;
mod cgc;
mod cross_stitch;
mod esmm;
mod mmoe;
mod omoe;
mod ple;
mod shared_bottom;
mod single_task;
mod soft_sharing;

use gatefold_graph::{NodeId, Op};
use gatefold_schema::{FakeNegatives, Loss, ModelKind, Task};

use crate::{NnError, net::Net};

/// What a model predicts for one task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// The output that is served: `[]` a candidate. Not always the sigmoid of what is learned.
    pub(crate) output: NodeId,
    /// What the loss compares with the label: `[]` a candidate.
    pub(crate) learned: Learned,
    /// The task on whose sample space the loss counts: the head's own, or another.
    pub(crate) space: usize,
}

/// What a loss compares with a label.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Learned {
    /// The logit of a probability.
    Logit(NodeId),
    /// A probability that has no logit of its own.
    Probability(NodeId),
    /// A number.
    Number(NodeId),
}

/// Builds the configured model and returns a head for each task, in order.
pub(crate) fn heads(net: &mut Net, tasks: &[Task]) -> Result<Vec<Head>, NnError> {
    if tasks.is_empty() {
        return Err(NnError::NoTask);
    }
    net.model.check(tasks)?;
    match net.model.kind {
        ModelKind::SingleTask => single_task::heads(net, tasks),
        ModelKind::SharedBottom => shared_bottom::heads(net, tasks),
        ModelKind::L2Sharing | ModelKind::TraceNorm => soft_sharing::heads(net, tasks),
        ModelKind::CrossStitch => cross_stitch::heads(net, tasks),
        ModelKind::Omoe => omoe::heads(net, tasks),
        ModelKind::Mmoe => mmoe::heads(net, tasks),
        ModelKind::Cgc => cgc::heads(net, tasks),
        ModelKind::Ple => ple::heads(net, tasks),
        ModelKind::Esmm => esmm::heads(net, tasks),
        ModelKind::Aitm => aitm::heads(net, tasks),
    }
}

impl Head {
    /// Puts a task's tower of the configured widths on each of the values, one a task.
    fn towers(net: &mut Net, tasks: &[Task], values: &[NodeId]) -> Result<Vec<Self>, NnError> {
        net.tower_inputs = values.to_vec();
        let mut heads = Vec::with_capacity(tasks.len());
        for (index, (task, value)) in tasks.iter().zip(values).enumerate() {
            let number = net.tower(&task.name, *value, &net.model.tower)?;
            heads.push(Self::of(net, index, task, number)?);
        }
        Ok(heads)
    }

    /// The head of a task whose tower ends in `number`, learned on the task's own sample space.
    fn of(net: &mut Net, index: usize, task: &Task, number: NodeId) -> Result<Self, NnError> {
        let (output, learned) = match (task.loss, task.fake_negatives) {
            (Loss::SquaredError, _) => (number, Learned::Number(number)),
            (Loss::CrossEntropy, Some(FakeNegatives::Calibrated)) => {
                (odds(net, number)?, Learned::Logit(number))
            }
            (Loss::CrossEntropy, _) => (net.apply(Op::Sigmoid, &[number])?, Learned::Logit(number)),
        };
        Ok(Self { output, learned, space: index })
    }
}

/// `min(1, b / (1 − b))` of the probability b with this logit: the odds of b are `e^z`, so that
/// nothing is lost where b is near 0 or 1.
fn odds(net: &mut Net, logit: NodeId) -> Result<NodeId, NnError> {
    let minus = net.apply(Op::Scale(-1.0), &[logit])?;
    let minus = net.apply(Op::Relu, &[minus])?;
    let at_most_zero = net.apply(Op::Scale(-1.0), &[minus])?;
    net.apply(Op::Exp, &[at_most_zero])
}
