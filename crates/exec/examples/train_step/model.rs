//! The models of the example and their sizes.

use gatefold_graph::{Fact, Graph, GraphError, Init, Level, NodeId, Op, Parameter};

const WIDTH: usize = 16;
const EXPERTS: usize = 8;
pub(crate) const TASKS: usize = 2;

/// A model and its batches.
#[derive(Clone, Copy)]
pub(crate) enum Workload {
    Mmoe,
    Esmm,
}

impl Workload {
    pub(crate) fn features(self) -> usize {
        match self {
            Workload::Mmoe => 26,
            Workload::Esmm => 17,
        }
    }

    pub(crate) fn batch(self) -> usize {
        match self {
            Workload::Mmoe => 4096,
            Workload::Esmm => 2048,
        }
    }

    /// Floating-point operations of the products for a sample: forward, and backward by inputs and
    /// by weights, two for each weight each time.
    pub(crate) fn operations(self) -> usize {
        let inputs = self.features() * WIDTH;
        6 * match self {
            Workload::Mmoe => {
                EXPERTS * (inputs * 256 + 256 * 128) + TASKS * (inputs * EXPERTS + 128 * 64 + 64)
            }
            Workload::Esmm => TASKS * (inputs * 256 + 256 * 128 + 128 * 64 + 64),
        }
    }
}

pub(crate) struct Training {
    pub(crate) graph: Graph,
    pub(crate) loss: NodeId,
}

/// The graph up to the sum of both losses.
pub(crate) fn training(workload: Workload, rows: usize) -> Result<Training, GraphError> {
    let mut graph = Graph::new();
    let mut fields = Vec::new();
    for feature in 0..workload.features() {
        let name = format!("embedding.{feature}");
        let dims = vec![rows, WIDTH];
        let table = graph.parameter(Parameter { name, dims, init: Init::Normal(0.05), table: true });
        let codes = graph.input(&feature.to_string(), Fact::i32(Level::Candidate, &[]));
        fields.push(graph.apply(Op::Lookup, &[table, codes])?);
    }
    let x = graph.apply(Op::Concat, &fields)?;
    let losses = match workload {
        Workload::Mmoe => mmoe(&mut graph, x)?,
        Workload::Esmm => esmm(&mut graph, x)?,
    };
    let loss = graph.apply(Op::Add, &losses)?;
    Ok(Training { graph, loss })
}

fn mmoe(graph: &mut Graph, x: NodeId) -> Result<[NodeId; TASKS], GraphError> {
    let mut experts = Vec::new();
    for expert in 0..EXPERTS {
        experts.push(layers(graph, &format!("expert.{expert}"), x, &[256, 128])?);
    }
    let mut logits = Vec::new();
    for task in 0..TASKS {
        let gate = linear(graph, &format!("gate.{task}"), x, EXPERTS, false)?;
        let gate = graph.apply(Op::Softmax, &[gate])?;
        let mixed = graph.apply(Op::Mix, &[&[gate], experts.as_slice()].concat())?;
        logits.push(tower(graph, task, mixed, &[64])?);
    }
    Ok([loss(graph, Op::BceWithLogits, 0, logits[0])?, loss(graph, Op::BceWithLogits, 1, logits[1])?])
}

/// The second task is learned through the product of both probabilities.
fn esmm(graph: &mut Graph, x: NodeId) -> Result<[NodeId; TASKS], GraphError> {
    let logits = [tower(graph, 0, x, &[256, 128, 64])?, tower(graph, 1, x, &[256, 128, 64])?];
    let click = graph.apply(Op::Sigmoid, &[logits[0]])?;
    let conversion = graph.apply(Op::Sigmoid, &[logits[1]])?;
    let both = graph.apply(Op::Mul, &[click, conversion])?;
    Ok([loss(graph, Op::BceWithLogits, 0, logits[0])?, loss(graph, Op::Bce, 1, both)?])
}

fn loss(graph: &mut Graph, op: Op, task: usize, prediction: NodeId) -> Result<NodeId, GraphError> {
    let mut input = |name: &str| graph.input(name, Fact::f32(Level::Candidate, &[]));
    let (labels, weights) = (input(&format!("label.{task}")), input(&format!("weight.{task}")));
    graph.apply(op, &[prediction, labels, weights])
}

/// The logit of a task.
fn tower(graph: &mut Graph, task: usize, x: NodeId, widths: &[usize]) -> Result<NodeId, GraphError> {
    let hidden = layers(graph, &format!("tower.{task}"), x, widths)?;
    let logit = linear(graph, &format!("tower.{task}.logit"), hidden, 1, false)?;
    graph.apply(Op::Squeeze, &[logit])
}

fn layers(graph: &mut Graph, name: &str, x: NodeId, widths: &[usize]) -> Result<NodeId, GraphError> {
    let mut y = x;
    for (layer, width) in widths.iter().enumerate() {
        y = linear(graph, &format!("{name}.{layer}"), y, *width, true)?;
    }
    Ok(y)
}

fn linear(graph: &mut Graph, name: &str, x: NodeId, width: usize, relu: bool) -> Result<NodeId, GraphError> {
    let inner = graph.fact(x).row_len();
    let mut parameter = |part: &str, dims: &[usize], init: Init| {
        graph.parameter(Parameter { name: format!("{name}.{part}"), dims: dims.to_vec(), init, table: false })
    };
    let w = parameter("weight", &[inner, width], Init::GlorotUniform);
    let b = parameter("bias", &[width], Init::Zeros);
    let y = graph.apply(Op::MatMul, &[x, w])?;
    let y = graph.apply(Op::Add, &[y, b])?;
    if relu { graph.apply(Op::Relu, &[y]) } else { Ok(y) }
}
