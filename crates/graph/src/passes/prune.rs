//! Dropping what no wanted output needs.

use crate::{Graph, GraphError, NodeId};

use super::{copy_source, refuse};

/// The graph of some of the outputs: nodes, inputs and parameters that none of them depends on
/// are gone, everything else keeps its order. Outputs come in the order given.
///
/// # Errors
/// When an output does not exist.
pub fn prune(graph: &Graph, outputs: &[&str]) -> Result<Graph, GraphError> {
    let mut wanted = Vec::with_capacity(outputs.len());
    for name in outputs {
        let id = graph.output_named(name).ok_or_else(|| {
            let known: Vec<&str> = graph.outputs().iter().map(|(known, _)| known.as_str()).collect();
            let message = format!("there is no output '{name}' to keep; those are: {}", known.join(", "));
            refuse("prune", graph.nodes().len(), message)
        })?;
        wanted.push((*name, id));
    }

    let mut needed = vec![false; graph.nodes().len()];
    for (_, id) in &wanted {
        needed[id.0] = true;
    }
    for (index, node) in graph.nodes().iter().enumerate().rev() {
        if needed[index] {
            node.inputs.iter().for_each(|input| needed[input.0] = true);
        }
    }

    let mut pruned = Graph::new();
    let mut place = vec![None; graph.nodes().len()];
    for (index, node) in graph.nodes().iter().enumerate().filter(|(index, _)| needed[*index]) {
        let id = match copy_source(graph, node, &mut pruned) {
            Some(id) => id,
            None => {
                // Inputs of a needed node are needed and stand before it, so each has its place.
                let inputs: Vec<NodeId> = node.inputs.iter().filter_map(|input| place[input.0]).collect();
                pruned.apply(node.op.clone(), &inputs)?
            }
        };
        place[index] = Some(id);
    }
    for (name, id) in wanted {
        if let Some(id) = place[id.0] {
            pruned.output(name, id);
        }
    }
    pruned.check()?;
    Ok(pruned)
}
