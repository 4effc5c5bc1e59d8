//! The rows of a table that a batch touched, each once, with the sum of its gradients.

use super::{radix, update::LANES};
use crate::wide::{Work, prefetch};

/// Rows that one task sums up.
const TASK_ROWS: usize = 128;
/// Gradients that are asked for ahead of their use.
const AHEAD: usize = 8;

/// The gradient of a table: its touched rows, ascending, each with the sum of all its gradients.
/// Row 0 is never among them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TouchedRows {
    pub(super) width: usize,
    pub(super) codes: Vec<u32>,
    pub(super) rows: Vec<f32>,
}

impl TouchedRows {
    /// Numbers in a row of the table.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The rows touched, ascending.
    pub fn codes(&self) -> &[u32] {
        &self.codes
    }

    /// Their gradients, `width` numbers each.
    pub fn rows(&self) -> &[f32] {
        &self.rows
    }
}

/// The gradient of one lookup.
pub(super) struct LookupGradient<'a> {
    codes: &'a [i32],
    /// Codes that share a row of `rows`.
    codes_per_row: usize,
    rows: &'a [f32],
    /// Gradient rows of the lookups before this one in the same table.
    first_row: usize,
    /// For each row the share of it that a code receives, where rows were averaged.
    shares: Option<Vec<f32>>,
}

impl<'a> LookupGradient<'a> {
    /// `rows` holds a gradient of `width` numbers for each code, or for each group of consecutive
    /// codes; with `is_mean` every code of a group that is not 0 receives an equal share of it.
    pub(super) fn new(
        codes: &'a [i32],
        rows: &'a [f32],
        width: usize,
        is_mean: bool,
        before: &[LookupGradient<'_>],
    ) -> Self {
        let row_count = |rows: &[f32]| rows.len().checked_div(width).unwrap_or(0);
        let codes_per_row = codes.len().checked_div(row_count(rows)).unwrap_or(0).max(1);
        let first_row = before.last().map_or(0, |lookup| lookup.first_row + row_count(lookup.rows));
        let share = |codes: &[i32]| 1.0 / codes.iter().filter(|code| **code != 0).count().max(1) as f32;
        let shares = is_mean.then(|| codes.chunks(codes_per_row).map(share).collect());
        Self { codes, codes_per_row, rows, first_row, shares }
    }
}

/// Finds the touched rows of one table in each step; the memory is kept between steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Collector {
    /// Each occurrence of a code other than 0, sorted: the code in the upper half, in the lower
    /// its gradient row, counted through all lookups.
    occurrences: Vec<u64>,
    spare: Vec<u64>,
    /// Where each touched row begins in `occurrences`, and the end.
    starts: Vec<u32>,
    pub(super) touched: TouchedRows,
}

impl Collector {
    /// Finds the rows that the lookups touched in a table of `table_rows` rows; their sums are
    /// left to [`Collector::tasks`].
    pub(super) fn find(&mut self, lookups: &[LookupGradient<'_>], width: usize, table_rows: usize) {
        self.occurrences.clear();
        for lookup in lookups {
            for (row, codes) in (lookup.first_row as u64..).zip(lookup.codes.chunks(lookup.codes_per_row)) {
                let touched = codes.iter().filter(|code| **code != 0);
                self.occurrences.extend(touched.map(|code| (*code as u64) << 32 | row));
            }
        }
        radix::sort_by_code(&mut self.occurrences, &mut self.spare, table_rows);

        let TouchedRows { codes, rows, .. } = &mut self.touched;
        codes.clear();
        self.starts.clear();
        let mut previous = 0;
        for (place, occurrence) in (0..).zip(&self.occurrences) {
            let code = (occurrence >> 32) as u32;
            if code != previous {
                codes.push(code);
                self.starts.push(place);
                previous = code;
            }
        }
        self.starts.push(self.occurrences.len() as u32);
        rows.resize(codes.len() * width, 0.0);
        self.touched.width = width;
    }

    /// What is to be done to sum up the gradients of the rows found, in parts of a fixed size.
    pub(super) fn tasks<'a>(&'a mut self, lookups: &'a [LookupGradient<'a>]) -> Vec<SumTask<'a>> {
        let Self { occurrences, starts, touched: TouchedRows { width, rows, .. }, .. } = self;
        let width = *width;
        let parts = rows.chunks_mut((TASK_ROWS * width).max(1)).enumerate();
        let task = |(part, sums): (usize, &'a mut [f32])| {
            let first = part * TASK_ROWS;
            let starts = &starts[first..=first + sums.len() / width];
            SumTask { sums, width, starts, occurrences, lookups }
        };
        parts.map(task).collect()
    }
}

/// Some touched rows whose gradients are to be summed up.
pub(super) struct SumTask<'a> {
    sums: &'a mut [f32],
    width: usize,
    starts: &'a [u32],
    occurrences: &'a [u64],
    lookups: &'a [LookupGradient<'a>],
}

impl SumTask<'_> {
    /// The gradient row of an occurrence, from its column `column` on, and the share of it.
    #[inline(always)]
    fn gradient(&self, occurrence: u64, column: usize) -> (&[f32], f32) {
        let row = (occurrence & u64::from(u32::MAX)) as usize;
        let next = self.lookups.partition_point(|lookup| lookup.first_row <= row);
        let lookup = &self.lookups[next - 1];
        let row = row - lookup.first_row;
        let share = lookup.shares.as_ref().map_or(1.0, |shares| shares[row]);
        (&lookup.rows[row * self.width + column..(row + 1) * self.width], share)
    }

    /// Sums up some columns of the gradients of one row, in registers.
    #[inline(always)]
    fn sum<const COLUMNS: usize>(&self, run: &[u32], first_column: usize) -> [f32; COLUMNS] {
        let mut sum = [0.0; COLUMNS];
        for place in run[0] as usize..run[1] as usize {
            if let Some(later) = self.occurrences.get(place + AHEAD) {
                prefetch(self.gradient(*later, first_column).0, 0, COLUMNS);
            }
            let (gradient, share) = self.gradient(self.occurrences[place], first_column);
            let gradient = &gradient[..COLUMNS];
            for column in 0..COLUMNS {
                sum[column] += share * gradient[column];
            }
        }
        sum
    }
}

impl Work for SumTask<'_> {
    #[inline(always)]
    fn run(mut self) {
        let sums = std::mem::take(&mut self.sums);
        for (sum, run) in sums.chunks_exact_mut(self.width).zip(self.starts.windows(2)) {
            let (blocks, rest) = sum.as_chunks_mut::<LANES>();
            let first_of_rest = blocks.len() * LANES;
            for (block, columns) in blocks.iter_mut().enumerate() {
                *columns = self.sum(run, block * LANES);
            }
            for (column, number) in rest.iter_mut().enumerate() {
                [*number] = self.sum(run, first_of_rest + column);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wide;

    /// The touched rows of lookups given as codes, gradients and whether they are means.
    fn collect(given: &[(&[i32], &[f32], bool)], width: usize, table_rows: usize) -> TouchedRows {
        let mut lookups = Vec::new();
        for (codes, rows, is_mean) in given {
            let lookup = LookupGradient::new(codes, rows, width, *is_mean, &lookups);
            lookups.push(lookup);
        }
        let mut collector = Collector::default();
        collector.find(&lookups, width, table_rows);
        collector.tasks(&lookups).into_iter().for_each(wide::run);
        collector.touched
    }

    #[test]
    fn duplicates_of_all_lookups_are_summed_once_and_padding_is_left_out() {
        let single: (&[i32], &[f32], bool) = (&[3, 0, 3], &[1.0, 10.0, 2.0, 20.0, 4.0, 40.0], false);
        // Row 0 averages codes 1 and 3, row 1 code 1 alone.
        let mean: (&[i32], &[f32], bool) = (&[1, 3, 1, 0], &[8.0, 80.0, 16.0, 160.0], true);
        let found = collect(&[single, mean], 2, 4);
        assert_eq!(found.codes(), [1, 3]);
        assert_eq!(found.rows(), [4.0 + 16.0, 40.0 + 160.0, 1.0 + 4.0 + 4.0, 10.0 + 40.0 + 40.0]);
    }

    #[test]
    fn every_code_of_a_sum_receives_the_whole_gradient_of_its_group() {
        let sum: (&[i32], &[f32], bool) = (&[1, 1, 2, 0], &[8.0, 16.0], false);
        let found = collect(&[sum], 1, 3);
        assert_eq!((found.codes(), found.rows()), (&[1, 2][..], &[16.0, 16.0][..]));
    }

    /// More rows than one task takes, over a width that is no multiple of a vector's.
    #[test]
    fn tasks_cover_all_rows() {
        let codes: Vec<i32> = (0..5_000).map(|index| 1 + index % 700).collect();
        let rows: Vec<f32> = (0..5_000 * 19).map(|place| (place / 19 / 700) as f32).collect();
        let found = collect(&[(&codes, &rows, false)], 19, 701);
        assert_eq!(found.codes(), (1..=700).collect::<Vec<u32>>());
        // 5,000 = 7 · 700 + 100: codes up to 100 occur an eighth time.
        let sums = found.rows().chunks(19).zip(1..);
        for (sum, code) in sums {
            let expected = if code <= 100 { 28.0 } else { 21.0 };
            assert_eq!(sum, [expected; 19], "code {code}");
        }
    }

    #[test]
    fn nothing_touched_is_nothing_found() {
        let found = collect(&[(&[0, 0], &[1.0, 2.0], false)], 1, 5);
        assert_eq!((found.codes(), found.rows()), (&[][..], &[][..]));
        assert_eq!(collect(&[(&[], &[], false)], 3, 5).codes(), []);
    }
}
