//! PCGrad, gradient surgery (Yu et al., NeurIPS 2020, algorithm 1): where the gradients of two
//! tasks by the shared parameters point apart, each loses its part along the other.

use gatefold_exec::GradientValues;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Random stream of the orders in which tasks meet.
const ORDER_STREAM: u64 = 0x7063_6772_6164;

/// The sum of the tasks' gradients by the shared parameters, each first projected onto the normal
/// plane of every other one that it conflicts with. The others are met in a random order that
/// depends on `seed` alone.
pub(crate) fn combine(gradients: &[GradientValues], seed: u64) -> GradientValues {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(ORDER_STREAM);
    let squares: Vec<f64> = gradients.iter().map(|gradient| gradient.dot(gradient)).collect();
    let mut sum = GradientValues::default();
    for (task, gradient) in gradients.iter().enumerate() {
        let mut projected = gradient.clone();
        let mut others: Vec<usize> = (0..gradients.len()).filter(|other| *other != task).collect();
        for last in (1..others.len()).rev() {
            others.swap(last, random.random_range(0..=last as u32) as usize);
        }
        for other in others {
            let along = projected.dot(&gradients[other]);
            if along < 0.0 && squares[other] > 0.0 {
                projected.add_scaled((-along / squares[other]) as f32, &gradients[other]);
            }
        }
        sum.add_scaled(1.0, &projected);
    }
    sum
}

#[cfg(test)]
mod tests {
    use gatefold_exec::GradientValue;
    use gatefold_graph::ParamId;

    use super::*;

    fn gradient(values: &[f32]) -> GradientValues {
        [(ParamId(0), GradientValue::Dense(values.to_vec()))].into_iter().collect()
    }

    #[track_caller]
    fn check(gradients: &[&[f32]], expected: &[f32]) {
        let gradients: Vec<GradientValues> = gradients.iter().map(|values| gradient(values)).collect();
        let sum = combine(&gradients, 1);
        let found = sum.get(ParamId(0)).expect("the parameter has a gradient").numbers();
        let near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6);
        assert!(near && found.len() == expected.len(), "{found:?}, expected {expected:?}");
    }

    #[test]
    fn conflicting_gradients_lose_the_part_against_each_other() {
        // a = (1, 0), b = (−1, 1): a·b = −1. a + b/2 = (1/2, 1/2); b + a = (0, 1).
        check(&[&[1.0, 0.0], &[-1.0, 1.0]], &[0.5, 1.5]);
        // Opposite gradients leave nothing.
        check(&[&[2.0, -4.0], &[-1.0, 2.0]], &[0.0, 0.0]);
    }

    #[test]
    fn gradients_that_agree_are_summed_up() {
        check(&[&[1.0, 0.0], &[0.0, 3.0]], &[1.0, 3.0]);
        check(&[&[1.0, 2.0], &[2.0, 1.0]], &[3.0, 3.0]);
        check(&[&[1.0, 2.0], &[0.0, 0.0]], &[1.0, 2.0]);
    }

    #[test]
    fn a_projection_is_onto_the_others_before_their_own() {
        // Three in a plane: c = (0, −1) conflicts with b alone, b with both.
        // a = (1, 0) loses against b: (1/2, 1/2), then c · it < 0: (1/2, 0), or c first: a itself,
        // then (1/2, 1/2). So the order matters, and one seed gives one order.
        let gradients = [gradient(&[1.0, 0.0]), gradient(&[-1.0, 1.0]), gradient(&[0.0, -1.0])];
        let sums: Vec<GradientValues> = (0..32).map(|seed| combine(&gradients, seed)).collect();
        assert!(sums.iter().any(|sum| *sum != sums[0]), "the order is random");
        assert_eq!(combine(&gradients, 5), sums[5]);
    }
}
