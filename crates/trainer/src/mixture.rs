//! Which batches follow each other: joint ones, and those of one task.

use std::collections::BTreeMap;

use gatefold_schema::{JOINT, Task};

/// What a batch teaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchKind {
    /// Every task.
    Joint,
    /// One task, by its index.
    Task(usize),
}

/// A round of batches, which is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mixture {
    round: Vec<BatchKind>,
}

impl Mixture {
    /// As many batches of each kind in a round as `alternate` says, spread evenly; joint ones only
    /// where it says nothing.
    pub(crate) fn new(alternate: &BTreeMap<String, usize>, tasks: &[Task]) -> Self {
        let of_tasks = tasks.iter().enumerate().map(|(index, task)| (BatchKind::Task(index), &*task.name));
        let kinds = [(BatchKind::Joint, JOINT)].into_iter().chain(of_tasks);
        let mut shares: Vec<(BatchKind, usize)> =
            kinds.map(|(kind, name)| (kind, alternate.get(name).copied().unwrap_or(0))).collect();
        if alternate.is_empty() {
            shares[0].1 = 1;
        }
        // The kind that is furthest behind its share comes next.
        let length: usize = shares.iter().map(|(_, share)| share).sum();
        let mut behind = vec![0; shares.len()];
        let mut round = Vec::with_capacity(length);
        for _ in 0..length {
            behind.iter_mut().zip(&shares).for_each(|(behind, (_, share))| *behind += *share as isize);
            let largest = behind.iter().copied().max().unwrap_or(0);
            let next = behind.iter().position(|behind| *behind == largest).unwrap_or(0);
            behind[next] -= length as isize;
            round.push(shares[next].0);
        }
        Self { round }
    }

    /// The kinds that occur, each once.
    pub(crate) fn kinds(&self) -> Vec<BatchKind> {
        let mut kinds = Vec::new();
        for kind in &self.round {
            if !kinds.contains(kind) {
                kinds.push(*kind);
            }
        }
        kinds
    }

    /// The kind of a step, from 1.
    pub(crate) fn kind(&self, step: usize) -> BatchKind {
        self.round[(step - 1) % self.round.len()]
    }

    /// Batches of a kind in the first `steps` steps.
    pub(crate) fn count(&self, kind: BatchKind, steps: usize) -> usize {
        let count = |round: &[BatchKind]| round.iter().filter(|other| **other == kind).count();
        let (rounds, rest) = (steps / self.round.len(), steps % self.round.len());
        rounds * count(&self.round) + count(&self.round[..rest])
    }
}

#[cfg(test)]
mod tests {
    use super::{BatchKind::*, *};
    use crate::balance::tests::tasks;

    fn mixture(shares: &[(&str, usize)]) -> Mixture {
        let shares = shares.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect();
        Mixture::new(&shares, &tasks(2))
    }

    #[test]
    fn kinds_come_by_their_ratio_and_spread() {
        assert_eq!(mixture(&[]).round, [Joint]);
        assert_eq!(mixture(&[("task1", 3)]).kinds(), [Task(1)]);
        let mixed = mixture(&[("joint", 1), ("task0", 2), ("task1", 1)]);
        assert_eq!(mixed.round, [Task(0), Joint, Task(1), Task(0)]);
        assert_eq!(mixed.kinds(), [Task(0), Joint, Task(1)]);
        assert_eq!(mixture(&[("task0", 1), ("task1", 1)]).round, [Task(0), Task(1)]);
    }

    #[test]
    fn counts_are_those_of_the_steps() {
        let mixed = mixture(&[("joint", 1), ("task0", 2), ("task1", 2)]);
        for kind in mixed.kinds() {
            for steps in 0..23 {
                let counted = (1..=steps).filter(|step| mixed.kind(*step) == kind).count();
                assert_eq!(mixed.count(kind, steps), counted);
            }
        }
    }
}
