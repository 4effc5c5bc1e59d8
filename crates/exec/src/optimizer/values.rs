//! Gradients as plain values, for those who combine the gradients of several losses before a
//! step.

use std::collections::BTreeMap;

use gatefold_graph::{Gradient, Gradients, ParamId};
use rayon::prelude::*;

use super::{
    touched::{Collector, LookupGradient, TouchedRows},
    update::LANES,
};
use crate::{error::ExecError, executor::Executor, input::InputValue, parameters::Parameters, wide};

/// The gradient of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum GradientValue {
    /// As large as the parameter.
    Dense(Vec<f32>),
    /// Of a table.
    Rows(TouchedRows),
}

/// The gradient of one loss by the parameters that it depends on, out of the executor's memory.
///
/// What balances tasks by their gradients (GradNorm, PCGrad) takes those of each task, combines
/// them, and gives the result to [`Optimizer::step_values`](super::Optimizer::step_values). All
/// sums have a fixed order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GradientValues {
    by_parameter: BTreeMap<ParamId, GradientValue>,
}

impl GradientValues {
    /// The gradients of the executor's last run. `inputs` are those of that run; the codes of the
    /// tables are read from them.
    ///
    /// # Errors
    /// When the inputs are not those of the run.
    ///
    /// # Panics
    /// When the executor's plan does not have [`Gradients::targets`] among its targets.
    pub fn from_run(
        parameters: &Parameters,
        gradients: &Gradients,
        executor: &Executor,
        inputs: &[(&str, InputValue<'_>)],
    ) -> Result<Self, ExecError> {
        let mut collectors = BTreeMap::new();
        collect(&mut collectors, parameters, gradients, executor, inputs)?;
        let mut by_parameter: BTreeMap<ParamId, GradientValue> = collectors
            .into_iter()
            .map(|(parameter, collector)| (parameter, GradientValue::Rows(collector.touched)))
            .collect();
        for (parameter, gradient) in gradients.iter() {
            if let Gradient::Dense(node) = gradient {
                by_parameter.insert(parameter, GradientValue::Dense(executor.value(*node).to_vec()));
            }
        }
        Ok(Self { by_parameter })
    }

    /// The gradient by a parameter; none where the loss does not depend on it.
    pub fn get(&self, parameter: ParamId) -> Option<&GradientValue> {
        self.by_parameter.get(&parameter)
    }

    /// Parameters and gradients, by [`ParamId`].
    pub fn iter(&self) -> impl Iterator<Item = (ParamId, &GradientValue)> {
        self.by_parameter.iter().map(|(parameter, value)| (*parameter, value))
    }

    /// Leaves only the parameters that are wanted.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(ParamId) -> bool) {
        self.by_parameter.retain(|parameter, _| is_wanted(*parameter));
    }

    /// The inner product with another gradient, over all parameters that both have.
    ///
    /// # Panics
    /// When the two are gradients by parameters of different sizes; so do the others below.
    pub fn dot(&self, other: &Self) -> f64 {
        let both = self.iter().filter_map(|(parameter, value)| Some((value, other.get(parameter)?)));
        both.map(|(value, other)| value.dot(other)).sum()
    }

    /// The Euclidean norm over all parameters.
    pub fn norm(&self) -> f64 {
        self.dot(self).sqrt()
    }

    /// Multiplies every number by a factor.
    pub fn scale(&mut self, factor: f32) {
        for value in self.by_parameter.values_mut() {
            value.numbers_mut().iter_mut().for_each(|number| *number *= factor);
        }
    }

    /// Adds `factor` times another gradient; where this one has no value, that counts as 0.
    pub fn add_scaled(&mut self, factor: f32, other: &Self) {
        for (parameter, added) in other.iter() {
            match self.by_parameter.get_mut(&parameter) {
                Some(value) => value.add_scaled(factor, added),
                None => {
                    let mut value = added.clone();
                    value.numbers_mut().iter_mut().for_each(|number| *number *= factor);
                    self.by_parameter.insert(parameter, value);
                }
            }
        }
    }
}

impl FromIterator<(ParamId, GradientValue)> for GradientValues {
    fn from_iter<T: IntoIterator<Item = (ParamId, GradientValue)>>(values: T) -> Self {
        Self { by_parameter: values.into_iter().collect() }
    }
}

impl GradientValue {
    /// All numbers: of a table those of the touched rows.
    pub fn numbers(&self) -> &[f32] {
        match self {
            Self::Dense(numbers) => numbers,
            Self::Rows(touched) => &touched.rows,
        }
    }

    fn numbers_mut(&mut self) -> &mut [f32] {
        match self {
            Self::Dense(numbers) => numbers,
            Self::Rows(touched) => &mut touched.rows,
        }
    }

    fn dot(&self, other: &Self) -> f64 {
        match (self, other) {
            (Self::Dense(a), Self::Dense(b)) => {
                assert_eq!(a.len(), b.len(), "gradients by one parameter have one size");
                dot(a, b)
            }
            (Self::Rows(a), Self::Rows(b)) => a.dot(b),
            _ => panic!("a parameter is a table or not"),
        }
    }

    fn add_scaled(&mut self, factor: f32, other: &Self) {
        match (self, other) {
            (Self::Dense(a), Self::Dense(b)) => {
                assert_eq!(a.len(), b.len(), "gradients by one parameter have one size");
                a.iter_mut().zip(b).for_each(|(a, b)| *a += factor * b);
            }
            (Self::Rows(a), Self::Rows(b)) => *a = a.plus(factor, b),
            _ => panic!("a parameter is a table or not"),
        }
    }
}

impl TouchedRows {
    fn row(&self, place: usize) -> &[f32] {
        &self.rows[place * self.width..(place + 1) * self.width]
    }

    fn dot(&self, other: &Self) -> f64 {
        let mut places = (0..other.codes.len()).peekable();
        let mut total = 0.0;
        for (place, code) in self.codes.iter().enumerate() {
            while places.next_if(|place| other.codes[*place] < *code).is_some() {}
            if let Some(same) = places.next_if(|place| other.codes[*place] == *code) {
                total += dot(self.row(place), other.row(same));
            }
        }
        total
    }

    /// The rows that either touched.
    fn plus(&self, factor: f32, other: &Self) -> Self {
        let mut sum = Self { width: self.width, ..Self::default() };
        let (mut a, mut b) = (0, 0);
        while a < self.codes.len() || b < other.codes.len() {
            let code = |touched: &Self, place: usize| touched.codes.get(place).copied().unwrap_or(u32::MAX);
            let (code_a, code_b) = (code(self, a), code(other, b));
            let start = sum.rows.len();
            sum.codes.push(code_a.min(code_b));
            if code_a <= code_b {
                sum.rows.extend_from_slice(self.row(a));
                a += 1;
            } else {
                sum.rows.resize(start + self.width, 0.0);
            }
            if code_b <= code_a {
                sum.rows[start..].iter_mut().zip(other.row(b)).for_each(|(sum, x)| *sum += factor * x);
                b += 1;
            }
        }
        sum
    }
}

/// The touched rows of all tables among the gradients of the executor's last run. A collector is
/// made for each table that has none yet.
pub(super) fn collect(
    collectors: &mut BTreeMap<ParamId, Collector>,
    parameters: &Parameters,
    gradients: &Gradients,
    executor: &Executor,
    inputs: &[(&str, InputValue<'_>)],
) -> Result<(), ExecError> {
    let mut lookups_of = BTreeMap::new();
    for (parameter, gradient) in gradients.iter() {
        if let Gradient::Table(lookups) = gradient {
            let width = width(parameters, parameter);
            let mut of_table: Vec<LookupGradient<'_>> = Vec::with_capacity(lookups.len());
            for lookup in lookups {
                let (codes, rows) = (executor.codes(lookup.codes, inputs)?, executor.value(lookup.rows));
                of_table.push(LookupGradient::new(codes, rows, width, lookup.mean, &of_table));
            }
            collectors.entry(parameter).or_default();
            lookups_of.insert(parameter, of_table);
        }
    }
    let mut tables: Vec<_> = collectors
        .iter_mut()
        .filter_map(|(parameter, collector)| Some((*parameter, collector, lookups_of.get(parameter)?)))
        .collect();
    executor.pool().install(|| {
        tables.par_iter_mut().for_each(|(parameter, collector, lookups)| {
            let rows = parameters.declared()[parameter.0].dims[0];
            collector.find(lookups, width(parameters, *parameter), rows);
        });
        let tasks: Vec<_> =
            tables.into_iter().flat_map(|(_, collector, lookups)| collector.tasks(lookups)).collect();
        tasks.into_par_iter().for_each(wide::run);
    });
    Ok(())
}

/// Numbers in a row of a parameter: its last dimension.
pub(super) fn width(parameters: &Parameters, parameter: ParamId) -> usize {
    parameters.declared()[parameter.0].dims.last().copied().unwrap_or(1)
}

/// The inner product, in lanes that are added up last.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += f64::from(*a) * f64::from(*b);
        }
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(codes: &[u32], rows: &[f32]) -> GradientValue {
        GradientValue::Rows(TouchedRows { width: 2, codes: codes.to_vec(), rows: rows.to_vec() })
    }

    fn values(of: Vec<(usize, GradientValue)>) -> GradientValues {
        of.into_iter().map(|(id, value)| (ParamId(id), value)).collect()
    }

    fn two() -> [GradientValues; 2] {
        [
            values(vec![
                (0, rows(&[2, 5, 9], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
                (1, GradientValue::Dense(vec![1.0, -2.0, 0.5])),
            ]),
            values(vec![
                (0, rows(&[1, 5], &[7.0, 8.0, 10.0, -1.0])),
                (1, GradientValue::Dense(vec![4.0, 1.0, 2.0])),
                (2, GradientValue::Dense(vec![3.0])),
            ]),
        ]
    }

    #[test]
    fn products_are_over_what_both_touched() {
        let [a, b] = two();
        // Row 5: 3·10 − 4·1; dense: 4 − 2 + 1.
        assert_eq!(a.dot(&b), 26.0 + 3.0);
        assert_eq!(b.dot(&a), 29.0);
        assert_eq!(a.norm(), (91.0_f64 + 5.25).sqrt());
    }

    #[test]
    fn sums_have_the_rows_of_both() {
        let [mut a, b] = two();
        a.add_scaled(2.0, &b);
        let expected = values(vec![
            (0, rows(&[1, 2, 5, 9], &[14.0, 16.0, 1.0, 2.0, 23.0, 2.0, 5.0, 6.0])),
            (1, GradientValue::Dense(vec![9.0, 0.0, 4.5])),
            (2, GradientValue::Dense(vec![6.0])),
        ]);
        assert_eq!(a, expected);
        a.retain(|parameter| parameter == ParamId(1));
        a.scale(-1.0);
        assert_eq!(a, values(vec![(1, GradientValue::Dense(vec![-9.0, -0.0, -4.5]))]));
    }
}
