//! The arithmetic of a step, on the numbers of a parameter, of a part of one, or of a row.

use super::config::OptimizerConfig;

/// Numbers that are treated side by side; a multiple of every vector's length.
pub(super) const LANES: usize = 16;

/// One step of one parameter: its rule, with all constants ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct Update {
    rule: Rule,
    /// Gradients are multiplied by this: less than 1 where they are clipped.
    scale: f32,
    /// This share of a number is added to its gradient.
    l2: f32,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    Sgd { rate: f32 },
    Momentum { rate: f32, momentum: f32 },
    Adam { keep: f32, beta1: f32, beta2: f32, root_factor: f32, epsilon: f32, rate: f32 },
    Adagrad { rate: f32, epsilon: f32, initial: f32 },
    RowwiseAdagrad { rate: f32, epsilon: f32, initial: f32 },
    Ftrl { factor: f32, alpha: f32, beta: f32, l1: f32, l2: f32 },
}

impl Update {
    /// `steps` counts those of the parameter, this one included.
    pub(super) fn new(
        config: &OptimizerConfig,
        is_table: bool,
        steps: u64,
        rate_factor: f32,
        scale: f32,
        l2: f32,
    ) -> Self {
        let adam = |learning_rate: f32, beta1: f32, beta2: f32, epsilon: f32, weight_decay: f32| {
            let correction = |beta: f32| 1.0 - f64::from(beta).powf(steps as f64);
            let rate = f64::from(learning_rate) * f64::from(rate_factor);
            let (first, second) = (correction(beta1), correction(beta2).sqrt());
            let keep = (1.0 - rate * f64::from(weight_decay)) as f32;
            let (root_factor, rate) =
                if is_table { (1.0, rate * second / first) } else { (1.0 / second, rate / first) };
            Rule::Adam { keep, beta1, beta2, root_factor: root_factor as f32, epsilon, rate: rate as f32 }
        };
        let rule = match *config {
            OptimizerConfig::Sgd { learning_rate, momentum: 0.0 } => {
                Rule::Sgd { rate: learning_rate * rate_factor }
            }
            OptimizerConfig::Sgd { learning_rate, momentum } => {
                Rule::Momentum { rate: learning_rate * rate_factor, momentum }
            }
            OptimizerConfig::Adam { learning_rate, beta1, beta2, epsilon } => {
                adam(learning_rate, beta1, beta2, epsilon, 0.0)
            }
            OptimizerConfig::AdamW { learning_rate, beta1, beta2, epsilon, weight_decay } => {
                adam(learning_rate, beta1, beta2, epsilon, weight_decay)
            }
            OptimizerConfig::Adagrad { learning_rate, epsilon, initial } => {
                Rule::Adagrad { rate: learning_rate * rate_factor, epsilon, initial }
            }
            OptimizerConfig::RowwiseAdagrad { learning_rate, epsilon, initial } => {
                Rule::RowwiseAdagrad { rate: learning_rate * rate_factor, epsilon, initial }
            }
            OptimizerConfig::Ftrl { learning_rate, beta, l1, l2 } => {
                Rule::Ftrl { factor: rate_factor, alpha: learning_rate, beta, l1, l2 }
            }
        };
        Self { rule, scale, l2 }
    }

    /// Whether one number is remembered for a row, so that rows must come one by one.
    #[inline(always)]
    pub(super) fn is_by_row(&self) -> bool {
        matches!(self.rule, Rule::RowwiseAdagrad { .. })
    }

    /// Changes numbers and what is remembered of them: as many of each array as there are
    /// numbers, or one for the row; arrays that the rule does not have are empty.
    #[inline(always)]
    pub(super) fn apply(&self, values: &mut [f32], state: [&mut [f32]; 2], gradient: &[f32]) {
        let [a, b] = state;
        let Self { scale, l2, .. } = *self;
        let gradient_of = |w: f32, g: f32| scale * g + l2 * w;
        match self.rule {
            Rule::Sgd { rate } => {
                each(values, [], gradient, |w, [], g| (w - rate * gradient_of(w, g), []));
            }
            Rule::Momentum { rate, momentum } => {
                each(values, [a], gradient, |w, [m], g| {
                    let m = momentum * m + gradient_of(w, g);
                    (w - rate * m, [m])
                });
            }
            Rule::Adam { keep, beta1, beta2, root_factor, epsilon, rate } => {
                each(values, [a, b], gradient, |w, [mean, square], g| {
                    let g = gradient_of(w, g);
                    let mean = mean + (1.0 - beta1) * (g - mean);
                    let square = square + (1.0 - beta2) * (g * g - square);
                    let step = rate * mean / (square.sqrt() * root_factor + epsilon);
                    (keep * w - step, [mean, square])
                });
            }
            Rule::Adagrad { rate, epsilon, initial } => {
                each(values, [a], gradient, |w, [squares], g| {
                    let g = gradient_of(w, g);
                    let squares = squares + g * g;
                    (w - rate * g / ((initial + squares).sqrt() + epsilon), [squares])
                });
            }
            Rule::RowwiseAdagrad { rate, epsilon, initial } => {
                let mut total = [0.0; LANES];
                for (values, gradient) in values.chunks(LANES).zip(gradient.chunks(LANES)) {
                    for ((total, w), g) in total.iter_mut().zip(values).zip(gradient) {
                        let g = gradient_of(*w, *g);
                        *total += g * g;
                    }
                }
                a[0] += total.iter().sum::<f32>() / values.len() as f32;
                let rate = rate / ((initial + a[0]).sqrt() + epsilon);
                each(values, [], gradient, |w, [], g| (w - rate * gradient_of(w, g), []));
            }
            Rule::Ftrl { factor, alpha, beta, l1, l2 } => {
                each(values, [a, b], gradient, |w, [z, n], g| {
                    let g = gradient_of(w, g);
                    // Where no gradient came yet, z is such that the formula below gives w.
                    let z = if n == 0.0 { -w * (beta / alpha + l2) - l1 * sign(w) } else { z };
                    let root = (n + g * g).sqrt();
                    let z = z + factor * g - (root - n.sqrt()) / alpha * w;
                    let shrunk = z - l1 * sign(z);
                    let w = -shrunk / ((beta + root) / alpha + l2);
                    (if z.abs() <= l1 { 0.0 } else { w }, [z, n + g * g])
                });
            }
        }
    }
}

/// −1, 0 or 1.
#[inline(always)]
fn sign(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0_f32.copysign(x) }
}

/// Puts every number, with what is remembered of it and its gradient, through `f`.
#[inline(always)]
fn each<const ARRAYS: usize>(
    values: &mut [f32],
    mut state: [&mut [f32]; ARRAYS],
    gradient: &[f32],
    f: impl Fn(f32, [f32; ARRAYS], f32) -> (f32, [f32; ARRAYS]),
) {
    let len = values.len();
    let mut start = 0;
    while start + LANES <= len {
        lanes::<ARRAYS, LANES>(values, &mut state, gradient, start, &f);
        start += LANES;
    }
    while start < len {
        lanes::<ARRAYS, 1>(values, &mut state, gradient, start, &f);
        start += 1;
    }
}

#[inline(always)]
fn lanes<const ARRAYS: usize, const WIDTH: usize>(
    values: &mut [f32],
    state: &mut [&mut [f32]; ARRAYS],
    gradient: &[f32],
    start: usize,
    f: &impl Fn(f32, [f32; ARRAYS], f32) -> (f32, [f32; ARRAYS]),
) {
    let read = |from: &[f32]| -> [f32; WIDTH] {
        let from = &from[start..start + WIDTH];
        std::array::from_fn(|lane| from[lane])
    };
    let (mut w, g) = (read(values), read(gradient));
    let mut arrays: [[f32; WIDTH]; ARRAYS] = std::array::from_fn(|array| read(state[array]));
    for lane in 0..WIDTH {
        let remembered;
        (w[lane], remembered) = f(w[lane], std::array::from_fn(|array| arrays[array][lane]), g[lane]);
        for array in 0..ARRAYS {
            arrays[array][lane] = remembered[array];
        }
    }
    values[start..start + WIDTH].copy_from_slice(&w);
    for array in 0..ARRAYS {
        state[array][start..start + WIDTH].copy_from_slice(&arrays[array]);
    }
}
