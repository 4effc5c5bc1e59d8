use gatefold_exec::{GradientOptions, OptimizerConfig};
use gatefold_graph::{Init, Parameter};
use gatefold_schema::{Recipe, SamplesIdentity, StoredBest};

use super::*;

fn parameters(value: f32) -> Parameters {
    let declared = [("embedding.user", vec![3, 2], true), ("tower.ctr.0.weight", vec![2, 1], false)]
        .map(|(name, dims, table)| Parameter { name: name.into(), dims, init: Init::Zeros, table });
    Parameters::from_values(&declared, vec![vec![value; 6], vec![-value; 2]]).unwrap()
}

fn optimizer(parameters: &Parameters, steps: u64) -> Optimizer {
    let adam = OptimizerConfig::adam(0.1);
    let mut optimizer =
        Optimizer::new(parameters.declared(), &adam, &adam, GradientOptions::default()).unwrap();
    for (_, array) in optimizer.state_mut() {
        match array {
            StateArray::F32(values) => values.fill(steps as f32 / 8.0),
            StateArray::U64(values) => values.fill(steps),
        }
    }
    optimizer
}

fn manifest(step: usize, best: Option<StoredBest>, state: StoredFile) -> CheckpointManifest {
    CheckpointManifest {
        format: CHECKPOINT_FORMAT,
        recipe: Recipe::parse(RECIPE, "r.toml").unwrap(),
        samples: SamplesIdentity { fingerprint: "f".into(), train_rows: 7, valid_rows: 3 },
        warm_start: None,
        step,
        state,
        balance: [("weights".to_owned(), vec![0.1 + 0.2, 1.0 / 3.0])].into(),
        best,
        evaluations_without_gain: 1,
    }
}

fn write(folder: &mut CheckpointFolder, step: usize, best: Option<StoredBest>) {
    let values = parameters(step as f32);
    folder
        .write(step, &values, &optimizer(&values, step as u64), |state| manifest(step, best, state))
        .unwrap();
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_checkpoint_is_read_as_it_was_written_and_the_one_before_is_gone() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("model/.checkpoint");
    let mut folder = CheckpointFolder::open(&path).unwrap();
    assert!(folder.manifest().is_none());
    let parameters_file = folder.write_best(2, &parameters(2.0)).unwrap();
    let best = StoredBest { step: 2, score: 0.1 + 0.7, parameters: parameters_file };
    write(&mut folder, 3, Some(best.clone()));
    write(&mut folder, 5, Some(best.clone()));
    // Not named by any checkpoint yet.
    folder.write_best(6, &parameters(6.0)).unwrap();
    let in_use =
        ["best-2.safetensors", "best-6.safetensors", "checkpoint.json", "lock", "state-5.safetensors"];
    assert_eq!(names(&path), in_use);
    drop(folder);

    let mut folder = CheckpointFolder::open(&path).unwrap();
    let found = folder.manifest().unwrap().clone();
    assert_eq!(found, manifest(5, Some(best.clone()), found.state.clone()));
    let mut values = parameters(0.0);
    let mut memory = optimizer(&values, 0);
    folder.read_state(&found.state, &mut values, &mut memory).unwrap();
    assert_eq!(values, parameters(5.0));
    assert!(memory.state().eq(optimizer(&values, 5).state()));
    folder.read_best(&best.parameters, &mut values).unwrap();
    assert_eq!(values, parameters(2.0));

    write(&mut folder, 7, Some(best));
    assert_eq!(names(&path), ["best-2.safetensors", "checkpoint.json", "lock", "state-7.safetensors"]);
    folder.remove().unwrap();
    assert_eq!(names(work.path()), ["model"]);
    assert_eq!(names(&work.path().join("model")), [""; 0]);
}

#[test]
fn what_a_crash_leaves_behind_changes_nothing() {
    let work = tempfile::tempdir().unwrap();
    let mut folder = CheckpointFolder::open(work.path()).unwrap();
    write(&mut folder, 3, None);
    drop(folder);
    // Killed while writing the next one: a part of a file, and a whole one that nothing names.
    fs::write(work.path().join("state-4.safetensors.writing"), "part").unwrap();
    fs::write(work.path().join("state-4.safetensors"), "whole").unwrap();
    let mut folder = CheckpointFolder::open(work.path()).unwrap();
    assert_eq!(folder.manifest().unwrap().step, 3);
    write(&mut folder, 5, None);
    assert_eq!(names(work.path()), ["checkpoint.json", "lock", "state-5.safetensors"]);
}

#[test]
fn a_folder_of_two_trainings_or_of_another_format_is_refused() {
    let work = tempfile::tempdir().unwrap();
    let mut folder = CheckpointFolder::open(work.path()).unwrap();
    let error = CheckpointFolder::open(work.path()).unwrap_err().to_string();
    assert!(error.starts_with("another training uses the checkpoints in"), "{error}");
    write(&mut folder, 3, None);
    drop(folder);
    let path = work.path().join(MANIFEST_FILE);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"format\": 1", "\"format\": 9")).unwrap();
    let error = CheckpointFolder::open(work.path()).unwrap_err().to_string();
    assert!(error.contains("format 9 is not known, expected 1"), "{error}");
}

#[test]
fn a_folder_without_a_checkpoint_does_not_stay_but_what_else_is_in_it_does() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("model/.checkpoint");
    let mut folder = CheckpointFolder::open(&path).unwrap();
    folder.write_best(2, &parameters(2.0)).unwrap();
    drop(folder);
    assert_eq!(names(work.path()), [""; 0], "nor the model's folder, which was made for it");
    fs::create_dir(work.path().join("mine")).unwrap();
    fs::write(work.path().join("mine/note"), "").unwrap();
    drop(CheckpointFolder::open(&work.path().join("mine")).unwrap());
    assert_eq!(names(&work.path().join("mine")), ["note"]);
}

const RECIPE: &str = r#"
name = "r"

[samples]
adult = { train = "none", test = "none" }

[[feature]]
name = "user"
side = "user"
kind = "categorical"
type = "int"
encoder = { kind = "bucketize", edges = [0.1, 0.2, 3] }
embedding = 4

[[task]]
name = "ctr"
label = "click"
weight = 0.3

[model]
kind = "mmoe"

[train]
learning_rate = 0.001
embedding_optimizer = { kind = "rowwise-adagrad" }
schedule = { kind = "cosine", warmup_steps = 7 }
balance = { kind = "gradnorm" }
alternate = { joint = 1, ctr = 2 }
select = { metric = "log-loss", weights = { ctr = 0.7 } }
outside_space = "drop"
"#;
