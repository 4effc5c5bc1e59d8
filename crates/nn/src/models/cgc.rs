//! CGC, customized gate control: experts that all tasks share and experts of each task's own. A
//! task's gate mixes its own experts, then the shared ones, and never another task's.
//!
//! Hongyan Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL)
//! Model for Personalized Recommendations", RecSys 2020, section 4.1, equations 1 to 4.

use gatefold_graph::NodeId;
use gatefold_schema::{SHARED, Task};

use crate::{NnError, models::Head, net::Net};

pub(super) fn heads(net: &mut Net, tasks: &[Task]) -> Result<Vec<Head>, NnError> {
    let x = net.rows()?;
    let inputs = Extraction { of_tasks: vec![x; tasks.len()], shared: x };
    let (mixtures, _) = extract(net, "", tasks, &inputs)?;
    Head::towers(net, tasks, &mixtures)
}

/// What the experts of an extraction network read, and their gates with them.
pub(super) struct Extraction {
    /// For each task, the input of its own experts and gate.
    pub(super) of_tasks: Vec<NodeId>,
    /// The input of the shared experts and gate.
    pub(super) shared: NodeId,
}

/// One extraction network, its parts named with `prefix`: the mixture of each task, and all its
/// experts (each task's in turn, then the shared ones).
pub(super) fn extract(
    net: &mut Net,
    prefix: &str,
    tasks: &[Task],
    inputs: &Extraction,
) -> Result<(Vec<NodeId>, Vec<usize>), NnError> {
    let (own_count, shared_count) = (net.model.task_experts, net.model.experts);
    let mut all = Vec::with_capacity(tasks.len() * own_count + shared_count);
    for (task, input) in tasks.iter().zip(&inputs.of_tasks) {
        for expert in 0..own_count {
            all.push(net.expert(format!("{prefix}expert.{}.{expert}", task.name), *input)?);
        }
    }
    for expert in 0..shared_count {
        all.push(net.expert(format!("{prefix}expert.{SHARED}.{expert}"), inputs.shared)?);
    }
    let (own, shared) = all.split_at(tasks.len() * own_count);
    let mut mixtures = Vec::with_capacity(tasks.len());
    for ((task, input), own) in tasks.iter().zip(&inputs.of_tasks).zip(own.chunks(own_count)) {
        let selected = [own, shared].concat();
        mixtures.push(net.mixture(format!("{prefix}gate.{}", task.name), *input, &selected)?);
    }
    Ok((mixtures, all))
}
