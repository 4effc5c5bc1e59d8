//! Adam (Kingma and Ba, 2015) for the few numbers that a rule learns.

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Means of the gradients and of their squares, and the steps of each number: one without a
/// gradient in a step stays as it is.
#[derive(Clone, Debug)]
pub(super) struct Adam {
    learning_rate: f64,
    pub(super) first: Vec<f64>,
    pub(super) second: Vec<f64>,
    pub(super) steps: Vec<f64>,
}

impl Adam {
    pub(super) fn new(numbers: usize, learning_rate: f64) -> Self {
        let zeros = vec![0.0; numbers];
        Self { learning_rate, first: zeros.clone(), second: zeros.clone(), steps: zeros }
    }

    /// Changes the number at `index`, as `torch.optim.Adam` does.
    pub(super) fn step(&mut self, index: usize, value: &mut f64, gradient: f64) {
        let (first, second, steps) =
            (&mut self.first[index], &mut self.second[index], &mut self.steps[index]);
        *steps += 1.0;
        *first += (1.0 - BETA1) * (gradient - *first);
        *second += (1.0 - BETA2) * (gradient * gradient - *second);
        let root = (*second / (1.0 - BETA2.powf(*steps))).sqrt();
        *value -= self.learning_rate * (*first / (1.0 - BETA1.powf(*steps))) / (root + EPSILON);
    }
}
