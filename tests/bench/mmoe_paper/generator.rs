//! The synthetic regression tasks of Ma et al., "Modeling Task Relationships in Multi-task Learning
//! with Multi-gate Mixture-of-Experts" (KDD 2018), section 3.2.

use std::f64::consts::TAU;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Numbers of an input, the paper's `d`.
pub(crate) const DIMENSIONS: usize = 100;
/// Sines of the labels, the paper's `m`: `αᵢ = i` and `βᵢ = 2πi/m`.
const SINES: usize = 5;
/// Standard deviation of the noise: a variance of 0.01.
const NOISE: f64 = 0.1;

/// Two tasks whose weight vectors have a given cosine, and the stream of their samples.
///
/// The paper leaves open how long the weight vectors are, and gives no numbers for the sines but
/// that they are parameters, the same in every run. Here the vectors have length 1, and there are
/// [`SINES`] sines with phases spread evenly: a slope with hills and valleys enough to tell the
/// models apart.
pub(crate) struct Source {
    weights: [Vec<f64>; 2],
    rng: ChaCha8Rng,
}

/// Samples, column by column.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Samples {
    /// The inputs, [`DIMENSIONS`] columns.
    pub(crate) x: Vec<Vec<f32>>,
    /// The labels of both tasks.
    pub(crate) y: [Vec<f32>; 2],
}

impl Source {
    /// `w1 = u1` and `w2 = p·u1 + √(1−p²)·u2` for orthonormal `u1` and `u2`; the seed decides
    /// them and the samples. The same seed gives the same `u1`, `u2` and `x` for every `p`.
    pub(crate) fn new(p: f64, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = || -> Vec<f64> { (0..DIMENSIONS).map(|_| normal(&mut rng)).collect() };
        let u1 = normalised(draw());
        let mut u2 = draw();
        let along = dot(&u1, &u2);
        u2.iter_mut().zip(&u1).for_each(|(value, base)| *value -= along * base);
        let u2 = normalised(u2);
        let across = (1.0 - p * p).sqrt();
        let w2 = u1.iter().zip(&u2).map(|(a, b)| p * a + across * b).collect();
        Self { weights: [u1, w2], rng }
    }

    /// The next `count` samples: `x ~ N(0, I)` and `y_k = w_kᵀx + Σ sin(α·w_kᵀx + β) + ε_k`.
    pub(crate) fn draw(&mut self, count: usize) -> Samples {
        let mut samples = Samples { x: vec![vec![0.0; count]; DIMENSIONS], ..Samples::default() };
        for row in 0..count {
            let mut projections = [0.0; 2];
            for (index, column) in samples.x.iter_mut().enumerate() {
                let value = normal(&mut self.rng);
                column[row] = value as f32;
                for (projection, weights) in projections.iter_mut().zip(&self.weights) {
                    *projection += weights[index] * value;
                }
            }
            for (labels, projection) in samples.y.iter_mut().zip(projections) {
                let noise = NOISE * normal(&mut self.rng);
                labels.push((label(projection) + noise) as f32);
            }
        }
        samples
    }
}

/// A label without its noise, from `wᵀx`.
fn label(projection: f64) -> f64 {
    let sine = |i: usize| (i as f64 * projection + TAU * i as f64 / SINES as f64).sin();
    projection + (1..=SINES).map(sine).sum::<f64>()
}

fn normal(rng: &mut impl Rng) -> f64 {
    StandardNormal.sample(rng)
}

fn normalised(vector: Vec<f64>) -> Vec<f64> {
    let length = dot(&vector, &vector).sqrt();
    vector.into_iter().map(|value| value / length).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_length_one_and_the_cosine_asked_for() {
        for p in [-1.0, 0.0, 0.5, 0.9, 1.0] {
            let Source { weights: [w1, w2], .. } = Source::new(p, 7);
            for (found, expected) in [(dot(&w1, &w1), 1.0), (dot(&w2, &w2), 1.0), (dot(&w1, &w2), p)] {
                assert!((found - expected).abs() < 1e-12, "{found} at p = {p}");
            }
        }
    }

    /// What is left of a label without the function of its projection is noise of variance 0.01.
    #[test]
    fn labels_are_the_function_and_noise() {
        let mut source = Source::new(0.5, 3);
        let weights = source.weights.clone();
        let sines = [(1.0, 0.2), (2.0, 0.4), (3.0, 0.6), (4.0, 0.8), (5.0, 1.0)];
        let samples = source.draw(20_000);
        for (weights, labels) in weights.iter().zip(&samples.y) {
            let mut squares = 0.0;
            for (row, label) in labels.iter().enumerate() {
                let z: f64 = samples.x.iter().zip(weights).map(|(x, w)| f64::from(x[row]) * w).sum();
                let mut known = z;
                for (alpha, turns) in &sines {
                    known += (alpha * z + turns * TAU).sin();
                }
                squares += (f64::from(*label) - known).powi(2);
            }
            // Standard error of the variance: 0.01·√(2/20000) = 1e-4.
            assert!((squares / 20_000.0 - 0.01).abs() < 4e-4, "{}", squares / 20_000.0);
        }
        let mean = samples.x[5].iter().map(|value| f64::from(*value)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03, "{mean}");
    }

    #[test]
    fn the_correlation_changes_nothing_else() {
        let [mut a, mut b] = [0.5, 1.0].map(|p| Source::new(p, 11));
        assert_eq!(a.weights[0], b.weights[0]);
        let (a, b) = (a.draw(100), b.draw(100));
        assert_eq!((&a.x, &a.y[0]), (&b.x, &b.y[0]));
        assert_ne!(a.y[1], b.y[1]);
    }
}
