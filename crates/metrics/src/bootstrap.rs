//! Bootstrap intervals of the AUC and of differences of AUCs.
//!
//! A replicate draws as many requests as there are, with replacement, and keeps all rows of a
//! request each time it is drawn (the cluster bootstrap; Davison and Hinkley 1997, section 3.8).
//! Rows of a request share a user and a moment; resampling rows would call that independent
//! evidence and give intervals that are too narrow.
//!
//! The rows are sorted once. A replicate is then a count for each request and one pass over the
//! sorted rows. All models see the same replicates, so that differences between them are paired.
//! Replicate `r` has random stream `r` of the seed and depends on nothing else, so that the number
//! of threads does not show in the result.

use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::auc::RankedRows;
use crate::error::MetricError;
use crate::input::{DenseGroups, check_length, check_rows, class_weights, one_class};

/// How to bootstrap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BootstrapOptions {
    /// Number of resamples: 200 settle a standard error, 1000 the ends of a 95 % interval.
    pub replicates: usize,
    /// Probability that the interval covers the truth, such as 0.95.
    pub confidence: f64,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Default for BootstrapOptions {
    fn default() -> Self {
        Self { replicates: 1000, confidence: 0.95, seed: 1 }
    }
}

/// An estimate with its percentile interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The value on all rows.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Standard deviation of the replicates.
    pub standard_error: f64,
    /// Replicates the interval rests on (those that drew both classes).
    pub replicates: usize,
}

/// AUC with a percentile interval from resampled clusters (`clusters` is the request of each row).
///
/// # Errors
/// As [`crate::auc()`], [`MetricError::BadSetting`] for options out of range, and
/// [`MetricError::NoUsableReplicate`] if every replicate drew one class only.
pub fn bootstrap_auc(
    scores: &[f32],
    labels: &[f32],
    weights: Option<&[f32]>,
    clusters: &[u32],
    options: &BootstrapOptions,
) -> Result<Interval, MetricError> {
    Ok(bootstrap_auc_of_models(&[scores], labels, weights, clusters, options)?.interval(0))
}

/// `auc(a) - auc(b)` on the same rows, with a paired percentile interval.
///
/// # Errors
/// As [`bootstrap_auc`].
pub fn bootstrap_auc_difference(
    a: &[f32],
    b: &[f32],
    labels: &[f32],
    weights: Option<&[f32]>,
    clusters: &[u32],
    options: &BootstrapOptions,
) -> Result<Interval, MetricError> {
    Ok(bootstrap_auc_of_models(&[a, b], labels, weights, clusters, options)?.difference(0, 1))
}

/// Bootstraps the AUC of several models on the same rows and the same replicates.
///
/// # Errors
/// As [`bootstrap_auc`]; [`MetricError::Empty`] without a model.
pub fn bootstrap_auc_of_models(
    models: &[&[f32]],
    labels: &[f32],
    weights: Option<&[f32]>,
    clusters: &[u32],
    options: &BootstrapOptions,
) -> Result<AucReplicates, MetricError> {
    options.check()?;
    let first = models.first().ok_or(MetricError::Empty)?;
    check_length("clusters", clusters.len(), first.len())?;
    for scores in models {
        check_length("scores of a model", scores.len(), first.len())?;
        check_rows(scores, labels, weights)?;
    }
    let clusters = DenseGroups::new(clusters);
    let ranked: Vec<RankedRows> = models
        .iter()
        .map(|scores| RankedRows::new(scores, labels, weights, Some(&clusters.of_row)))
        .collect();

    let every_cluster_once = vec![1u32; clusters.count];
    let estimates: Option<Vec<f64>> = ranked.iter().map(|rows| rows.auc(&every_cluster_once)).collect();
    let estimates = estimates.ok_or_else(|| one_class(class_weights(labels, weights).0))?;

    let mut replicates = vec![Vec::with_capacity(options.replicates); models.len()];
    for values in run_replicates(&ranked, clusters.count, options) {
        for (values_of_model, value) in replicates.iter_mut().zip(values) {
            values_of_model.push(value);
        }
    }
    if replicates[0].is_empty() {
        return Err(MetricError::NoUsableReplicate { replicates: options.replicates });
    }
    Ok(AucReplicates { estimates, replicates, confidence: options.confidence })
}

/// The AUC of each model on all rows and on every replicate.
#[derive(Debug, Clone, PartialEq)]
pub struct AucReplicates {
    estimates: Vec<f64>,
    /// `[model][replicate]`, paired across models.
    replicates: Vec<Vec<f64>>,
    confidence: f64,
}

impl AucReplicates {
    /// The AUC of a model, numbered as they were passed in.
    ///
    /// # Panics
    /// If there is no such model.
    pub fn interval(&self, model: usize) -> Interval {
        percentile_interval(self.estimates[model], self.replicates[model].clone(), self.confidence)
    }

    /// The AUC of model `a` minus that of model `b`, replicate by replicate.
    ///
    /// # Panics
    /// If there is no such model.
    pub fn difference(&self, a: usize, b: usize) -> Interval {
        let differences = self.replicates[a].iter().zip(&self.replicates[b]).map(|(a, b)| a - b).collect();
        percentile_interval(self.estimates[a] - self.estimates[b], differences, self.confidence)
    }
}

impl BootstrapOptions {
    fn check(&self) -> Result<(), MetricError> {
        if self.replicates == 0 {
            return Err(MetricError::BadSetting {
                setting: "replicates",
                found: 0.0,
                remedy: "use at least one, 1000 for a 95 % interval",
            });
        }
        if !(self.confidence > 0.0 && self.confidence < 1.0) {
            return Err(MetricError::BadSetting {
                setting: "confidence",
                found: self.confidence,
                remedy: "use a probability between 0 and 1, such as 0.95",
            });
        }
        Ok(())
    }
}

/// The AUC of each model on every replicate that draws both classes, in the order of replicates.
/// The work is spread over the available cores.
fn run_replicates(ranked: &[RankedRows], clusters: usize, options: &BootstrapOptions) -> Vec<Vec<f64>> {
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get()).min(options.replicates);
    let share = |thread: usize| thread * options.replicates / threads;
    let run = |replicates: Range<usize>| {
        let mut counts = vec![0u32; clusters];
        let mut found: Vec<Vec<f64>> = Vec::with_capacity(replicates.len());
        for replicate in replicates {
            draw_counts(&mut counts, options.seed, replicate);
            // Which classes were drawn is a matter of the labels alone: all models agree on it.
            let values: Option<Vec<f64>> = ranked.iter().map(|rows| rows.auc(&counts)).collect();
            found.extend(values);
        }
        found
    };
    std::thread::scope(|scope| {
        let run = &run;
        let workers: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || run(share(thread)..share(thread + 1)))).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Draws `counts.len()` clusters with replacement and counts how often each was drawn.
fn draw_counts(counts: &mut [u32], seed: u64, replicate: usize) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(replicate as u64);
    counts.fill(0);
    let clusters = counts.len() as u32;
    for _ in 0..clusters {
        counts[random.random_range(0..clusters) as usize] += 1;
    }
}

/// Percentiles with linear interpolation between the order statistics (Hyndman and Fan, type 7).
fn percentile_interval(estimate: f64, mut values: Vec<f64>, confidence: f64) -> Interval {
    values.sort_unstable_by(f64::total_cmp);
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let spread = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>();
    let quantile = |probability: f64| {
        let place = probability * (count - 1.0);
        let (below, above) = (place.floor() as usize, place.ceil() as usize);
        values[below] + (place - place.floor()) * (values[above] - values[below])
    };
    Interval {
        estimate,
        low: quantile(0.5 * (1.0 - confidence)),
        high: quantile(0.5 * (1.0 + confidence)),
        standard_error: (spread / (count - 1.0).max(1.0)).sqrt(),
        replicates: values.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_match_numpy() {
        // v = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]; numpy.quantile(v, [0.025, 0.975]); numpy.std(v, ddof=1)
        let values = vec![3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0, 3.0, 5.0];
        let interval = percentile_interval(4.0, values, 0.95);
        assert_eq!((interval.low, interval.high), (1.0, 8.25));
        assert!(
            (interval.standard_error - 2.366_431_913_239_846_4).abs() < 1e-12,
            "{}",
            interval.standard_error
        );
    }

    #[test]
    fn a_replicate_draws_as_many_clusters_as_there_are_and_depends_on_its_number_alone() {
        let mut first = vec![0; 1000];
        draw_counts(&mut first, 7, 3);
        assert_eq!(first.iter().sum::<u32>(), 1000);
        let mut again = vec![5; 1000];
        draw_counts(&mut again, 7, 3);
        assert_eq!(first, again);
        draw_counts(&mut again, 7, 4);
        assert_ne!(first, again);
        // A cluster is left out with probability (1 - 1/n)^n, about 1/e.
        let absent = first.iter().filter(|&&count| count == 0).count();
        assert!((330..410).contains(&absent), "{absent}");
    }
}
