//! Rewrites of a graph that leave its function as it is.
//!
//! A pass reads one graph and builds another, and proves it by [`Graph::check`] before it hands
//! it out. Passes keep the names of inputs, parameters and outputs, so the same values can be fed
//! to both graphs.
//!
//! - [`prune`] keeps what some of the outputs need: a training graph becomes a serving graph.
//! - [`user_once`] moves what depends on the request alone to request rows.

mod prune;
mod user_once;

pub use prune::prune;
pub use user_once::{REQUEST_OF, user_once};

use crate::{Graph, GraphError, Node, NodeId, Op};

/// Copies a node of `old` that is an input or a parameter; `None` for every other op.
fn copy_source(old: &Graph, node: &Node, new: &mut Graph) -> Option<NodeId> {
    match &node.op {
        Op::Input { name } => Some(new.input(name, node.fact.clone())),
        Op::Parameter(id) => Some(new.parameter(old.parameters()[id.0].clone())),
        _ => None,
    }
}

/// An error of a pass about the graph it was given.
fn refuse(pass: &'static str, node: usize, message: String) -> GraphError {
    GraphError { node, op: pass, message }
}
