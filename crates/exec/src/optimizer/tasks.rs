//! A step cut into tasks of a fixed size, each with the memory that it alone changes.

use super::{touched::TouchedRows, update::Update};
use crate::wide::{Work, prefetch};

/// Numbers of a dense parameter that one task updates, about.
const TASK_NUMBERS: usize = 1 << 14;
/// Rows of a table that one task updates.
const TASK_ROWS: usize = 256;
/// Rows of a table that are asked for ahead of their use.
const AHEAD: usize = 8;

/// Consecutive rows of numbers: those of a parameter, or what is remembered of them.
#[derive(Default)]
pub(super) struct Array<'a> {
    pub(super) numbers: &'a mut [f32],
    /// Numbers a row; 0 for an array that the optimizer does not have.
    pub(super) width: usize,
}

impl<'a> Array<'a> {
    fn split_at(self, row: usize) -> (Self, Self) {
        let (numbers, rest) = self.numbers.split_at_mut(row * self.width);
        (Self { numbers, ..self }, Self { numbers: rest, ..self })
    }

    #[inline(always)]
    fn row(&mut self, row: usize) -> &mut [f32] {
        &mut self.numbers[row * self.width..(row + 1) * self.width]
    }

    #[inline(always)]
    fn prefetch(&self, row: usize) {
        prefetch(self.numbers, row * self.width, self.width);
    }
}

/// Rows of a parameter and what is remembered of them.
pub(super) struct Rows<'a> {
    pub(super) values: Array<'a>,
    pub(super) state: [Array<'a>; 2],
}

impl<'a> Rows<'a> {
    fn split_at(self, row: usize) -> (Self, Self) {
        let [a, b] = self.state;
        let ((values, values_rest), (a, a_rest), (b, b_rest)) =
            (self.values.split_at(row), a.split_at(row), b.split_at(row));
        (Self { values, state: [a, b] }, Self { values: values_rest, state: [a_rest, b_rest] })
    }

    /// Tasks that update all these rows.
    pub(super) fn dense_tasks(
        mut self,
        update: Update,
        gradient: &'a [f32],
        tasks: &mut Vec<UpdateTask<'a>>,
    ) {
        let width = self.values.width.max(1);
        for gradient in gradient.chunks((TASK_NUMBERS / width).max(1) * width) {
            let (rows, rest) = self.split_at(gradient.len() / width);
            self = rest;
            tasks.push(UpdateTask { update, rows, gradient: TaskGradient::Dense(gradient) });
        }
    }

    /// Tasks that update the touched rows.
    pub(super) fn table_tasks(
        mut self,
        update: Update,
        touched: &'a TouchedRows,
        tasks: &mut Vec<UpdateTask<'a>>,
    ) {
        let sums = touched.rows.chunks((TASK_ROWS * touched.width).max(1));
        let mut base = 0;
        for (codes, sums) in touched.codes.chunks(TASK_ROWS).zip(sums) {
            let end = codes[codes.len() - 1] as usize + 1;
            let (rows, rest) = self.split_at(end - base);
            self = rest;
            tasks.push(UpdateTask { update, rows, gradient: TaskGradient::Rows { codes, base, sums } });
            base = end;
        }
    }
}

/// A part of a step.
pub(super) struct UpdateTask<'a> {
    update: Update,
    rows: Rows<'a>,
    gradient: TaskGradient<'a>,
}

enum TaskGradient<'a> {
    /// Of all rows.
    Dense(&'a [f32]),
    /// Of the rows `codes − base`.
    Rows { codes: &'a [u32], base: usize, sums: &'a [f32] },
}

impl Work for UpdateTask<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { update, rows: Rows { mut values, state: [mut a, mut b] }, gradient } = self;
        match gradient {
            TaskGradient::Dense(gradient) if update.is_by_row() => {
                for (row, gradient) in gradient.chunks(values.width).enumerate() {
                    update.apply(values.row(row), [a.row(row), b.row(row)], gradient);
                }
            }
            TaskGradient::Dense(gradient) => {
                update.apply(values.numbers, [a.numbers, b.numbers], gradient);
            }
            TaskGradient::Rows { codes, base, sums } => {
                for (place, (code, sum)) in codes.iter().zip(sums.chunks(values.width)).enumerate() {
                    if let Some(later) = codes.get(place + AHEAD) {
                        let later = *later as usize - base;
                        [&values, &a, &b].iter().for_each(|array| array.prefetch(later));
                    }
                    let row = *code as usize - base;
                    update.apply(values.row(row), [a.row(row), b.row(row)], sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{optimizer::OptimizerConfig, wide};

    const WIDTH: usize = 21;
    const ROWS: usize = 40;

    /// Deterministic numbers in ±1.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let hash = |place: u32| (place ^ seed).wrapping_mul(2_654_435_761).wrapping_mul(place | 1);
        (0..count as u32).map(|place| hash(place) as f32 / (1_u32 << 31) as f32 - 1.0).collect()
    }

    /// Values and state after a step, by the given way to run a task.
    fn step(config: &OptimizerConfig, is_table: bool, run: fn(UpdateTask<'_>)) -> [Vec<f32>; 3] {
        let update = Update::new(config, is_table, 3, 0.5, 0.75, 0.01);
        let state_width = if update.is_by_row() { 1 } else { WIDTH };
        let mut arrays = [numbers(ROWS * WIDTH, 1), numbers(ROWS * WIDTH, 2), numbers(ROWS * WIDTH, 3)];
        arrays[1..].iter_mut().flatten().for_each(|number| *number = number.abs());
        let [values, a, b] = arrays.each_mut().map(Vec::as_mut_slice);
        let [a, b] = [a, b].map(|numbers| Array { numbers, width: state_width });
        let rows = Rows { values: Array { numbers: values, width: WIDTH }, state: [a, b] };
        let (mut tasks, gradient) = (Vec::new(), numbers(ROWS * WIDTH, 4));
        let codes: Vec<u32> = (1..ROWS as u32).step_by(2).collect();
        let touched = TouchedRows { width: WIDTH, rows: gradient[..codes.len() * WIDTH].to_vec(), codes };
        match is_table {
            true => rows.table_tasks(update, &touched, &mut tasks),
            false => rows.dense_tasks(update, &gradient, &mut tasks),
        }
        tasks.into_iter().for_each(run);
        arrays
    }

    /// What the processor's widest vectors compute has the bits of the plain build.
    #[test]
    fn wide_vectors_change_no_bit() {
        for config in [
            OptimizerConfig::sgd(0.1),
            OptimizerConfig::Sgd { learning_rate: 0.1, momentum: 0.9 },
            OptimizerConfig::adam(0.1),
            OptimizerConfig::adam_w(0.1),
            OptimizerConfig::adagrad(0.1),
            OptimizerConfig::rowwise_adagrad(0.1),
            OptimizerConfig::Ftrl { learning_rate: 0.1, beta: 1.0, l1: 0.1, l2: 0.1 },
        ] {
            for is_table in [false, true] {
                let bits = |arrays: [Vec<f32>; 3]| {
                    arrays.map(|array| array.into_iter().map(f32::to_bits).collect::<Vec<u32>>())
                };
                let plain = bits(step(&config, is_table, |task| task.run()));
                assert_eq!(
                    plain,
                    bits(step(&config, is_table, |task| wide::run(task))),
                    "{config:?}, table: {is_table}"
                );
            }
        }
    }
}
