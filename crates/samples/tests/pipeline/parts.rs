//! Samples made in parts: the files of a build in memory, byte for byte, whatever the recipe and the logs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gatefold_samples::{
    BuildOptions, Progress, SamplesError, Silent,
    parts::{self, PlanOptions},
};
use gatefold_schema::{Recipe, SampleManifest, SamplingConfig, Span, SplitBy, SplitConfig};

use crate::{
    derived,
    synthetic::{recipe, write_logs},
};

/// As [`gatefold_samples::build()`], and once more in parts where that can be: with the same result.
pub(crate) fn build(
    recipe: &Recipe,
    logs: &Path,
    out: &Path,
    options: &BuildOptions,
    progress: &mut dyn Progress,
) -> Result<SampleManifest, SamplesError> {
    let whole = gatefold_samples::build(recipe, logs, out, options, progress);
    if recipe.samples.logs.as_ref().is_some_and(|config| config.served.is_none()) {
        let home = tempfile::tempdir().unwrap();
        let (plan, parted) = (home.path().join("plan"), home.path().join("samples"));
        let found = in_parts(recipe, logs, &plan, &parted, 3, options);
        match (&whole, found) {
            (Ok(whole), Ok(found)) => {
                assert_eq!(*whole, found);
                same_files(out, &parted);
            }
            (whole, found) => {
                // Of several wrong rows either may be named.
                let shown = |error: &SamplesError| {
                    error.to_string().replace(|digit: char| digit.is_ascii_digit(), "")
                };
                assert_eq!(whole.as_ref().map(drop).map_err(shown), found.as_ref().map(drop).map_err(shown));
                assert!(!plan.exists() || plan.join("plan.json").is_file());
                assert!(!parted.exists());
            }
        }
    }
    whole
}

/// Plans, makes the parts from the last to the first, and the first of them twice.
fn in_parts(
    recipe: &Recipe,
    logs: &Path,
    plan: &Path,
    out: &Path,
    shards: usize,
    options: &BuildOptions,
) -> Result<SampleManifest, SamplesError> {
    let planned = PlanOptions { shards, overwrite: false, on_bad_row: options.on_bad_row };
    let made = parts::plan(recipe, logs, plan, &planned, &mut Silent)?;
    for shard in (0..shards).rev().chain([0]) {
        parts::run(&made, plan, shard)?;
    }
    parts::finalize(plan, out, options, &mut Silent)
}

/// Files below a folder and what is in them.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

#[track_caller]
fn same_files(whole: &Path, parted: &Path) {
    let (whole, parted) = (files(whole), files(parted));
    assert_eq!(whole.keys().collect::<Vec<_>>(), parted.keys().collect::<Vec<_>>());
    for (name, bytes) in &whole {
        assert!(*bytes == parted[name], "{name} differs");
    }
}

#[track_caller]
fn check(recipe: &Recipe, logs: &Path, shards: usize) {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    let options = BuildOptions { raw: vec!["train".into(), "test".into()], ..BuildOptions::default() };
    gatefold_samples::build(recipe, logs, &path("whole"), &options, &mut Silent).unwrap();
    in_parts(recipe, logs, &path("plan"), &path("parted"), shards, &options).unwrap();
    same_files(&path("whole"), &path("parted"));
    let names: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn many_shards_and_stretches_are_those_of_a_build_in_memory() {
    for (seed, shards) in [(0, 1), (1, 2), (2, 7)] {
        let home = tempfile::tempdir().unwrap();
        derived::random(seed).write(home.path());
        let mut recipe = derived::recipe();
        recipe.samples.rows_per_shard = Some(20);
        check(&recipe, home.path(), shards);
    }
}

#[test]
fn sampled_and_divided_rows_are_those_of_a_build_in_memory() {
    let home = tempfile::tempdir().unwrap();
    write_logs(home.path(), 0.8, 7);
    let mut recipe = recipe();
    recipe.samples.rows_per_shard = Some(1000);
    check(&recipe, home.path(), 4);

    let config = recipe.samples.logs.as_mut().unwrap();
    config.sampling =
        Some(SamplingConfig { negatives: 0.3, per_user: Some(40), seed: 5, ..SamplingConfig::default() });
    config.session_gap = Some(Span::parse("30m").unwrap());
    check(&recipe, home.path(), 4);

    recipe.samples.split = SplitConfig { by: SplitBy::User, valid: 0.2, test: 0.2, ..SplitConfig::default() };
    check(&recipe, home.path(), 4);
    recipe.samples.split = SplitConfig {
        by: SplitBy::Both,
        users: Some(0.3),
        gap: Some(Span::parse("1h").unwrap()),
        ..recipe.samples.split
    };
    check(&recipe, home.path(), 3);
}

#[test]
fn empty_splits_and_folders_that_look_like_partitions_make_no_difference() {
    let home = tempfile::tempdir().unwrap();
    let logs = home.path().join("hour=3/logs");
    derived::random(4).write(&logs);
    let mut recipe = derived::recipe();
    recipe.samples.split.valid = 0.0;
    let path = |name: &str| home.path().join("hour=4").join(name);
    fs::create_dir(home.path().join("hour=4")).unwrap();
    let options = BuildOptions { raw: vec!["valid".into()], ..BuildOptions::default() };
    build(&recipe, &logs, &path("samples"), &options, &mut Silent).unwrap();
    in_parts(&recipe, &logs, &path("plan"), &path("parted"), 2, &options).unwrap();
    same_files(&path("samples"), &path("parted"));
    let names: Vec<String> = files(&path("parted")).into_keys().collect();
    assert!(names.contains(&"raw-valid.parquet".to_owned()), "{names:?}");
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    derived::random(3).write(&path("logs"));
    let recipe = derived::recipe();
    let options = |shards| PlanOptions { shards, overwrite: false, on_bad_row: None };
    let plan = |shards| parts::plan(&recipe, &path("logs"), &path("plan"), &options(shards), &mut Silent);
    let finalize = || parts::finalize(&path("plan"), &path("out"), &BuildOptions::default(), &mut Silent);
    for shards in [0, 257] {
        let error = plan(shards).unwrap_err().to_string();
        assert!(error.contains(&format!("--shards {shards}: must be from 1 to 256")), "{error}");
    }
    let error = finalize().unwrap_err().to_string();
    assert!(error.contains("is no plan: it holds no plan.json"), "{error}");

    plan(4).unwrap();
    let error = plan(4).unwrap_err().to_string();
    assert!(error.contains("--overwrite"), "{error}");
    let planned = parts::Plan::read(&path("plan")).unwrap();
    let run = |shard| parts::run(&planned, &path("plan"), shard);
    let error = run(4).unwrap_err().to_string();
    assert!(error.contains("there is no shard 4; the plan has 4, counted from 0"), "{error}");
    run(2).unwrap();
    let error = finalize().unwrap_err().to_string();
    assert!(error.contains("these shards have not been made: 0/4, 1/4, 3/4"), "{error}");
    assert!(!path("out").exists());

    // A part that was cut off while it was copied, and one of another plan.
    let rows: u64 = (0..4).map(|shard| run(shard).unwrap()).sum();
    let shards = files(&path("plan/shards"));
    let name = shards.keys().find(|name| name.ends_with("-rows.parquet")).unwrap();
    let piece = path("plan/shards").join(name);
    fs::rename(&piece, path("away")).unwrap();
    let error = finalize().unwrap_err().to_string();
    assert!(error.contains(name), "{error}");
    fs::rename(path("away"), &piece).unwrap();
    let manifest = finalize().unwrap();
    assert_eq!(manifest.splits.values().map(|split| split.rows).sum::<u64>(), rows);
    fs::remove_dir_all(path("out")).unwrap();
    parts::plan(&recipe, &path("logs"), &path("other"), &options(4), &mut Silent).unwrap();
    parts::run(&parts::Plan::read(&path("other")).unwrap(), &path("other"), 3).unwrap();
    fs::remove_dir_all(path("plan/shards/0003")).unwrap();
    fs::rename(path("other/shards/0003"), path("plan/shards/0003")).unwrap();
    let error = finalize().unwrap_err().to_string();
    assert!(error.contains("0003/part.json: is of another plan or shard; run shard 3/4 again"), "{error}");

    let text = fs::read_to_string(path("plan/plan.json")).unwrap();
    fs::write(path("plan/plan.json"), text.replacen("\"format\": 1", "\"format\": 2", 1)).unwrap();
    let error = finalize().unwrap_err().to_string();
    assert!(error.contains("is of version 2"), "{error}");
}

#[test]
fn a_limit_that_no_build_can_keep_is_refused() {
    let home = tempfile::tempdir().unwrap();
    derived::random(3).write(&home.path().join("logs"));
    let options = BuildOptions { memory: Some(1 << 20), ..BuildOptions::default() };
    let (logs, out) = (home.path().join("logs"), home.path().join("out"));
    let error = gatefold_samples::build(&derived::recipe(), &logs, &out, &options, &mut Silent);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("--memory: 1048576 bytes are too few"), "{error}");
    assert!(!out.exists());
}
