//! OMoE: experts mixed by one softmax gate for all tasks.
//!
//! Jiaqi Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
//! Mixture-of-Experts", KDD 2018, sections 4.1 and 5.2 ("One-gate MoE"): `f(x) = Σ_i g(x)_i · f_i(x)`
//! under every tower.

use gatefold_schema::{SHARED, Task};

use crate::{NnError, models::Head, net::Net};

pub(super) fn heads(net: &mut Net, tasks: &[Task]) -> Result<Vec<Head>, NnError> {
    let x = net.rows()?;
    let mut experts = Vec::with_capacity(net.model.experts);
    for expert in 0..net.model.experts {
        experts.push(net.expert(format!("expert.{expert}"), x)?);
    }
    let mixture = net.mixture(format!("gate.{SHARED}"), x, &experts)?;
    Head::towers(net, tasks, &vec![mixture; tasks.len()])
}
