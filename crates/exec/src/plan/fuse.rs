//! Joins nodes into fused steps where the values between them have no other reader.
//!
//! * `MatMul`, `Add` of a constant, `Relu` → one product with bias and activation.
//! * Sums of `MatMulInput` (the gradient of a value that several layers read), and the `Relu`
//!   gradient behind them → products that accumulate in place.
//! * `Concat` of `Lookup`s → rows of tables copied to their place.
//! * Sums of `MixExpert` (an expert that several tasks mix), likewise.

use gatefold_graph::{GradientOp, Graph, Level, NodeId, Op};

use super::{Part, Step, StepKind};

/// The live nodes as steps, fused where possible; in an order in which they can run.
pub(super) fn steps(graph: &Graph, live: &[bool], targets: &[NodeId]) -> Vec<Step> {
    let mut fuser =
        Fuser { graph, readers: readers(graph, live, targets), absorbed: vec![false; live.len()] };
    let mut steps = Vec::new();
    for index in (0..live.len()).rev().filter(|index| live[*index]) {
        if !fuser.absorbed[index] {
            let node = NodeId(index);
            steps.extend(
                fuser
                    .linear(node)
                    .or_else(|| fuser.gather(node))
                    .or_else(|| fuser.sum(node))
                    .or_else(|| single_step(graph, node)),
            );
        }
    }
    steps.reverse();
    steps
}

fn single_step(graph: &Graph, output: NodeId) -> Option<Step> {
    let node = graph.node(output);
    match &node.op {
        Op::Input { .. } | Op::Parameter(_) => None,
        op => Some(Step { kind: StepKind::Single(op.clone()), inputs: node.inputs.clone(), output }),
    }
}

/// How often each value is read; a target counts as read once more.
fn readers(graph: &Graph, live: &[bool], targets: &[NodeId]) -> Vec<usize> {
    let mut readers = vec![0; live.len()];
    let read = graph.nodes().iter().zip(live).filter(|(_, live)| **live).flat_map(|(node, _)| &node.inputs);
    for value in read.chain(targets) {
        readers[value.0] += 1;
    }
    readers
}

struct Fuser<'a> {
    graph: &'a Graph,
    readers: Vec<usize>,
    absorbed: Vec<bool>,
}

impl Fuser<'_> {
    fn op(&self, node: NodeId) -> &Op {
        &self.graph.node(node).op
    }

    fn inputs(&self, node: NodeId) -> &[NodeId] {
        &self.graph.node(node).inputs
    }

    fn absorb(&mut self, nodes: &[NodeId]) {
        nodes.iter().for_each(|node| self.absorbed[node.0] = true);
    }

    fn is_read_once(&self, node: NodeId) -> bool {
        self.readers[node.0] == 1
    }

    /// `Relu(Add(MatMul(x, w), b))` or `Add(MatMul(x, w), b)`.
    fn linear(&mut self, root: NodeId) -> Option<Step> {
        let relu = *self.op(root) == Op::Relu;
        let add = if relu { self.inputs(root)[0] } else { root };
        if *self.op(add) != Op::Add || (relu && !self.is_read_once(add)) {
            return None;
        }
        let is_product = |node: NodeId| *self.op(node) == Op::MatMul && self.is_read_once(node);
        let is_constant = |node: NodeId| self.graph.fact(node).level == Level::Constant;
        let (product, bias) = match *self.inputs(add) {
            [product, bias] | [bias, product] if is_product(product) && is_constant(bias) => (product, bias),
            _ => return None,
        };
        let inputs = [self.inputs(product), &[bias]].concat();
        self.absorb(&[product]);
        if relu {
            self.absorb(&[add]);
        }
        Some(Step { kind: StepKind::Linear { relu }, inputs, output: root })
    }

    /// `Concat` where at least one input is a `Lookup`.
    fn gather(&mut self, root: NodeId) -> Option<Step> {
        if *self.op(root) != Op::Concat {
            return None;
        }
        let is_lookup = |value: &NodeId| *self.op(*value) == Op::Lookup && self.is_read_once(*value);
        let (mut parts, mut inputs, mut lookups) = (Vec::new(), Vec::new(), Vec::new());
        for value in self.inputs(root) {
            if is_lookup(value) {
                parts.push(Part::Lookup);
                inputs.extend(self.inputs(*value));
                lookups.push(*value);
            } else {
                parts.push(Part::Value);
                inputs.push(*value);
            }
        }
        self.absorb(&lookups);
        (!lookups.is_empty()).then_some(Step { kind: StepKind::Gather(parts), inputs, output: root })
    }

    /// A tree of `Add` over gradients of one kind, with or without a `Relu` gradient on top.
    fn sum(&mut self, root: NodeId) -> Option<Step> {
        let masked = *self.op(root) == Op::Gradient(GradientOp::Relu);
        let top = if masked { self.inputs(root)[0] } else { root };
        if masked && !self.is_read_once(top) {
            return None;
        }
        let (mut terms, mut sums) = (Vec::new(), Vec::new());
        if !self.terms(top, true, &mut terms, &mut sums) || (!masked && terms.len() < 2) {
            return None;
        }
        let mut inputs: Vec<NodeId> = terms.iter().flat_map(|term| self.inputs(*term)).copied().collect();
        if masked {
            inputs.push(self.inputs(root)[1]);
        }
        let all = |is: fn(&Op) -> bool| terms.iter().all(|term| is(self.op(*term)));
        let kind = if all(|op| matches!(op, Op::Gradient(GradientOp::MatMulInput))) {
            StepKind::MatMulInputSum { masked }
        } else if all(|op| matches!(op, Op::Gradient(GradientOp::MixExpert { .. }))) {
            let experts = terms.iter().filter_map(|term| match self.op(*term) {
                Op::Gradient(GradientOp::MixExpert { expert }) => Some(*expert),
                _ => None,
            });
            StepKind::MixExpertSum { experts: experts.collect(), masked }
        } else {
            return None;
        };
        self.absorb(&terms);
        self.absorb(&sums);
        self.absorbed[root.0] = false;
        Some(Step { kind, inputs, output: root })
    }

    /// Collects the leaves of a tree of `Add`s and the `Add`s below its top; false where
    /// something else reads one of them too.
    fn terms(&self, node: NodeId, is_top: bool, terms: &mut Vec<NodeId>, sums: &mut Vec<NodeId>) -> bool {
        if !is_top && !self.is_read_once(node) {
            return false;
        }
        if *self.op(node) == Op::Add {
            sums.push(node);
            self.inputs(node).iter().all(|input| self.terms(*input, false, terms, sums))
        } else {
            terms.push(node);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use gatefold_graph::{Fact, Init, Parameter, differentiate};

    use super::*;
    use crate::plan::Plan;

    /// Two tasks that mix two experts of one layer each, trained.
    fn kinds_of_a_training_step() -> Vec<(Level, Vec<StepKind>)> {
        let mut graph = Graph::new();
        let declare = |graph: &mut Graph, dims: &[usize], table: bool| {
            let name = graph.parameters().len().to_string();
            graph.parameter(Parameter { name, dims: dims.to_vec(), init: Init::Zeros, table })
        };
        let rows = |graph: &mut Graph, name: &str| graph.input(name, Fact::f32(Level::Candidate, &[]));
        let table = declare(&mut graph, &[9, 4], true);
        let codes = graph.input("codes", Fact::i32(Level::Candidate, &[]));
        let x = graph.apply(Op::Lookup, &[table, codes]).unwrap();
        let x = graph.apply(Op::Concat, &[x]).unwrap();
        let experts = [(); 2].map(|()| {
            let (w, b) = (declare(&mut graph, &[4, 1], false), declare(&mut graph, &[1], false));
            let y = graph.apply(Op::MatMul, &[x, w]).unwrap();
            let y = graph.apply(Op::Add, &[y, b]).unwrap();
            graph.apply(Op::Relu, &[y]).unwrap()
        });
        let (labels, weights) = (rows(&mut graph, "labels"), rows(&mut graph, "weights"));
        let losses = [(); 2].map(|()| {
            let w = declare(&mut graph, &[4, 2], false);
            let gate = graph.apply(Op::MatMul, &[x, w]).unwrap();
            let mixed = graph.apply(Op::Mix, &[gate, experts[0], experts[1]]).unwrap();
            let logit = graph.apply(Op::Squeeze, &[mixed]).unwrap();
            graph.apply(Op::BceWithLogits, &[logit, labels, weights]).unwrap()
        });
        let loss = graph.apply(Op::Add, &losses).unwrap();
        let targets = differentiate(&mut graph, loss).unwrap().targets();
        let stages = Plan::compile(&graph, &targets).unwrap().stages;
        let kinds = |steps: Vec<Step>| steps.into_iter().map(|step| step.kind).collect();
        stages.into_iter().map(|stage| (stage.level, kinds(stage.steps))).collect()
    }

    #[test]
    fn layers_and_sums_of_gradients_become_single_steps() {
        let stages = kinds_of_a_training_step();
        let levels: Vec<Level> = stages.iter().map(|(level, _)| *level).collect();
        assert_eq!(levels, [Level::Constant, Level::Candidate, Level::Constant]);
        let count = |kind: &StepKind| {
            stages.iter().flat_map(|(_, kinds)| kinds).filter(|found| *found == kind).count()
        };
        assert_eq!(count(&StepKind::Linear { relu: true }), 2, "an expert's layer");
        // The gradient of x: from two experts and two gates.
        assert_eq!(count(&StepKind::MatMulInputSum { masked: false }), 1);
        assert_eq!(count(&StepKind::Transpose), 4);
        // x is gathered where its chunk needs it, and transposed once for the four layers.
        assert_eq!(count(&StepKind::Gather(vec![Part::Lookup])), 1);
        assert_eq!(count(&StepKind::TransposeRows), 1);
        assert_eq!(count(&StepKind::MatMulWeightTransposed), 4);
        assert_eq!(count(&StepKind::Single(Op::Gradient(GradientOp::MatMulWeight))), 0);
        // The gradient of an expert's layer: from two tasks, through `Relu`.
        for expert in 0..2 {
            let kind = StepKind::MixExpertSum { experts: vec![expert; 2], masked: true };
            assert_eq!(count(&kind), 1, "{stages:?}");
        }
        assert_eq!(count(&StepKind::Single(Op::Add)), 0, "the loss itself is not a target");
    }
}
