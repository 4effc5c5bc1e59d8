//! The formulas on numbers by hand.

use gatefold_history::feedback::{
    FakeNegativeWeights, fake_negative_calibration, fake_negative_weights, undo_down_sampling,
};

#[track_caller]
fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "{found}, not {expected}");
}

#[test]
fn weights_of_fake_negatives() {
    assert_eq!(fake_negative_weights(0.25), FakeNegativeWeights { positive: 1.25, negative: 0.9375 });
    assert_eq!(fake_negative_weights(0.0), FakeNegativeWeights { positive: 1.0, negative: 1.0 });
    assert_eq!(fake_negative_weights(1.0), FakeNegativeWeights { positive: 2.0, negative: 0.0 });
}

/// Of 100 impressions 25 convert: 125 rows are ingested, 25 of them positive. Weighted, they are as 100 rows with
/// 25 positives: 25 × 1.25 = 31.25 against 100 × 0.9375 = 93.75, a quarter.
#[test]
fn weights_give_back_the_true_share() {
    let weights = fake_negative_weights(0.25);
    let (positive, negative) = (25.0 * weights.positive, 100.0 * weights.negative);
    near(positive / (positive + negative), 0.25);
}

#[test]
fn calibration_of_fake_negatives() {
    near(fake_negative_calibration(0.2), 0.25);
    near(fake_negative_calibration(25.0 / 125.0), 0.25);
    near(fake_negative_calibration(1.0 / 3.0), 0.5);
    assert_eq!(fake_negative_calibration(0.0), 0.0);
    assert_eq!(fake_negative_calibration(0.5), 1.0);
    assert_eq!(fake_negative_calibration(0.7), 1.0);
}

/// 10 clicks of 1,000 impressions, and a tenth of the 990 others kept: a model sees 10 of 109.
#[test]
fn down_sampling_is_undone() {
    near(undo_down_sampling(10.0 / 109.0, 0.1), 0.01);
    near(undo_down_sampling(0.5, 0.1), 1.0 / 11.0);
    near(undo_down_sampling(0.3, 1.0), 0.3);
    assert_eq!((undo_down_sampling(0.0, 0.1), undo_down_sampling(1.0, 0.1)), (0.0, 1.0));
}
