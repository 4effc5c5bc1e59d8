//! Experts and the gates that mix them.

use gatefold_graph::{NodeId, Op};
use gatefold_schema::{GateOutput, Task};

use crate::{NnError, net::Net};

/// One expert of a model.
pub(crate) struct Expert {
    name: String,
    value: NodeId,
}

/// What a gate makes of experts.
pub(crate) struct Mixture {
    gate: String,
    /// The gate's softmax.
    weights: NodeId,
    /// The experts, as indices into those of the model.
    experts: Vec<usize>,
    /// Their weighted sum.
    value: NodeId,
}

/// A gate of a model: which experts it weighs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Name of the gate and of its output, `f32 [experts]` a candidate, which sums to 1:
    /// `gate.<task>` or `gate.shared`, after `level.<l>.` in PLE.
    pub name: String,
    /// The experts, column by column; their activations are outputs of the same names,
    /// `f32 [width]` a candidate.
    pub experts: Vec<String>,
}

impl Net<'_> {
    /// An expert that reads `x`: hidden layers of the configured widths. Its index.
    pub(crate) fn expert(&mut self, name: String, x: NodeId) -> Result<usize, NnError> {
        let value = self.hidden(&name, x, &self.model.expert)?;
        self.experts.push(Expert { name, value });
        Ok(self.experts.len() - 1)
    }

    /// The sum of these experts by the softmax of a gate that reads `x`, through the configured
    /// hidden layers: `Σ softmax(gate(x))_i · expert_i`.
    pub(crate) fn mixture(&mut self, gate: String, x: NodeId, experts: &[usize]) -> Result<NodeId, NnError> {
        let logits = self.hidden_to(&gate, x, &self.model.gate, experts.len())?;
        let weights = self.apply(Op::Softmax, &[logits])?;
        let mut operands = vec![weights];
        operands.extend(experts.iter().map(|expert| self.experts[*expert].value));
        let value = self.apply(Op::Mix, &operands)?;
        self.mixtures.push(Mixture { gate, weights, experts: experts.to_vec(), value });
        Ok(value)
    }

    /// Names as outputs the gates whose mixtures the towers of `tasks` read.
    pub(crate) fn name_tower_gates(&mut self, tasks: &[Task]) -> Vec<GateOutput> {
        let mut outputs = Vec::new();
        for mixture in &self.mixtures {
            let readers = tasks.iter().zip(&self.tower_inputs).filter(|(_, input)| **input == mixture.value);
            let tasks: Vec<String> = readers.map(|(task, _)| task.name.clone()).collect();
            if !tasks.is_empty() {
                self.graph.output(&mixture.gate, mixture.weights);
                let experts = self.expert_names(mixture);
                outputs.push(GateOutput { name: mixture.gate.clone(), tasks, experts });
            }
        }
        outputs
    }

    fn expert_names(&self, mixture: &Mixture) -> Vec<String> {
        mixture.experts.iter().map(|expert| self.experts[*expert].name.clone()).collect()
    }

    /// Names every gate and expert as an output, and says what belongs together.
    pub(crate) fn name_gates(&mut self) -> Vec<Gate> {
        let mut gates = Vec::with_capacity(self.mixtures.len());
        for mixture in &self.mixtures {
            self.graph.output(&mixture.gate, mixture.weights);
            gates.push(Gate { name: mixture.gate.clone(), experts: self.expert_names(mixture) });
        }
        for expert in &self.experts {
            self.graph.output(&expert.name, expert.value);
        }
        gates
    }
}
