//! A histogram of scores, filled a request at a time: the histogram of the metrics library takes a
//! lock for each value, this one a few atomic additions for all the candidates of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds of the buckets: narrow near 0, where click and conversion rates are.
const BOUNDS: [f32; 19] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95,
    1.0,
];

/// Distribution of the scores of one output, over 0 to 1. Clones are one histogram.
#[derive(Clone, Debug, Default)]
pub(super) struct ScoreHistogram {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// One for each bound, and one for what is above all.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// The bits of an `f64`: as large as it may become.
    sum: AtomicU64,
}

impl ScoreHistogram {
    /// Adds the scores of a request.
    pub(super) fn observe(&self, scores: &[f32]) {
        let mut counts = [0_u64; BOUNDS.len() + 1];
        let mut sum = 0.0;
        for &score in scores {
            counts[BOUNDS.partition_point(|bound| *bound < score)] += 1;
            sum += f64::from(score);
        }
        for (bucket, count) in self.inner.buckets.iter().zip(counts) {
            if count > 0 {
                bucket.fetch_add(count, Ordering::Relaxed);
            }
        }
        let add = |bits| (f64::from_bits(bits) + sum).to_bits();
        self.inner.sum.update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

impl TypedMetric for ScoreHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for ScoreHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        // Shortest decimal of the f32, so that 0.1 is written as 0.1.
        let bounds = BOUNDS.iter().map(|bound| bound.to_string().parse().unwrap_or(f64::from(*bound)));
        let counts = self.inner.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = f64::from_bits(self.inner.sum.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn it_shows_what_the_histogram_of_the_library_shows() {
        let bounds = BOUNDS.map(|bound| bound.to_string().parse::<f64>().unwrap());
        let theirs = prometheus_client::metrics::histogram::Histogram::new(bounds);
        let ours = ScoreHistogram::default();
        // On, beside and beyond the bounds; halves and quarters have exact sums.
        // Thousands of millions is what a busy server sums up in a day.
        let scores = [0.0, 0.5, 0.25, 1.0, 0.75, 1.5, -0.5, 0.0625, 0.125, 3e9, 1e12];
        ours.observe(&scores[..4]);
        ours.observe(&scores[4..]);
        for score in scores {
            theirs.observe(f64::from(score));
        }
        let text = |register: &dyn Fn(&mut Registry)| {
            let (mut registry, mut text) = (Registry::default(), String::new());
            register(&mut registry);
            encode(&mut text, &registry).unwrap();
            text
        };
        let ours = text(&|registry| registry.register("score", "scores", ours.clone()));
        let theirs = text(&|registry| registry.register("score", "scores", theirs.clone()));
        assert_eq!(ours, theirs);
        assert!(ours.contains("score_bucket{le=\"0.1\"} 3\n"), "{ours}");
    }
}
