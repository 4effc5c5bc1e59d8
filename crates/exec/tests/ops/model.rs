//! Random models: a graph with values for its parameters and inputs.

use gatefold_exec::{Executor, InputValue, Parameters, Plan};
use gatefold_graph::{Fact, Gradient, Gradients, Graph, Init, Level, NodeId, Op, ParamId, Parameter};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rows of every table.
const TABLE_ROWS: usize = 6;

/// A graph under construction, with random values for what it declares.
pub(crate) struct Model {
    pub(crate) graph: Graph,
    pub(crate) values: Vec<Vec<f32>>,
    pub(crate) requests: usize,
    pub(crate) candidates: usize,
    floats: Vec<(String, Vec<f32>)>,
    codes: Vec<(String, Vec<i32>)>,
    random: ChaCha8Rng,
}

impl Model {
    pub(crate) fn new(seed: u64, requests: usize, candidates: usize) -> Self {
        let (values, floats, codes) = Default::default();
        let random = ChaCha8Rng::seed_from_u64(seed);
        Self { graph: Graph::new(), values, requests, candidates, floats, codes, random }
    }

    pub(crate) fn apply(&mut self, op: Op, inputs: &[NodeId]) -> NodeId {
        self.graph.apply(op, inputs).unwrap()
    }

    /// A dimension between 1 and 5.
    pub(crate) fn width(&mut self) -> usize {
        self.random.random_range(1..=5)
    }

    /// A parameter, its numbers in ±1 but not within 0.1 of 0, where `Relu` has its kink.
    pub(crate) fn parameter(&mut self, dims: &[usize]) -> NodeId {
        self.declare(dims, false)
    }

    /// Trained rows: a lookup in a table of its own.
    pub(crate) fn rows(&mut self, level: Level, width: usize) -> NodeId {
        let table = self.table(width);
        let codes = self.codes(level, &[]);
        self.apply(Op::Lookup, &[table, codes])
    }

    pub(crate) fn table(&mut self, width: usize) -> NodeId {
        self.declare(&[TABLE_ROWS, width], true)
    }

    pub(crate) fn codes(&mut self, level: Level, dims: &[usize]) -> NodeId {
        let len = self.count(level) * dims.iter().product::<usize>();
        let codes = (0..len).map(|_| self.random.random_range(0..TABLE_ROWS as i32)).collect();
        let name = format!("codes {}", self.codes.len());
        self.codes.push((name.clone(), codes));
        self.graph.input(&name, Fact::i32(level, dims))
    }

    pub(crate) fn request_of(&mut self) -> NodeId {
        let mut requests: Vec<i32> =
            (0..self.candidates).map(|_| self.random.random_range(0..self.requests as i32)).collect();
        requests.sort_unstable();
        self.codes.push(("request_of".into(), requests));
        self.graph.input("request_of", Fact::i32(Level::Candidate, &[]))
    }

    /// Numbers that are not trained.
    pub(crate) fn numbers(&mut self, level: Level, dims: &[usize]) -> NodeId {
        let len = self.count(level) * dims.iter().product::<usize>();
        let numbers = (0..len).map(|_| self.random.random_range(-1.0..1.0)).collect();
        self.float_input(level, dims, numbers)
    }

    /// The cross-entropy of logits `[]`, with random labels, and weights of which some are 0.
    pub(crate) fn loss(&mut self, op: Op, logits: NodeId) -> NodeId {
        let level = self.graph.fact(logits).level;
        let rows = self.count(level);
        let labels = (0..rows).map(|_| f32::from(self.random.random_range(0..2_u8))).collect();
        let weights = (0..rows).map(|_| [0.0, 1.0, 2.5][self.random.random_range(0..3)]).collect();
        let (labels, weights) = (self.float_input(level, &[], labels), self.float_input(level, &[], weights));
        self.apply(op, &[logits, labels, weights])
    }

    /// A loss that depends on every column of rows.
    pub(crate) fn loss_of_rows(&mut self, rows: NodeId) -> NodeId {
        let width = self.graph.fact(rows).row_len();
        let rows = if self.graph.fact(rows).dims.is_empty() { self.apply(Op::Concat, &[rows]) } else { rows };
        let weight = self.parameter(&[width, 1]);
        let logits = self.apply(Op::MatMul, &[rows, weight]);
        let logits = self.apply(Op::Squeeze, &[logits]);
        self.loss(Op::BceWithLogits, logits)
    }

    pub(crate) fn parameters(&self) -> Parameters {
        Parameters::from_values(self.graph.parameters(), self.values.clone()).unwrap()
    }

    pub(crate) fn inputs(&self) -> Vec<(&str, InputValue<'_>)> {
        let floats = self.floats.iter().map(|(name, values)| (name.as_str(), InputValue::F32(values)));
        floats
            .chain(self.codes.iter().map(|(name, values)| (name.as_str(), InputValue::I32(values))))
            .collect()
    }

    pub(crate) fn executor(&self, targets: &[NodeId], threads: usize) -> Executor {
        self.graph.check().unwrap();
        Executor::new(Plan::compile(&self.graph, targets).unwrap(), threads).unwrap()
    }

    pub(crate) fn run(&self, executor: &mut Executor, parameters: &Parameters) {
        executor.run(parameters, self.requests, self.candidates, &self.inputs()).unwrap();
    }

    /// All codes of all inputs.
    pub(crate) fn touched_codes(&self) -> Vec<i32> {
        self.codes.iter().flat_map(|(_, codes)| codes).copied().collect()
    }

    /// The derivative by a parameter as one array, the lists of a table added up naively.
    pub(crate) fn gradient(&self, gradients: &Gradients, parameter: usize, executor: &Executor) -> Vec<f32> {
        self.gradient_in(self, gradients, parameter, executor)
    }

    /// The same where the codes are those of another model's inputs.
    pub(crate) fn gradient_in(
        &self,
        batch: &Model,
        gradients: &Gradients,
        parameter: usize,
        executor: &Executor,
    ) -> Vec<f32> {
        let mut total = vec![0.0; self.values[parameter].len()];
        match gradients.get(ParamId(parameter)) {
            None => {}
            Some(Gradient::Dense(node)) => total.copy_from_slice(executor.value(*node)),
            Some(Gradient::Table(lookups)) => {
                for lookup in lookups {
                    let Op::Input { name } = &self.graph.node(lookup.codes).op else {
                        panic!("codes are inputs")
                    };
                    let (_, codes) = batch.codes.iter().find(|(input, _)| input == name).unwrap();
                    let rows = executor.value(lookup.rows);
                    let width = self.graph.fact(lookup.rows).columns();
                    let per_row = (codes.len() * width).checked_div(rows.len()).unwrap_or(1);
                    for (codes, row) in codes.chunks(per_row).zip(rows.chunks(width)) {
                        let count = codes.iter().filter(|code| **code != 0).count().max(1) as f32;
                        let share = if lookup.mean { 1.0 / count } else { 1.0 };
                        for code in codes.iter().filter(|code| **code != 0) {
                            let sum = &mut total[*code as usize * width..][..width];
                            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += share * value);
                        }
                    }
                }
            }
        }
        total
    }

    fn declare(&mut self, dims: &[usize], table: bool) -> NodeId {
        let len = dims.iter().product();
        let mut values: Vec<f32> = (0..len)
            .map(|_| {
                let size = self.random.random_range(0.1..1.0);
                if self.random.random_bool(0.5) { size } else { -size }
            })
            .collect();
        if table {
            values[..dims[1]].fill(0.0);
        }
        let name = format!("parameter {}", self.values.len());
        self.values.push(values);
        self.graph.parameter(Parameter { name, dims: dims.to_vec(), init: Init::Zeros, table })
    }

    fn float_input(&mut self, level: Level, dims: &[usize], values: Vec<f32>) -> NodeId {
        let name = format!("numbers {}", self.floats.len());
        self.floats.push((name.clone(), values));
        self.graph.input(&name, Fact::f32(level, dims))
    }

    fn count(&self, level: Level) -> usize {
        match level {
            Level::Constant => 1,
            Level::Request => self.requests,
            Level::Candidate => self.candidates,
        }
    }
}
