//! Reverse-mode differentiation: appends to a graph the nodes that compute the derivative of a
//! loss by every parameter it depends on.
//!
//! Gradients are ordinary nodes, so passes and executor need nothing new for them. There is one
//! rule an op, [`rule::input_gradients`]: given the gradient of the result it returns the
//! gradients of the inputs. The walker alone visits the nodes backwards and adds up where a value
//! is read several times.
//!
//! The derivative by an embedding table is never written out as a table: it is a list of [`Rows`],
//! one for each lookup, so that a step costs what the batch touches.

mod rule;

use std::collections::BTreeMap;

use crate::{
    fact::{ElementType, Fact, Level},
    gradient_op::GradientOp,
    graph::{Graph, GraphError, NodeId, ParamId},
    op::Op,
};

/// The derivative by the rows of a table that one lookup read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The codes that were looked up, `i32`: `[]`, or `[l]` for a sequence. Always a graph input.
    pub codes: NodeId,
    /// The derivative by the looked-up row, `[d]`, at the level of the codes; `[l, d]` where each
    /// code of a sequence has a row of its own.
    pub rows: NodeId,
    /// Whether the rows of `l` codes were averaged: each code that is not 0 then receives the
    /// derivative divided by the number of such codes.
    pub mean: bool,
}

/// The derivative by one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gradient {
    /// As large as the parameter.
    Dense(NodeId),
    /// By the touched rows of a table; a row that occurs several times counts as often.
    Table(Vec<Rows>),
}

/// The derivatives of one loss by the parameters it depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gradients {
    by_parameter: BTreeMap<ParamId, Gradient>,
}

impl Gradients {
    /// The derivative by a parameter; none where the loss does not depend on it.
    pub fn get(&self, parameter: ParamId) -> Option<&Gradient> {
        self.by_parameter.get(&parameter)
    }

    /// Parameters and derivatives, by [`ParamId`].
    pub fn iter(&self) -> impl Iterator<Item = (ParamId, &Gradient)> {
        self.by_parameter.iter().map(|(parameter, gradient)| (*parameter, gradient))
    }

    /// The nodes that an optimizer reads after a run: what a plan must keep.
    pub fn targets(&self) -> Vec<NodeId> {
        let of_gradient = |gradient: &Gradient| match gradient {
            Gradient::Dense(node) => vec![*node],
            Gradient::Table(lookups) => {
                lookups.iter().flat_map(|lookup| [lookup.codes, lookup.rows]).collect()
            }
        };
        self.by_parameter.values().flat_map(of_gradient).collect()
    }
}

/// Appends the derivative of `loss` by every parameter it depends on. May be called for several
/// losses of one graph.
///
/// # Errors
/// When the loss is not one number, or when it depends on a parameter through something that has
/// no derivative here: the labels or weights of a loss, an op of another derivative, a table read
/// by anything but a lookup, or a lookup of what is not a table.
pub fn differentiate(graph: &mut Graph, loss: NodeId) -> Result<Gradients, GraphError> {
    if *graph.fact(loss) != Fact::f32(Level::Constant, &[]) {
        return Err(error(graph, loss, format!("a loss is one number, found {}", graph.fact(loss))));
    }
    let trained = depends_on_parameters(graph, loss);
    let mut contributions: Vec<Vec<NodeId>> = vec![Vec::new(); loss.0 + 1];
    let mut by_parameter = BTreeMap::new();
    let one = graph.apply(Op::Gradient(GradientOp::One), &[])?;
    contributions[loss.0].push(one);

    for index in (0..=loss.0).rev() {
        let node = NodeId(index);
        let Some(gradient) = sum(graph, &contributions[index])? else { continue };
        if !trained[index] {
            continue;
        }
        let inputs = graph.node(node).inputs.clone();
        match graph.node(node).op {
            Op::Parameter(parameter) => {
                if graph.parameters()[parameter.0].table {
                    return Err(error(graph, node, "is a table: only lookups may read it".into()));
                }
                by_parameter.insert(parameter, Gradient::Dense(gradient));
            }
            Op::Lookup | Op::LookupMean | Op::LookupEach => {
                let (table, rows) = lookup_gradient(graph, node, gradient)?;
                let entry = by_parameter.entry(table).or_insert(Gradient::Table(Vec::new()));
                if let Gradient::Table(lookups) = entry {
                    lookups.push(rows);
                }
            }
            _ => {
                let wanted: Vec<bool> = inputs.iter().map(|input| trained[input.0]).collect();
                let gradients = rule::input_gradients(graph, node, gradient, &wanted)?;
                for (input, gradient) in inputs.iter().zip(gradients) {
                    contributions[input.0].extend(gradient);
                }
            }
        }
    }
    Ok(Gradients { by_parameter })
}

fn lookup_gradient(graph: &Graph, node: NodeId, rows: NodeId) -> Result<(ParamId, Rows), GraphError> {
    let [table, codes] = graph.node(node).inputs[..] else {
        return Err(error(graph, node, "takes a table and codes".into()));
    };
    match graph.node(table).op {
        Op::Parameter(parameter) if graph.parameters()[parameter.0].table => {
            let mean = graph.node(node).op == Op::LookupMean;
            Ok((parameter, Rows { codes, rows, mean }))
        }
        _ => Err(error(graph, node, "is trained, but does not read a parameter marked as a table".into())),
    }
}

/// Whether each node up to `last` has a derivative by a parameter.
fn depends_on_parameters(graph: &Graph, last: NodeId) -> Vec<bool> {
    let mut depends = Vec::with_capacity(last.0 + 1);
    for node in &graph.nodes()[..=last.0] {
        let float = node.fact.element == ElementType::F32;
        depends.push(match node.op {
            Op::Parameter(_) => float,
            Op::Detach => false,
            _ => float && node.inputs.iter().any(|input| depends[input.0]),
        });
    }
    depends
}

fn sum(graph: &mut Graph, terms: &[NodeId]) -> Result<Option<NodeId>, GraphError> {
    let Some((first, rest)) = terms.split_first() else { return Ok(None) };
    let mut total = *first;
    for term in rest {
        total = graph.apply(Op::Add, &[total, *term])?;
    }
    Ok(Some(total))
}

fn error(graph: &Graph, node: NodeId, message: String) -> GraphError {
    GraphError { node: node.0, op: graph.node(node).op.name(), message }
}
