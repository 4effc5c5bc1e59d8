//! Gate diagnostics: of models whose gates and units are set by hand, and of trained ones.

use gatefold_engine::{BackendLoader, Bundle, GOLDEN_TOLERANCE, GraphForm};
use gatefold_schema::{GateReport, ModelKind};
use gatefold_trainer::{Silent, Trained, gates, publish, train};

use crate::{
    ONE_THREAD, loader,
    tiny::{recipe, rows, sample},
};

fn inspected(kind: ModelKind, change: impl Fn(&mut Trained)) -> GateReport {
    let (data, recipe) = (sample(), recipe(kind));
    let mut trained = train(&recipe, &data, &ONE_THREAD, &mut Silent).unwrap();
    change(&mut trained);
    gates::inspect(&recipe, &data, 1, &mut trained).unwrap();
    trained.gates.unwrap()
}

fn set(trained: &mut Trained, name: &str, values: &[f32]) {
    let found = trained.parameters.by_name_mut(name).unwrap_or_else(|| panic!("no {name}"));
    found.fill(0.0);
    found[..values.len()].copy_from_slice(values);
}

#[test]
fn gates_set_by_hand_are_found_as_they_were_set() {
    // Without weights a gate is the softmax of its bias: [0.98, 0.01, 0.01] and even.
    let report = inspected(ModelKind::Mmoe, |trained| {
        set(trained, "gate.ctr.0.weight", &[]);
        set(trained, "gate.ctr.0.bias", &[98f32.ln(), 0.0, 0.0]);
        set(trained, "gate.cvr.0.weight", &[]);
        set(trained, "gate.cvr.0.bias", &[]);
        // A first layer of nothing but negative numbers is dead, and what reads it is constant.
        set(trained, "expert.1.0.weight", &[]);
        set(trained, "expert.1.0.bias", &[-1.0; 32]);
    });
    assert_eq!(report.rows, 2_000);
    let names: Vec<&str> = report.gates.iter().map(|gate| gate.gate.as_str()).collect();
    assert_eq!(names, ["gate.ctr", "gate.cvr"]);
    for (gate, expected) in report.gates.iter().zip([[0.98, 0.01, 0.01], [1.0 / 3.0; 3]]) {
        for ((place, expert), expected) in gate.experts.iter().enumerate().zip(expected) {
            assert_eq!(expert.expert, format!("expert.{place}"));
            assert!((expert.weight - expected).abs() < 1e-5, "{gate:?}");
        }
    }
    // -(0.98 ln 0.98 + 2 · 0.01 ln 0.01) / ln 3, and all of it.
    assert!((report.gates[0].entropy - 0.10185764).abs() < 1e-4, "{:?}", report.gates[0]);
    assert!(
        (report.gates[1].entropy - 1.0).abs() < 1e-5 && (report.gates[1].entropy_of_mean - 1.0).abs() < 1e-5
    );
    let dead = |layer: &str| report.layers.iter().find(|found| found.layer == layer).unwrap().dead;
    assert_eq!((dead("expert.1.0"), dead("expert.1.1")), (32, 16));
    assert!(dead("expert.0.0") < 16);
    let captured: Vec<&str> = report.captured.iter().map(|captured| captured.expert.as_str()).collect();
    assert_eq!(captured, ["expert.1", "expert.2"]);
    assert!(report.captured.iter().all(|captured| captured.gate == "gate.cvr"), "{:?}", report.captured);
    assert!(report.warnings[0].starts_with("gate.ctr has collapsed: 98 % of its weight is on expert.0"));
    assert!(report.warnings.iter().any(|warning| warning.starts_with("32 of 32 units of expert.1.0")));
}

#[test]
fn every_kind_of_expert_model_is_looked_into_and_the_bundle_keeps_it() {
    for (kind, expected) in [
        (ModelKind::Omoe, vec!["gate.shared"]),
        (ModelKind::Mmoe, vec!["gate.ctr", "gate.cvr"]),
        (ModelKind::Cgc, vec!["gate.ctr", "gate.cvr"]),
        (
            ModelKind::Ple,
            vec![
                "level.0.gate.ctr",
                "level.0.gate.cvr",
                "level.0.gate.shared",
                "level.1.gate.ctr",
                "level.1.gate.cvr",
            ],
        ),
        (ModelKind::SharedBottom, vec![]),
    ] {
        let report = inspected(kind, |_| ());
        let names: Vec<&str> = report.gates.iter().map(|gate| gate.gate.as_str()).collect();
        assert_eq!(names, expected, "{}", kind.name());
        for gate in &report.gates {
            let sum: f64 = gate.experts.iter().map(|expert| expert.weight).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{gate:?}");
            assert!(gate.entropy <= gate.entropy_of_mean + 1e-6, "entropy is concave: {gate:?}");
        }
        assert!(report.layers.iter().any(|layer| layer.layer == "tower.ctr.0"), "{:?}", report.layers);
    }

    let (data, recipe) = (sample(), recipe(ModelKind::Mmoe));
    let mut trained = train(&recipe, &data, &ONE_THREAD, &mut Silent).unwrap();
    gates::inspect(&recipe, &data, 1, &mut trained).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("tiny");
    let published = publish(&recipe, &data, &trained, &model, &loader(), &mut Silent).unwrap();
    assert_eq!(Bundle::open(&published.folder).unwrap().manifest().gates, trained.gates);
}

/// What the exported graphs give is compared with the native look into the gates, which runs another
/// graph; row by row `publish` itself compares it with the trainer's forward pass.
#[test]
fn exported_gates_weigh_as_the_trainers_do() {
    let data = sample();
    let valid = rows(&data.valid);
    let batch = valid.request_batch(0..valid.rows);
    for (kind, names) in [
        (ModelKind::Omoe, &["gate.shared"][..]),
        (ModelKind::Mmoe, &["gate.ctr", "gate.cvr"]),
        (ModelKind::Cgc, &["gate.ctr", "gate.cvr"]),
        (ModelKind::Ple, &["level.1.gate.ctr", "level.1.gate.cvr"]),
        (ModelKind::SharedBottom, &[]),
    ] {
        let recipe = recipe(kind);
        let mut trained = train(&recipe, &data, &ONE_THREAD, &mut Silent).unwrap();
        gates::inspect(&recipe, &data, 1, &mut trained).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let published =
            publish(&recipe, &data, &trained, &folder.path().join("tiny"), &loader(), &mut Silent).unwrap();
        let bundle = Bundle::open(&published.folder).unwrap();
        let manifest = bundle.manifest();
        let listed: Vec<&str> = manifest.gate_outputs.iter().map(|gate| gate.name.as_str()).collect();
        assert_eq!(listed, names, "{}", kind.name());
        let report = trained.gates.unwrap();
        let wanted: Vec<usize> = (0..3 + names.len()).collect();
        for form in [GraphForm::Plain, GraphForm::UserOnce] {
            let mut backend = loader().open(&bundle, form).unwrap();
            let found = backend.run(&batch, &wanted).unwrap();
            assert_eq!(found[..3], backend.run(&batch, &wanted[..3]).unwrap(), "gates change no score");
            for (gate, weights) in manifest.gate_outputs.iter().zip(&found[3..]) {
                let figures = report.gates.iter().find(|figures| figures.gate == gate.name).unwrap();
                let experts = figures.experts.iter().map(|expert| &expert.expert);
                assert_eq!(gate.experts.iter().collect::<Vec<_>>(), experts.collect::<Vec<_>>());
                let rows = weights.chunks_exact(gate.experts.len());
                assert_eq!(rows.len(), valid.rows);
                let mut means = vec![0.0; gate.experts.len()];
                for row in rows {
                    assert!((row.iter().sum::<f32>() - 1.0).abs() < GOLDEN_TOLERANCE, "{row:?}");
                    means.iter_mut().zip(row).for_each(|(mean, weight)| *mean += f64::from(*weight));
                }
                for (mean, expert) in means.iter().zip(&figures.experts) {
                    let mean = mean / valid.rows as f64;
                    assert!(
                        (mean - expert.weight).abs() < f64::from(GOLDEN_TOLERANCE),
                        "{mean}, {figures:?}"
                    );
                }
            }
        }
    }
}
