//! Adam against its definition, computed naively in `f64`.

use gatefold_exec::{
    Executor, GradientOptions, InputValue, Optimizer, OptimizerConfig, Parameters, StateArray,
};
use gatefold_graph::{Gradients, Level, NodeId, Op, ParamId, differentiate};

use crate::model::Model;

/// Of values up to 1 after a few steps of 0.01.
const TOLERANCE: f64 = 2e-6;

/// One number of a parameter, trained by the book.
#[derive(Clone, Copy)]
struct Naive {
    value: f64,
    first: f64,
    second: f64,
}

impl Naive {
    /// `sparse` puts ε where `torch.optim.SparseAdam` puts it: beside the uncorrected root.
    fn step(&mut self, gradient: f64, step: i32, rate: f64, sparse: bool) {
        self.first = 0.9 * self.first + 0.1 * gradient;
        self.second = 0.999 * self.second + 0.001 * gradient * gradient;
        let (c1, c2) = (1.0 - 0.9_f64.powi(step), 1.0 - 0.999_f64.powi(step));
        self.value -= if sparse {
            rate * c2.sqrt() / c1 * self.first / (self.second.sqrt() + 1e-8)
        } else {
            rate / c1 * self.first / ((self.second / c2).sqrt() + 1e-8)
        };
    }
}

/// Lookups that share a table, one of them a mean, and two dense parameters, one of them large.
fn model(seed: u64, candidates: usize) -> (Model, Gradients) {
    let mut model = Model::new(seed, 1, candidates);
    let table = model.table(3);
    let (first, second) = (model.codes(Level::Candidate, &[]), model.codes(Level::Candidate, &[2]));
    let first = model.apply(Op::Lookup, &[table, first]);
    let second = model.apply(Op::LookupMean, &[table, second]);
    let x = model.apply(Op::Concat, &[first, second]);
    let (w, v) = (model.parameter(&[6, 4_000]), model.parameter(&[4_000, 1]));
    let y = model.apply(Op::MatMul, &[x, w]);
    let y = model.apply(Op::Sigmoid, &[y]);
    let y = model.apply(Op::MatMul, &[y, v]);
    let y = model.apply(Op::Scale(0.01), &[y]);
    let y = model.apply(Op::Squeeze, &[y]);
    let loss = model.loss(Op::BceWithLogits, y);
    let gradients = differentiate(&mut model.graph, loss).unwrap();
    (model, gradients)
}

/// Adam with a rate of 0.01 for dense parameters.
fn optimizer(model: &Model, tables: &OptimizerConfig) -> Optimizer {
    let dense = OptimizerConfig::adam(0.01);
    Optimizer::new(model.graph.parameters(), &dense, tables, GradientOptions::default()).unwrap()
}

/// All that an optimizer remembers, as bytes.
fn state(optimizer: &Optimizer) -> Vec<(String, Vec<u8>)> {
    let bytes = |array: StateArray<&[f32], &[u64]>| match array {
        StateArray::F32(array) => array.iter().flat_map(|number| number.to_le_bytes()).collect(),
        StateArray::U64(array) => array.iter().flat_map(|number| number.to_le_bytes()).collect(),
    };
    optimizer.state().map(|(name, array)| (name, bytes(array))).collect()
}

fn executor(model: &Model, gradients: &Gradients, threads: usize) -> Executor {
    model.executor(&gradients.targets(), threads)
}

#[test]
fn steps_follow_the_definition() {
    check_steps(0.01);
    check_steps(0.003);
}

/// `table_rate` is the rate that tables must be trained with.
#[track_caller]
fn check_steps(table_rate: f32) {
    // Batches of three rows leave codes of the table untouched in some steps.
    let (first, gradients) = model(0, 3);
    let mut executor = executor(&first, &gradients, 2);
    let mut parameters = first.parameters();
    let start = |value: &f32| Naive { value: f64::from(*value), first: 0.0, second: 0.0 };
    let mut naive: Vec<Vec<Naive>> =
        first.values.iter().map(|values| values.iter().map(start).collect()).collect();
    let tables = OptimizerConfig::adam(table_rate);
    let mut adam = optimizer(&first, &tables);
    let mut untouched = 0;
    for step in 1..=6 {
        let (batch, _) = model(step, 3);
        batch.run(&mut executor, &parameters);
        let found: Vec<Vec<f32>> =
            (0..3).map(|parameter| first.gradient_in(&batch, &gradients, parameter, &executor)).collect();
        adam.step(&mut parameters, &gradients, &executor, &batch.inputs(), 1.0).unwrap();
        for (parameter, found) in found.iter().enumerate() {
            let touched = batch.touched_codes();
            for (place, gradient) in found.iter().enumerate() {
                let is_table = parameter == 0;
                if is_table && !touched.contains(&(place as i32 / 3)) {
                    untouched += 1;
                    continue;
                }
                let rate = if is_table { f64::from(table_rate) } else { 0.01 };
                naive[parameter][place].step(f64::from(*gradient), step as i32, rate, is_table);
            }
        }
    }
    assert!(untouched > 18, "every code was touched in every step");
    for (parameter, naive) in naive.iter().enumerate() {
        for (place, (found, naive)) in parameters.get(ParamId(parameter)).iter().zip(naive).enumerate() {
            let difference = (f64::from(*found) - naive.value).abs();
            assert!(difference <= TOLERANCE, "parameter {parameter}, {place}: {found} for {}", naive.value);
        }
    }
    assert_eq!(parameters.get(ParamId(0))[..3], [0.0; 3], "row 0 must stay zero");
    assert_eq!(adam.state().next(), Some(("steps".to_owned(), StateArray::U64(&[6, 6, 6][..]))));
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let train = |threads: usize| -> (Parameters, Vec<(String, Vec<u8>)>) {
        let (first, gradients) = model(0, 900);
        let mut executor = executor(&first, &gradients, threads);
        let (mut parameters, mut adam) =
            (first.parameters(), optimizer(&first, &OptimizerConfig::adam(0.01)));
        for seed in 0..4 {
            let (batch, _) = model(seed, 900);
            batch.run(&mut executor, &parameters);
            adam.step(&mut parameters, &gradients, &executor, &batch.inputs(), 1.0).unwrap();
        }
        (parameters, state(&adam))
    };
    let expected = train(1);
    assert_eq!(train(2), expected);
    assert_eq!(train(5), expected);
}

#[test]
fn a_restored_state_continues_as_if_nothing_had_happened() {
    let (model, gradients) = model(0, 20);
    let mut executor = executor(&model, &gradients, 1);
    let adam = OptimizerConfig::adam(0.01);
    let (mut parameters, mut first) = (model.parameters(), optimizer(&model, &adam));
    let mut step = |parameters: &mut Parameters, optimizer: &mut Optimizer| {
        model.run(&mut executor, parameters);
        optimizer.step(parameters, &gradients, &executor, &model.inputs(), 1.0).unwrap();
    };
    step(&mut parameters, &mut first);
    let (mut other, mut restored) = (parameters.clone(), optimizer(&model, &adam));
    for ((name, from), (to_name, to)) in first.state().zip(restored.state_mut()) {
        assert_eq!(name, to_name);
        match (from, to) {
            (StateArray::F32(from), StateArray::F32(to)) => to.copy_from_slice(from),
            (StateArray::U64(from), StateArray::U64(to)) => to.copy_from_slice(from),
            _ => panic!("{name} has another type"),
        }
    }
    assert_eq!(state(&restored), state(&first));
    step(&mut parameters, &mut first);
    step(&mut other, &mut restored);
    assert_eq!(other, parameters);
    assert_eq!(state(&restored), state(&first));
}

/// A logit for each code and nothing else: the lowest loss is the entropy of the labels within
/// each code, and ln 2 for code 0, whose logit stays 0.
#[test]
fn training_reaches_the_lowest_loss() {
    let mut model = Model::new(2, 1, 200);
    let x = model.rows(Level::Candidate, 1);
    let logits = model.apply(Op::Squeeze, &[x]);
    let loss = model.loss(Op::BceWithLogits, logits);
    let gradients = differentiate(&mut model.graph, loss).unwrap();
    let targets: Vec<NodeId> = [vec![loss], gradients.targets()].concat();
    let mut executor = model.executor(&targets, 2);
    let (mut parameters, mut adam) = (model.parameters(), optimizer(&model, &OptimizerConfig::adam(0.01)));
    for _ in 0..500 {
        model.run(&mut executor, &parameters);
        adam.step(&mut parameters, &gradients, &executor, &model.inputs(), 1.0).unwrap();
    }
    let lowest = lowest_loss(&model);
    let reached = f64::from(executor.value(loss)[0]);
    assert!(reached >= lowest - 1e-6 && reached < lowest + 1e-4, "{reached}, lowest {lowest}");
}

fn lowest_loss(model: &Model) -> f64 {
    let (mut positive, mut total) = ([0.0_f64; 6], [0.0_f64; 6]);
    let [(_, InputValue::F32(labels)), (_, InputValue::F32(weights)), (_, InputValue::I32(codes))] =
        model.inputs()[..]
    else {
        panic!("labels, weights and codes")
    };
    for ((label, weight), code) in labels.iter().zip(weights).zip(codes) {
        positive[*code as usize] += f64::from(label * weight);
        total[*code as usize] += f64::from(*weight);
    }
    let entropy = |share: f64| -share * share.ln() - (1.0 - share) * (1.0 - share).ln();
    let of_codes = (1..6).map(|code| total[code] * entropy(positive[code] / total[code]));
    (of_codes.sum::<f64>() + total[0] * std::f64::consts::LN_2) / total.iter().sum::<f64>()
}
