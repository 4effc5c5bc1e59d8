//! Cross-stitch: a network for each task; after every hidden layer each task goes on with a linear
//! combination of all tasks' activations.
//!
//! Ishan Misra et al., "Cross-stitch Networks for Multi-task Learning", CVPR 2016, section 3.2,
//! equation 1: `x̃_A = α_AA x_A + α_AB x_B`. The combinations begin at 0.9 for the task's own
//! activations and share 0.1 among the others (section 4: `α_S = 0.9`, `α_D = 0.1`). There is one
//! `α` a layer, as for the fully connected layers there, and the embeddings are shared.

use gatefold_graph::{Init, Op};
use gatefold_schema::Task;

use crate::{NnError, models::Head, net::Net};

/// What a task's combination begins with for its own activations.
const OWN_SHARE: f32 = 0.9;

pub(super) fn heads(net: &mut Net, tasks: &[Task]) -> Result<Vec<Head>, NnError> {
    let x = net.rows()?;
    let mut values = vec![x; tasks.len()];
    for (layer, width) in net.model.bottom.iter().enumerate() {
        let mut operands = vec![x];
        for (task, value) in tasks.iter().zip(&values) {
            operands.push(net.layer(&format!("bottom.{}.{layer}", task.name), *value, *width)?);
        }
        for (index, task) in tasks.iter().enumerate() {
            let name = format!("stitch.{}.{layer}", task.name);
            let first = Init::Values(first_shares(index, tasks.len()));
            operands[0] = net.parameter(name, &[tasks.len()], first);
            values[index] = net.apply(Op::Mix, &operands)?;
        }
    }
    Head::towers(net, tasks, &values)
}

fn first_shares(own: usize, tasks: usize) -> Vec<f32> {
    match tasks {
        1 => vec![1.0],
        _ => {
            let other = (1.0 - OWN_SHARE) / (tasks - 1) as f32;
            (0..tasks).map(|task| if task == own { OWN_SHARE } else { other }).collect()
        }
    }
}
