//! A graph made ready to run: see the crate's page for what a plan is.

mod fuse;
mod schedule;
mod storage;
mod transpose;

use std::collections::BTreeMap;

use gatefold_graph::{Fact, GradientOp, Graph, Level, NodeId, Op, ParamId};

use crate::{error::ExecError, input::InputPlan};

/// Rows that a thread takes through a stage at a time: enough for matrix products to run at full
/// speed, few enough for the values between two steps to stay in a core's cache.
pub(crate) const CHUNK_ROWS: usize = 256;

/// A compiled graph.
#[derive(Clone, Debug)]
pub struct Plan {
    /// By [`NodeId`], then the values that only the plan has.
    pub(crate) values: Vec<Value>,
    pub(crate) inputs: Vec<InputPlan>,
    pub(crate) parameters: Vec<(String, usize)>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) buffers: Vec<Buffer>,
    /// For each scratch slot of a thread, the elements a row.
    pub(crate) scratch: Vec<usize>,
}

/// What a plan knows of the value of a node.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) fact: Fact,
    pub(crate) row_len: usize,
    pub(crate) place: Place,
}

/// Where a value lies while the plan runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: not computed.
    Nowhere,
    /// In the caller's hands, by index into [`Plan::inputs`].
    Input(usize),
    /// Among the parameters.
    Parameter(ParamId),
    /// For all rows: [`Plan::buffers`].
    Buffer(usize),
    /// For the rows of one chunk: a scratch slot of the thread.
    Scratch(usize),
}

/// Memory that values with disjoint lifetimes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffer {
    pub(crate) level: Level,
    pub(crate) row_len: usize,
}

/// Steps that run together.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// Constant: first the steps that sum up rows, side by side, then the others in order.
    /// Otherwise the steps are taken in order for each chunk of rows.
    pub(crate) level: Level,
    pub(crate) steps: Vec<Step>,
    /// The values that the steps write for all rows, each in a buffer of its own.
    pub(crate) writes: Vec<Write>,
}

/// A value written for all rows. Its buffer may be larger than it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) buffer: usize,
    pub(crate) row_len: usize,
}

/// One kernel call: one node, or several fused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) kind: StepKind,
    pub(crate) inputs: Vec<NodeId>,
    pub(crate) output: NodeId,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StepKind {
    /// A node by itself.
    Single(Op),
    /// `x·w + b`, then `max(·, 0)` if asked: inputs x, w, b.
    Linear { relu: bool },
    /// `Σ g_k · w_kᵀ`: inputs g, wᵀ, g, wᵀ, …; where masked, one more input y at the end, and the
    /// sum counts only where y is positive.
    MatMulInputSum { masked: bool },
    /// `Σ gate_k[expert_k] · g_k`: inputs g, gate, g, gate, …; masked as above.
    MixExpertSum { experts: Vec<usize>, masked: bool },
    /// [`Op::Concat`] of rows of tables and of values: inputs table and codes, or the value.
    Gather(Vec<Part>),
    /// The transpose of a matrix.
    Transpose,
    /// The transposes of the rows of each chunk.
    TransposeRows,
    /// `xᵀ · g` as [`GradientOp::MatMulWeight`], but x as [`StepKind::TransposeRows`] leaves it.
    MatMulWeightTransposed,
}

/// A part of a row that [`StepKind::Gather`] joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Lookup,
    Value,
}

impl Plan {
    /// Compiles what `targets` need of a graph. Only the targets can be read after a run. A graph
    /// input may be a target too: it is then checked in each run even if nothing reads it.
    ///
    /// # Errors
    /// When a target is a parameter or not in the graph.
    pub fn compile(graph: &Graph, targets: &[NodeId]) -> Result<Self, ExecError> {
        for target in targets {
            if graph.nodes().get(target.0).is_none_or(|node| matches!(node.op, Op::Parameter(_))) {
                return Err(ExecError::BadTarget { node: target.0 });
            }
        }
        let live = live_nodes(graph, targets);
        let mut facts: Vec<Fact> = graph.nodes().iter().map(|node| node.fact.clone()).collect();
        let steps = transpose::weights_once(&mut facts, fuse::steps(graph, &live, targets));
        let steps = transpose::rows_once(&mut facts, steps);
        let mut stages = schedule::stages(&facts, steps);
        let mut values: Vec<Value> = facts.into_iter().map(Value::new).collect();
        let inputs = leaves(graph, &live, &mut values);
        let storage::Storage { buffers, scratch } = storage::place(&mut stages, targets, &mut values);
        let parameters = graph
            .parameters()
            .iter()
            .map(|parameter| (parameter.name.clone(), crate::parameters::len(parameter)))
            .collect();
        Ok(Self { values, inputs, parameters, stages, buffers, scratch })
    }
}

impl Value {
    fn new(fact: Fact) -> Self {
        Self { row_len: fact.row_len(), fact, place: Place::Nowhere }
    }
}

impl Step {
    /// Whether the step sums rows up to a constant.
    pub(crate) fn is_reduction(&self) -> bool {
        let op = match &self.kind {
            StepKind::Single(op) => op,
            kind => return *kind == StepKind::MatMulWeightTransposed,
        };
        matches!(
            op,
            Op::BceWithLogits
                | Op::Bce
                | Op::SquaredError
                | Op::MeanRows
                | Op::Gradient(GradientOp::MatMulWeight | GradientOp::SumRows { .. })
        )
    }
}

/// The nodes that the targets depend on.
fn live_nodes(graph: &Graph, targets: &[NodeId]) -> Vec<bool> {
    let mut live = vec![false; graph.nodes().len()];
    for target in targets {
        live[target.0] = true;
    }
    for index in (0..live.len()).rev() {
        if live[index] {
            for input in &graph.nodes()[index].inputs {
                live[input.0] = true;
            }
        }
    }
    live
}

/// Places the inputs and parameters, and collects what the inputs must satisfy.
fn leaves(graph: &Graph, live: &[bool], values: &mut [Value]) -> Vec<InputPlan> {
    let mut inputs = Vec::new();
    let mut input_of: BTreeMap<NodeId, usize> = BTreeMap::new();
    for (index, node) in graph.nodes().iter().enumerate() {
        match &node.op {
            Op::Input { name } if live[index] => {
                values[index].place = Place::Input(inputs.len());
                input_of.insert(NodeId(index), inputs.len());
                let Fact { level, element, .. } = node.fact;
                let row_len = node.fact.row_len();
                let name = name.clone();
                inputs.push(InputPlan {
                    name,
                    level,
                    element,
                    row_len,
                    table_rows: None,
                    is_request_of: false,
                });
            }
            Op::Parameter(parameter) => values[index].place = Place::Parameter(*parameter),
            Op::Lookup | Op::LookupMean | Op::LookupEach => {
                if let Some(input) = input_of.get(&node.inputs[1]) {
                    let rows = graph.fact(node.inputs[0]).dims[0];
                    let limit = &mut inputs[*input].table_rows;
                    *limit = Some(limit.map_or(rows, |limit| rows.min(limit)));
                }
            }
            Op::Expand | Op::Gradient(GradientOp::SumByRequest) => {
                if let Some(input) = input_of.get(&node.inputs[1]) {
                    inputs[*input].is_request_of = true;
                }
            }
            _ => {}
        }
    }
    inputs
}
