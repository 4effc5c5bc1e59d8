//! Weights learned as the uncertainty of each task (Kendall, Gal and Cipolla, CVPR 2018).
//!
//! With `s = log σ²` of a task, learned beside the model, the total loss is
//! `Σ exp(−s)·L + s/2` for cross-entropy (their equation 10) and `Σ exp(−s)·L/2 + s/2` for squared
//! error (their equation 7). For a loss that stays the same the best `s` is `log 2L` and `log L`.

use gatefold_schema::{Loss, Task};

use super::{Adam, Observed, Weighing};

pub(super) struct Uncertainty {
    /// 1, or 1/2 for squared error.
    scales: Vec<f64>,
    log_variances: Vec<f64>,
    adam: Adam,
}

impl Uncertainty {
    pub(super) fn new(tasks: &[Task], learning_rate: f64) -> Self {
        let scale = |task: &Task| match task.loss {
            Loss::CrossEntropy => 1.0,
            Loss::SquaredError => 0.5,
        };
        Self {
            scales: tasks.iter().map(scale).collect(),
            log_variances: vec![0.0; tasks.len()],
            adam: Adam::new(tasks.len(), learning_rate),
        }
    }
}

impl Weighing for Uncertainty {
    fn factors(&self) -> Vec<f64> {
        self.scales.iter().zip(&self.log_variances).map(|(scale, s)| scale * (-s).exp()).collect()
    }

    fn observe(&mut self, tasks: &[Observed]) {
        for (index, (task, factor)) in tasks.iter().zip(self.factors()).enumerate() {
            if task.present {
                // d/ds of factor(s)·L + s/2
                let gradient = 0.5 - factor * task.loss;
                self.adam.step(index, &mut self.log_variances[index], gradient);
            }
        }
    }

    fn state(&mut self) -> Vec<(&'static str, &mut Vec<f64>)> {
        vec![
            ("log variances", &mut self.log_variances),
            ("first moments", &mut self.adam.first),
            ("second moments", &mut self.adam.second),
            ("steps", &mut self.adam.steps),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::tests::{seen, tasks};

    #[test]
    fn log_variances_go_to_the_log_of_the_loss() {
        let mut tasks = tasks(2);
        tasks[1].loss = Loss::SquaredError;
        let mut rule = Uncertainty::new(&tasks, 0.01);
        for _ in 0..3000 {
            rule.observe(&[seen(0.3), seen(4.0)]);
        }
        // log 2L for cross-entropy, log L for squared error: then each task weighs 1 / 2L.
        assert!((rule.log_variances[0] - 0.6_f64.ln()).abs() < 1e-4, "{:?}", rule.log_variances);
        assert!((rule.log_variances[1] - 4.0_f64.ln()).abs() < 1e-4, "{:?}", rule.log_variances);
        let factors = rule.factors();
        assert!((factors[0] - 1.0 / 0.6).abs() < 1e-3 && (factors[1] - 0.125).abs() < 1e-4, "{factors:?}");
    }

    #[test]
    fn steps_are_those_of_pytorch() {
        let mut tasks = tasks(2);
        tasks[1].loss = Loss::SquaredError;
        let mut rule = Uncertainty::new(&tasks, 0.1);
        for losses in [[0.3, 4.0], [0.9, 1.0], [0.2, 3.0]] {
            rule.observe(&losses.map(seen));
        }
        // torch 2.15: s = zeros(2, dtype=float64, requires_grad=True); Adam([s], lr=0.1);
        // loss = exp(-s[0])·L0 + s[0]/2 + exp(-s[1])·L1/2 + s[1]/2
        let expected = [-0.05666807432854606, 0.23826620663756526];
        for (found, expected) in rule.log_variances.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
        }
    }

    #[test]
    fn a_task_without_a_row_in_the_batch_keeps_its_variance() {
        let mut rule = Uncertainty::new(&tasks(2), 0.1);
        rule.observe(&[seen(0.3), Observed { present: false, ..seen(0.0) }]);
        assert_ne!(rule.log_variances[0], 0.0);
        assert_eq!(rule.log_variances[1], 0.0);
    }
}
