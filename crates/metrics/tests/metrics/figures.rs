//! The named figures are the functions of the same name, and absent where those are not defined.

use gatefold_metrics::{
    Binning, FigureOptions, Figures, Judged, Metric, MetricError, auc, expected_calibration_error, gauc,
    log_loss, mean_squared_error, ndcg_at, normalized_entropy, pcoc,
};

const SCORES: [f32; 8] = [0.1, 0.7, 0.4, 0.9, 0.3, 0.2, 0.8, 0.5];
const LABELS: [f32; 8] = [0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0];
const WEIGHTS: [f32; 8] = [1.0, 2.0, 0.5, 1.0, 1.0, 3.0, 1.0, 1.0];
const GROUPS: [u32; 8] = [4, 4, 4, 9, 9, 9, 2, 2];

#[test]
fn each_name_gives_the_function_of_that_name() {
    let options = FigureOptions { bins: 4, ndcg_at: 2 };
    let rows = Judged { scores: &SCORES, labels: &LABELS, weights: Some(&WEIGHTS), groups: Some(&GROUPS) };
    let figures = Figures::of_probabilities(&rows, &options).unwrap();
    let (s, y, w) = (&SCORES, &LABELS, Some(&WEIGHTS[..]));
    for (name, expected) in [
        ("auc", auc(s, y, w).unwrap()),
        ("gauc", gauc(s, y, w, &GROUPS).unwrap().value),
        ("ndcg", ndcg_at(s, y, &GROUPS, 2).unwrap().value),
        ("log_loss", log_loss(s, y, w).unwrap()),
        ("normalized_entropy", normalized_entropy(s, y, w).unwrap()),
        ("pcoc", pcoc(s, y, w).unwrap()),
        ("ece", expected_calibration_error(s, y, w, 4, Binning::EqualCount).unwrap()),
        ("ece_equal_width", expected_calibration_error(s, y, w, 4, Binning::EqualWidth).unwrap()),
        ("squared_error", mean_squared_error(s, y, w).unwrap()),
    ] {
        assert_eq!(figures.get(Metric::from_name(name).unwrap()), Some(expected), "{name}");
    }
    assert_eq!((figures.rows, figures.positives), (8, 4));
    assert_eq!(Metric::from_name("log-loss"), Some(Metric::LogLoss));
    assert_eq!(Metric::from_name("AUC"), None);
}

#[test]
fn what_is_not_defined_is_absent_and_what_is_wrong_is_an_error() {
    let options = FigureOptions::default();
    let one_class = Judged { scores: &[0.2, 0.4], labels: &[0.0, 0.0], weights: None, groups: Some(&[1, 1]) };
    let figures = Figures::of_probabilities(&one_class, &options).unwrap();
    let present: Vec<&str> =
        Metric::ALL.into_iter().filter(|metric| figures.get(*metric).is_some()).map(Metric::name).collect();
    assert_eq!(present, ["log_loss", "ece", "ece_equal_width", "squared_error"]);

    let values = Judged { scores: &[2.0, -1.0], labels: &[1.5, -1.0], weights: None, groups: None };
    assert_eq!(Figures::of_values(&values).unwrap().get(Metric::SquaredError), Some(0.125));
    assert_eq!(Figures::of_values(&values).unwrap().get(Metric::Auc), None);
    assert!(matches!(
        Figures::of_probabilities(&values, &options),
        Err(MetricError::BadLabel { index: 0, .. })
    ));
    let nan = Judged { scores: &[f32::NAN, 0.5], labels: &[1.0, 0.0], weights: None, groups: None };
    assert!(matches!(Figures::of_probabilities(&nan, &options), Err(MetricError::NanScore { index: 0 })));
}

#[test]
fn goodness_prefers_the_better_value() {
    for (metric, better, worse) in [
        (Metric::Auc, 0.8, 0.7),
        (Metric::Gauc, 0.8, 0.7),
        (Metric::Ndcg, 0.8, 0.7),
        (Metric::LogLoss, 0.3, 0.4),
        (Metric::NormalizedEntropy, 0.8, 0.9),
        (Metric::Pcoc, 1.1, 0.8),
        (Metric::Pcoc, 1.0, 1.01),
        (Metric::Ece, 0.01, 0.02),
        (Metric::EceEqualWidth, 0.01, 0.02),
        (Metric::SquaredError, 0.1, 0.2),
    ] {
        assert!(metric.goodness(better) > metric.goodness(worse), "{metric}");
    }
}
