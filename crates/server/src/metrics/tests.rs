use std::time::{Duration, SystemTime};

use gatefold_engine::{BatchEvent, ModelState, ModelStatus, ModelVersion, ScoreReply, Timings};
use gatefold_features::Tally;
use tonic::Code;

use super::*;
use crate::settings::{ArmSettings, ExperimentSettings};

fn demo(version: u64) -> ModelVersion {
    ModelVersion { name: "demo".into(), version }
}

fn install(metrics: &Metrics, version: u64) {
    let published = SystemTime::now() - Duration::from_secs(3600);
    let installed = Installed { features: vec!["age", "item_id"], outputs: vec!["ctr"], published };
    metrics.installed(&demo(version), &installed);
}

/// An experiment of two arms.
fn experiments() -> Experiments {
    let arm = |name: &str| ArmSettings {
        name: name.to_owned(),
        share: 0.5,
        model: None,
        version: None,
        label: None,
    };
    let arms = vec![arm("control"), arm("treatment")];
    let gates = ExperimentSettings { model: "demo".to_owned(), salt: None, arms };
    Experiments::new(&[("gates".to_owned(), gates)].into()).unwrap()
}

/// Gives every metric at least one series.
pub(super) fn fill(metrics: &Metrics) {
    metrics.edge.called(&"feed".into());
    metrics.edge.refused(crate::tokens::Right::Admin);
    metrics.edge.turned_away(super::Turned::TooMany);
    let model = demo(7);
    install(metrics, 7);
    metrics.encoded(
        &model,
        &[Tally { values: 1, missing: 0, unknown: 0 }, Tally { values: 200, missing: 3, unknown: 20 }],
    );
    let timings = Timings::default();
    let scores = vec![vec![0.015; 200]];
    let (outputs, labels, gates) = (vec!["ctr".into()], Vec::new(), Vec::new());
    metrics.scored(&ScoreReply { model: model.clone(), labels, outputs, scores, gates, timings });
    let answered = Answered {
        candidates: 200,
        encode: Duration::from_micros(60),
        queue: Duration::from_micros(40),
        total: Duration::from_millis(3),
    };
    metrics.answered(&model, &answered);
    let experiments = experiments();
    metrics.experiments(&experiments);
    let in_treatment = |deadline| {
        let mut in_flight = metrics.arrived(deadline);
        in_flight.is_in(experiments.arms().nth(1).unwrap());
        in_flight
    };
    in_treatment(None).ended(Code::Ok);
    drop(in_treatment(Some(Instant::now())));
    metrics.refused(None, None, Code::NotFound, Rejection::UnknownModel);
    metrics.refused(Some(&model), None, Code::ResourceExhausted, Rejection::QueueFull);
    let infer = Duration::from_millis(2);
    metrics.batch(&BatchEvent { model: &model, jobs: 2, rows: 400, infer, ok: true });
    let info = ModelGauge {
        model: &model,
        current: true,
        waiting_rows: 12,
        since: SystemTime::now() - Duration::from_secs(60),
    };
    let status = |version, state| ModelStatus {
        model: demo(version),
        state,
        since: SystemTime::now(),
        labels: Vec::new(),
    };
    let refused = ModelState::Refused { reason: "damaged".into() };
    metrics
        .models(&[info], &[status(7, ModelState::Serving), status(8, refused.clone()), status(9, refused)]);
}

/// The value of the series `series`, labels included.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn everything_is_counted_under_its_model_and_version() {
    let metrics = Metrics::default();
    fill(&metrics);
    let in_flight = metrics.arrived(None);
    let text = metrics.text();
    for (series, expected) in [
        ("gatefold_requests_total{model=\"demo\",version=\"7\",code=\"OK\"}", 1.0),
        ("gatefold_requests_total{model=\"\",version=\"0\",code=\"NOT_FOUND\"}", 1.0),
        ("gatefold_rejections_total{model=\"\",version=\"0\",reason=\"unknown_model\"}", 1.0),
        ("gatefold_rejections_total{model=\"demo\",version=\"7\",reason=\"queue_full\"}", 1.0),
        ("gatefold_candidates_total{model=\"demo\",version=\"7\"}", 200.0),
        ("gatefold_request_seconds_count{model=\"demo\",version=\"7\"}", 1.0),
        ("gatefold_queue_seconds_bucket{le=\"0.00005\",model=\"demo\",version=\"7\"}", 1.0),
        ("gatefold_batch_candidates_sum{model=\"demo\",version=\"7\"}", 400.0),
        ("gatefold_failed_batches_total{model=\"demo\",version=\"7\"}", 0.0),
        ("gatefold_feature_values_total{model=\"demo\",version=\"7\",feature=\"item_id\"}", 200.0),
        ("gatefold_feature_missing_total{model=\"demo\",version=\"7\",feature=\"item_id\"}", 3.0),
        ("gatefold_feature_unknown_total{model=\"demo\",version=\"7\",feature=\"item_id\"}", 20.0),
        ("gatefold_score_bucket{le=\"0.01\",model=\"demo\",version=\"7\",output=\"ctr\"}", 0.0),
        ("gatefold_score_bucket{le=\"0.02\",model=\"demo\",version=\"7\",output=\"ctr\"}", 200.0),
        ("gatefold_score_count{model=\"demo\",version=\"7\",output=\"ctr\"}", 200.0),
        ("gatefold_model_version{model=\"demo\"}", 7.0),
        ("gatefold_model_versions{model=\"demo\",state=\"refused\"}", 2.0),
        ("gatefold_queue_rows{model=\"demo\",version=\"7\"}", 12.0),
        ("gatefold_experiment_requests_total{experiment=\"gates\",arm=\"control\",code=\"OK\"}", 0.0),
        ("gatefold_experiment_requests_total{experiment=\"gates\",arm=\"treatment\",code=\"OK\"}", 1.0),
        (
            "gatefold_experiment_requests_total{experiment=\"gates\",arm=\"treatment\",code=\"DEADLINE_EXCEEDED\"}",
            1.0,
        ),
        ("gatefold_requests_in_flight", 1.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series} in\n{text}");
    }
    let age = value(&text, "gatefold_model_age_seconds{model=\"demo\",version=\"7\"}").unwrap();
    assert!((3600.0..3660.0).contains(&age), "{age}");
    let serving = value(&text, "gatefold_model_serving_seconds{model=\"demo\",version=\"7\"}").unwrap();
    assert!((60.0..120.0).contains(&serving), "{serving}");
    assert!(value(&text, "process_resident_memory_bytes").unwrap() > 1e6, "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    in_flight.ended(Code::Ok);
    metrics.models(&[], &[]);
    let text = metrics.text();
    assert_eq!(value(&text, "gatefold_requests_in_flight"), Some(0.0));
    assert!(!text.contains("gatefold_model_version{"), "{text}");
    assert!(!text.contains("CANCELLED"), "{text}");
}

#[test]
fn a_request_that_is_dropped_was_cancelled_or_late() {
    let metrics = Metrics::default();
    fill(&metrics);
    let hour = Duration::from_secs(3600);
    drop(metrics.arrived(Some(Instant::now() + hour)));
    metrics.arrived(None).is_for(&demo(7));
    metrics.arrived(Some(Instant::now())).is_for(&demo(7));
    for (series, expected) in [
        ("gatefold_rejections_total{model=\"\",version=\"0\",reason=\"cancelled\"}", 1.0),
        ("gatefold_rejections_total{model=\"demo\",version=\"7\",reason=\"cancelled\"}", 1.0),
        ("gatefold_rejections_total{model=\"demo\",version=\"7\",reason=\"deadline\"}", 1.0),
        ("gatefold_requests_total{model=\"demo\",version=\"7\",code=\"DEADLINE_EXCEEDED\"}", 1.0),
        ("gatefold_requests_in_flight", 0.0),
    ] {
        assert_eq!(value(&metrics.text(), series), Some(expected), "{series}");
    }
}

#[test]
fn a_version_that_has_gone_leaves_no_series() {
    let metrics = Metrics::default();
    fill(&metrics);
    install(&metrics, 8);
    metrics.unloaded(&demo(7));
    metrics.models(&[], &[]);
    // Its last counts are still to be collected.
    assert!(metrics.text().contains("version=\"7\""));
    metrics.served.sweep_older_than(Duration::ZERO);
    let text = metrics.text();
    assert!(!text.contains("version=\"7\""), "{text}");
    assert!(text.contains("version=\"8\""), "{text}");
    // What ends late makes none again.
    metrics.refused(Some(&demo(7)), None, Code::Internal, Rejection::Failed);
    assert!(!metrics.text().contains("version=\"7\""));
}
