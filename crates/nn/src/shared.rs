//! Which parameters several tasks learn together: what methods that balance tasks work on.

use gatefold_graph::{Graph, NodeId, Op, ParamId};
use gatefold_schema::Task;

use crate::loss_name;

/// The parameters of a training graph that more than one task's loss depends on, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedParameters {
    /// All of them, embedding tables included, in the graph's order.
    pub all: Vec<String>,
    /// The weights of the last shared layer: those among them whose product no other shared weight
    /// comes after. Empty where tables alone are shared.
    pub last_layer: Vec<String>,
}

/// Finds what the tasks share in a graph of [`training`](crate::training), of either form.
pub fn shared_parameters(graph: &Graph, tasks: &[Task]) -> SharedParameters {
    let mut learners = vec![0; graph.parameters().len()];
    for task in tasks {
        let Some(loss) = graph.output_named(&loss_name(&task.name)) else { continue };
        parameters_behind(graph, &[loss]).iter().for_each(|parameter| learners[parameter.0] += 1);
    }
    let is_shared = |parameter: ParamId| learners[parameter.0] > 1;

    let mut weights = Vec::new();
    let mut followed = Vec::new();
    for node in graph.nodes() {
        let (Op::MatMul, [x, weight]) = (&node.op, node.inputs.as_slice()) else { continue };
        let behind_weight = parameters_behind(graph, &[*weight]);
        if behind_weight.iter().any(|weight| is_shared(*weight)) {
            weights.extend(behind_weight);
            followed.extend(parameters_behind(graph, &[*x]));
        }
    }
    let name = |parameter: usize| graph.parameters()[parameter].name.clone();
    let shared = |parameter: &usize| is_shared(ParamId(*parameter));
    let is_last = |parameter: &usize| {
        weights.contains(&ParamId(*parameter)) && !followed.contains(&ParamId(*parameter))
    };
    let all: Vec<usize> = (0..learners.len()).filter(shared).collect();
    SharedParameters {
        last_layer: all.iter().copied().filter(is_last).map(name).collect(),
        all: all.into_iter().map(name).collect(),
    }
}

/// The parameters that some nodes depend on.
fn parameters_behind(graph: &Graph, nodes: &[NodeId]) -> Vec<ParamId> {
    let mut open = nodes.to_vec();
    let mut seen = vec![false; graph.nodes().len()];
    let mut found = Vec::new();
    while let Some(id) = open.pop() {
        if std::mem::replace(&mut seen[id.0], true) {
            continue;
        }
        let node = graph.node(id);
        if let Op::Parameter(parameter) = node.op {
            found.push(parameter);
        }
        open.extend(&node.inputs);
    }
    found
}
