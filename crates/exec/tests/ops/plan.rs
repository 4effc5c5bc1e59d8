//! Plans against each other: fused or not, memory shared or not, one thread or several, large
//! batches after small ones.

use gatefold_exec::Executor;
use gatefold_graph::{Gradients, Level, NodeId, Op, ParamId, differentiate};

use crate::model::Model;

/// A fused sum adds up its products in one matrix kernel, so it may differ in the last bits.
const TOLERANCE: f32 = 1e-5;

/// Layers with `Relu`, one product each.
fn layers(model: &mut Model, x: NodeId, widths: &[usize]) -> NodeId {
    widths.iter().fold(x, |x, width| {
        let y = linear(model, x, *width);
        model.apply(Op::Relu, &[y])
    })
}

fn linear(model: &mut Model, x: NodeId, width: usize) -> NodeId {
    let inner = model.graph.fact(x).row_len();
    let (w, b) = (model.parameter(&[inner, width]), model.parameter(&[width]));
    let y = model.apply(Op::MatMul, &[x, w]);
    model.apply(Op::Add, &[y, b])
}

/// Two tasks that mix three experts; `x` feeds experts and gates.
fn experts_and_towers(model: &mut Model, x: NodeId) -> (Vec<NodeId>, NodeId) {
    let experts: Vec<NodeId> = (0..3).map(|_| layers(model, x, &[9, 5])).collect();
    let (mut outputs, mut losses) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let gate = linear(model, x, experts.len());
        let gate = model.apply(Op::Softmax, &[gate]);
        let mixed = model.apply(Op::Mix, &[&[gate], experts.as_slice()].concat());
        let tower = layers(model, mixed, &[4]);
        let logit = linear(model, tower, 1);
        let logit = model.apply(Op::Squeeze, &[logit]);
        outputs.push(model.apply(Op::Sigmoid, &[logit]));
        losses.push(model.loss(Op::BceWithLogits, logit));
    }
    let both = model.apply(Op::Mul, &[outputs[0], outputs[1]]);
    losses.push(model.loss(Op::Bce, both));
    let scaled = model.apply(Op::Scale(0.3), &[losses[1]]);
    let sum = model.apply(Op::Add, &[losses[0], scaled]);
    let loss = model.apply(Op::Add, &[sum, losses[2]]);
    outputs.push(both);
    (outputs, loss)
}

struct Trained {
    model: Model,
    /// Outputs and loss.
    values: Vec<NodeId>,
    gradients: Gradients,
}

impl Trained {
    /// Every feature at candidate level.
    fn plain(candidates: usize) -> Self {
        let mut model = Model::new(11, candidates, candidates);
        let (a, b) = (model.rows(Level::Candidate, 4), model.rows(Level::Candidate, 3));
        let (table, lists) = (model.table(2), model.codes(Level::Candidate, &[3]));
        let c = model.apply(Op::LookupMean, &[table, lists]);
        let d = model.numbers(Level::Candidate, &[]);
        let x = model.apply(Op::Concat, &[a, b, c, d]);
        Self::finish(model, x)
    }

    /// The first product split into a request part and a candidate part: `Wu·u + Wc·c`.
    fn user_once(requests: usize, candidates: usize) -> Self {
        let mut model = Model::new(12, requests, candidates);
        let request_of = model.request_of();
        let (u, v) = (model.rows(Level::Request, 4), model.numbers(Level::Request, &[2]));
        let u = model.apply(Op::Concat, &[u, v]);
        let c = model.rows(Level::Candidate, 3);
        let (w, bias) = (model.parameter(&[9, 8]), model.parameter(&[8]));
        let wu = model.apply(Op::SliceRows { ranges: vec![(0, 4), (7, 9)] }, &[w]);
        let wc = model.apply(Op::SliceRows { ranges: vec![(4, 7)] }, &[w]);
        let u = model.apply(Op::MatMul, &[u, wu]);
        let u = model.apply(Op::Expand, &[u, request_of]);
        let c = model.apply(Op::MatMul, &[c, wc]);
        let y = model.apply(Op::Add, &[u, c]);
        let y = model.apply(Op::Add, &[y, bias]);
        let x = model.apply(Op::Relu, &[y]);
        Self::finish(model, x)
    }

    fn finish(mut model: Model, x: NodeId) -> Self {
        let (mut values, loss) = experts_and_towers(&mut model, x);
        values.push(loss);
        let gradients = differentiate(&mut model.graph, loss).unwrap();
        Self { model, values, gradients }
    }

    fn targets(&self) -> Vec<NodeId> {
        [self.values.clone(), self.gradients.targets()].concat()
    }

    /// Every computed node: nothing is fused, and no memory is shared.
    fn every_node(&self) -> Vec<NodeId> {
        let is_computed = |node: &NodeId| !matches!(self.model.graph.node(*node).op, Op::Parameter(_));
        (0..self.model.graph.nodes().len()).map(NodeId).filter(is_computed).collect()
    }

    /// Outputs, loss and the derivative by every parameter.
    fn results(&self, executor: &mut Executor) -> Vec<Vec<f32>> {
        self.model.run(executor, &self.model.parameters());
        let values = self.values.iter().map(|value| executor.value(*value).to_vec());
        let parameters = 0..self.model.values.len();
        let gradients = parameters.map(|parameter| self.model.gradient(&self.gradients, parameter, executor));
        values.chain(gradients).collect()
    }
}

/// More than two chunks of rows.
fn models() -> [Trained; 3] {
    [Trained::plain(700), Trained::user_once(300, 700), Trained::user_once(5, 700)]
}

#[test]
fn fused_steps_and_shared_memory_change_nothing() {
    for trained in models() {
        let found = trained.results(&mut trained.model.executor(&trained.targets(), 2));
        let expected = trained.results(&mut trained.model.executor(&trained.every_node(), 2));
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!(
                (found - expected).abs() <= TOLERANCE * expected.abs().max(1.0),
                "{found} for {expected}"
            );
        }
        assert!(
            expected.iter().all(|values| values.iter().any(|value| *value != 0.0)),
            "a value is all zero"
        );
    }
}

#[test]
fn a_layer_is_the_same_bits_fused_or_not() {
    let mut model = Model::new(3, 1, 600);
    let x = model.rows(Level::Candidate, 5);
    let y = layers(&mut model, x, &[33]);
    let mut fused = model.executor(&[y], 1);
    let nodes: Vec<NodeId> = (0..3).map(|back| NodeId(y.0 - back)).collect();
    let mut single = model.executor(&nodes, 1);
    for executor in [&mut fused, &mut single] {
        model.run(executor, &model.parameters());
    }
    assert_eq!(fused.value(y), single.value(y));
    assert!(fused.memory_bytes() < single.memory_bytes());
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for trained in models() {
        let expected = trained.results(&mut trained.model.executor(&trained.targets(), 1));
        for threads in [2, 5] {
            assert_eq!(trained.results(&mut trained.model.executor(&trained.targets(), threads)), expected);
        }
    }
}

#[test]
fn an_executor_runs_batches_of_any_size_after_each_other() {
    let sizes = [(300, 700), (1, 1), (5, 256), (3, 257), (300, 700)];
    let mut executor: Option<Executor> = None;
    for (requests, candidates) in sizes {
        let trained = Trained::user_once(requests, candidates);
        let fresh = trained.results(&mut trained.model.executor(&trained.targets(), 2));
        let reused = executor.get_or_insert_with(|| trained.model.executor(&trained.targets(), 2));
        assert_eq!(trained.results(reused), fresh);
    }
}

#[test]
fn an_empty_batch_has_no_loss_and_no_gradient() {
    let trained = Trained::plain(0);
    let results = trained.results(&mut trained.model.executor(&trained.targets(), 2));
    assert!(results.iter().flatten().all(|value| *value == 0.0));
    assert_eq!(results[trained.values.len() - 1], [0.0]);
    assert!(results[0].is_empty());
}

#[test]
fn the_plain_and_the_split_product_agree() {
    let mut model = Model::new(5, 3, 40);
    let request_of = model.request_of();
    let (u, c) = (model.rows(Level::Request, 4), model.rows(Level::Candidate, 3));
    let w = model.parameter(&[7, 6]);
    let expanded = model.apply(Op::Expand, &[u, request_of]);
    let x = model.apply(Op::Concat, &[expanded, c]);
    let plain = model.apply(Op::MatMul, &[x, w]);
    let wu = model.apply(Op::SliceRows { ranges: vec![(0, 4)] }, &[w]);
    let wc = model.apply(Op::SliceRows { ranges: vec![(4, 7)] }, &[w]);
    let u = model.apply(Op::MatMul, &[u, wu]);
    let u = model.apply(Op::Expand, &[u, request_of]);
    let c = model.apply(Op::MatMul, &[c, wc]);
    let split = model.apply(Op::Add, &[u, c]);
    let losses = [model.loss_of_rows(plain), model.loss_of_rows(split)];
    // Both losses read the same labels, weights and last product.
    let gradients = losses.map(|loss| differentiate(&mut model.graph, loss).unwrap());
    let targets: Vec<NodeId> = gradients.iter().flat_map(Gradients::targets).chain([plain, split]).collect();
    let mut executor = model.executor(&targets, 2);
    model.run(&mut executor, &model.parameters());
    for (plain, split) in executor.value(plain).iter().zip(executor.value(split)) {
        assert!((plain - split).abs() <= TOLERANCE * plain.abs().max(1.0), "{split} for {plain}");
    }
    assert!(gradients.iter().all(|gradients| gradients.get(ParamId(2)).is_some()));
}
