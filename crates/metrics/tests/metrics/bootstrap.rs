//! Bootstrap intervals: exact invariances, and agreement with DeLong's standard errors.

use gatefold_metrics::{
    BootstrapOptions, Interval, auc, bootstrap_auc, bootstrap_auc_difference, bootstrap_auc_of_models,
    delong_paired,
};

use crate::{Random, assert_close};

const OPTIONS: BootstrapOptions = BootstrapOptions { replicates: 2000, confidence: 0.95, seed: 3 };

/// Requests of five rows. A positive row scores higher, and all rows of a request share a shift
/// of score and of label, so that they are far from independent.
struct Rows {
    a: Vec<f32>,
    b: Vec<f32>,
    labels: Vec<f32>,
    requests: Vec<u32>,
}

fn rows(requests: u32) -> Rows {
    let mut random = Random(99);
    let mut rows = Rows { a: vec![], b: vec![], labels: vec![], requests: vec![] };
    for request in 0..requests {
        let rate = if random.below(2) == 0 { 0.05 } else { 0.6 };
        let shift = random.unit();
        for _ in 0..5 {
            let label = (random.unit() < rate) as u8 as f32;
            rows.labels.push(label);
            rows.a.push(0.5 * label + random.unit() + shift);
            rows.b.push(0.3 * label + random.unit() + shift);
            rows.requests.push(request);
        }
    }
    rows
}

fn same(a: Interval, b: Interval) {
    assert_eq!(
        (a.low, a.high, a.standard_error, a.replicates),
        (b.low, b.high, b.standard_error, b.replicates)
    );
    assert_close(a.estimate, b.estimate, 1e-15);
}

#[test]
fn repeating_the_rows_of_each_request_changes_nothing() {
    let Rows { a, b, labels, requests } = rows(60);
    let twice = |values: &[f32]| values.repeat(2);
    let once = bootstrap_auc(&a, &labels, None, &requests, &OPTIONS).unwrap();
    same(once, bootstrap_auc(&twice(&a), &twice(&labels), None, &requests.repeat(2), &OPTIONS).unwrap());
    same(once, bootstrap_auc(&a, &labels, Some(&vec![2.0; a.len()]), &requests, &OPTIONS).unwrap());
    // Names of requests do not matter, only which rows share one.
    let renamed: Vec<u32> = requests.iter().map(|request| 4_000_000_000 - request).collect();
    same(once, bootstrap_auc(&a, &labels, None, &renamed, &OPTIONS).unwrap());
    // A model is bootstrapped on the same replicates alone and beside another.
    let both = bootstrap_auc_of_models(&[&b, &a], &labels, None, &requests, &OPTIONS).unwrap();
    same(once, both.interval(1));
    same(
        both.difference(1, 0),
        bootstrap_auc_difference(&a, &b, &labels, None, &requests, &OPTIONS).unwrap(),
    );
}

#[test]
fn estimates_are_the_plain_auc_and_the_difference_of_a_model_with_itself_is_zero() {
    let Rows { a, b, labels, requests } = rows(60);
    let found = bootstrap_auc_difference(&a, &b, &labels, None, &requests, &OPTIONS).unwrap();
    assert_close(found.estimate, auc(&a, &labels, None).unwrap() - auc(&b, &labels, None).unwrap(), 1e-15);
    let none = bootstrap_auc_difference(&a, &a, &labels, None, &requests, &OPTIONS).unwrap();
    assert_eq!((none.estimate, none.low, none.high, none.standard_error), (0.0, 0.0, 0.0, 0.0));
}

#[test]
fn standard_errors_agree_with_delong() {
    let Rows { a, b, labels, requests } = rows(400);
    let alone: Vec<u32> = (0..a.len() as u32).collect();
    let constant = vec![0.0; a.len()];

    // The AUC of a constant is one half without error, so the test against it gives the error of `a`.
    let by_row = bootstrap_auc(&a, &labels, None, &alone, &OPTIONS).unwrap();
    let row_error = delong_paired(&a, &constant, &labels, None).unwrap().standard_error;
    assert_close(by_row.standard_error / row_error, 1.0, 0.06);

    let by_request = bootstrap_auc(&a, &labels, None, &requests, &OPTIONS).unwrap();
    let request_error = delong_paired(&a, &constant, &labels, Some(&requests)).unwrap().standard_error;
    assert_close(by_request.standard_error / request_error, 1.0, 0.06);
    assert!(
        request_error > 1.3 * row_error,
        "rows of a request are dependent: {request_error} against {row_error}"
    );

    let paired = bootstrap_auc_difference(&a, &b, &labels, None, &requests, &OPTIONS).unwrap();
    let paired_error = delong_paired(&a, &b, &labels, Some(&requests)).unwrap().standard_error;
    assert_close(paired.standard_error / paired_error, 1.0, 0.06);
    assert!(paired.standard_error < by_request.standard_error, "pairing removes what the models share");

    // For a nearly normal statistic the percentiles lie 1.96 standard errors away.
    assert_close((by_request.high - by_request.low) / (2.0 * 1.96 * request_error), 1.0, 0.08);
}

#[test]
fn the_seed_decides() {
    let Rows { a, labels, requests, .. } = rows(60);
    let first = bootstrap_auc(&a, &labels, None, &requests, &OPTIONS).unwrap();
    assert_eq!(first, bootstrap_auc(&a, &labels, None, &requests, &OPTIONS).unwrap());
    let other = BootstrapOptions { seed: 4, ..OPTIONS };
    assert_ne!(first, bootstrap_auc(&a, &labels, None, &requests, &other).unwrap());
}

#[test]
fn replicates_of_one_class_are_left_out_and_counted() {
    // Two requests, one of each class: half of the replicates draw one of them twice.
    let found = bootstrap_auc(&[0.2, 0.8], &[0.0, 1.0], None, &[0, 1], &OPTIONS).unwrap();
    assert_eq!((found.estimate, found.low, found.high), (1.0, 1.0, 1.0));
    assert!((900..1100).contains(&found.replicates), "{}", found.replicates);
}
