//! Definitions computed over all pairs, on random rows with many ties.

use gatefold_metrics::{
    Binning, MetricError, auc, gauc, log_loss, ndcg_at, normalized_entropy, pcoc, reliability,
};

use crate::{Random, assert_close};

/// The share of (positive, negative) pairs in the right order, ties one half.
fn auc_over_pairs(scores: &[f32], labels: &[f32], weights: &[f32]) -> Option<f64> {
    let (mut right, mut all) = (0.0, 0.0);
    for i in (0..scores.len()).filter(|&i| labels[i] == 1.0) {
        for j in (0..scores.len()).filter(|&j| labels[j] == 0.0) {
            let pair = f64::from(weights[i]) * f64::from(weights[j]);
            all += pair;
            if scores[i] > scores[j] {
                right += pair;
            } else if scores[i] == scores[j] {
                right += 0.5 * pair;
            }
        }
    }
    (all > 0.0).then(|| right / all)
}

#[test]
fn auc_and_gauc_are_shares_of_pairs() {
    let mut random = Random(41);
    let mut one_class = 0;
    for case in 0..300 {
        let rows = 1 + random.below(60) as usize;
        let levels = 1 + random.below(30);
        // Negative scores and both zeros occur: AUC takes any score that is not NaN.
        let scores: Vec<f32> = (0..rows)
            .map(|_| (random.below(levels) as f32 - 5.0) * if random.below(2) == 0 { 0.25 } else { -0.25 })
            .collect();
        let labels: Vec<f32> = (0..rows).map(|_| (random.below(3) == 0) as u8 as f32).collect();
        let weights: Vec<f32> = (0..rows).map(|_| random.below(4) as f32 * 0.5).collect();
        let groups: Vec<u32> = (0..rows).map(|_| random.below(6) as u32 * 1000).collect();
        let ones = vec![1.0; rows];

        match auc_over_pairs(&scores, &labels, &ones) {
            Some(expected) => assert_close(auc(&scores, &labels, None).unwrap(), expected, 1e-12),
            None => {
                one_class += 1;
                assert!(
                    matches!(auc(&scores, &labels, None), Err(MetricError::OneClass { .. })),
                    "case {case}"
                );
            }
        }
        if let Some(expected) = auc_over_pairs(&scores, &labels, &weights) {
            assert_close(auc(&scores, &labels, Some(&weights)).unwrap(), expected, 1e-12);
        }

        let (mut sum, mut used) = (0.0, 0);
        for group in 0..6 {
            let rows: Vec<usize> = (0..rows).filter(|&row| groups[row] == group * 1000).collect();
            let pick = |values: &[f32]| rows.iter().map(|&row| values[row]).collect::<Vec<f32>>();
            if let Some(value) = auc_over_pairs(&pick(&scores), &pick(&labels), &pick(&ones)) {
                sum += value * rows.len() as f64;
                used += rows.len();
            }
        }
        match gauc(&scores, &labels, None, &groups) {
            Ok(found) => {
                assert_close(found.value, sum / used as f64, 1e-12);
                assert_eq!(found.rows_used, used);
            }
            Err(error) => assert!(used == 0, "case {case}: {error}"),
        }
    }
    assert!((1..150).contains(&one_class), "{one_class} of 300 cases have one class");
}

#[test]
fn literal_cases_of_auc() {
    #[track_caller]
    fn check(scores: &[f32], labels: &[f32], expected: f64) {
        assert_eq!(auc(scores, labels, None), Ok(expected));
    }
    check(&[0.1, 0.4, 0.35, 0.8], &[0.0, 0.0, 1.0, 1.0], 0.75); // the example of scikit-learn's manual
    check(&[0.1, 0.2], &[0.0, 1.0], 1.0);
    check(&[0.2, 0.1], &[0.0, 1.0], 0.0);
    check(&[0.5, 0.5, 0.5], &[0.0, 1.0, 0.0], 0.5);
    check(&[-0.0, 0.0], &[0.0, 1.0], 0.5);
    check(&[f32::NEG_INFINITY, f32::INFINITY], &[0.0, 1.0], 1.0);
}

#[test]
fn groups_of_one_class_are_skipped() {
    let scores = [0.1, 0.9, 0.9, 0.1, 0.3, 0.2];
    let labels = [0.0, 1.0, 0.0, 1.0, 1.0, 1.0];
    // Group 7 ranks right, group 8 wrong, group 9 has positives only.
    let found = gauc(&scores, &labels, None, &[7, 7, 8, 8, 9, 9]).unwrap();
    assert_eq!((found.value, found.groups_used, found.groups_skipped, found.rows_used), (0.5, 2, 1, 4));
}

#[test]
fn a_perfect_order_has_ndcg_one_and_the_reverse_a_literal_value() {
    let groups = [0, 0, 0, 5, 5];
    let gains = [0.0, 1.0, 2.0, 0.0, 0.0];
    let perfect = ndcg_at(&[0.1, 0.5, 0.9, 0.2, 0.3], &gains, &groups, 3).unwrap();
    assert_eq!((perfect.value, perfect.groups_used, perfect.groups_skipped), (1.0, 1, 1));
    let reversed = ndcg_at(&[0.9, 0.5, 0.1, 0.2, 0.3], &gains, &groups, 3).unwrap();
    // (1/log2(3) + 2/log2(4)) / (2/log2(2) + 1/log2(3))
    assert_close(reversed.value, (1.0 / 3f64.log2() + 1.0) / (2.0 + 1.0 / 3f64.log2()), 1e-15);
}

#[test]
fn the_base_rate_has_normalised_entropy_and_pcoc_one() {
    let labels = [1.0, 0.0, 0.0, 0.0];
    let rate = [0.25; 4];
    assert_close(normalized_entropy(&rate, &labels, None).unwrap(), 1.0, 1e-12);
    assert_close(pcoc(&rate, &labels, None).unwrap(), 1.0, 1e-12);
    assert_close(pcoc(&[0.5; 4], &labels, None).unwrap(), 2.0, 1e-12);
    // A saturated wrong probability costs -ln(1e-7), not infinity.
    assert_close(log_loss(&[0.0], &[1.0], None).unwrap(), 16.118095650958317, 1e-9);
    assert_close(log_loss(&[1.0], &[0.0], None).unwrap(), 16.118095650958317, 1e-9);
}

#[test]
fn reliability_bins_hold_all_rows_once_and_never_split_equal_scores() {
    let mut random = Random(5);
    for _ in 0..50 {
        let rows = 1 + random.below(200) as usize;
        let levels = 1 + random.below(40);
        let bins = 1 + random.below(20) as usize;
        let scores: Vec<f32> = (0..rows).map(|_| random.below(levels) as f32 / 40.0).collect();
        let labels: Vec<f32> = scores.iter().map(|&score| (random.unit() < score) as u8 as f32).collect();
        let weights: Vec<f32> = (0..rows).map(|_| 1.0 + random.below(3) as f32).collect();
        for (binning, weights) in [
            (Binning::EqualCount, None),
            (Binning::EqualWidth, None),
            (Binning::EqualCount, Some(weights.as_slice())),
        ] {
            let curve = reliability(&scores, &labels, weights, bins, binning).unwrap();
            assert!(curve.len() <= bins, "{} bins instead of {bins}", curve.len());
            assert_eq!(curve.iter().map(|bin| bin.rows).sum::<usize>(), rows);
            assert!(curve.windows(2).all(|pair| pair[0].highest < pair[1].lowest), "{curve:?}");
            for bin in &curve {
                let inside = |row: &usize| (bin.lowest..=bin.highest).contains(&scores[*row]);
                let weight_of = |row: usize| weights.map_or(1.0, |weights| f64::from(weights[row]));
                let weight: f64 = (0..rows).filter(inside).map(weight_of).sum();
                let positive: f64 =
                    (0..rows).filter(inside).map(|row| weight_of(row) * f64::from(labels[row])).sum();
                assert_close(bin.weight, weight, 1e-9);
                assert_close(bin.mean_label, positive / weight, 1e-12);
            }
        }
    }
    // Distinct scores fill equal-count bins evenly.
    let scores: Vec<f32> = (0..100).map(|row| row as f32 / 100.0).collect();
    let curve = reliability(&scores, &vec![0.0; 100], None, 10, Binning::EqualCount).unwrap();
    assert_eq!(curve.iter().map(|bin| bin.rows).collect::<Vec<_>>(), [10; 10]);
}
