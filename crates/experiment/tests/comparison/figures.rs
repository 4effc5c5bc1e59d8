//! The figures of a comparison, and what it refuses.

use std::error::Error;
use std::sync::Arc;

use gatefold_experiment::comparison::{
    ComparisonError, ComparisonInput, ModelScores, OutputScores, SampleSet, Verdict, compare,
};
use gatefold_metrics::{auc, bootstrap_auc, bootstrap_auc_difference, delong_paired, gauc, log_loss, pcoc};

use crate::example::{OPTIONS, comparison, input};

#[test]
fn figures_are_those_of_the_metrics() {
    let (input, found) = (input(), comparison());
    let titles: Vec<String> = found.outputs.iter().map(|output| output.title()).collect();
    assert_eq!(
        titles,
        [
            "ctr on all impressions",
            "cvr on clicked impressions",
            "ctcvr on all impressions",
            "cvr on all impressions"
        ]
    );

    let (baseline, mmoe) = (&input.models[0].outputs[1], &input.models[2].outputs[1]);
    let output = &found.outputs[1];
    let result = &output.results[2];
    assert_eq!((result.model, output.rows), (2, baseline.labels.len()));
    assert_eq!(output.positives as f32, baseline.labels.iter().sum::<f32>());

    let (labels, requests) = (&baseline.labels[..], &baseline.requests[..]);
    let interval = bootstrap_auc(&mmoe.scores, labels, None, requests, &OPTIONS.bootstrap).unwrap();
    let estimate = result.auc.unwrap();
    assert_eq!(estimate.value, auc(&mmoe.scores, labels, None).unwrap());
    assert_eq!((estimate.low, estimate.high), (interval.low, interval.high));
    assert_eq!(result.gauc, Some(gauc(&mmoe.scores, labels, None, requests).unwrap().value));
    assert_eq!(result.log_loss, log_loss(&mmoe.scores, labels, None).unwrap());
    assert_eq!(result.pcoc, Some(pcoc(&mmoe.scores, labels, None).unwrap()));

    let difference = result.auc_difference.unwrap();
    let (a, b) = (&mmoe.scores, &baseline.scores);
    let interval = bootstrap_auc_difference(a, b, labels, None, requests, &OPTIONS.bootstrap).unwrap();
    assert_eq!((difference.estimate.low, difference.estimate.high), (interval.low, interval.high));
    let test = delong_paired(a, b, labels, Some(requests)).unwrap();
    assert_eq!(difference.delong_p_value, Some(test.p_value));
}

#[test]
fn the_truth_of_the_example_is_found() {
    let found = comparison();
    let ctr = &found.outputs[0];
    // MMoE has clearly less noise than the baseline on the most frequent label.
    let difference = ctr.results[2].auc_difference.unwrap();
    assert_eq!(difference.verdict(), Verdict::Better);
    assert!(difference.delong_p_value.unwrap() < 1e-4);
    // The baseline's log odds are 0.25 too high, so it promises too much.
    assert!(ctr.results[0].pcoc.unwrap() > ctr.results[1].pcoc.unwrap() + 0.1);
    assert!(ctr.results[0].auc_difference.is_none(), "the baseline is not compared with itself");
    let bins = &ctr.results[2].calibration;
    assert_eq!((bins.len(), bins.iter().map(|bin| bin.rows).sum::<usize>()), (12, ctr.rows));
}

#[test]
fn an_output_that_the_baseline_lacks_has_no_baseline() {
    let found = comparison();
    let output = &found.outputs[3];
    assert_eq!(
        output.note.as_deref(),
        Some("shared-bottom v3 does not have this output, so there is no baseline.")
    );
    assert_eq!(output.results.iter().map(|result| result.model).collect::<Vec<_>>(), [1, 2]);
    assert!(output.results.iter().all(|result| result.auc.is_some() && result.auc_difference.is_none()));
}

#[test]
fn a_comparison_serialises() {
    let json = serde_json::to_value(comparison()).unwrap();
    assert_eq!(json["models"][0]["name"], "shared-bottom");
    assert_eq!(json["outputs"][1]["space"], "clicked impressions");
    assert!(json["outputs"][0]["results"][0]["auc"]["low"].as_f64().unwrap() > 0.5);
}

/// Two models with one output of four rows, to be spoiled.
fn small() -> ComparisonInput {
    let model = |name: &str, scores: [f32; 4]| ModelScores {
        name: name.to_string(),
        version: 1,
        kind: "mmoe".to_string(),
        outputs: vec![OutputScores {
            output: "cvr".to_string(),
            space: "clicked impressions".to_string(),
            label: "conversion".to_string(),
            scores: scores.to_vec(),
            labels: Arc::from([0.0, 1.0, 0.0, 1.0]),
            requests: Arc::from([0, 0, 1, 1]),
        }],
    };
    ComparisonInput {
        sample_set: SampleSet { name: "four rows".to_string(), description: String::new() },
        models: vec![model("a", [0.1, 0.7, 0.2, 0.8]), model("b", [0.3, 0.2, 0.4, 0.6])],
    }
}

#[test]
fn one_class_leaves_figures_out_and_says_so() {
    let mut input = small();
    for model in &mut input.models {
        model.outputs[0].labels = Arc::from([0.0; 4]);
    }
    let output = &compare(&input, &OPTIONS).unwrap().outputs[0];
    assert_eq!(
        output.note.as_deref(),
        Some("There is no AUC: every label is negative: the metric needs rows of both classes.")
    );
    let result = &output.results[1];
    assert_eq!((result.auc, result.gauc, result.pcoc, result.normalized_entropy), (None, None, None, None));
    assert!(result.log_loss > 0.0 && result.auc_difference.is_none());
}

#[test]
fn bad_input_is_named() {
    #[track_caller]
    fn check(spoil: impl FnOnce(&mut ComparisonInput), message: &str) {
        let mut input = small();
        spoil(&mut input);
        let error: ComparisonError = compare(&input, &OPTIONS).unwrap_err();
        let text = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        assert_eq!(text, message);
    }
    check(
        |input| input.models.clear(),
        "there is nothing to compare: give at least one model with an output",
    );
    check(
        |input| input.models[1].outputs[0].space = " ".to_string(),
        "an output of b v1 has no sample space: every output states its name, sample space and label",
    );
    check(
        |input| {
            let again = input.models[1].outputs[0].clone();
            input.models[1].outputs.push(again);
        },
        "b v1 has cvr on clicked impressions twice: give each output and sample space once",
    );
    check(
        |input| input.models[1].outputs[0].labels = Arc::from([0.0, 1.0, 1.0, 0.0]),
        "cvr on clicked impressions: b v1 and a v1 differ in labels from row 2 on: score all models on the same rows \
         in the same order",
    );
    check(
        |input| input.models[1].outputs[0].requests = Arc::from([0, 0, 1]),
        "cvr on clicked impressions: b v1 and a v1 differ in the number of rows: score all models on the same rows in \
         the same order",
    );
    check(
        |input| input.models[1].outputs[0].scores[3] = f32::NAN,
        "cvr on clicked impressions, model b v1: score of row 3 is NaN: drop the row or repair the model",
    );
    check(
        |input| input.models[0].outputs[0].scores[0] = 1.25,
        "cvr on clicked impressions, model a v1: score of row 0 is 1.25, not a probability: pass values between 0 and 1",
    );
}
