//! DeLong's test for the difference of two AUCs on the same rows, with clustered rows.
//!
//! Each positive row has a *placement* among the negatives (the share of negatives it beats), and
//! each negative one among the positives; the AUC is the mean of either. The variance of the
//! difference of two AUCs is that of the differences of placements (DeLong et al. 1988), found in
//! O(n log n) from one sort per model (Sun and Xu 2014). With clusters the placements are summed
//! within each first (Obuchowski 1997), so that rows of one request need not be independent; with
//! every row its own cluster the two are the same formula.

use crate::error::{Class, MetricError};
use crate::input::{DenseGroups, check_length, check_rows, class_weights, one_class, rows_by_score};

/// The outcome of [`delong_paired`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DelongTest {
    /// AUC of the first model.
    pub auc_a: f64,
    /// AUC of the second model.
    pub auc_b: f64,
    /// `auc_a - auc_b`.
    pub difference: f64,
    /// Standard error of the difference.
    pub standard_error: f64,
    /// `difference / standard_error`; 0 if both are 0, infinite if only the error is.
    pub z: f64,
    /// Two-sided p-value of "the AUCs are equal".
    pub p_value: f64,
}

/// Tests whether the AUCs of scores `a` and `b` on the same rows differ.
///
/// `clusters` gives the request (or user) of each row; without it the rows are taken as
/// independent, which makes p-values too small when a request has several rows.
///
/// # Errors
/// As [`crate::auc()`], and [`MetricError::TooFewUnits`] if a class occurs in one row (cluster) only.
pub fn delong_paired(
    a: &[f32],
    b: &[f32],
    labels: &[f32],
    clusters: Option<&[u32]>,
) -> Result<DelongTest, MetricError> {
    check_rows(a, labels, None)?;
    check_length("scores of the second model", b.len(), a.len())?;
    check_rows(b, labels, None)?;
    let (positives, total) = class_weights(labels, None);
    let negatives = total - positives;
    if positives == 0.0 || negatives == 0.0 {
        return Err(one_class(positives));
    }

    let (auc_a, placements_a) = placements(a, labels, positives, negatives);
    let (auc_b, placements_b) = placements(b, labels, positives, negatives);
    let difference = auc_a - auc_b;

    let clusters = match clusters {
        Some(clusters) => {
            check_length("clusters", clusters.len(), a.len())?;
            Some(DenseGroups::new(clusters))
        }
        None => None,
    };
    let cluster_count = clusters.as_ref().map_or(a.len(), |clusters| clusters.count);
    let mut sums = vec![ClusterSum::default(); cluster_count];
    for (row, &label) in labels.iter().enumerate() {
        let cluster = clusters.as_ref().map_or(row, |clusters| clusters.of_row[row] as usize);
        let deviation = placements_a[row] - placements_b[row] - difference;
        let sum = &mut sums[cluster];
        if label > 0.0 {
            sum.positive += deviation;
            sum.has_positive = true;
        } else {
            sum.negative += deviation;
            sum.has_negative = true;
        }
    }
    let positive_units = sums.iter().filter(|sum| sum.has_positive).count();
    let negative_units = sums.iter().filter(|sum| sum.has_negative).count();
    let unit = if clusters.is_some() { "groups" } else { "rows" };
    for (class, found) in [(Class::Positive, positive_units), (Class::Negative, negative_units)] {
        if found < 2 {
            return Err(MetricError::TooFewUnits { unit, class, found });
        }
    }

    // Obuchowski 1997, section 2: I10, I01 and I are the numbers of clusters with a positive row,
    // with a negative row, and of any kind.
    let correction = |units: usize| units as f64 / (units as f64 - 1.0);
    let s10 = correction(positive_units) * sums.iter().map(|sum| sum.positive * sum.positive).sum::<f64>()
        / positives;
    let s01 = correction(negative_units) * sums.iter().map(|sum| sum.negative * sum.negative).sum::<f64>()
        / negatives;
    let s11 = correction(cluster_count) * sums.iter().map(|sum| sum.positive * sum.negative).sum::<f64>();
    let variance = s10 / positives + s01 / negatives + 2.0 * s11 / (positives * negatives);
    let standard_error = variance.max(0.0).sqrt();
    let z = if difference == 0.0 { 0.0 } else { difference / standard_error };
    Ok(DelongTest { auc_a, auc_b, difference, standard_error, z, p_value: two_sided_p(z) })
}

/// Sums of the deviations of placements within a cluster.
#[derive(Clone, Default)]
struct ClusterSum {
    positive: f64,
    negative: f64,
    has_positive: bool,
    has_negative: bool,
}

/// The AUC and, for each row, the share of rows of the other class it is ranked right against.
fn placements(scores: &[f32], labels: &[f32], positives: f64, negatives: f64) -> (f64, Vec<f64>) {
    let order = rows_by_score(scores);
    let mut placement = vec![0.0; scores.len()];
    let (mut positives_before, mut negatives_before, mut area) = (0.0, 0.0, 0.0);
    for tie in order.chunk_by(|a, b| a.0 == b.0) {
        let tied_positives = tie.iter().filter(|&&(_, row)| labels[row as usize] > 0.0).count() as f64;
        let tied_negatives = tie.len() as f64 - tied_positives;
        let beaten = negatives_before + 0.5 * tied_negatives;
        let beaten_by = positives - positives_before - 0.5 * tied_positives;
        for &(_, row) in tie {
            let positive = labels[row as usize] > 0.0;
            placement[row as usize] = if positive { beaten / negatives } else { beaten_by / positives };
        }
        area += tied_positives * beaten;
        positives_before += tied_positives;
        negatives_before += tied_negatives;
    }
    (area / (positives * negatives), placement)
}

/// Probability that a standard normal is further from zero than `z`.
fn two_sided_p(z: f64) -> f64 {
    complementary_error_function(z.abs() / std::f64::consts::SQRT_2)
}

/// `erfc(x)` for x ≥ 0, to about 1e-14 of its value: the series of erf for small x, the continued
/// fraction for large x (Abramowitz and Stegun 7.1.6 and 7.1.14).
fn complementary_error_function(x: f64) -> f64 {
    use std::f64::consts::PI;
    if x < 1.5 {
        // erf(x) = 2/sqrt(pi) exp(-x^2) sum_n 2^n x^(2n+1) / (2n+1)!!
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        return 1.0 - 2.0 / PI.sqrt() * (-x * x).exp() * sum;
    }
    // sqrt(pi) exp(x^2) erfc(x) = 1/(x + (1/2)/(x + 1/(x + (3/2)/(x + ...)))), from the inside out.
    let tail = (1..=150).rev().fold(x, |tail, n| x + 0.5 * f64::from(n) / tail);
    (-x * x).exp() / (PI.sqrt() * tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sided_p_matches_scipy() {
        // scipy.special.erfc(z / sqrt(2)), scipy 1.17.1
        for (z, expected) in [
            (0.0, 1.0),
            (0.1, 0.920344325445942),
            (-0.5, 0.6170750774519739),
            (1.0, 0.31731050786291415),
            (1.9599639845400545, 0.05),
            (2.2089835, 0.027175788589627416),
            (3.0, 0.0026997960632601918),
            (-5.0, 5.73303143758389e-07),
            (8.0, 1.2441921148543658e-15),
            (20.0, 5.5072482372126244e-89),
            (f64::INFINITY, 0.0),
        ] {
            let found = two_sided_p(z);
            assert!((found - expected).abs() <= 1e-12 * expected, "z {z}: {found} instead of {expected}");
        }
    }
}
