//! Soft sharing: a network for each task, and a penalty that keeps the networks alike.
//!
//! - *L2 distance.* Long Duong et al., "Low Resource Dependency Parsing: Cross-lingual Parameter
//!   Sharing in a Neural Network Parser", ACL 2015, section 4; in the form that Ma et al. (KDD 2018,
//!   section 5.2) compare with, `α ‖θ_1 − θ_2‖²`, summed over the pairs of tasks.
//! - *Trace norm.* Yongxin Yang and Timothy Hospedales, "Trace Norm Regularised Deep Multi-Task
//!   Learning", ICLR 2017 workshop, section 3 (last axis flattening): the sum of the singular values
//!   of the matrix that has the weights of a layer, one task a column; summed over the layers.
//!
//! The networks are the hidden layers below the towers. The embeddings are one set of tables for
//! all tasks, and the towers are each task's own, in neither penalty.

use gatefold_graph::{NodeId, Op};
use gatefold_schema::{ModelKind, Task};

use crate::{
    NnError,
    models::Head,
    net::{Net, Penalty},
};

pub(super) fn heads(net: &mut Net, tasks: &[Task]) -> Result<Vec<Head>, NnError> {
    let x = net.rows()?;
    let mut bottoms = Vec::with_capacity(tasks.len());
    for task in tasks {
        bottoms.push(net.hidden(&bottom_of(task), x, &net.model.bottom)?);
    }
    if net.training && net.model.sharing > 0.0 && tasks.len() > 1 {
        for layer in 0..net.model.bottom.len() {
            match net.model.kind {
                ModelKind::TraceNorm => penalize_trace_norm(net, tasks, layer)?,
                _ => penalize_distance(net, tasks, layer)?,
            }
        }
    }
    Head::towers(net, tasks, &bottoms)
}

fn bottom_of(task: &Task) -> String {
    format!("bottom.{}", task.name)
}

/// The parameters of one layer, one a task.
fn of_tasks(net: &Net, tasks: &[Task], layer: usize, part: &str) -> Vec<NodeId> {
    tasks.iter().map(|task| net.parameters[&format!("{}.{layer}.{part}", bottom_of(task))]).collect()
}

fn penalize_distance(net: &mut Net, tasks: &[Task], layer: usize) -> Result<(), NnError> {
    for part in ["weight", "bias"] {
        let parameters = of_tasks(net, tasks, layer, part);
        for (index, first) in parameters.iter().enumerate() {
            for second in &parameters[index + 1..] {
                let minus_second = net.apply(Op::Scale(-1.0), &[*second])?;
                let difference = net.apply(Op::Add, &[*first, minus_second])?;
                let value = net.apply(Op::SumSquares, &[difference])?;
                net.penalties.push(Penalty { strength: net.model.sharing, value, space: None });
            }
        }
    }
    Ok(())
}

fn penalize_trace_norm(net: &mut Net, tasks: &[Task], layer: usize) -> Result<(), NnError> {
    let weights = of_tasks(net, tasks, layer, "weight");
    let value = net.apply(Op::TraceNorm, &weights)?;
    net.penalties.push(Penalty { strength: net.model.sharing, value, space: None });
    Ok(())
}
