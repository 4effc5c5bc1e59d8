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
