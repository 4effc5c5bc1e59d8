//! GradNorm (Chen et al., ICML 2018): weights learned so that the gradients of all tasks at the
//! last shared layer have comparable norms, larger where a task learns slower.
//!
//! With `G_i = w_i·‖∇L_i‖` at that layer and the inverse training rate `r_i = (L_i/L_i(0)) / mean`,
//! the weights follow the gradient of `Σ |G_i − mean(G)·r_i^α|`, whose targets count as constants,
//! and are scaled to sum up to the number of tasks after each step (their algorithm 1).

use super::{Adam, Observed, Weighing};

pub(super) struct GradNorm {
    alpha: f64,
    weights: Vec<f64>,
    /// First loss of each task; 0 before it was seen.
    initial: Vec<f64>,
    adam: Adam,
}

impl GradNorm {
    pub(super) fn new(tasks: usize, alpha: f64, learning_rate: f64) -> Self {
        Self {
            alpha,
            weights: vec![1.0; tasks],
            initial: vec![0.0; tasks],
            adam: Adam::new(tasks, learning_rate),
        }
    }

    /// The norms that the weighted gradients should have.
    fn targets(&self, tasks: &[Observed]) -> Vec<f64> {
        let count = tasks.len() as f64;
        let norms = tasks.iter().zip(&self.weights).map(|(task, weight)| weight * task.gradient_norm);
        let mean_norm = norms.sum::<f64>() / count;
        let ratios: Vec<f64> =
            tasks.iter().zip(&self.initial).map(|(task, initial)| task.loss / initial).collect();
        let mean_ratio = ratios.iter().sum::<f64>() / count;
        ratios.iter().map(|ratio| mean_norm * (ratio / mean_ratio).powf(self.alpha)).collect()
    }
}

impl Weighing for GradNorm {
    fn factors(&self) -> Vec<f64> {
        self.weights.clone()
    }

    fn observe(&mut self, tasks: &[Observed]) {
        for (task, initial) in tasks.iter().zip(&mut self.initial) {
            if task.present && *initial == 0.0 {
                *initial = task.loss;
            }
        }
        // Rates are relative: without all of the tasks, and something left to learn, there are none.
        let is_known = |(task, initial): (&Observed, &f64)| task.present && *initial > 0.0;
        if !tasks.iter().zip(&self.initial).all(is_known) || tasks.iter().all(|task| task.loss == 0.0) {
            return;
        }
        for (index, (task, target)) in tasks.iter().zip(self.targets(tasks)).enumerate() {
            let off = self.weights[index] * task.gradient_norm - target;
            // d|w·n − target| / dw; 0 where the norm is right.
            let sign = if off == 0.0 { 0.0 } else { off.signum() };
            self.adam.step(index, &mut self.weights[index], sign * task.gradient_norm);
        }
        // A weight that steps below 0 would turn its task around.
        self.weights.iter_mut().for_each(|weight| *weight = weight.max(f64::MIN_POSITIVE));
        let scale = self.weights.len() as f64 / self.weights.iter().sum::<f64>();
        self.weights.iter_mut().for_each(|weight| *weight *= scale);
    }

    fn state(&mut self) -> Vec<(&'static str, &mut Vec<f64>)> {
        vec![
            ("weights", &mut self.weights),
            ("first losses", &mut self.initial),
            ("first moments", &mut self.adam.first),
            ("second moments", &mut self.adam.second),
            ("steps", &mut self.adam.steps),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(loss: f64, gradient_norm: f64) -> Observed {
        Observed { loss, gradient_norm, present: true }
    }

    #[test]
    fn targets_are_the_mean_norm_by_the_training_rate() {
        let mut rule = GradNorm::new(2, 1.5, 0.025);
        rule.initial = vec![1.0, 2.0];
        rule.weights = vec![1.5, 0.5];
        // Norms 3 and 2, mean 2.5; ratios 0.5 and 0.25, rates 4/3 and 2/3.
        let targets = rule.targets(&[seen(0.5, 2.0), seen(0.5, 4.0)]);
        assert!((targets[0] - 2.5 * (4.0_f64 / 3.0).powf(1.5)).abs() < 1e-12, "{targets:?}");
        assert!((targets[1] - 2.5 * (2.0_f64 / 3.0).powf(1.5)).abs() < 1e-12, "{targets:?}");
    }

    #[test]
    fn steps_are_those_of_pytorch() {
        let mut rule = GradNorm::new(3, 1.5, 0.025);
        for tasks in [
            [(1.0, 0.5), (2.0, 1.5), (0.5, 0.1)],
            [(0.9, 0.6), (1.5, 1.0), (0.45, 0.2)],
            [(0.85, 0.4), (1.4, 0.9), (0.2, 0.3)],
        ] {
            rule.observe(&tasks.map(|(loss, norm)| seen(loss, norm)));
        }
        // torch 2.15, w = ones(3, dtype=float64, requires_grad=True), Adam([w], lr=0.025), a step:
        // G = w·norms; r = L/L0 / mean(L/L0); (G − (mean(G)·r**1.5).detach()).abs().sum().backward();
        // optimizer.step(); w *= 3 / w.sum()
        let expected = [1.057850603873408, 0.9113445764025594, 1.0308048197240325];
        for (found, expected) in rule.weights.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{:?}, expected {expected:?}", rule.weights);
        }
    }

    #[test]
    fn tasks_of_one_rate_get_gradients_of_one_norm() {
        let mut rule = GradNorm::new(2, 1.5, 0.01);
        for _ in 0..2000 {
            rule.observe(&[seen(1.0, 1.0), seen(1.0, 3.0)]);
        }
        // w₁·1 = w₂·3 with w₁ + w₂ = 2.
        let weights = rule.factors();
        assert!((weights[0] - 1.5).abs() < 0.02 && (weights[1] - 0.5).abs() < 0.02, "{weights:?}");
    }

    #[test]
    fn a_batch_without_one_of_the_tasks_changes_nothing() {
        let mut rule = GradNorm::new(2, 1.5, 0.025);
        rule.observe(&[seen(1.0, 1.0), Observed { present: false, ..seen(0.0, 0.0) }]);
        rule.observe(&[seen(1.0, 1.0), Observed { present: false, ..seen(0.0, 0.0) }]);
        assert_eq!(rule.factors(), [1.0, 1.0]);
    }
}
