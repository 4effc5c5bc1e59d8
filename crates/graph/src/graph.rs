//! A graph under construction and when finished: nodes in running order, parameters, outputs.

use crate::{
    fact::{Fact, Level},
    op::Op,
};

/// Index of a node; its value's name inside the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// Index of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(pub usize);

/// How a parameter begins.
#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    /// All zero.
    Zeros,
    /// Uniform in ±√(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010), for `[in, out]` matrices.
    GlorotUniform,
    /// Normal with this standard deviation.
    Normal(f32),
    /// These values, row-major.
    Values(Vec<f32>),
}

/// A trained constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Unique name, such as `expert.0.1.weight`; also its name in ONNX files and checkpoints.
    pub name: String,
    /// Dimensions.
    pub dims: Vec<usize>,
    /// How it begins.
    pub init: Init,
    /// Whether it is an embedding table `[rows, width]`: only touched rows are updated, and row 0
    /// stays zero.
    pub table: bool,
}

/// One operation applied to earlier values.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The operation.
    pub op: Op,
    /// Values it reads; all earlier nodes.
    pub inputs: Vec<NodeId>,
    /// What the result is.
    pub fact: Fact,
}

/// A graph that cannot be: where, and what does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {node} ({op}): {message}")]
pub struct GraphError {
    /// Index the node has or would have had.
    pub node: usize,
    /// Its operation.
    pub op: &'static str,
    /// What does not fit.
    pub message: String,
}

/// Nodes in running order, parameters, and named outputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    parameters: Vec<Parameter>,
    outputs: Vec<(String, NodeId)>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares an input.
    pub fn input(&mut self, name: &str, fact: Fact) -> NodeId {
        self.push(Op::Input { name: name.to_owned() }, Vec::new(), fact)
    }

    /// Declares a parameter and returns the node of its value.
    pub fn parameter(&mut self, parameter: Parameter) -> NodeId {
        let fact = Fact::f32(Level::Constant, &parameter.dims);
        let id = ParamId(self.parameters.len());
        self.parameters.push(parameter);
        self.push(Op::Parameter(id), Vec::new(), fact)
    }

    /// Applies an op to earlier values.
    ///
    /// # Errors
    /// When the op's shape rule refuses the inputs.
    pub fn apply(&mut self, op: Op, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let facts: Vec<&Fact> = inputs.iter().map(|id| self.fact(*id)).collect();
        let fact = op.infer(&facts).map_err(|message| GraphError {
            node: self.nodes.len(),
            op: op.name(),
            message,
        })?;
        Ok(self.push(op, inputs.to_vec(), fact))
    }

    /// Names a value as an output.
    pub fn output(&mut self, name: &str, value: NodeId) {
        self.outputs.push((name.to_owned(), value));
    }

    /// The nodes, each after everything it reads.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The fact of a value.
    pub fn fact(&self, id: NodeId) -> &Fact {
        &self.nodes[id.0].fact
    }

    /// The parameters, by [`ParamId`].
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The outputs by name, in the order they were named.
    pub fn outputs(&self) -> &[(String, NodeId)] {
        &self.outputs
    }

    /// The value of a named output.
    pub fn output_named(&self, name: &str) -> Option<NodeId> {
        self.outputs.iter().find(|(output, _)| output == name).map(|(_, id)| *id)
    }

    /// The inputs: name and node, in order.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, NodeId)> {
        self.nodes.iter().enumerate().filter_map(|(index, node)| match &node.op {
            Op::Input { name } => Some((name.as_str(), NodeId(index))),
            _ => None,
        })
    }

    /// Proves again that every node reads earlier nodes only and has the fact its op infers:
    /// what every pass is checked by.
    ///
    /// # Errors
    /// The first node that is wrong.
    pub fn check(&self) -> Result<(), GraphError> {
        for (index, node) in self.nodes.iter().enumerate() {
            let fail = |message: String| GraphError { node: index, op: node.op.name(), message };
            if node.inputs.iter().any(|input| input.0 >= index) {
                return Err(fail("reads a node that comes after it".into()));
            }
            if matches!(node.op, Op::Input { .. } | Op::Parameter(_)) {
                continue;
            }
            let facts: Vec<&Fact> = node.inputs.iter().map(|id| self.fact(*id)).collect();
            let fact = node.op.infer(&facts).map_err(fail)?;
            if fact != node.fact {
                return Err(fail(format!("is marked {}, but is {fact}", node.fact)));
            }
        }
        Ok(())
    }

    fn push(&mut self, op: Op, inputs: Vec<NodeId>, fact: Fact) -> NodeId {
        self.nodes.push(Node { op, inputs, fact });
        NodeId(self.nodes.len() - 1)
    }
}
