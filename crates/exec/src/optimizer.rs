//! Optimizers: they read the gradients of a run and change the parameters.
//!
//! A step has one path: gradients of a run → duplicate codes of tables summed up once → norm and
//! clipping → update. Dense gradients are read where the executor left them. [`GradientValues`]
//! enters the path behind the sums, for those who combine gradients of several losses.
//!
//! Tables follow the lazy rule of `torch.optim.SparseAdam`: a row changes, and what is remembered
//! of it decays, only in steps that touch it. So a step costs what its batch touches, never what
//! the table holds; and a table's state takes memory only for pages that were touched.
//!
//! Sums and tasks have fixed boundaries: the same bits for any number of threads.

mod config;
mod radix;
mod tasks;
mod touched;
mod update;
mod values;

use std::collections::BTreeMap;

use gatefold_graph::{Gradient, Gradients, ParamId, Parameter};
use rayon::prelude::*;

use self::{
    tasks::{Array, Rows},
    touched::Collector,
    update::Update,
};
use crate::{
    error::ExecError,
    executor::Executor,
    input::InputValue,
    memory::Numbers,
    parameters::{self, Parameters},
    wide,
};
pub use config::{GradientOptions, OptimizerConfig};
pub use touched::TouchedRows;
pub use values::{GradientValue, GradientValues};

/// Numbers whose squares one task sums up for the norm.
const TASK_NUMBERS: usize = 1 << 14;
/// Added to the norm before it divides, as `torch.nn.utils.clip_grad_norm_` does.
const CLIP_EPSILON: f64 = 1e-6;

/// An optimizer for dense parameters and one for tables, with what they remember.
///
/// A parameter without a gradient is left as it is, and so is its state. Row 0 of a table never
/// changes.
#[derive(Clone, Debug)]
pub struct Optimizer {
    declared: Vec<Parameter>,
    dense: OptimizerConfig,
    tables: OptimizerConfig,
    options: GradientOptions,
    /// For each parameter the steps in which it had a gradient.
    steps: Vec<u64>,
    /// For each parameter what is remembered: one array for each of
    /// [`OptimizerConfig::state_names`].
    state: Vec<Vec<Numbers>>,
    collectors: BTreeMap<ParamId, Collector>,
}

/// An array of an optimizer's state, to be read or, with mutable slices, to be filled.
#[derive(Debug, PartialEq)]
pub enum StateArray<F, U> {
    /// What is remembered of a parameter's numbers.
    F32(F),
    /// Counts.
    U64(U),
}

/// The gradient of one parameter, wherever it lies.
#[derive(Clone, Copy)]
enum View<'a> {
    Dense(&'a [f32]),
    Rows(&'a TouchedRows),
}

impl Optimizer {
    /// An optimizer that has made no step. The memory of a table's state is taken from the system
    /// as rows are touched.
    ///
    /// # Errors
    /// When a setting is one that no training can have.
    pub fn new(
        declared: &[Parameter],
        dense: &OptimizerConfig,
        tables: &OptimizerConfig,
        options: GradientOptions,
    ) -> Result<Self, ExecError> {
        dense.check("optimizer")?;
        tables.check("embedding optimizer")?;
        options.check()?;
        let (dense, tables) = (*dense, *tables);
        let state_of = |parameter: &Parameter| {
            let config = if parameter.table { &tables } else { &dense };
            let len = parameters::len(parameter);
            let width = if config.is_by_row() { parameter.dims.last().copied().unwrap_or(1) } else { 1 };
            config.state_names().iter().map(|_| Numbers::zeros(len.checked_div(width).unwrap_or(0))).collect()
        };
        Ok(Self {
            declared: declared.to_vec(),
            dense,
            tables,
            options,
            steps: vec![0; declared.len()],
            state: declared.iter().map(state_of).collect(),
            collectors: BTreeMap::new(),
        })
    }

    /// Changes the parameters by the gradients of the executor's last run. `inputs` are those of
    /// that run; the codes of the tables are read from them. `rate_factor` multiplies the learning
    /// rates in this step, for schedules.
    ///
    /// # Errors
    /// When the parameters are not those that the optimizer was made for, the inputs not those of
    /// the run, or the gradients, where they are clipped, not finite. Nothing is changed then.
    ///
    /// # Panics
    /// When the executor's plan does not have [`Gradients::targets`] among its targets.
    pub fn step(
        &mut self,
        parameters: &mut Parameters,
        gradients: &Gradients,
        executor: &Executor,
        inputs: &[(&str, InputValue<'_>)],
        rate_factor: f32,
    ) -> Result<(), ExecError> {
        self.check(parameters)?;
        let mut collectors = std::mem::take(&mut self.collectors);
        let collected = values::collect(&mut collectors, parameters, gradients, executor, inputs);
        let views = gradients.iter().map(|(parameter, gradient)| match gradient {
            Gradient::Dense(node) => (parameter, View::Dense(executor.value(*node))),
            Gradient::Table(_) => (parameter, View::Rows(&collectors[&parameter].touched)),
        });
        let result = collected.and_then(|()| self.apply(parameters, views.collect(), executor, rate_factor));
        self.collectors = collectors;
        result
    }

    /// Changes the parameters by gradients that were taken out of runs. The threads of the
    /// executor do the work; its values are not read.
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    ///
    /// # Panics
    /// When a value is not as large as its parameter.
    pub fn step_values(
        &mut self,
        parameters: &mut Parameters,
        values: &GradientValues,
        executor: &Executor,
        rate_factor: f32,
    ) -> Result<(), ExecError> {
        self.check(parameters)?;
        let views = values.iter().map(|(parameter, value)| match value {
            GradientValue::Dense(numbers) => (parameter, View::Dense(numbers)),
            GradientValue::Rows(touched) => (parameter, View::Rows(touched)),
        });
        self.apply(parameters, views.collect(), executor, rate_factor)
    }

    /// What the optimizer remembers, each array with a name: all that a checkpoint needs beside
    /// the settings. `steps` counts, by parameter, the steps in which it had a gradient; the
    /// others are named `<parameter>.<array>`.
    pub fn state(&self) -> impl Iterator<Item = (String, StateArray<&[f32], &[u64]>)> {
        let arrays = self.state.iter().enumerate().flat_map(|(parameter, arrays)| {
            let names = self.state_names(parameter);
            names.into_iter().zip(arrays.iter().map(|array| StateArray::F32(&**array)))
        });
        [("steps".to_owned(), StateArray::U64(self.steps.as_slice()))].into_iter().chain(arrays)
    }

    /// The arrays of [`Optimizer::state`], to be overwritten by those of a checkpoint. An optimizer
    /// that is made with the same settings and gets the same numbers continues as if nothing had
    /// happened, bit by bit. Numbers that are zero need not be written into a new optimizer, whose
    /// arrays are zero: pages that are left alone take no memory.
    pub fn state_mut(&mut self) -> impl Iterator<Item = (String, StateArray<&mut [f32], &mut [u64]>)> {
        let names: Vec<Vec<String>> =
            (0..self.state.len()).map(|parameter| self.state_names(parameter)).collect();
        let arrays = self.state.iter_mut().zip(names).flat_map(|(arrays, names)| {
            names.into_iter().zip(arrays.iter_mut().map(|array| StateArray::F32(&mut **array)))
        });
        [("steps".to_owned(), StateArray::U64(self.steps.as_mut_slice()))].into_iter().chain(arrays)
    }

    /// Updates the parameters that have a gradient; `views` are in their order.
    fn apply(
        &mut self,
        parameters: &mut Parameters,
        views: Vec<(ParamId, View<'_>)>,
        executor: &Executor,
        rate_factor: f32,
    ) -> Result<(), ExecError> {
        let scale = match self.options.clip_norm {
            None => 1.0,
            Some(limit) => clip_factor(norm(&views, executor), limit)?,
        };
        let mut tasks = Vec::new();
        let mut views = views.into_iter().peekable();
        let slots = parameters.values_mut().iter_mut().zip(&mut self.state).zip(&mut self.steps);
        for (index, ((values, state), steps)) in slots.enumerate() {
            let Some((_, view)) = views.next_if(|(parameter, _)| parameter.0 == index) else { continue };
            *steps += 1;
            let Parameter { dims, table, .. } = &self.declared[index];
            let (config, l2) = match table {
                true => (&self.tables, self.options.embedding_l2),
                false => (&self.dense, self.options.l2),
            };
            let update = Update::new(config, *table, *steps, rate_factor, scale, l2);
            let width = dims.last().copied().unwrap_or(1);
            let state_width = if config.is_by_row() { 1 } else { width };
            let mut state = state.iter_mut().map(|numbers| Array { numbers, width: state_width });
            let rows = Rows {
                values: Array { numbers: values, width },
                state: std::array::from_fn(|_| state.next().unwrap_or_default()),
            };
            match view {
                View::Dense(gradient) => {
                    assert!(
                        !table && gradient.len() == rows.values.numbers.len(),
                        "gradient {index} does not fit"
                    );
                    rows.dense_tasks(update, gradient, &mut tasks);
                }
                View::Rows(touched) => {
                    assert!(*table && touched.width == width, "gradient {index} does not fit");
                    rows.table_tasks(update, touched, &mut tasks);
                }
            }
        }
        executor.pool().install(|| tasks.into_par_iter().for_each(wide::run));
        Ok(())
    }

    fn state_names(&self, parameter: usize) -> Vec<String> {
        let Parameter { name, table, .. } = &self.declared[parameter];
        let config = if *table { &self.tables } else { &self.dense };
        config.state_names().iter().map(|array| format!("{name}.{array}")).collect()
    }

    /// Refuses parameters other than those that the optimizer was made for.
    fn check(&self, parameters: &Parameters) -> Result<(), ExecError> {
        let found = parameters.declared();
        for index in 0..self.declared.len().max(found.len()) {
            let of = |declared: &[Parameter]| {
                declared.get(index).map(|parameter| (parameter.name.clone(), parameters::len(parameter)))
            };
            if of(&self.declared) != of(found) {
                let (expected, expected_len) = of(&self.declared).unwrap_or(("nothing more".into(), 0));
                let found =
                    of(found).map_or("nothing".into(), |(name, len)| format!("`{name}` with {len} numbers"));
                return Err(ExecError::WrongParameter { index, expected, expected_len, found });
            }
        }
        Ok(())
    }
}

/// The norm of all gradients together.
fn norm(views: &[(ParamId, View<'_>)], executor: &Executor) -> f64 {
    let parts: Vec<&[f32]> = views
        .iter()
        .flat_map(|(_, view)| match *view {
            View::Dense(numbers) => numbers.chunks(TASK_NUMBERS),
            View::Rows(touched) => touched.rows.chunks(TASK_NUMBERS),
        })
        .collect();
    let squares: Vec<f64> =
        executor.pool().install(|| parts.into_par_iter().map(|part| values::dot(part, part)).collect());
    squares.iter().sum::<f64>().sqrt()
}

fn clip_factor(norm: f64, limit: f32) -> Result<f32, ExecError> {
    if !norm.is_finite() {
        return Err(ExecError::BadNorm { norm: norm.to_string() });
    }
    Ok((f64::from(limit) / (norm + CLIP_EPSILON)).min(1.0) as f32)
}
