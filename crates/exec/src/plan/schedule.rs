//! Puts steps into stages: as few as their order allows.
//!
//! A step at row level may share a stage with the steps it reads if they work on the same rows; a
//! change of level (summing rows up, expanding requests to candidates, and back) needs the whole
//! of what it reads, and so a later stage.

use std::collections::BTreeMap;

use gatefold_graph::{Fact, Level};

use super::{Stage, Step};

/// The steps in stages, in running order.
pub(super) fn stages(facts: &[Fact], steps: Vec<Step>) -> Vec<Stage> {
    let levels: Vec<Level> = steps.iter().map(|step| facts[step.output.0].level).collect();
    let sources = sources(&steps, facts.len());
    let times = times(&levels, &sources);
    let mut by_time: BTreeMap<(usize, Level), Vec<Step>> = BTreeMap::new();
    for ((step, level), time) in steps.into_iter().zip(&levels).zip(times) {
        by_time.entry((time, *level)).or_default().push(step);
    }
    by_time.into_iter().map(|((_, level), steps)| Stage::new(level, steps)).collect()
}

impl Stage {
    fn new(level: Level, mut steps: Vec<Step>) -> Self {
        if level == Level::Constant {
            // A stable sort: reductions read rows only, so they can all go first.
            steps.sort_by_key(|step| !step.is_reduction());
        }
        Self { level, steps, writes: Vec::new() }
    }
}

/// For each step, the earlier steps whose results it reads.
fn sources(steps: &[Step], values: usize) -> Vec<Vec<usize>> {
    let mut producer = vec![None; values];
    for (index, step) in steps.iter().enumerate() {
        producer[step.output.0] = Some(index);
    }
    steps.iter().map(|step| step.inputs.iter().filter_map(|input| producer[input.0]).collect()).collect()
}

/// When each step runs. A step on rows that continues others of its level runs with them, so that
/// rows are passed on in cache; one that begins something waits until it is needed, so that it
/// meets the steps that read it. A step on constants runs as soon as it can: nothing waits for it.
fn times(levels: &[Level], sources: &[Vec<usize>]) -> Vec<usize> {
    let barrier = |from: usize, to: usize| usize::from(levels[from] != levels[to]);
    let mut earliest = vec![0; levels.len()];
    for (step, sources) in sources.iter().enumerate() {
        let after = sources.iter().map(|source| earliest[*source] + barrier(*source, step));
        earliest[step] = after.max().unwrap_or(0);
    }
    // One more than needed, so that constants which read no rows come before all rows.
    let end = earliest.iter().copied().max().unwrap_or(0) + 1;
    let mut latest = vec![end; levels.len()];
    for (step, sources) in sources.iter().enumerate().rev() {
        for source in sources {
            latest[*source] = latest[*source].min(latest[step] - barrier(*source, step));
        }
    }
    let mut times = latest;
    for (step, sources) in sources.iter().enumerate() {
        let continues = sources.iter().any(|source| barrier(*source, step) == 0);
        if continues || levels[step] == Level::Constant {
            let after = sources.iter().map(|source| times[*source] + barrier(*source, step));
            times[step] = after.max().unwrap_or(0);
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: Level = Level::Constant;
    const R: Level = Level::Request;
    const I: Level = Level::Candidate;

    #[track_caller]
    fn check(levels: &[Level], sources: &[&[usize]], expected: &[usize]) {
        let sources: Vec<Vec<usize>> = sources.iter().map(|sources| sources.to_vec()).collect();
        assert_eq!(times(levels, &sources), expected);
    }

    #[test]
    fn forward_and_backward_of_a_plain_model_are_one_stage() {
        // 0 lookup, 1 product, 2 sum of the weights, 3 gradient at the loss, 4 gradient of the
        // lookup, 5 gradient of the matrix, 6 loss.
        check(
            &[I, I, C, I, I, C, C],
            &[&[], &[0], &[], &[1, 2], &[3], &[0, 3], &[1]],
            &[2, 2, 0, 2, 2, 3, 3],
        );
    }

    #[test]
    fn a_constant_is_ready_before_the_rows_that_read_it() {
        // 0 lookup, 1 product, 2 its gradient, 3 transposed weight, 4 gradient of the lookup,
        // 5 gradient of the matrix.
        check(&[I, I, I, C, I, C], &[&[], &[0], &[1], &[], &[2, 3], &[0, 2]], &[1, 1, 1, 0, 1, 2]);
    }

    #[test]
    fn requests_run_before_and_after_their_candidates() {
        // 0 request part, 1 candidate part, 2 expansion and sum, 3 its gradient, 4 that by
        // request, 5 gradient of the candidate part, 6 and 7 gradients of matrices.
        check(
            &[R, I, I, I, R, I, C, C],
            &[&[], &[], &[0, 1], &[2], &[3], &[3], &[0, 4], &[1, 3]],
            &[1, 2, 2, 2, 3, 2, 4, 3],
        );
    }
}
