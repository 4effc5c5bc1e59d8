//! ESMM: a CTR and a CVR tower that share the embeddings alone. The CVR tower is never trained on
//! clicks directly but through `ctcvr = ctr · cvr`, which is observed on every impression; that
//! takes the bias of the clicked sample out of it.
//!
//! Xiao Ma et al., "Entire Space Multi-Task Model: An Effective Approach for Estimating
//! Post-Click Conversion Rate", SIGIR 2018, sections 2.2 and 2.3.

use gatefold_graph::{Graph, NodeId};
use gatefold_schema::{ModelConfig, Task};

use crate::{NnError, layers::tower};

pub(super) fn logits(
    graph: &mut Graph,
    x: NodeId,
    tasks: &[Task],
    model: &ModelConfig,
) -> Result<Vec<NodeId>, NnError> {
    let fits = match tasks {
        [first, second] => first.given.is_none() && second.given.as_deref() == Some(first.name.as_str()),
        _ => false,
    };
    if !fits {
        return Err(NnError::Model {
            kind: model.kind.name(),
            message:
                "needs exactly two tasks, the second conditional on the first, such as ctr and cvr with \
                      given = \"ctr\""
                    .into(),
        });
    }
    let widths = [model.bottom.as_slice(), &model.tower].concat();
    tasks.iter().map(|task| Ok(tower(graph, &task.name, x, &widths)?)).collect()
}
