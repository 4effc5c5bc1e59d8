//! Dynamic weight average (Liu, Johns and Davison, CVPR 2019): a task whose loss falls slower than
//! the others' gets more weight.
//!
//! With the mean loss `L` of each epoch, equation 7 of the paper gives task `k` in epoch `t` of
//! `K` tasks the factor `K · exp(w_k/T) / Σ exp(w_i/T)`, where `w_k = L_k(t−1) / L_k(t−2)`, and 1 in
//! the first two epochs.

use super::{Observed, Weighing};

pub(super) struct Dwa {
    temperature: f64,
    /// Sum of the losses of this epoch, and of how many batches.
    sums: Vec<f64>,
    batches: Vec<f64>,
    /// Mean losses of the last epoch and of the one before; NaN-free: 0 where there is none.
    last: Vec<f64>,
    before_last: Vec<f64>,
}

impl Dwa {
    pub(super) fn new(tasks: usize, temperature: f64) -> Self {
        let zeros = vec![0.0; tasks];
        Self {
            temperature,
            sums: zeros.clone(),
            batches: zeros.clone(),
            last: zeros.clone(),
            before_last: zeros,
        }
    }
}

impl Weighing for Dwa {
    fn factors(&self) -> Vec<f64> {
        // A loss of 0 means an epoch without the task, or nothing left to learn.
        let rate =
            |(last, before): (&f64, &f64)| if *before > 0.0 && *last > 0.0 { last / before } else { 1.0 };
        let rates = self.last.iter().zip(&self.before_last).map(rate);
        let powers: Vec<f64> = rates.map(|rate| (rate / self.temperature).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.iter().map(|power| powers.len() as f64 * power / sum).collect()
    }

    fn observe(&mut self, tasks: &[Observed]) {
        for ((task, sum), batches) in tasks.iter().zip(&mut self.sums).zip(&mut self.batches) {
            if task.present {
                *sum += task.loss;
                *batches += 1.0;
            }
        }
    }

    fn end_epoch(&mut self) {
        std::mem::swap(&mut self.before_last, &mut self.last);
        for ((last, sum), batches) in self.last.iter_mut().zip(&mut self.sums).zip(&mut self.batches) {
            *last = if *batches > 0.0 { *sum / *batches } else { 0.0 };
            (*sum, *batches) = (0.0, 0.0);
        }
    }

    fn state(&mut self) -> Vec<(&'static str, &mut Vec<f64>)> {
        vec![
            ("sums", &mut self.sums),
            ("batches", &mut self.batches),
            ("last epoch", &mut self.last),
            ("epoch before", &mut self.before_last),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::tests::seen;

    #[test]
    fn weights_follow_the_ratio_of_the_last_two_epochs() {
        let mut rule = Dwa::new(2, 2.0);
        for losses in [[0.8, 3.0], [0.4, 1.0]] {
            rule.observe(&losses.map(seen));
        }
        assert_eq!(rule.factors(), [1.0, 1.0]);
        rule.end_epoch(); // means 0.6 and 2.0
        assert_eq!(rule.factors(), [1.0, 1.0]);
        rule.observe(&[0.3, 1.8].map(seen));
        rule.end_epoch();
        // Ratios 0.5 and 0.9: exp(0.25) = 1.284025, exp(0.45) = 1.568312; twice each over the sum.
        let factors = rule.factors();
        assert!((factors[0] - 0.900_332_0).abs() < 1e-6, "{factors:?}");
        assert!((factors[1] - 1.099_668_0).abs() < 1e-6, "{factors:?}");
    }

    #[test]
    fn an_epoch_without_a_task_leaves_its_ratio_at_1() {
        let mut rule = Dwa::new(2, 2.0);
        for _ in 0..2 {
            rule.observe(&[seen(0.5), Observed { present: false, ..seen(0.0) }]);
            rule.end_epoch();
        }
        assert_eq!(rule.factors(), [1.0, 1.0]);
    }
}
