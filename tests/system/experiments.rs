//! An experiment on real models: each unit gets the scores of its arm's model, and a load of many units
//! is divided as the assignment divides it.

use std::fs;

use gatefold_experiment::assignment::{Arm, Experiment};
use gatefold_tests::{
    World, run_json,
    server::{Server, get},
};
use serde_json::Value;

const SETTINGS: &str = r#"
[experiments.gates]
model = "mmoe"
salt = "gates-2026-11"
arms = [{ name = "control", share = 0.4 }, { name = "treatment", share = 0.4, model = "esmm" }]

[experiments.broken]
model = "mmoe"
arms = [{ name = "first", share = 0.5, label = "canary" }, { name = "second", share = 0.5 }]
"#;

/// The value of `gatefold_experiment_requests_total` of an arm.
fn answered(metrics: &str, arm: &str) -> usize {
    let series =
        format!("gatefold_experiment_requests_total{{experiment=\"gates\",arm=\"{arm}\",code=\"OK\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
    value.unwrap_or_else(|| panic!("no {series} in {metrics}")).parse().expect("a number")
}

#[test]
fn units_are_scored_by_the_model_of_their_arm() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = folder.path().join("server.toml");
    fs::write(&settings, SETTINGS).expect("it can be written");
    let settings = settings.to_str().expect("UTF-8");
    let server = Server::start(&World::get().path("models"), &["--config", settings]);
    let examples = World::get().path("samples/examples.json");
    let request =
        |of: &[&str]| run_json(&[&["request", "--server", &server.url, "--file", &examples], of].concat());
    // Of points 0.63, 0.28 and 0.84 (see `gatefold_experiment::assignment`).
    for (unit, model, arm) in
        [("user-1", "esmm", "treatment"), ("user-2", "mmoe", "control"), ("user-5", "mmoe", "")]
    {
        let reply = request(&["--experiment", "gates", "--unit", unit]);
        assert_eq!((reply["model"].as_str(), reply["arm"].as_str()), (Some(model), Some(arm)), "{reply}");
        let named = request(&["--model", model]);
        assert_eq!((&reply["scores"], named.get("arm")), (&named["scores"], None));
    }

    let load = [
        "load",
        "--server",
        &server.url,
        "--experiment",
        "gates",
        "--requests",
        &examples,
        "--candidates",
        "5",
        "--rate",
        "100",
        "--duration",
        "2s",
    ];
    let report = run_json(&load);
    assert_eq!(report["errors"].as_object().map(serde_json::Map::len), Some(0), "{report}");
    let arms = report["arms"].as_object().expect("figures by arm");
    let of = |figures: &Value, name: &str| figures[name].as_u64().expect("a count");
    assert_eq!(arms.keys().collect::<Vec<_>>(), ["", "control", "treatment"]);
    assert_eq!(arms.values().map(|arm| of(arm, "requests")).sum::<u64>(), of(&report, "requests"));
    let (_, metrics) = get(&server.admin, "/metrics").expect("the admin port answers");
    let found = ["control", "treatment", ""].map(|arm| answered(&metrics, arm));
    // Beside the three requests above, the load asks once for its first unit before it begins.
    let units = found.iter().sum::<usize>() - 4;
    assert!(units > 100, "{units}");
    let arms = ["control", "treatment"].map(|name| Arm { name: name.to_owned(), share: 0.4 });
    let experiment = Experiment::new("gates-2026-11", &arms).expect("an experiment");
    let mut expected = [1, 1, 1];
    for unit in std::iter::once(0).chain(0..units) {
        expected[experiment.assign(&format!("load-{unit}")).unwrap_or(2)] += 1;
    }
    assert_eq!(found, expected);

    // The point of load-0 is 0.28: its arm has no model, and the load goes on with load-1.
    let broken = load.map(|word| if word == "gates" { "broken" } else { word });
    let report = run_json(&broken);
    let (first, second) = (&report["arms"]["first"], &report["arms"]["second"]);
    assert_eq!((&first["errors"], &second["errors"]), (&first["requests"], &Value::from(0)), "{report}");
    assert_eq!(report["errors"]["NOT_FOUND"], first["errors"]);
    let said =
        "experiment 'broken', arm 'first': model 'mmoe' has no version labelled 'canary'; labels: stable (1)";
    assert_eq!(report["error_messages"]["NOT_FOUND"], said);
}
