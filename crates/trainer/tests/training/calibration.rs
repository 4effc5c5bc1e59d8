//! Calibrated outputs: the same in every runtime, right on average, and recorded.

use gatefold_engine::Bundle;
use gatefold_metrics::pcoc;
use gatefold_schema::{Calibration, CalibrationMethod, Calibrator, ModelKind, Recipe};
use gatefold_trainer::{Forward, Silent, Trained, TrainingData, calibration, publish, train};

use crate::{
    ONE_THREAD, loader,
    tiny::{recipe, rows, sample},
};

fn calibrating(kind: ModelKind, methods: &[(&str, CalibrationMethod)]) -> Recipe {
    let mut recipe = recipe(kind);
    recipe.train.calibrate = methods.iter().map(|(task, method)| ((*task).to_owned(), *method)).collect();
    recipe.check().unwrap();
    recipe
}

fn trained(recipe: &Recipe, data: &TrainingData) -> Trained {
    train(recipe, data, &ONE_THREAD, &mut Silent).unwrap()
}

/// A curve at a raw score, in double precision.
fn at(scores: &[f32], rates: &[f32], score: f32) -> f64 {
    let above = scores.partition_point(|&point| point <= score);
    if above == 0 || above == scores.len() {
        return f64::from(rates[above.min(rates.len() - 1)]);
    }
    let [x0, x1, y0, y1] = [scores[above - 1], scores[above], rates[above - 1], rates[above]].map(f64::from);
    y0 + (y1 - y0) * (f64::from(score) - x0) / (x1 - x0)
}

/// What a calibrator makes of a raw probability, in double precision.
fn expected(calibrator: &Calibrator, raw: f32) -> f64 {
    match calibrator {
        Calibrator::Logistic { scale, shift } => {
            let logit = (f64::from(raw) / (1.0 - f64::from(raw))).ln();
            1.0 / (1.0 + (-(f64::from(*scale) * logit + f64::from(*shift))).exp())
        }
        Calibrator::Curve { scores, rates } => at(scores, rates, raw),
    }
}

#[test]
fn a_bundle_gives_calibrated_scores_in_both_forms() {
    use CalibrationMethod::{Isotonic, Platt};
    let data = sample();
    for (kind, methods) in [
        (ModelKind::Mmoe, [("ctr", Platt), ("cvr", Isotonic)]),
        (ModelKind::Esmm, [("ctr", Isotonic), ("cvr", Platt)]),
        (ModelKind::Aitm, [("ctr", Platt), ("cvr", Isotonic)]),
    ] {
        let recipe = calibrating(kind, &methods);
        let mut model = trained(&recipe, &data);
        let uncalibrated = model.evaluation.clone();
        let mut raw = Forward::new(&recipe, &data.encoders, 1).unwrap();
        let raw = raw.score_rows(&model.parameters, &data.valid).unwrap();
        calibration::fit(&recipe, &data, 1, &mut model).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let mut events = crate::Events::default();
        // Publishing runs both graphs and compares them with the trainer's calibrated scores.
        let published =
            publish(&recipe, &data, &model, &folder.path().join("tiny"), &loader(), &mut events).unwrap();
        assert_eq!(events.verified, ["plain", "user-once"]);
        let bundle = Bundle::open(&published.folder).unwrap();
        let recorded = &bundle.manifest().calibrations;
        let named: Vec<(&str, Option<CalibrationMethod>)> =
            recorded.iter().map(|calibration| (calibration.task.as_str(), calibration.method)).collect();
        assert_eq!(named, methods.map(|(task, method)| (task, Some(method))));
        for request in &bundle.golden().requests {
            let scores = &request.scores;
            for ((ctr, cvr), ctcvr) in scores["ctr"].iter().zip(&scores["cvr"]).zip(&scores["ctcvr"]) {
                assert!((ctr * cvr - ctcvr).abs() < 1e-6, "a derived output multiplies calibrated factors");
            }
        }

        let calibrators = recorded.iter().map(|c| (c.task.clone(), c.calibrator.clone())).collect();
        let mut calibrated = Forward::calibrated(&recipe, &data.encoders, &calibrators, 1).unwrap();
        let scores = calibrated.score_rows(&model.parameters, &data.valid).unwrap();
        for (task, Calibration { calibrator, before, after, .. }) in recorded.iter().enumerate() {
            for (raw, score) in raw[task].iter().zip(&scores[task]) {
                let expected = expected(calibrator, *raw);
                assert!((f64::from(*score) - expected).abs() < 1e-5, "{score} from {raw}, not {expected}");
            }
            let task = &recorded[task].task;
            assert_eq!(uncalibrated.metric(task, "log_loss"), Some(before.log_loss));
            assert_eq!(model.evaluation.metric(task, "pcoc"), Some(after.pcoc));
            assert!(after.log_loss < before.log_loss + 1e-4, "{}: {before:?} {after:?}", kind.name());
            assert!((after.pcoc - 1.0).abs() < 0.02, "{}: {after:?}", kind.name());
        }
    }
}

/// The same samples with a share of the training rows without a click, and what the share is.
fn with_sampled_negatives(data: &TrainingData, keep_one_of: usize) -> TrainingData {
    let sampled = |shards: &gatefold_dataset::Shards| {
        let mut split = rows(shards);
        let mut negatives = 0;
        let keep: Vec<u32> = (0..split.rows as u32)
            .filter(|&row| {
                let is_negative = split.labels["click"][row as usize] == 0.0;
                negatives += usize::from(is_negative);
                !is_negative || negatives.is_multiple_of(keep_one_of)
            })
            .collect();
        let pick = |values: &[f32]| keep.iter().map(|&row| values[row as usize]).collect();
        split.columns = split.columns.iter().map(|column| column.take(&keep)).collect();
        split.labels = split.labels.iter().map(|(name, values)| (name.clone(), pick(values))).collect();
        // Rows of one request no longer matter: each is a request of its own.
        split.request = (0..keep.len() as u32).collect();
        split.rows = keep.len();
        split.into()
    };
    TrainingData {
        train: sampled(&data.train),
        negative_sampling_rate: 1.0 / keep_one_of as f64,
        ..data.clone()
    }
}

#[test]
fn the_rate_of_negative_sampling_is_undone() {
    let complete = sample();
    let data = with_sampled_negatives(&complete, 4);
    let recipe = recipe(ModelKind::SharedBottom);
    let mut model = trained(&recipe, &data);
    let before = model.parameters.clone();
    calibration::fit(&recipe, &data, 1, &mut model).unwrap();

    let [sampling] = model.calibrations.as_slice() else { panic!("{:?}", model.calibrations) };
    assert_eq!((sampling.task.as_str(), sampling.method), ("ctr", None));
    assert_eq!(sampling.calibrator, Calibrator::Logistic { scale: 1.0, shift: 0.25f32.ln() });
    // Validation holds all of its rows.
    assert!(sampling.before.pcoc > 1.4, "{:?}", sampling.before);
    assert!((sampling.after.pcoc - 1.0).abs() < 0.1, "{:?}", sampling.after);

    // On the rows as they were before sampling: p / (p + (1 − p)/w), and right on average.
    let calibrators = [("ctr".to_owned(), sampling.calibrator.clone())].into();
    let mut calibrated = Forward::calibrated(&recipe, &complete.encoders, &calibrators, 1).unwrap();
    let scores = calibrated.score_rows(&model.parameters, &complete.valid).unwrap();
    let mut raw = Forward::new(&recipe, &complete.encoders, 1).unwrap();
    let raw = raw.score_rows(&before, &complete.valid).unwrap();
    for (raw, score) in raw[0].iter().zip(&scores[0]) {
        let expected = raw / (raw + (1.0 - raw) / 0.25);
        assert!((score - expected).abs() < 1e-6, "{score} from {raw}, not {expected}");
    }
    assert_eq!(raw[1], scores[1], "a click is never sampled away, so nothing is wrong given one");
    let labels = &rows(&complete.valid).labels;
    let found = pcoc(&scores[0], &labels["click"], None).unwrap();
    assert!((found - 1.0).abs() < 0.1, "{found}");
    assert!(pcoc(&raw[0], &labels["click"], None).unwrap() > 1.4);
}

#[test]
fn a_fitted_calibration_undoes_the_sampling_too() {
    let complete = sample();
    let data = with_sampled_negatives(&complete, 4);
    for method in [CalibrationMethod::Platt, CalibrationMethod::Isotonic] {
        let recipe = calibrating(ModelKind::SharedBottom, &[("ctr", method)]);
        let mut model = trained(&recipe, &data);
        calibration::fit(&recipe, &data, 1, &mut model).unwrap();
        let calibrators = [("ctr".to_owned(), model.calibrations[0].calibrator.clone())].into();
        let mut calibrated = Forward::calibrated(&recipe, &complete.encoders, &calibrators, 1).unwrap();
        let scores = calibrated.score_rows(&model.parameters, &complete.valid).unwrap();
        let found = pcoc(&scores[0], &rows(&complete.valid).labels["click"], None).unwrap();
        assert!((found - 1.0).abs() < 0.05, "{}: {found}", method.name());
    }
}

#[test]
fn what_cannot_be_calibrated_is_refused_before_training() {
    #[track_caller]
    fn check(kind: ModelKind, task: &str, method: CalibrationMethod, expected: &str) {
        let mut recipe = recipe(kind);
        recipe.train.calibrate = [(task.to_owned(), method)].into();
        let text = recipe.check().unwrap_err().to_string();
        assert!(text.contains(expected), "{text}\ndoes not contain\n{expected}");
    }
    use CalibrationMethod::{Isotonic, Platt};
    check(
        ModelKind::Mmoe,
        "ctcvr",
        Isotonic,
        "'ctcvr' is not a task (those are: ctr, cvr); a derived output",
    );
    check(ModelKind::Aitm, "cvr", Platt, "'cvr' is a quotient of probabilities in aitm and has no logit");
}

#[test]
fn nothing_to_calibrate_changes_nothing() {
    let data = sample();
    let recipe = recipe(ModelKind::SharedBottom);
    let mut model = trained(&recipe, &data);
    let before = model.clone();
    calibration::fit(&recipe, &data, 1, &mut model).unwrap();
    assert_eq!((model.parameters, model.evaluation), (before.parameters, before.evaluation));
    assert!(model.calibrations.is_empty());
}
