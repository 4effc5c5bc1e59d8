//! Every optimizer against PyTorch, or its published formula in NumPy: a dense matrix and a table,
//! several steps. `training/reference/optimizers.py` writes the numbers, in double precision.

use gatefold_exec::{
    Executor, GradientOptions, GradientValues, InputValue, Optimizer, OptimizerConfig, Parameters, Plan,
};
use gatefold_graph::{Fact, Gradients, Graph, Init, Level, NodeId, Op, ParamId, Parameter, differentiate};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::Value;

/// Of numbers of the order of one, after five steps.
const TOLERANCE: f64 = 2e-6;
const DENSE: ParamId = ParamId(0);
const TABLE: ParamId = ParamId(1);

#[derive(Deserialize)]
struct Golden {
    /// Of the matrix and of the table.
    rows: [usize; 2],
    width: usize,
    dense: Vec<f32>,
    table: Vec<f32>,
    factors: Vec<f32>,
    batches: Vec<Batch>,
    cases: Vec<Case>,
}

/// The gradients of one step.
#[derive(Deserialize)]
struct Batch {
    dense: Vec<f32>,
    codes: Vec<i32>,
    /// One row a code.
    rows: Vec<f32>,
}

#[derive(Deserialize)]
struct Case {
    optimizer: Value,
    clip_norm: Option<f32>,
    #[serde(default)]
    l2: f32,
    #[serde(default)]
    embedding_l2: f32,
    dense: Vec<f64>,
    table: Vec<f64>,
}

impl Case {
    fn config(&self) -> OptimizerConfig {
        let number = |name: &str| self.optimizer[name].as_f64().unwrap() as f32;
        let learning_rate = number("learning_rate");
        match self.optimizer["kind"].as_str().unwrap() {
            "sgd" => OptimizerConfig::Sgd { learning_rate, momentum: number("momentum") },
            kind @ ("adam" | "adamw") => {
                let (beta1, beta2, epsilon) = (number("beta1"), number("beta2"), number("epsilon"));
                match kind {
                    "adam" => OptimizerConfig::Adam { learning_rate, beta1, beta2, epsilon },
                    _ => OptimizerConfig::AdamW {
                        learning_rate,
                        beta1,
                        beta2,
                        epsilon,
                        weight_decay: number("weight_decay"),
                    },
                }
            }
            kind @ ("adagrad" | "rowwise-adagrad") => {
                let (epsilon, initial) = (number("epsilon"), number("initial"));
                match kind {
                    "adagrad" => OptimizerConfig::Adagrad { learning_rate, epsilon, initial },
                    _ => OptimizerConfig::RowwiseAdagrad { learning_rate, epsilon, initial },
                }
            }
            "ftrl" => OptimizerConfig::Ftrl {
                learning_rate,
                beta: number("beta"),
                l1: number("l1"),
                l2: number("l2"),
            },
            other => panic!("unknown optimizer {other}"),
        }
    }

    fn options(&self) -> GradientOptions {
        GradientOptions { clip_norm: self.clip_norm, l2: self.l2, embedding_l2: self.embedding_l2 }
    }
}

/// A graph whose gradients are inputs: the loss is `Σ ⟨eᵢ·dense, aᵢ⟩ + ⟨table[codeᵢ], bᵢ⟩` over the
/// candidates, with eᵢ the i-th unit row, or zeros where the matrix has no such row.
struct Given {
    graph: Graph,
    gradients: Gradients,
    start: Parameters,
    units: Vec<f32>,
    weights: Vec<f32>,
}

impl Given {
    fn new(golden: &Golden) -> Self {
        let ([dense_rows, table_rows], width) = (golden.rows, golden.width);
        let candidates = golden.batches[0].codes.len();
        let mut graph = Graph::new();
        let mut declare = |name: &str, rows: usize, table: bool| {
            let (name, dims) = (name.to_owned(), vec![rows, width]);
            graph.parameter(Parameter { name, dims, init: Init::Zeros, table })
        };
        let (dense, table) = (declare("dense", dense_rows, false), declare("table", table_rows, true));
        let rows = |dims: &[usize]| Fact::f32(Level::Candidate, dims);
        let (units, weights) = (graph.input("units", rows(&[dense_rows])), graph.input("weights", rows(&[])));
        let codes = graph.input("codes", Fact::i32(Level::Candidate, &[]));
        let gradients = ["a", "b"].map(|name| graph.input(name, rows(&[width])));
        let mut apply = |op: Op, inputs: &[NodeId]| graph.apply(op, inputs).unwrap();
        let read = [apply(Op::MatMul, &[units, dense]), apply(Op::Lookup, &[table, codes])];
        let means = [0, 1].map(|place| {
            let product = apply(Op::Dot, &[read[place], gradients[place]]);
            apply(Op::MeanRows, &[product, weights])
        });
        // The number of candidates is a power of two, so that a mean is a sum without rounding.
        assert!(candidates.is_power_of_two());
        let mean = apply(Op::Add, &means);
        let loss = apply(Op::Scale(candidates as f32), &[mean]);
        let gradients = differentiate(&mut graph, loss).unwrap();
        let values = vec![golden.dense.clone(), golden.table.clone()];
        let mut units = vec![0.0; candidates * dense_rows];
        (0..dense_rows).for_each(|row| units[row * dense_rows + row] = 1.0);
        Self {
            start: Parameters::from_values(graph.parameters(), values).unwrap(),
            graph,
            gradients,
            units,
            weights: vec![1.0; candidates],
        }
    }

    fn executor(&self, threads: usize) -> Executor {
        Executor::new(Plan::compile(&self.graph, &self.gradients.targets()).unwrap(), threads).unwrap()
    }

    /// Runs a batch and calls `step` with its inputs.
    fn run(
        &self,
        executor: &mut Executor,
        parameters: &Parameters,
        batch: &Batch,
        step: impl FnOnce(&Executor, &[(&str, InputValue<'_>)]),
    ) {
        let mut dense = batch.dense.clone();
        dense.resize(batch.rows.len(), 0.0);
        let inputs = [
            ("units", InputValue::F32(&self.units)),
            ("weights", InputValue::F32(&self.weights)),
            ("codes", InputValue::I32(&batch.codes)),
            ("a", InputValue::F32(&dense)),
            ("b", InputValue::F32(&batch.rows)),
        ];
        let candidates = batch.codes.len();
        executor.run(parameters, candidates, candidates, &inputs).unwrap();
        step(executor, &inputs);
    }

    /// Makes all steps.
    fn train(&self, golden: &Golden, case: &Case, threads: usize, by_values: bool) -> Parameters {
        let (mut executor, mut parameters) = (self.executor(threads), self.start.clone());
        let config = case.config();
        let mut optimizer =
            Optimizer::new(self.graph.parameters(), &config, &config, case.options()).unwrap();
        for (batch, factor) in golden.batches.iter().zip(&golden.factors) {
            let before = parameters.clone();
            self.run(&mut executor, &before, batch, |executor, inputs| {
                let result = if by_values {
                    let values =
                        GradientValues::from_run(&before, &self.gradients, executor, inputs).unwrap();
                    optimizer.step_values(&mut parameters, &values, executor, *factor)
                } else {
                    optimizer.step(&mut parameters, &self.gradients, executor, inputs, *factor)
                };
                result.unwrap();
            });
            let width = golden.width;
            let rows = before.get(TABLE).chunks(width).zip(parameters.get(TABLE).chunks(width));
            for (row, (before, after)) in rows.enumerate() {
                let is_touched = row > 0 && batch.codes.contains(&(row as i32));
                assert!(is_touched || before == after, "row {row} changed, codes {:?}", batch.codes);
            }
        }
        parameters
    }
}

fn golden() -> Golden {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/optimizers.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn steps_are_those_of_pytorch_or_of_the_paper() {
    let golden = golden();
    let given = Given::new(&golden);
    assert_eq!(golden.cases.len(), 10);
    for case in &golden.cases {
        let found = given.train(&golden, case, 2, false);
        for (parameter, expected) in [(DENSE, &case.dense), (TABLE, &case.table)] {
            for (place, (found, expected)) in found.get(parameter).iter().zip(expected).enumerate() {
                let difference = (f64::from(*found) - expected).abs();
                let what = || format!("{}, {parameter:?}, {place}", case.optimizer);
                assert!(difference <= TOLERANCE, "{}: {found} for {expected}", what());
            }
        }
    }
}

#[test]
fn gradients_taken_out_of_a_run_make_the_same_steps() {
    let golden = golden();
    let given = Given::new(&golden);
    for case in &golden.cases {
        assert_eq!(given.train(&golden, case, 2, true), given.train(&golden, case, 2, false));
    }
}

/// On a matrix and a table that are more than one task each.
#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let mut random = ChaCha8Rng::seed_from_u64(6);
    let mut numbers = |count: usize| (0..count).map(|_| random.random_range(-1.0..1.0)).collect::<Vec<f32>>();
    let (rows, width, candidates) = ([400, 1_500], 50, 1024);
    let (dense, table) = (numbers(rows[0] * width), numbers(rows[1] * width));
    let mut batch = |step: i32| Batch {
        dense: numbers(rows[0] * width),
        codes: (0..candidates as i32).map(|place| place / 2 * (step + 7) % rows[1] as i32).collect(),
        rows: numbers(candidates * width),
    };
    let batches = vec![batch(0), batch(1)];
    let Golden { cases, factors, .. } = golden();
    let golden = Golden { rows, width, dense, table, factors, batches, cases };
    let given = Given::new(&golden);
    for case in &golden.cases {
        let expected = given.train(&golden, case, 1, false);
        assert_ne!(expected, given.start);
        for threads in [2, 4] {
            assert_eq!(given.train(&golden, case, threads, false), expected, "{}", case.optimizer);
        }
    }
}
