//! A model under construction, and the layers that models are made of.

use std::collections::BTreeMap;

use gatefold_graph::{self as graph, Fact, Graph, Init, Level, NodeId, Op, Parameter};
use gatefold_schema::{Activation, FittedFeature, ModelConfig, Normalization};

use crate::{
    DROPOUT_SEED, NnError,
    experts::{Expert, Mixture},
    inputs,
    statistics::{BATCH_MEAN, BATCH_VARIANCE, RUNNING_MEAN, RUNNING_VARIANCE},
};

/// Added to variances, as in PyTorch.
const EPSILON: f32 = 1e-5;

/// Slope of the leaky ReLU below zero, as in PyTorch.
const LEAKY_SLOPE: f32 = 0.01;

/// A graph with what its parts are made by and what the models need to find again.
pub(crate) struct Net<'a> {
    pub(crate) graph: Graph,
    pub(crate) model: &'a ModelConfig,
    pub(crate) features: &'a [FittedFeature],
    /// Whether the graph is for training: what only a loss needs is left out of one that is served.
    pub(crate) training: bool,
    /// The input of each feature.
    pub(crate) inputs: Vec<NodeId>,
    /// The input that seeds dropout; none where nothing is dropped.
    dropout_seed: Option<NodeId>,
    /// The layers with dropout so far: each drops units of its own.
    dropouts: u32,
    /// The parameters so far, by name.
    pub(crate) parameters: BTreeMap<String, NodeId>,
    /// The experts so far.
    pub(crate) experts: Vec<Expert>,
    /// The mixtures so far.
    pub(crate) mixtures: Vec<Mixture>,
    /// What the tower of each task reads, where the towers stand on values of the same kind.
    pub(crate) tower_inputs: Vec<NodeId>,
    /// What the loss has beside the tasks' losses.
    pub(crate) penalties: Vec<Penalty>,
}

/// A term of the loss that belongs to no task.
pub(crate) struct Penalty {
    pub(crate) strength: f32,
    /// One number, or one a candidate.
    pub(crate) value: NodeId,
    /// The task over whose sample space a number a candidate is averaged.
    pub(crate) space: Option<usize>,
}

impl<'a> Net<'a> {
    /// Declares an input for each feature.
    pub(crate) fn new(
        features: &'a [FittedFeature],
        model: &'a ModelConfig,
        training: bool,
    ) -> Result<Self, NnError> {
        if features.is_empty() {
            return Err(NnError::NoFeature);
        }
        let mut graph = Graph::new();
        let inputs = features.iter().map(|fitted| inputs::declare(&mut graph, fitted)).collect();
        let seed = Fact::i32(Level::Constant, &[]);
        let dropout_seed = (training && model.dropout > 0.0).then(|| graph.input(DROPOUT_SEED, seed));
        Ok(Self {
            graph,
            model,
            features,
            training,
            inputs,
            dropout_seed,
            dropouts: 0,
            parameters: BTreeMap::new(),
            experts: Vec::new(),
            mixtures: Vec::new(),
            tower_inputs: Vec::new(),
            penalties: Vec::new(),
        })
    }

    pub(crate) fn apply(&mut self, op: Op, inputs: &[NodeId]) -> Result<NodeId, NnError> {
        Ok(self.graph.apply(op, inputs)?)
    }

    /// `x·W + b`: `[.., in]` → `[.., outputs]`, with parameters `<name>.weight` (Glorot and Bengio, 2010)
    /// and `<name>.bias` (zeros).
    pub(crate) fn linear(&mut self, name: &str, x: NodeId, outputs: usize) -> Result<NodeId, NnError> {
        let inputs = self.graph.fact(x).dims.last().copied().unwrap_or(1);
        let weight = self.parameter(format!("{name}.weight"), &[inputs, outputs], Init::GlorotUniform);
        let bias = self.parameter(format!("{name}.bias"), &[outputs], Init::Zeros);
        let product = self.apply(Op::MatMul, &[x, weight])?;
        self.apply(Op::Add, &[product, bias])
    }

    /// A hidden layer: linear, normalization, activation and dropout, each as configured.
    pub(crate) fn layer(&mut self, name: &str, x: NodeId, width: usize) -> Result<NodeId, NnError> {
        let sum = self.linear(name, x, width)?;
        let normal = self.normalize(&format!("{name}.norm"), sum, width)?;
        let active = self.activate(normal)?;
        self.drop_out(active)
    }

    fn normalize(&mut self, name: &str, x: NodeId, width: usize) -> Result<NodeId, NnError> {
        if self.model.normalization == Normalization::None {
            return Ok(x);
        }
        let gamma = self.parameter(format!("{name}.gamma"), &[width], Init::Values(vec![1.0; width]));
        let beta = self.parameter(format!("{name}.beta"), &[width], Init::Zeros);
        if self.model.normalization == Normalization::Layer {
            return self.apply(Op::LayerNorm { epsilon: EPSILON }, &[x, gamma, beta]);
        }
        let mean = self.parameter(format!("{name}{RUNNING_MEAN}"), &[width], Init::Zeros);
        let ones = Init::Values(vec![1.0; width]);
        let variance = self.parameter(format!("{name}{RUNNING_VARIANCE}"), &[width], ones);
        let (mean, variance) = if self.training { self.batch_statistics(name, x)? } else { (mean, variance) };
        self.apply(Op::BatchNorm { epsilon: EPSILON }, &[x, mean, variance, gamma, beta])
    }

    /// Mean and variance of each column of `x` over the candidates of the batch, also as outputs.
    fn batch_statistics(&mut self, name: &str, x: NodeId) -> Result<(NodeId, NodeId), NnError> {
        let mean = self.apply(Op::MeanRows, &[x])?;
        let minus_mean = self.apply(Op::Scale(-1.0), &[mean])?;
        let centred = self.apply(Op::Add, &[x, minus_mean])?;
        let squares = self.apply(Op::Mul, &[centred, centred])?;
        let variance = self.apply(Op::MeanRows, &[squares])?;
        self.graph.output(&format!("{name}{BATCH_MEAN}"), mean);
        self.graph.output(&format!("{name}{BATCH_VARIANCE}"), variance);
        Ok((mean, variance))
    }

    fn drop_out(&mut self, x: NodeId) -> Result<NodeId, NnError> {
        let Some(seed) = self.dropout_seed else { return Ok(x) };
        let op = Op::Dropout { rate: self.model.dropout, salt: self.dropouts };
        self.dropouts += 1;
        self.apply(op, &[x, seed])
    }

    pub(crate) fn activate(&mut self, x: NodeId) -> Result<NodeId, NnError> {
        let op = match self.model.activation {
            Activation::Relu => Op::Relu,
            Activation::LeakyRelu => Op::Activation(graph::Activation::LeakyRelu(LEAKY_SLOPE)),
            Activation::Elu => Op::Activation(graph::Activation::Elu),
            Activation::Gelu => Op::Activation(graph::Activation::Gelu),
            Activation::Silu => Op::Activation(graph::Activation::Silu),
            Activation::Tanh => Op::Activation(graph::Activation::Tanh),
        };
        self.apply(op, &[x])
    }

    /// Hidden layers `<name>.0`, `<name>.1`, … of these widths. No width: `x` itself.
    pub(crate) fn hidden(&mut self, name: &str, x: NodeId, widths: &[usize]) -> Result<NodeId, NnError> {
        let mut value = x;
        for (index, width) in widths.iter().enumerate() {
            value = self.layer(&format!("{name}.{index}"), value, *width)?;
        }
        Ok(value)
    }

    /// [`hidden`](Self::hidden) layers and one more linear layer to `outputs` numbers.
    pub(crate) fn hidden_to(
        &mut self,
        name: &str,
        x: NodeId,
        widths: &[usize],
        outputs: usize,
    ) -> Result<NodeId, NnError> {
        let hidden = self.hidden(name, x, widths)?;
        self.linear(&format!("{name}.{}", widths.len()), hidden, outputs)
    }

    /// A task's tower, `tower.<task>`: hidden layers of these widths, then one unit, the logit `[]`.
    pub(crate) fn tower(&mut self, task: &str, x: NodeId, widths: &[usize]) -> Result<NodeId, NnError> {
        let unit = self.hidden_to(&format!("tower.{task}"), x, widths, 1)?;
        self.apply(Op::Squeeze, &[unit])
    }

    pub(crate) fn parameter(&mut self, name: String, dims: &[usize], init: Init) -> NodeId {
        self.declare(Parameter { name, dims: dims.to_vec(), init, table: false })
    }

    pub(crate) fn declare(&mut self, parameter: Parameter) -> NodeId {
        let name = parameter.name.clone();
        let node = self.graph.parameter(parameter);
        self.parameters.insert(name, node);
        node
    }
}
