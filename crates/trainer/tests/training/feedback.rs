//! Conversions that come late: from rows as a stream brings them to the probability that is served.

use gatefold_dataset::Shards;
use gatefold_engine::Bundle;
use gatefold_metrics::pcoc;
use gatefold_schema::{FakeNegatives, ModelKind, Recipe, SelectConfig, SelectMetric, strict::from_toml};
use gatefold_trainer::{Forward, Silent, Trained, TrainingData, calibration, publish, train};

use crate::{
    ONE_THREAD, loader,
    tiny::{fresh, recipe, rows, sample},
};

/// Every training row with no conversion yet, and those that convert once more.
fn streamed() -> TrainingData {
    let data = sample();
    let mut split = rows(&data.train);
    let converted = |row: u32| split.labels["conversion"][row as usize] == 1.0;
    let places: Vec<u32> = (0..split.rows as u32)
        .flat_map(|row| std::iter::repeat_n(row, 1 + usize::from(converted(row))))
        .collect();
    let late: Vec<f32> = (0..places.len())
        .map(|place| f32::from(u8::from(place > 0 && places[place] == places[place - 1])))
        .collect();
    let pick = |values: &[f32]| places.iter().map(|row| values[*row as usize]).collect();
    split.columns = split.columns.iter().map(|column| column.take(&places)).collect();
    split.labels = split.labels.iter().map(|(name, values)| (name.clone(), pick(values))).collect();
    split.request = places.iter().map(|row| split.request[*row as usize]).collect();
    split.rows = places.len();
    split.labels.insert("conversion".into(), late.clone());
    split.labels.insert("late".into(), late);
    let mut valid = rows(&data.valid);
    valid.labels.insert("late".into(), vec![0.0; valid.rows]);
    TrainingData { train: split.into(), valid: valid.into(), late_label: Some("conversion".into()), ..data }
}

/// The recipe of such samples where there is a method, and of others where there is none.
fn learning(kind: ModelKind, method: Option<FakeNegatives>) -> Recipe {
    let mut recipe = recipe(kind);
    if method.is_some() {
        let logs = r#"logs = { impressions = "i", clicks = "c", conversions = "b", labels.maturity = "fake-negatives" }"#;
        recipe.samples = from_toml(logs, "samples").unwrap();
        recipe.tasks[1].fake_negatives = method;
    }
    // Chosen by how well probabilities hold, which takes longer than their order.
    recipe.train.select = Some(SelectConfig { metric: SelectMetric::LogLoss, ..SelectConfig::default() });
    (recipe.train.epochs, recipe.train.patience) = (10, 2);
    recipe.check().unwrap();
    recipe
}

/// Predicted over observed clicks, and conversions of clicks, on rows that nothing was learned or chosen by.
fn predicted_over_observed(
    recipe: &Recipe,
    trained: &Trained,
    data: &TrainingData,
    test: &Shards,
) -> [f64; 2] {
    let mut forward = Forward::new(recipe, &data.encoders, 1).unwrap();
    let scores = forward.score_rows(&trained.parameters, test).unwrap();
    let labels = &rows(test).labels;
    let clicked: Vec<usize> = (0..test.rows()).filter(|row| labels["click"][*row] == 1.0).collect();
    let pick = |values: &[f32]| -> Vec<f32> { clicked.iter().map(|row| values[*row]).collect() };
    [
        pcoc(&scores[0], &labels["click"], None).unwrap(),
        pcoc(&pick(&scores[1]), &pick(&labels["conversion"]), None).unwrap(),
    ]
}

/// Within this of 1 an output is held to be unbiased: the test rows move it by 0.01, the few training rows by more.
const TOLERANCE: f64 = 0.08;

#[test]
fn both_methods_give_back_the_true_share() {
    use FakeNegatives::{Calibrated, Weighted};
    let (data, test) = (streamed(), fresh(4000));
    // As if every row were what it seems: too few conversions, and clicks of rows that are there again.
    let naive = TrainingData { late_label: None, ..data.clone() };
    let recipe = learning(ModelKind::Mmoe, None);
    let trained = train(&recipe, &naive, &ONE_THREAD, &mut Silent).unwrap();
    let [ctr, cvr] = predicted_over_observed(&recipe, &trained, &naive, &test);
    assert!(ctr > 1.0 + TOLERANCE && cvr < 1.0 - 2.0 * TOLERANCE, "naive: {ctr} {cvr}");

    for (kind, method) in
        [(ModelKind::Mmoe, Weighted), (ModelKind::Mmoe, Calibrated), (ModelKind::Esmm, Weighted)]
    {
        let recipe = learning(kind, Some(method));
        let trained = train(&recipe, &data, &ONE_THREAD, &mut Silent).unwrap();
        let found = predicted_over_observed(&recipe, &trained, &data, &test);
        let name = format!("{} {}: {found:?}", kind.name(), method.name());
        assert!(found.iter().all(|found| (found - 1.0).abs() < TOLERANCE), "{name}");
        let auc = trained.evaluation.metric("cvr", "auc").unwrap();
        assert!(auc > 0.75, "{name}: AUC of cvr {auc}");
    }
}

#[test]
fn what_is_served_is_calibrated_in_every_form() {
    let data = streamed();
    let recipe = learning(ModelKind::Mmoe, Some(FakeNegatives::Calibrated));
    let mut trained = train(&recipe, &data, &ONE_THREAD, &mut Silent).unwrap();
    calibration::fit(&recipe, &data, 1, &mut trained).unwrap();
    assert!(trained.calibrations.is_empty(), "nothing is fitted on validation");

    // The same parameters without the calibration give b.
    let scores = |recipe: &Recipe| {
        let mut forward = Forward::new(recipe, &data.encoders, 1).unwrap();
        forward.score_rows(&trained.parameters, &data.valid).unwrap()
    };
    let (learned, served) = (scores(&learning(ModelKind::Mmoe, None)), scores(&recipe));
    assert_eq!(learned[0], served[0]);
    let mut at_one = 0;
    for row in 0..served[1].len() {
        let b = f64::from(learned[1][row]);
        let p = f64::from(served[1][row]);
        assert!((p - (b / (1.0 - b)).min(1.0)).abs() < 1e-5, "{p} of {b}");
        assert!((served[2][row] - served[0][row] * served[1][row]).abs() < 1e-6);
        at_one += usize::from(p == 1.0);
    }
    assert!(at_one > 0, "some conversions are so likely that b passes 1/2");

    // Publishing runs both graphs and compares them with these scores, golden rows among them.
    let folder = tempfile::tempdir().unwrap();
    let mut events = crate::Events::default();
    let published =
        publish(&recipe, &data, &trained, &folder.path().join("tiny"), &loader(), &mut events).unwrap();
    assert_eq!(events.verified, ["plain", "user-once"]);
    let bundle = Bundle::open(&published.folder).unwrap();
    assert_eq!(bundle.manifest().tasks, recipe.tasks);
}

#[test]
fn samples_and_tasks_must_agree() {
    let data = streamed();
    let refused = |recipe: &Recipe, data: &TrainingData| {
        let error = train(recipe, data, &ONE_THREAD, &mut Silent).err().unwrap();
        std::error::Error::source(&error).unwrap().to_string()
    };
    let text = refused(&learning(ModelKind::Mmoe, None), &data);
    assert!(text.contains("add fake_negatives = \"weighted\" or \"calibrated\" to the task"), "{text}");
    let text = refused(&learning(ModelKind::Mmoe, Some(FakeNegatives::Weighted)), &sample());
    assert!(text.contains("but the samples have no fake negatives of its label 'conversion'"), "{text}");
}
