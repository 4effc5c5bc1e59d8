//! MMoE: experts that every task reads, mixed by a softmax gate of the task's own.
//!
//! Jiaqi Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
//! Mixture-of-Experts", KDD 2018, section 4.2: `f^k(x) = Σ_i g^k(x)_i · f_i(x)`,
//! `g^k(x) = softmax(W^k x)`. The gate may have hidden layers before its softmax layer.

use gatefold_schema::Task;

use crate::{NnError, models::Head, net::Net};

pub(super) fn heads(net: &mut Net, tasks: &[Task]) -> Result<Vec<Head>, NnError> {
    let x = net.rows()?;
    let mut experts = Vec::with_capacity(net.model.experts);
    for expert in 0..net.model.experts {
        experts.push(net.expert(format!("expert.{expert}"), x)?);
    }
    let mut mixtures = Vec::with_capacity(tasks.len());
    for task in tasks {
        mixtures.push(net.mixture(format!("gate.{}", task.name), x, &experts)?);
    }
    Head::towers(net, tasks, &mixtures)
}
