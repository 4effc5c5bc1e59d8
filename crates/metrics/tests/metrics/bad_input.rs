//! Every bad input is an error that names the row, the class or the setting.

use gatefold_metrics::{
    Binning, BootstrapOptions, MetricError, auc, bootstrap_auc, delong_paired, gauc, log_loss, ndcg_at,
    normalized_entropy, pcoc, reliability,
};

#[track_caller]
fn check<T: std::fmt::Debug>(found: Result<T, MetricError>, message: &str) {
    assert_eq!(found.unwrap_err().to_string(), message);
}

#[test]
fn messages_name_the_place_and_the_remedy() {
    let (scores, labels) = ([0.1, 0.2, 0.3], [0.0, 1.0, 0.0]);
    check(auc(&[], &[], None), "no rows: a metric needs at least one");
    check(
        auc(&scores, &labels[..2], None),
        "labels has 2 values but there are 3 scores: pass one value a row",
    );
    check(
        auc(&[0.1, f32::NAN], &[0.0, 1.0], None),
        "score of row 1 is NaN: drop the row or repair the model",
    );
    check(auc(&scores, &[0.0, 1.0, 2.0], None), "label of row 2 is 2: labels are 0 or 1");
    check(auc(&scores, &[0.0, f32::NAN, 1.0], None), "label of row 1 is NaN: labels are 0 or 1");
    check(auc(&scores, &[1.0; 3], None), "every label is positive: the metric needs rows of both classes");
    check(auc(&scores, &[0.0; 3], None), "every label is negative: the metric needs rows of both classes");
    check(
        auc(&scores, &labels, Some(&[1.0, -1.0, 1.0])),
        "weight of row 1 is -1: weights are finite and not negative",
    );
    check(
        auc(&scores, &labels, Some(&[0.0; 3])),
        "the weights add up to zero: give at least one row a positive weight",
    );
    // The only positive row has no weight.
    check(
        auc(&scores, &labels, Some(&[1.0, 0.0, 1.0])),
        "every label is negative: the metric needs rows of both classes",
    );
    check(
        gauc(&scores, &labels, None, &[1, 2, 3]),
        "none of the 3 groups has rows of both classes: the grouped metric has no value",
    );
    check(
        log_loss(&[0.5, 1.5, 0.5], &labels, None),
        "score of row 1 is 1.5, not a probability: pass values between 0 and 1",
    );
    check(
        normalized_entropy(&scores, &[1.0; 3], None),
        "every label is positive: the metric needs rows of both classes",
    );
    check(pcoc(&scores, &[0.0; 3], None), "every label is negative: the metric needs rows of both classes");
    check(reliability(&scores, &labels, None, 0, Binning::EqualCount), "bins is 0: use at least one bin");
    check(ndcg_at(&scores, &labels, &[0; 3], 0), "k is 0: use at least 1");
    check(
        ndcg_at(&scores, &[0.0, -1.0, 0.0], &[0; 3], 1),
        "label of row 1 is -1: gains are finite and not negative",
    );
    check(
        ndcg_at(&scores, &[0.0; 3], &[0; 3], 1),
        "none of the 1 groups has a positive row: the grouped metric has no value",
    );
    check(
        delong_paired(&scores, &scores, &labels, None),
        "there is a positive row in 1 of the rows: a variance needs at least two",
    );
    check(
        bootstrap_auc(&scores, &labels, None, &[0, 1], &BootstrapOptions::default()),
        "clusters has 2 values but there are 3 scores: pass one value a row",
    );
    let none = BootstrapOptions { replicates: 0, ..BootstrapOptions::default() };
    check(
        bootstrap_auc(&scores, &labels, None, &[0, 1, 2], &none),
        "replicates is 0: use at least one, 1000 for a 95 % interval",
    );
    let sure = BootstrapOptions { confidence: 1.0, ..BootstrapOptions::default() };
    check(
        bootstrap_auc(&scores, &labels, None, &[0, 1, 2], &sure),
        "confidence is 1: use a probability between 0 and 1, such as 0.95",
    );
}
