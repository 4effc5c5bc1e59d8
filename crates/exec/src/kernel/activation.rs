//! Activation functions and their slopes.

use gatefold_graph::Activation;

use super::{elementwise, sigmoid};

/// The activation of every number.
pub(super) fn apply(out: &mut [f32], activation: Activation, x: &[f32]) {
    match activation {
        Activation::LeakyRelu(slope) => elementwise::map(out, x, |x| if x > 0.0 { x } else { slope * x }),
        Activation::Elu => elementwise::map(out, x, |x| if x > 0.0 { x } else { x.exp_m1() }),
        Activation::Gelu => elementwise::map(out, x, |x| x * normal(x)),
        Activation::Silu => elementwise::map(out, x, |x| x * sigmoid(x)),
        Activation::Tanh => elementwise::map(out, x, f32::tanh),
    }
}

/// `g · f′(x)` of every pair of numbers.
pub(super) fn apply_gradient(out: &mut [f32], activation: Activation, g: &[f32], x: &[f32]) {
    match activation {
        Activation::LeakyRelu(slope) => {
            elementwise::zip(out, g, x, |g, x| if x > 0.0 { g } else { slope * g });
        }
        Activation::Elu => elementwise::zip(out, g, x, |g, x| if x > 0.0 { g } else { g * x.exp() }),
        Activation::Gelu => elementwise::zip(out, g, x, |g, x| {
            // Φ + x·φ, where φ = exp(−x²/2) / √(2π).
            let density = (-0.5 * x * x).exp()
                * (0.5 * std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2);
            g * (normal(x) + x * density)
        }),
        Activation::Silu => elementwise::zip(out, g, x, |g, x| {
            let share = sigmoid(x);
            g * share * (1.0 + x * (1.0 - share))
        }),
        Activation::Tanh => elementwise::zip(out, g, x, |g, x| {
            let y = x.tanh();
            g * (1.0 - y * y)
        }),
    }
}

/// The distribution function of the standard normal, `(1 + erf(x/√2)) / 2`.
fn normal(x: f32) -> f32 {
    let tail = 0.5 * erfc_of_positive(x.abs() * std::f32::consts::FRAC_1_SQRT_2);
    if x > 0.0 { 1.0 - tail } else { tail }
}

/// `1 − erf(x)` for x ≥ 0, within 1.5e-7 (Abramowitz and Stegun, 1964, formula 7.1.26).
fn erfc_of_positive(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let polynomial =
        t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    polynomial * (-x * x).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complement_of_erf_is_that_of_the_tables() {
        // Values of scipy.special.erfc.
        let known = [
            (0.0, 1.0),
            (0.1, 0.887_537_1),
            (0.5, 0.479_500_1),
            (1.0, 0.157_299_2),
            (2.0, 0.004_677_735),
            (4.0, 1.541_7e-8),
        ];
        for (x, expected) in known {
            assert!((erfc_of_positive(x) - expected).abs() < 4e-7, "{x}: {}", erfc_of_positive(x));
        }
    }
}
