//! Single-task: a network for each task that shares nothing with the others, as if each had been
//! trained on its own: the yardstick of what sharing gains or costs.
//!
//! In the comparisons of Ma et al. (KDD 2018, section 6) and Tang et al. (RecSys 2020, section 5)
//! single-task models are separate models, so each task has embedding tables of its own here too.

use gatefold_schema::Task;

use crate::{NnError, models::Head, net::Net};

pub(super) fn heads(net: &mut Net, tasks: &[Task]) -> Result<Vec<Head>, NnError> {
    let mut bottoms = Vec::with_capacity(tasks.len());
    for task in tasks {
        let x = net.rows_of(&task.name)?;
        bottoms.push(net.hidden(&format!("bottom.{}", task.name), x, &net.model.bottom)?);
    }
    Head::towers(net, tasks, &bottoms)
}
