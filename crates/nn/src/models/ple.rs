//! PLE, progressive layered extraction: CGC in levels. Between two levels a shared gate mixes all
//! experts, every task's and the shared ones, into what the shared experts of the next level read;
//! each task's mixture is what its own experts of the next level read, and what its gate there
//! weighs by.
//!
//! Hongyan Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL)
//! Model for Personalized Recommendations", RecSys 2020, section 4.2, equations 5 to 7.

use gatefold_schema::{SHARED, Task};

use crate::{
    NnError,
    models::{
        Head,
        cgc::{Extraction, extract},
    },
    net::Net,
};

pub(super) fn heads(net: &mut Net, tasks: &[Task]) -> Result<Vec<Head>, NnError> {
    let x = net.rows()?;
    let mut inputs = Extraction { of_tasks: vec![x; tasks.len()], shared: x };
    for level in 0..net.model.levels {
        let prefix = format!("level.{level}.");
        let (mixtures, all) = extract(net, &prefix, tasks, &inputs)?;
        // The last level has no shared gate: no task would read its mixture.
        if level + 1 < net.model.levels {
            inputs.shared = net.mixture(format!("{prefix}gate.{SHARED}"), inputs.shared, &all)?;
        }
        inputs.of_tasks = mixtures;
    }
    Head::towers(net, tasks, &inputs.of_tasks)
}
