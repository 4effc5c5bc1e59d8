//! Fake negatives on known numbers: a logistic model whose weight is 1 and whose bias is 0, so that the logit of a row
//! is its feature.
//!
//! Of 100 impressions 25 convert: 125 rows, 100 negatives and 25 positives. The share of positives is 25 / 125 =
//! 0.2, the odds of that 0.25. Weights of p = 0.25 are 1.25 and 0.75 · 1.25 = 0.9375 (Ktena et al., RecSys 2019).

use gatefold_exec::{Executor, InputValue, Parameters, Plan};
use gatefold_graph::{Gradient, ParamId, differentiate};
use gatefold_nn::{LATE, LOSS, NnError, forward, training};
use gatefold_schema::{FakeNegatives, FittedFeature, Loss, ModelConfig, ModelKind, Side, Task};

use crate::world::numeric;

fn world(fake_negatives: Option<FakeNegatives>) -> (Vec<FittedFeature>, Vec<Task>, ModelConfig) {
    let task = Task {
        name: "cvr".into(),
        label: "conversion".into(),
        loss: Loss::CrossEntropy,
        given: None,
        fake_negatives,
        weight: 1.0,
        potential_label: None,
        oracle: None,
    };
    let model = ModelConfig { bottom: vec![], tower: vec![], ..ModelConfig::new(ModelKind::SingleTask) };
    (vec![numeric("z", Side::Item)], vec![task], model)
}

/// Loss and its derivative by the bias where the model gives the logit of `p` to the 125 rows.
fn loss_and_slope(fake_negatives: Option<FakeNegatives>, p: f64) -> (f64, f64) {
    let (features, tasks, model) = world(fake_negatives);
    let mut graph = training(&features, &tasks, &[], &model).unwrap();
    let loss = graph.output_named(LOSS).unwrap();
    let gradients = differentiate(&mut graph, loss).unwrap();
    let bias = graph.parameters().iter().position(|parameter| parameter.dims == [1]).unwrap();
    let Some(Gradient::Dense(slope)) = gradients.get(ParamId(bias)) else { panic!("the bias is trained") };

    let rows = 125;
    let label: Vec<f32> = (0..rows).map(|row| f32::from(u8::from(row < 25))).collect();
    let (z, ones) = (vec![(p / (1.0 - p)).ln() as f32; rows], vec![1.0; rows]);
    let inputs = [
        ("z", InputValue::F32(&z)),
        ("label.cvr", InputValue::F32(&label)),
        ("weight.cvr", InputValue::F32(&ones)),
        ("loss_weight.cvr", InputValue::F32(&[1.0])),
        (LATE, InputValue::F32(&label)),
    ];
    let values = graph.parameters().iter().map(|parameter| match parameter.dims[..] {
        [1] => vec![0.0],
        _ => vec![1.0],
    });
    let parameters = Parameters::from_values(graph.parameters(), values.collect()).unwrap();
    let mut executor = Executor::new(Plan::compile(&graph, &[loss, *slope]).unwrap(), 1).unwrap();
    executor.run(&parameters, rows, rows, &inputs).unwrap();
    (f64::from(executor.value(loss)[0]), f64::from(executor.value(*slope)[0]))
}

#[track_caller]
fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
}

#[test]
fn weights_draw_to_the_true_probability() {
    // 25 · 1.25 = 31.25 of positives and 100 · 0.9375 = 93.75 of negatives: a quarter of 125.
    let weighted = Some(FakeNegatives::Weighted);
    let (loss, slope) = loss_and_slope(weighted, 0.25);
    near(loss, (31.25 * 4f64.ln() + 93.75 * (4.0 / 3.0f64).ln()) / 125.0);
    near(slope, 0.0);
    // Of 0.5 they are 1.5 and 0.75: Σ w·(p − y) / Σ w = (75 · 0.5 − 37.5 · 0.5) / 112.5; no term is of the weights.
    let (loss, slope) = loss_and_slope(weighted, 0.5);
    near(loss, 2f64.ln());
    near(slope, 18.75 / 112.5);
    // Unweighted, the share of positives draws.
    for plain in [None, Some(FakeNegatives::Calibrated)] {
        near(loss_and_slope(plain, 0.2).1, 0.0);
    }
}

/// What is served of rows with these logits.
fn served(logits: &[f32]) -> Vec<f32> {
    let (features, tasks, model) = world(Some(FakeNegatives::Calibrated));
    let graph = forward(&features, &tasks, &[], &model).unwrap();
    let values = graph.parameters().iter().map(|parameter| match parameter.dims[..] {
        [1] => vec![0.0],
        _ => vec![1.0],
    });
    let parameters = Parameters::from_values(graph.parameters(), values.collect()).unwrap();
    let output = graph.output_named("cvr").unwrap();
    let mut executor = Executor::new(Plan::compile(&graph, &[output]).unwrap(), 1).unwrap();
    executor.run(&parameters, logits.len(), logits.len(), &[("z", InputValue::F32(logits))]).unwrap();
    executor.value(output).to_vec()
}

#[test]
fn odds_are_served_and_never_above_one() {
    for (b, p) in [(0.2, 0.25), (1.0 / 3.0, 0.5), (0.1, 1.0 / 9.0), (1e-6, 1e-6 / (1.0 - 1e-6)), (0.5, 1.0)] {
        let logit = f64::ln(b / (1.0 - b)) as f32;
        let found = f64::from(served(&[logit])[0]);
        assert!((found / p - 1.0).abs() < 2e-6, "{found}, not {p}, of {b}");
    }
    assert_eq!(
        served(&[0.0, 1e-6, 90.0, f32::INFINITY, -200.0, f32::NEG_INFINITY]),
        [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    );
}

#[test]
fn numbers_have_no_fake_negatives() {
    let (features, mut tasks, model) = world(Some(FakeNegatives::Weighted));
    tasks[0].loss = Loss::SquaredError;
    let error = training(&features, &tasks, &[], &model).unwrap_err();
    assert!(matches!(error, NnError::NoProbability { task } if task == "cvr"));
}
