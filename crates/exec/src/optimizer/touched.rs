//! The rows of a table that a batch touched, each once, with the sum of its gradients.

use std::ops::Range;

use rayon::prelude::*;

/// Occurrences of codes that one task sums up, about.
const TASK_OCCURRENCES: usize = 1024;

/// The gradient of one lookup.
pub(super) struct LookupGradient<'a> {
    /// Codes, as many for each row as the lookup averages.
    codes: &'a [i32],
    codes_per_row: usize,
    /// The gradient of each looked-up row.
    rows: &'a [f32],
    /// For each row the share of it that a code receives, where rows were averaged.
    shares: Option<Vec<f32>>,
}

impl<'a> LookupGradient<'a> {
    /// `codes` holds `codes_per_row` codes for each row of `rows`.
    pub(super) fn new(codes: &'a [i32], codes_per_row: usize, rows: &'a [f32], is_mean: bool) -> Self {
        let share = |codes: &[i32]| 1.0 / codes.iter().filter(|code| **code != 0).count().max(1) as f32;
        let shares = is_mean.then(|| codes.chunks(codes_per_row.max(1)).map(share).collect());
        Self { codes, codes_per_row, rows, shares }
    }

    /// Adds the gradient that the code at `place` receives.
    fn add_to(&self, sum: &mut [f32], place: usize) {
        let row = place / self.codes_per_row.max(1);
        let gradient = &self.rows[row * sum.len()..(row + 1) * sum.len()];
        match &self.shares {
            None => sum.iter_mut().zip(gradient).for_each(|(sum, gradient)| *sum += gradient),
            Some(shares) => {
                let share = shares[row];
                sum.iter_mut().zip(gradient).for_each(|(sum, gradient)| *sum += share * gradient);
            }
        }
    }
}

/// Every occurrence of a code other than 0 in the lookups of one table, sorted by code and then by
/// place, so that sums have one order.
pub(super) struct Occurrences<'a> {
    lookups: Vec<LookupGradient<'a>>,
    /// Code in the upper, place in the lower half; places count through all lookups.
    sorted: Vec<u64>,
    width: usize,
}

impl<'a> Occurrences<'a> {
    /// `width` is the length of a row of the table.
    pub(super) fn collect(lookups: Vec<LookupGradient<'a>>, width: usize) -> Self {
        let codes = lookups.iter().flat_map(|lookup| lookup.codes);
        let key = |(place, code): (usize, &i32)| ((*code as u64) << 32) | place as u64;
        let mut sorted: Vec<u64> = codes.enumerate().filter(|(_, code)| **code != 0).map(key).collect();
        sorted.par_sort_unstable();
        Self { lookups, sorted, width }
    }

    /// Length of a row of the table.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Occurrences in runs of whole codes, of a fixed length about.
    pub(super) fn tasks(&self) -> Vec<Range<usize>> {
        let code = |index: usize| self.sorted[index] >> 32;
        let mut tasks = Vec::new();
        let mut start = 0;
        while start < self.sorted.len() {
            let mut end = (start + TASK_OCCURRENCES).min(self.sorted.len());
            while end < self.sorted.len() && code(end) == code(end - 1) {
                end += 1;
            }
            tasks.push(start..end);
            start = end;
        }
        tasks
    }

    /// The last code of a task.
    pub(super) fn last_code(&self, task: &Range<usize>) -> usize {
        (self.sorted[task.end - 1] >> 32) as usize
    }

    /// Calls `update` with every code of a task and the sum of its gradients, in ascending order.
    pub(super) fn for_each(&self, task: Range<usize>, mut update: impl FnMut(usize, &[f32])) {
        let mut sum = vec![0.0; self.width];
        for run in self.sorted[task].chunk_by(|a, b| a >> 32 == b >> 32) {
            sum.fill(0.0);
            for occurrence in run {
                let mut place = (*occurrence & u64::from(u32::MAX)) as usize;
                for lookup in &self.lookups {
                    if place < lookup.codes.len() {
                        lookup.add_to(&mut sum, place);
                        break;
                    }
                    place -= lookup.codes.len();
                }
            }
            update((run[0] >> 32) as usize, &sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summed(occurrences: &Occurrences<'_>) -> Vec<(usize, Vec<f32>)> {
        let mut found = Vec::new();
        for task in occurrences.tasks() {
            occurrences.for_each(task, |code, sum| found.push((code, sum.to_vec())));
        }
        found
    }

    #[test]
    fn duplicates_of_all_lookups_are_summed_once_and_padding_is_left_out() {
        let single = LookupGradient::new(&[3, 0, 3], 1, &[1.0, 10.0, 2.0, 20.0, 4.0, 40.0], false);
        // Row 0 averages codes 1 and 3, row 1 code 1 alone.
        let mean = LookupGradient::new(&[1, 3, 1, 0], 2, &[8.0, 80.0, 16.0, 160.0], true);
        let occurrences = Occurrences::collect(vec![single, mean], 2);
        let expected = [(1, vec![4.0 + 16.0, 40.0 + 160.0]), (3, vec![1.0 + 4.0 + 4.0, 10.0 + 40.0 + 40.0])];
        assert_eq!(summed(&occurrences), expected);
    }

    #[test]
    fn tasks_end_where_a_code_ends() {
        let codes: Vec<i32> = (0..5_000).map(|index| 1 + index / 700).collect();
        let rows = vec![1.0; 5_000];
        let occurrences = Occurrences::collect(vec![LookupGradient::new(&codes, 1, &rows, false)], 1);
        let tasks = occurrences.tasks();
        assert_eq!(tasks, [0..1400, 1400..2800, 2800..4200, 4200..5000]);
        let last: Vec<usize> = tasks.iter().map(|task| occurrences.last_code(task)).collect();
        assert_eq!(last, [2, 4, 6, 8]);
        let expected: Vec<_> =
            (1..=8).map(|code| (code, vec![if code < 8 { 700.0 } else { 100.0 }])).collect();
        assert_eq!(summed(&occurrences), expected);
    }
}
