//! Shared-bottom: one network below, a tower for each task above it.
//!
//! Rich Caruana, "Multitask Learning", Machine Learning 28 (1997); in the form that Ma et al.
//! (KDD 2018, section 3.1) compare with.

use gatefold_graph::{Graph, GraphError, NodeId};
use gatefold_schema::{ModelConfig, Task};

use crate::layers::{mlp, tower};

pub(super) fn logits(
    graph: &mut Graph,
    x: NodeId,
    tasks: &[Task],
    model: &ModelConfig,
) -> Result<Vec<NodeId>, GraphError> {
    let bottom = mlp(graph, "bottom", x, &model.bottom)?;
    tasks.iter().map(|task| tower(graph, &task.name, bottom, &model.tower)).collect()
}
