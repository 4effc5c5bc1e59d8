//! Adam (Kingma and Ba, 2015), with tables updated only in the rows that a batch touched.

use gatefold_graph::{Gradient, Gradients, Parameter};
use rayon::prelude::*;

use super::touched::{LookupGradient, Occurrences};
use crate::{error::ExecError, executor::Executor, input::InputValue, parameters, parameters::Parameters};

/// Numbers of a dense parameter that one task updates.
const TASK_NUMBERS: usize = 1 << 14;

/// Settings of [`Adam`]; the default values are those of the paper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamSettings {
    /// Step size.
    pub learning_rate: f32,
    /// Step size of the rows of tables; `learning_rate` where there is none.
    pub table_learning_rate: Option<f32>,
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Added to the root of the mean of squares.
    pub epsilon: f32,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self { learning_rate: 1e-3, table_learning_rate: None, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// What Adam remembers, by [`ParamId`](gatefold_graph::ParamId): all that a checkpoint needs.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamState {
    /// Steps in which the parameter had a gradient.
    pub steps: Vec<u64>,
    /// Means of gradients, as long as the parameter.
    pub first: Vec<Vec<f32>>,
    /// Means of squared gradients, as long as the parameter.
    pub second: Vec<Vec<f32>>,
}

/// The optimizer. Dense parameters follow `torch.optim.Adam`. Tables follow
/// `torch.optim.SparseAdam`: a row changes, and its means decay, only in steps that touch it; its
/// gradients are summed up first; row 0 never changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Adam {
    settings: AdamSettings,
    state: AdamState,
}

impl Adam {
    /// An optimizer that has made no step. The memory of a table's state is taken from the system
    /// as rows are touched.
    pub fn new(declared: &[Parameter], settings: AdamSettings) -> Self {
        let zeros = || declared.iter().map(|parameter| vec![0.0; parameters::len(parameter)]).collect();
        let state = AdamState { steps: vec![0; declared.len()], first: zeros(), second: zeros() };
        Self { settings, state }
    }

    /// Continues from a state that [`Adam::state`] gave.
    ///
    /// # Errors
    /// When the state is not that of these parameters.
    pub fn from_state(
        declared: &[Parameter],
        settings: AdamSettings,
        state: AdamState,
    ) -> Result<Self, ExecError> {
        for (index, parameter) in declared.iter().enumerate() {
            let expected_len = parameters::len(parameter);
            let lens = [&state.first, &state.second].map(|means| means.get(index).map_or(0, Vec::len));
            if index >= state.steps.len() || lens != [expected_len; 2] {
                let expected = parameter.name.clone();
                let found = format!("an optimizer state of {} and {}", lens[0], lens[1]);
                return Err(ExecError::WrongParameter { index, expected, expected_len, found });
            }
        }
        Ok(Self { settings, state })
    }

    /// What the optimizer remembers.
    pub fn state(&self) -> &AdamState {
        &self.state
    }

    /// The settings; the learning rate may change between steps.
    pub fn settings_mut(&mut self) -> &mut AdamSettings {
        &mut self.settings
    }

    /// Changes the parameters by the gradients of the executor's last run. `inputs` are those of
    /// that run; the codes of the tables are read from them.
    ///
    /// # Errors
    /// When the parameters are not those that the optimizer was made for, or the inputs not those
    /// of the run. Nothing is changed then.
    ///
    /// # Panics
    /// When the executor's plan does not have [`Gradients::targets`] among its targets.
    pub fn step(
        &mut self,
        parameters: &mut Parameters,
        gradients: &Gradients,
        executor: &Executor,
        inputs: &[(&str, InputValue<'_>)],
    ) -> Result<(), ExecError> {
        for (index, parameter) in parameters.declared().iter().enumerate() {
            let (expected_len, found) =
                (self.state.first.get(index).map_or(0, Vec::len), parameters::len(parameter));
            if expected_len != found {
                let (expected, found) = (parameter.name.clone(), format!("{found} numbers"));
                return Err(ExecError::WrongParameter { index, expected, expected_len, found });
            }
        }
        let mut tables = Vec::new();
        for (parameter, gradient) in gradients.iter() {
            if let Gradient::Table(lookups) = gradient {
                let width = parameters.declared()[parameter.0].dims.get(1).copied().unwrap_or(0);
                let mut of_table = Vec::with_capacity(lookups.len());
                for lookup in lookups {
                    let (codes, codes_per_row) = executor.codes(lookup.codes, inputs)?;
                    let rows = executor.value(lookup.rows);
                    of_table.push(LookupGradient::new(codes, codes_per_row, rows, lookup.mean));
                }
                tables.push((parameter, of_table, width));
            }
        }
        executor.pool().install(|| {
            let tables: Vec<_> = tables
                .into_par_iter()
                .map(|(parameter, lookups, width)| (parameter, Occurrences::collect(lookups, width)))
                .collect();
            let mut tables = tables.iter().peekable();
            let mut tasks: Tasks<'_> = Vec::new();
            let values = parameters.values_mut().iter_mut();
            let moments = self.state.first.iter_mut().zip(&mut self.state.second);
            for (index, ((values, (first, second)), steps)) in
                values.zip(moments).zip(&mut self.state.steps).enumerate()
            {
                let slices = Slices { values, first, second };
                let parameter = gatefold_graph::ParamId(index);
                match gradients.get(parameter) {
                    None => {}
                    Some(Gradient::Dense(node)) => {
                        *steps += 1;
                        dense_tasks(
                            slices,
                            executor.value(*node),
                            Update::dense(&self.settings, *steps),
                            &mut tasks,
                        );
                    }
                    Some(Gradient::Table(_)) => {
                        *steps += 1;
                        if let Some((_, occurrences)) = tables.next_if(|(table, _)| *table == parameter) {
                            table_tasks(
                                slices,
                                occurrences,
                                Update::table(&self.settings, *steps),
                                &mut tasks,
                            );
                        }
                    }
                }
            }
            tasks.into_par_iter().for_each(|task| task());
        });
        Ok(())
    }
}

/// The numbers that belong together: of a parameter, or of a part of it.
struct Slices<'a> {
    values: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl<'a> Slices<'a> {
    fn split_at(self, middle: usize) -> (Self, Self) {
        let (values, values_rest) = self.values.split_at_mut(middle);
        let (first, first_rest) = self.first.split_at_mut(middle);
        let (second, second_rest) = self.second.split_at_mut(middle);
        let rest = Slices { values: values_rest, first: first_rest, second: second_rest };
        (Slices { values, first, second }, rest)
    }
}

/// The constants of one step of one parameter.
#[derive(Clone, Copy)]
struct Update {
    beta1: f32,
    beta2: f32,
    /// The root of the mean of squares is multiplied by this before `epsilon` is added.
    root_factor: f32,
    epsilon: f32,
    step_size: f32,
}

impl Update {
    /// As `torch.optim.Adam`.
    fn dense(settings: &AdamSettings, step: u64) -> Self {
        let (first, second) = corrections(settings, step);
        let step_size = (f64::from(settings.learning_rate) / first) as f32;
        Self { root_factor: (1.0 / second.sqrt()) as f32, step_size, ..Self::common(settings) }
    }

    /// As `torch.optim.SparseAdam`, which corrects the step instead of the root.
    fn table(settings: &AdamSettings, step: u64) -> Self {
        let (first, second) = corrections(settings, step);
        let learning_rate = settings.table_learning_rate.unwrap_or(settings.learning_rate);
        let step_size = (f64::from(learning_rate) * second.sqrt() / first) as f32;
        Self { root_factor: 1.0, step_size, ..Self::common(settings) }
    }

    fn common(settings: &AdamSettings) -> Self {
        let AdamSettings { beta1, beta2, epsilon, .. } = *settings;
        Self { beta1, beta2, root_factor: 1.0, epsilon, step_size: 0.0 }
    }

    fn apply(&self, slices: Slices<'_>, gradient: &[f32]) {
        let Slices { values, first, second } = slices;
        for (((value, first), second), gradient) in values.iter_mut().zip(first).zip(second).zip(gradient) {
            *first += (1.0 - self.beta1) * (gradient - *first);
            *second += (1.0 - self.beta2) * (gradient * gradient - *second);
            *value -= self.step_size * *first / (second.sqrt() * self.root_factor + self.epsilon);
        }
    }
}

/// `1 − β^step` of both means.
fn corrections(settings: &AdamSettings, step: u64) -> (f64, f64) {
    let correction = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
    (correction(settings.beta1), correction(settings.beta2))
}

type Tasks<'a> = Vec<Box<dyn FnOnce() + Send + 'a>>;

fn dense_tasks<'a>(mut slices: Slices<'a>, gradient: &'a [f32], update: Update, tasks: &mut Tasks<'a>) {
    for gradient in gradient.chunks(TASK_NUMBERS) {
        let (part, rest) = slices.split_at(gradient.len());
        slices = rest;
        tasks.push(Box::new(move || update.apply(part, gradient)));
    }
}

fn table_tasks<'a>(
    mut slices: Slices<'a>,
    occurrences: &'a Occurrences<'a>,
    update: Update,
    tasks: &mut Tasks<'a>,
) {
    let width = occurrences.width();
    let mut first_row = 0;
    for task in occurrences.tasks() {
        let end_row = occurrences.last_code(&task) + 1;
        let (part, rest) = slices.split_at((end_row - first_row) * width);
        slices = rest;
        let base = first_row;
        first_row = end_row;
        tasks.push(Box::new(move || {
            let Slices { values, first, second } = part;
            occurrences.for_each(task, |row, gradient| {
                let numbers = (row - base) * width..(row - base + 1) * width;
                let (values, first, second) =
                    (&mut values[numbers.clone()], &mut first[numbers.clone()], &mut second[numbers]);
                update.apply(Slices { values, first, second }, gradient);
            });
        }));
    }
}
