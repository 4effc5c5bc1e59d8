//! Conversions that come late, from logs to served probabilities: a model of the day learns as much from fake
//! negatives as if it had waited, and one that takes what has not come for what never will does not.

use std::fs::{self, File};
use std::path::Path;

use gatefold_tests::{run_failing, run_json};
use polars::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Midnight of 2024-01-01 UTC, milliseconds.
const START: i64 = 1_704_067_200_000;
const HOUR: f64 = 3_600_000.0;
const DAYS: i64 = 8;
const REQUESTS: i64 = 12_000;
const CANDIDATES: i64 = 4;
/// Conversions come after 48 hours on average, and 71 at most.
const MEAN_HOURS: f64 = 48.0;
const LONGEST_HOURS: f64 = 71.0;

fn write(folder: &Path, name: &str, columns: Vec<Column>) {
    let mut frame = DataFrame::new(columns[0].len(), columns).expect("columns of one length");
    let file = File::create(folder.join(name)).expect("a new file");
    ParquetWriter::new(file).finish(&mut frame).expect("Parquet is written");
}

/// Probability that an item of this kind is bought by a user of this kind after a click.
fn truth(user: i64, item: i64) -> f64 {
    0.1 + 0.1 * (user % 3) as f64 + 0.15 * (item % 4) as f64
}

/// Half of the impressions are clicked; of the clicks those convert that the truth says.
fn write_logs(folder: &Path) {
    fs::create_dir_all(folder).expect("a new folder");
    let random = &mut ChaCha8Rng::seed_from_u64(4);
    let mut shown: [Vec<i64>; 6] = Default::default();
    let mut clicked: [Vec<i64>; 3] = Default::default();
    let mut bought: [Vec<i64>; 3] = Default::default();
    for request in 0..REQUESTS {
        let time = START + request * DAYS * 24 * HOUR as i64 / REQUESTS;
        let user = random.random_range(0..3000);
        for item in request * CANDIDATES..(request + 1) * CANDIDATES {
            let (user_kind, item_kind) = (user % 3, random.random_range(0..4));
            let row = [request, user, item, time, user_kind, item_kind];
            shown.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
            if !random.random_bool(0.5) {
                continue;
            }
            let click = time + 60_000;
            clicked.iter_mut().zip([request, item, click]).for_each(|(column, value)| column.push(value));
            if random.random_bool(truth(user_kind, item_kind)) {
                let hours = -(1.0 - random.random::<f64>()).ln() * MEAN_HOURS;
                let time = click + 1 + (hours.min(LONGEST_HOURS) * HOUR) as i64;
                bought.iter_mut().zip([user, item, time]).for_each(|(column, value)| column.push(value));
            }
        }
    }
    let columns = |names: &[&str], values: &[Vec<i64>]| {
        names.iter().zip(values).map(|(name, values)| Column::new((*name).into(), values.clone())).collect()
    };
    let names = ["request_id", "user_id", "item_id", "time", "user_kind", "item_kind"];
    write(folder, "impressions.parquet", columns(&names, &shown));
    write(folder, "clicks.parquet", columns(&["request_id", "item_id", "time"], &clicked));
    write(folder, "conversions.parquet", columns(&["user_id", "item_id", "time"], &bought));
}

/// A recipe of the logs up to a time in milliseconds.
fn recipe(maturity: &str, until: i64, [valid, test]: [&str; 2], method: &str) -> String {
    format!(
        r#"
name = "late"
[samples]
split = {{ valid_from = "{valid}", test_from = "{test}" }}
[samples.logs]
impressions = {{ files = "impressions.parquet", where = "time < {until}" }}
clicks = "clicks.parquet"
conversions = {{ files = "conversions.parquet", where = "time < {until}" }}
labels = {{ click_window = "1h", conversion_window = "3d", maturity = "{maturity}" }}
[[feature]]
name = "user_kind"
side = "context"
kind = "categorical"
type = "int"
encoder = {{ kind = "bucketize", edges = [1, 2] }}
embedding = 4
[[feature]]
name = "item_kind"
side = "item"
kind = "categorical"
type = "int"
encoder = {{ kind = "bucketize", edges = [1, 2, 3] }}
embedding = 4
[[task]]
name = "ctr"
label = "click"
[[task]]
name = "cvr"
label = "conversion"
given = "ctr"
{method}
[[derived]]
name = "ctcvr"
product = ["ctr", "cvr"]
label = "conversion"
[model]
kind = "mmoe"
experts = 2
expert = [16]
tower = [8]
[train]
epochs = 3
batch_size = 256
learning_rate = 0.005
select = {{ metric = "log-loss" }}
"#
    )
}

#[test]
fn fresh_conversions_are_learned_without_a_wait() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| home.path().join(name).to_str().expect("UTF-8").to_owned();
    write_logs(&home.path().join("logs"));
    let samples = |name: &str, recipe: &str| {
        fs::write(path(&format!("{name}.toml")), recipe).expect("a recipe is written");
        let (recipe, out) = (path(&format!("{name}.toml")), path(&format!("samples-{name}")));
        run_json(&["samples", "build", "--recipe", &recipe, "--logs", &path("logs"), "--out", &out]);
        out
    };
    // The logs as they are on the evening of the sixth day, when both models are trained.
    let sixth = START + 6 * 24 * HOUR as i64;
    let naive =
        samples("naive", &recipe("keep", sixth, ["2024-01-06T12:00:00Z", "2024-01-06T18:00:00Z"], ""));
    // Training ends there as well: what comes later is for validation and test alone.
    let late = |method: &str| {
        let method = format!("fake_negatives = \"{method}\"");
        recipe("fake-negatives", START + 365 * 24 * HOUR as i64, ["2024-01-07", "2024-01-08"], &method)
    };
    fs::write(path("calibrated.toml"), late("calibrated")).expect("a recipe is written");
    let late = samples("late", &late("weighted"));

    let trained = |name: &str, samples: &str| {
        let (recipe, out) = (path(&format!("{name}.toml")), path(&format!("models/{name}")));
        run_json(&["train", "--recipe", &recipe, "--samples", samples, "--out", &out, "--threads", "1"]);
        out
    };
    // Predicted over observed on the last day, all of whose conversions are known.
    let pcoc = |model: &str, output: &str| {
        let report = run_json(&["evaluate", "--samples", &late, "--split", "test", "--model", model]);
        let outputs = report["outputs"].as_array().expect("outputs");
        let found = outputs.iter().find(|found| found["output"] == output).expect("the output");
        found["metrics"]["pcoc"].as_f64().expect("a number")
    };
    let model = trained("naive", &naive);
    let found = pcoc(&model, "cvr");
    assert!(found < 0.88, "a model that has not waited: {found}");
    for name in ["late", "calibrated"] {
        let model = trained(name, &late);
        for output in ["ctr", "cvr", "ctcvr"] {
            let found = pcoc(&model, output);
            assert!((found - 1.0).abs() < 0.07, "{name}: {output} {found}");
        }
    }

    let text =
        run_failing(&["evaluate", "--samples", &late, "--split", "train", "--model", &path("models/late")]);
    assert!(text.contains("split 'train' has fake negatives of 'conversion'"), "{text}");
    let text = run_failing(&[
        "train",
        "--recipe",
        &path("late.toml"),
        "--samples",
        &naive,
        "--out",
        &path("models/refused"),
    ]);
    assert!(text.contains("the samples have no fake negatives of its label 'conversion'"), "{text}");
}
