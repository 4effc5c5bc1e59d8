//! A model under construction, and the layers that models are made of.

use std::collections::BTreeMap;

use gatefold_graph::{Graph, Init, NodeId, Op, Parameter};
use gatefold_schema::{FittedFeature, ModelConfig};

use crate::{NnError, experts::Expert, inputs};

/// A graph with what its parts are made by and what the models need to find again.
pub(crate) struct Net<'a> {
    pub(crate) graph: Graph,
    pub(crate) model: &'a ModelConfig,
    pub(crate) features: &'a [FittedFeature],
    /// The input of each feature.
    pub(crate) inputs: Vec<NodeId>,
    /// The embedding tables so far, by parameter name.
    pub(crate) tables: BTreeMap<String, NodeId>,
    /// The experts so far.
    pub(crate) experts: Vec<Expert>,
    /// The gates so far: name, softmax, and the experts it weighs, as indices into `experts`.
    pub(crate) gates: Vec<(String, NodeId, Vec<usize>)>,
}

impl<'a> Net<'a> {
    /// Declares an input for each feature.
    pub(crate) fn new(features: &'a [FittedFeature], model: &'a ModelConfig) -> Result<Self, NnError> {
        if features.is_empty() {
            return Err(NnError::NoFeature);
        }
        let mut graph = Graph::new();
        let inputs = features.iter().map(|fitted| inputs::declare(&mut graph, fitted)).collect();
        Ok(Self {
            graph,
            model,
            features,
            inputs,
            tables: BTreeMap::new(),
            experts: Vec::new(),
            gates: Vec::new(),
        })
    }

    pub(crate) fn apply(&mut self, op: Op, inputs: &[NodeId]) -> Result<NodeId, NnError> {
        Ok(self.graph.apply(op, inputs)?)
    }

    /// `x·W + b`: `[in]` → `[outputs]`, with parameters `<name>.weight` (Glorot and Bengio, 2010)
    /// and `<name>.bias` (zeros).
    pub(crate) fn linear(&mut self, name: &str, x: NodeId, outputs: usize) -> Result<NodeId, NnError> {
        let inputs = self.graph.fact(x).row_len();
        let weight = self.parameter(format!("{name}.weight"), &[inputs, outputs], Init::GlorotUniform);
        let bias = self.parameter(format!("{name}.bias"), &[outputs], Init::Zeros);
        let product = self.apply(Op::MatMul, &[x, weight])?;
        self.apply(Op::Add, &[product, bias])
    }

    /// Hidden layers `<name>.0`, `<name>.1`, … of these widths: linear, then ReLU. No width: `x`
    /// itself.
    pub(crate) fn hidden(&mut self, name: &str, x: NodeId, widths: &[usize]) -> Result<NodeId, NnError> {
        let mut value = x;
        for (layer, width) in widths.iter().enumerate() {
            let sum = self.linear(&format!("{name}.{layer}"), value, *width)?;
            value = self.apply(Op::Relu, &[sum])?;
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

    fn parameter(&mut self, name: String, dims: &[usize], init: Init) -> NodeId {
        self.graph.parameter(Parameter { name, dims: dims.to_vec(), init, table: false })
    }
}
