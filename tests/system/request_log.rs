//! The request log of a real server, read by another Parquet implementation than wrote it: its values
//! are those of the rows that were sent, its scores those of the replies, and as a source of samples it agrees
//! with the logs.

use std::fs::File;
use std::path::Path;

use gatefold_engine::Bundle;
use gatefold_tests::{World, run_json, server::Server};
use polars::prelude::{DataFrame, DataType, ParquetReader, SerReader};

fn frame(path: &Path) -> DataFrame {
    ParquetReader::new(File::open(path).expect("the file is there")).finish().expect("a Parquet file")
}

#[test]
fn logged_requests_are_read_back_with_equal_values() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("log");
    let config = folder.path().join("server.toml");
    let table = format!("[request_log]\nfolder = {log:?}\nshare = 1.0\n");
    std::fs::write(&config, table).expect("the settings are written");
    let world = World::get();
    let server = Server::start(&world.path("models"), &["--config", config.to_str().expect("UTF-8")]);
    let raw_path = world.path("samples/raw-test.parquet");
    let raw = frame(Path::new(&raw_path));
    let mut replies = Vec::new();
    for row in ["0", "100", "500"] {
        let asked = ["--server", &server.url, "--model", "esmm", "--parquet", &raw_path, "--row", row];
        replies.push(run_json(&[&["request"], &asked[..]].concat()));
    }
    assert!(server.terminate().success());

    let files: Vec<_> = std::fs::read_dir(log.join("esmm")).expect("a folder of the model").collect();
    let [Ok(file)] = files.as_slice() else { panic!("{files:?}") };
    let logged = frame(&file.path());
    let bundle = Bundle::open_latest(world.path("models/esmm")).expect("a bundle");
    let ids = raw.column("request_id").expect("a column of ids").cast(&DataType::String).expect("ids");
    let ids: Vec<Option<&str>> = ids.str().expect("text").iter().collect();
    let mut first = 0;
    for (reply, row) in replies.iter().zip([0, 100, 500]) {
        // The request of that row, from its first candidate on.
        let start = ids.iter().position(|id| *id == ids[row]).expect("the row itself");
        let scores = reply["scores"].as_object().expect("scores by output");
        let rows = scores["ctr"].as_array().expect("a list").len();
        let ours = logged.slice(first as i64, rows);
        first += rows;
        for (name, scores) in scores {
            let column = ours.column(&format!("score_{name}")).expect("a column an output");
            let found: Vec<f32> = column.f32().expect("of f32").into_no_null_iter().collect();
            let scores = scores.as_array().expect("a list").iter();
            let expected: Vec<f32> = scores.map(|score| score.as_f64().expect("a number") as f32).collect();
            assert_eq!(found, expected, "{name}");
        }
        for feature in bundle.encoder().set().sent() {
            let name = feature.name.as_str();
            let found = ours.column(name).expect("a column a feature");
            let sent = raw.column(name).expect("a column a feature").slice(start as i64, rows);
            let sent = sent.cast(found.dtype()).expect("the same kind of values");
            let (found, sent) = (found.as_materialized_series(), sent.as_materialized_series());
            assert!(found.equals_missing(sent), "{name}: {found:?}, sent {sent:?}");
        }
    }
    assert_eq!(first, logged.height());

    // Samples that take these rows as they were served are those that the logs give: no feature is skewed.
    let recipe = std::fs::read_to_string(World::recipe()).expect("the recipe of the world");
    let served = format!("served = \"{}/esmm/*.parquet\"\nlabels = ", log.display());
    let recipe_path = folder.path().join("served.toml");
    std::fs::write(&recipe_path, recipe.replacen("\nlabels = ", &format!("\n{served}"), 1))
        .expect("a recipe");
    let (recipe_path, out) = (recipe_path.to_str().expect("UTF-8"), folder.path().join("samples"));
    let out = out.to_str().expect("UTF-8");
    let built =
        run_json(&["samples", "build", "--recipe", recipe_path, "--logs", &world.path("logs"), "--out", out]);
    let skew = &built["skew"];
    assert_eq!(skew["served"].as_u64(), Some(first as u64));
    let features = skew["features"].as_object().expect("features by name");
    assert_eq!(features.len(), bundle.encoder().set().sent().count());
    for (name, feature) in features {
        assert!(feature["compared"].as_u64() >= Some(3) && feature["differing"] == 0, "{name}: {feature}");
    }
}
