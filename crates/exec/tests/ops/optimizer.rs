//! Adam against its definition, computed naively in `f64`, on lookups that share a table; and what
//! holds for every optimizer. Their formulas are checked in `optimizer_golden`.

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

/// Every optimizer once.
fn all() -> [OptimizerConfig; 7] {
    [
        OptimizerConfig::sgd(0.01),
        OptimizerConfig::Sgd { learning_rate: 0.01, momentum: 0.9 },
        OptimizerConfig::adam(0.01),
        OptimizerConfig::adam_w(0.01),
        OptimizerConfig::adagrad(0.01),
        OptimizerConfig::rowwise_adagrad(0.01),
        OptimizerConfig::Ftrl { learning_rate: 0.01, beta: 1.0, l1: 0.01, l2: 0.1 },
    ]
}

/// As in alternate training: the loss of one task moves neither the other's tower nor its state.
#[test]
fn parameters_without_a_gradient_stay_as_they_are() {
    let mut model = Model::new(4, 1, 30);
    let (x, _) = (model.rows(Level::Candidate, 4), model.rows(Level::Candidate, 3));
    let _other_tower = model.parameter(&[4, 1]);
    let loss = model.loss_of_rows(x);
    let gradients = differentiate(&mut model.graph, loss).unwrap();
    let mut executor = model.executor(&gradients.targets(), 2);
    for config in all() {
        let options = GradientOptions { l2: 0.1, embedding_l2: 0.1, ..GradientOptions::default() };
        let mut optimizer = Optimizer::new(model.graph.parameters(), &config, &config, options).unwrap();
        let mut parameters = model.parameters();
        model.run(&mut executor, &parameters);
        optimizer.step(&mut parameters, &gradients, &executor, &model.inputs(), 1.0).unwrap();
        for (index, is_trained) in [true, false, false, true].into_iter().enumerate() {
            let moved = parameters.get(ParamId(index)) != model.values[index];
            assert_eq!(moved, is_trained, "parameter {index}, {config:?}");
            let prefix = format!("parameter {index}.");
            for (name, bytes) in state(&optimizer).iter().filter(|(name, _)| name.starts_with(&prefix)) {
                assert_eq!(bytes.iter().any(|byte| *byte != 0), is_trained, "{name}, {config:?}");
            }
        }
        assert_eq!(optimizer.state().next(), Some(("steps".to_owned(), StateArray::U64(&[1, 0, 0, 1][..]))));
    }
}

#[test]
fn settings_that_no_training_can_have_are_refused() {
    let adam = OptimizerConfig::adam(0.1);
    let refuse = |dense: &OptimizerConfig, tables: &OptimizerConfig, options: GradientOptions| {
        Optimizer::new(&[], dense, tables, options).unwrap_err().to_string()
    };
    let none = GradientOptions::default();
    assert_eq!(
        refuse(&OptimizerConfig::sgd(0.0), &adam, none),
        "optimizer: learning_rate must be above 0, found 0"
    );
    let momentum = OptimizerConfig::Sgd { learning_rate: 0.1, momentum: 1.0 };
    assert_eq!(
        refuse(&adam, &momentum, none),
        "embedding optimizer: momentum must be at least 0 and below 1, found 1"
    );
    assert_eq!(
        refuse(&adam, &adam, GradientOptions { clip_norm: Some(f32::NAN), ..none }),
        "gradients: clip_norm must be above 0, found NaN"
    );
    assert_eq!(
        refuse(&adam, &adam, GradientOptions { embedding_l2: -1.0, ..none }),
        "gradients: embedding_l2 must be at least 0, found -1"
    );
}

/// Where gradients are clipped, one that is not finite would spoil every parameter.
#[test]
fn gradients_without_a_norm_change_nothing() {
    let (model, gradients) = model(0, 20);
    let mut executor = executor(&model, &gradients, 1);
    let start = model.parameters();
    let mut broken = start.clone();
    broken.get_mut(ParamId(2))[0] = f32::INFINITY;
    model.run(&mut executor, &broken);
    let adam = OptimizerConfig::adam(0.01);
    let options = GradientOptions { clip_norm: Some(1.0), ..GradientOptions::default() };
    let mut optimizer = Optimizer::new(model.graph.parameters(), &adam, &adam, options).unwrap();
    let (mut parameters, before) = (start.clone(), state(&optimizer));
    let step = optimizer.step(&mut parameters, &gradients, &executor, &model.inputs(), 1.0);
    let message = step.unwrap_err().to_string();
    assert!(message.starts_with("the norm of the gradients is NaN: "), "{message}");
    assert_eq!((parameters, state(&optimizer)), (start, before));
}

#[test]
fn other_parameters_are_refused() {
    let (model, gradients) = model(0, 20);
    let mut executor = executor(&model, &gradients, 1);
    let mut parameters = model.parameters();
    model.run(&mut executor, &parameters);
    let adam = OptimizerConfig::adam(0.01);
    let declared = &model.graph.parameters()[..2];
    let mut optimizer = Optimizer::new(declared, &adam, &adam, GradientOptions::default()).unwrap();
    let step = optimizer.step(&mut parameters, &gradients, &executor, &model.inputs(), 1.0);
    let expected = "parameter 2 must be `nothing more` with 0 numbers, found `parameter 2` with 4000 numbers";
    assert_eq!(step.unwrap_err().to_string(), expected);
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
