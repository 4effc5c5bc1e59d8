//! Balancing: how much each task's loss weighs in a joint step.
//!
//! A [`Weighing`] gives one factor a task before each joint step, and learns from the losses after
//! it. [`pcgrad`] leaves the weights alone and combines the gradients instead.
//!
//! - [`uncertainty`]: Kendall, Gal and Cipolla, CVPR 2018.
//! - [`dwa`]: dynamic weight average, Liu, Johns and Davison, CVPR 2019.
//! - [`gradnorm`]: Chen et al., ICML 2018.
//! - [`pcgrad`]: Yu et al., NeurIPS 2020.

mod adam;
mod dwa;
mod gradnorm;
pub(crate) mod pcgrad;
mod uncertainty;

use std::collections::BTreeMap;

use gatefold_schema::{BalanceConfig, Task};

use adam::Adam;

/// What a joint step showed of one task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Observed {
    /// The task's loss, before any weight.
    pub(crate) loss: f64,
    /// Norm of its gradient at the last shared layer, where the rule is GradNorm.
    pub(crate) gradient_norm: f64,
    /// Whether the batch had a row of the task's sample space; if not, nothing was seen.
    pub(crate) present: bool,
}

/// A rule that weighs the tasks of joint steps.
pub(crate) trait Weighing {
    /// What the loss of each task is multiplied by in the next joint step.
    fn factors(&self) -> Vec<f64>;

    /// Takes in what a joint step showed of each task.
    fn observe(&mut self, _tasks: &[Observed]) {}

    /// Takes in that an epoch has ended.
    fn end_epoch(&mut self) {}

    /// All that it remembers, by name, to be changed when a checkpoint is read.
    fn state(&mut self) -> Vec<(&'static str, &mut Vec<f64>)> {
        Vec::new()
    }
}

/// The rule that `config` names, for these tasks.
pub(crate) fn weighing(config: &BalanceConfig, tasks: &[Task]) -> Box<dyn Weighing> {
    match *config {
        BalanceConfig::Fixed {} | BalanceConfig::PcGrad {} => Box::new(Fixed { tasks: tasks.len() }),
        BalanceConfig::Uncertainty { learning_rate } => {
            Box::new(uncertainty::Uncertainty::new(tasks, f64::from(learning_rate)))
        }
        BalanceConfig::Dwa { temperature } => Box::new(dwa::Dwa::new(tasks.len(), f64::from(temperature))),
        BalanceConfig::GradNorm { alpha, learning_rate } => {
            Box::new(gradnorm::GradNorm::new(tasks.len(), f64::from(alpha), f64::from(learning_rate)))
        }
    }
}

/// A copy of what a rule remembers, for a checkpoint.
pub(crate) fn stored(weighing: &mut dyn Weighing) -> BTreeMap<String, Vec<f64>> {
    weighing.state().into_iter().map(|(name, values)| (name.to_owned(), values.clone())).collect()
}

/// Puts back what [`stored`] gave; false where it is not of this rule.
pub(crate) fn restore(weighing: &mut dyn Weighing, stored: &BTreeMap<String, Vec<f64>>) -> bool {
    let state = weighing.state();
    let is_ours = state.len() == stored.len() && state.iter().all(|(name, _)| stored.contains_key(*name));
    if is_ours {
        for (name, values) in state {
            values.clone_from(&stored[name]);
        }
    }
    is_ours
}

/// The weights of the recipe, and nothing else.
struct Fixed {
    tasks: usize,
}

impl Weighing for Fixed {
    fn factors(&self) -> Vec<f64> {
        vec![1.0; self.tasks]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use gatefold_schema::{Loss, Task};

    use super::*;

    pub(crate) fn tasks(count: usize) -> Vec<Task> {
        let task = |index: usize| Task {
            name: format!("task{index}"),
            label: format!("label{index}"),
            loss: Loss::CrossEntropy,
            given: None,
            weight: 1.0,
            fake_negatives: None,
            potential_label: None,
            oracle: None,
        };
        (0..count).map(task).collect()
    }

    pub(super) fn seen(loss: f64) -> Observed {
        Observed { loss, gradient_norm: 0.0, present: true }
    }

    #[test]
    fn what_a_rule_remembers_can_be_put_back() {
        let rules = [
            BalanceConfig::Fixed {},
            BalanceConfig::Uncertainty { learning_rate: 0.1 },
            BalanceConfig::Dwa { temperature: 2.0 },
            BalanceConfig::GradNorm { alpha: 1.5, learning_rate: 0.1 },
        ];
        for config in rules {
            let observe = |rule: &mut dyn Weighing, epoch: usize| {
                let seen = |loss| Observed { loss, gradient_norm: loss + 1.0, present: true };
                rule.observe(&[seen(1.0 / (1 + epoch) as f64), seen(0.7)]);
                rule.end_epoch();
            };
            let mut whole = weighing(&config, &tasks(2));
            (0..3).for_each(|epoch| observe(whole.as_mut(), epoch));
            let text = serde_json::to_string(&stored(whole.as_mut())).unwrap();
            let mut resumed = weighing(&config, &tasks(2));
            assert!(restore(resumed.as_mut(), &serde_json::from_str(&text).unwrap()));
            for rule in [&mut whole, &mut resumed] {
                observe(rule.as_mut(), 3);
            }
            assert_eq!(whole.factors(), resumed.factors(), "{config:?}");
            let is_fixed = config == BalanceConfig::Fixed {};
            assert_eq!(whole.factors() == [1.0, 1.0], is_fixed, "{config:?} must have learned something");
        }
    }

    #[test]
    fn the_state_of_another_rule_is_refused() {
        let mut dwa = weighing(&BalanceConfig::Dwa { temperature: 2.0 }, &tasks(2));
        let mut fixed = weighing(&BalanceConfig::Fixed {}, &tasks(2));
        assert!(!restore(fixed.as_mut(), &stored(dwa.as_mut())));
    }
}
