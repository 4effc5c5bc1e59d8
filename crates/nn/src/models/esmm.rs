//! ESMM: a CTR and a CVR tower that share the embeddings alone. The CVR tower is never trained on
//! clicks directly but through `ctcvr = ctr · cvr`, which is observed on every impression; that
//! takes the bias of the clicked sample out of it.
//!
//! Xiao Ma et al., "Entire Space Multi-Task Model: An Effective Approach for Estimating
//! Post-Click Conversion Rate", SIGIR 2018, sections 2.2 and 2.3; the losses are equation 3, so
//! that the second label must be 0 wherever the first is 0.

use gatefold_graph::Op;
use gatefold_schema::Task;

use crate::{
    NnError,
    models::{Head, Learned},
    net::Net,
};

pub(super) fn heads(net: &mut Net, tasks: &[Task]) -> Result<Vec<Head>, NnError> {
    let x = net.rows()?;
    let widths = [net.model.bottom.as_slice(), &net.model.tower].concat();
    let mut heads: Vec<Head> = Vec::with_capacity(tasks.len());
    for (index, task) in tasks.iter().enumerate() {
        let logit = net.tower(&task.name, x, &widths)?;
        let mut head = Head::of(net, index, task, logit)?;
        if let Some(click) = heads.first() {
            let joint = net.apply(Op::Mul, &[click.output, head.output])?;
            head = Head { learned: Learned::Probability(joint), space: click.space, ..head };
        }
        heads.push(head);
    }
    Ok(heads)
}
