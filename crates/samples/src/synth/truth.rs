//! The probabilities behind the synthetic logs: known functions of the features.
//!
//! An impression has components `x` (taste matches, price fit, rating, page, …), each scaled to
//! mean 0 and variance 1 over the impressions. As in section 4.2 of Ma et al., "Modeling Task
//! Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts" (KDD 2018), the two
//! tasks weigh them by `w1 = c·u1` and `w2 = c·(p·u1 + √(1−p²)·u2)`, where `u1` and `u2` are
//! orthonormal, so that `p` is the cosine between the tasks; a sum of sines bends the result. The
//! logit of a click is `b1 + f(w1·x)`, that of a conversion given a click `b2 + f(w2·x)`, where
//! `b1` and `b2` give the rates wanted.

use rand::{Rng, RngExt};

use super::{
    SynthConfig,
    world::{
        BRANDS, CATEGORIES, COUNTRIES, DEVICES, Item, PAGES, SEGMENTS, TASTES, User, normal, or_missing,
    },
};

/// Number of components.
pub(crate) const COMPONENTS: usize = TASTES + 10;
/// How much each component matters to clicks on the whole.
const IMPORTANCE: [f64; COMPONENTS] = [0.35, 0.35, 0.35, 0.35, 0.15, 0.2, 1.0, 0.8, 1.0, 0.8, 0.8, 0.5];
/// The first components arise from values of user, item and context together; those from here on
/// from a single value. What is peculiar to conversions are the latter: there are too few
/// conversions to learn the former from.
const FIRST_SINGLE: usize = TASTES + 4;
/// Standard deviation of the logits before the sines, where the selection is 1.
const STRENGTH: [f64; 2] = [1.6, 1.5];
/// Mean probability of a click, and of a conversion over all impressions.
const RATES: [f64; 2] = [0.15, 0.12];
/// Quarters of a day.
const QUARTERS: usize = 4;

/// When and where an impression happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    /// Hour of the day.
    pub(crate) hour: usize,
    /// Index into [`PAGES`].
    pub(crate) page: usize,
    /// Index into [`DEVICES`]; `None` where it is unknown.
    pub(crate) device: Option<usize>,
}

/// The probabilities as functions.
#[derive(Debug)]
pub(crate) struct Truth {
    effects: Effects,
    mean: [f64; COMPONENTS],
    scale: [f64; COMPONENTS],
    weights: [[f64; COMPONENTS]; 2],
    strength: [f64; 2],
    bias: [f64; 2],
}

/// What single values bring.
#[derive(Debug)]
struct Effects {
    /// Categories as points in the plane.
    category: Vec<[f64; 2]>,
    page: Vec<f64>,
    device_category: Vec<f64>,
    quarter_segment: Vec<f64>,
    brand: Vec<f64>,
    country: Vec<f64>,
    budget: Vec<f64>,
}

impl Truth {
    /// Functions of the configured correlation and selection, scaled over the impressions in
    /// `sample`.
    pub(crate) fn new(config: &SynthConfig, sample: &[(&User, &Item, Context)], rng: &mut impl Rng) -> Self {
        let effects = Effects::new(rng);
        let rows: Vec<[f64; COMPONENTS]> =
            sample.iter().map(|(user, item, context)| effects.components(user, item, *context)).collect();
        let count = rows.len() as f64;
        let mean: [f64; COMPONENTS] =
            std::array::from_fn(|k| rows.iter().map(|row| row[k]).sum::<f64>() / count);
        let scale = std::array::from_fn(|k| {
            let variance = rows.iter().map(|row| (row[k] - mean[k]).powi(2)).sum::<f64>() / count;
            if variance > 0.0 { variance.sqrt().recip() } else { 0.0 }
        });
        let weights = task_weights(config.correlation, rng);
        let strength = [STRENGTH[0] * config.selection, STRENGTH[1]];
        let mut truth = Self { effects, mean, scale, weights, strength, bias: [0.0; 2] };
        for (task, rate) in RATES.into_iter().enumerate() {
            let logits: Vec<f64> = rows.iter().map(|row| truth.logit(row, task)).collect();
            truth.bias[task] = bias_for(rate, &logits);
        }
        truth
    }

    /// Probability of a click, and of a conversion given a click.
    pub(crate) fn probabilities(&self, user: &User, item: &Item, context: Context) -> [f64; 2] {
        let row = self.effects.components(user, item, context);
        std::array::from_fn(|task| sigmoid(self.bias[task] + self.logit(&row, task)))
    }

    fn logit(&self, row: &[f64; COMPONENTS], task: usize) -> f64 {
        let weights = &self.weights[task];
        let z: f64 = (0..COMPONENTS).map(|k| weights[k] * (row[k] - self.mean[k]) * self.scale[k]).sum();
        self.strength[task] * (z + 0.2 * (2.0 * z + 0.5).sin() + 0.1 * (3.0 * z - 1.0).sin())
    }
}

impl Effects {
    fn new(rng: &mut impl Rng) -> Self {
        let mut draw = |count: usize| (0..count).map(|_| normal(rng)).collect::<Vec<f64>>();
        let points = draw(2 * CATEGORIES.len());
        Self {
            category: points.as_chunks().0.to_vec(),
            page: draw(PAGES.len()),
            device_category: draw((DEVICES.len() + 1) * CATEGORIES.len()),
            quarter_segment: draw(QUARTERS * (SEGMENTS.len() + 1)),
            brand: draw(BRANDS + 1),
            country: draw(COUNTRIES.len() + 1),
            budget: draw(SEGMENTS.len() + 1).iter().map(|z| 3.2 + 0.6 * z).collect(),
        }
    }

    /// How close a category is to the user's favourites: the mean of the inner products.
    fn closeness(&self, user: &User, category: usize) -> f64 {
        let own = self.category[category];
        let to = |favourite: &usize| {
            let other = self.category[*favourite];
            own[0] * other[0] + own[1] * other[1]
        };
        match user.favourites.as_deref() {
            None | Some([]) => 0.0,
            Some(list) => list.iter().map(to).sum::<f64>() / list.len() as f64,
        }
    }

    fn components(&self, user: &User, item: &Item, context: Context) -> [f64; COMPONENTS] {
        let segment = or_missing(user.segment, SEGMENTS.len());
        let device = or_missing(context.device, DEVICES.len());
        let quarter = context.hour * QUARTERS / 24;
        let mut row = [0.0; COMPONENTS];
        let tastes = user.taste.iter().zip(&item.taste);
        row.iter_mut().zip(tastes).for_each(|(product, (of_user, of_item))| *product = of_user * of_item);
        row[TASTES..].copy_from_slice(&[
            self.closeness(user, item.category),
            item.price.map_or(-0.6, |price| -(price.ln_1p() - self.budget[segment]).abs()),
            self.device_category[device * CATEGORIES.len() + item.category],
            self.quarter_segment[quarter * (SEGMENTS.len() + 1) + segment],
            item.rating.unwrap_or(3.6),
            (item.views as f64).ln_1p(),
            self.page[context.page],
            self.brand[or_missing(item.brand, BRANDS)],
            -(user.activity.unwrap_or(0) as f64),
            self.country[or_missing(user.country, COUNTRIES.len())],
        ]);
        row
    }
}

/// `u1` and `p·u1 + √(1−p²)·u2` for orthonormal `u1` and `u2`, both weighed by importance.
fn task_weights(p: f64, rng: &mut impl Rng) -> [[f64; COMPONENTS]; 2] {
    let normalised = |vector: [f64; COMPONENTS]| {
        let length = dot(&vector, &vector).sqrt();
        vector.map(|value| value / length)
    };
    let u1 = normalised(IMPORTANCE.map(|importance| importance * (0.6 + 0.8 * rng.random::<f64>())));
    let mut u2 = IMPORTANCE.map(|importance| importance * normal(rng));
    u2[..FIRST_SINGLE].fill(0.0);
    // Without u1's share among the components that are left, u2 is orthogonal to all of u1.
    let mut shared = u1;
    shared[..FIRST_SINGLE].fill(0.0);
    let along = dot(&shared, &u2) / dot(&shared, &shared);
    u2.iter_mut().zip(&shared).for_each(|(value, base)| *value -= along * base);
    let u2 = normalised(u2);
    let across = (1.0 - p * p).max(0.0).sqrt();
    [u1, std::array::from_fn(|k| p * u1[k] + across * u2[k])]
}

fn dot(a: &[f64; COMPONENTS], b: &[f64; COMPONENTS]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The bias that makes the mean of `sigmoid(bias + logit)` equal to `rate`, by bisection.
fn bias_for(rate: f64, logits: &[f64]) -> f64 {
    let mean =
        |bias: f64| logits.iter().map(|logit| sigmoid(bias + logit)).sum::<f64>() / logits.len() as f64;
    let (mut low, mut high) = (-30.0, 30.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if mean(middle) < rate { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    /// Both weight vectors have length 1, and `p` is their cosine.
    #[test]
    fn the_cosine_between_the_tasks_is_the_correlation() {
        for (seed, p) in [(1, 0.8), (2, 0.0), (3, -1.0), (4, 1.0), (5, 0.3)] {
            let [w1, w2] = task_weights(p, &mut ChaCha8Rng::seed_from_u64(seed));
            assert!((dot(&w1, &w1) - 1.0).abs() < 1e-12);
            assert!((dot(&w2, &w2) - 1.0).abs() < 1e-12);
            assert!((dot(&w1, &w2) - p).abs() < 1e-12, "{p}");
        }
    }

    #[test]
    fn the_bias_gives_the_rate() {
        // Half the rows at logit 0 and half at ln 3: with bias -ln 3 their probabilities are 1/4 and 1/2.
        let bias = bias_for(0.375, &[0.0, 3f64.ln()]);
        assert!((bias + 3f64.ln()).abs() < 1e-12, "{bias}");
    }
}
