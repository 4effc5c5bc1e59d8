//! Training speed of a large MMoE (workload T1): 26 fields of width 16, a million embedding rows,
//! Zipf-distributed ids, 8 experts 256-128, two towers of 64, batches of 4096, Adam.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use gatefold_dataset::Split;
use gatefold_features::FeatureColumn;
use gatefold_schema::FIRST_VALUE_CODE;
use gatefold_trainer::{Silent, TrainOptions, TrainingData, train};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zeta};
use serde_json::{Value, json};

use crate::world::{encoders, levels, mmoe_recipe};

const FIELDS: usize = 26;
const ROWS_PER_FIELD: usize = 1_000_000 / FIELDS;
const BATCH: usize = 4096;
const BATCHES: usize = 24;
const TASKS: usize = 2;
/// Rows of the validation split, which a training cannot do without.
const VALIDATION_ROWS: usize = 256;

/// Writes ids below [`ROWS_PER_FIELD`] and 0/1 labels as plain little-endian numbers, row by row.
pub(crate) fn write_data(out: &Path) -> Result<Value> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let samples = BATCH * BATCHES;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let zipf = Zeta::new(1.2).context("the exponent is above 1")?;
    let ids: Vec<u8> = (0..samples * FIELDS)
        .flat_map(|_| {
            let value: f64 = zipf.sample(&mut random);
            ((value % ROWS_PER_FIELD as f64) as i32).to_le_bytes()
        })
        .collect();
    let labels: Vec<u8> = (0..samples * TASKS)
        .flat_map(|_| f32::from(u8::from(random.random_bool(0.1))).to_le_bytes())
        .collect();
    let shape = json!({ "samples": samples, "fields": FIELDS, "rows_per_field": ROWS_PER_FIELD });
    fs::write(out.join("ids.i32"), ids)?;
    fs::write(out.join("labels.f32"), labels)?;
    fs::write(out.join("shape.json"), shape.to_string())?;
    Ok(shape)
}

/// Trains one epoch and gives the samples a second, without the time spent on evaluation.
pub(crate) fn measure(folder: &Path, threads: usize) -> Result<Value> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).with_context(|| format!("cannot read {}: run `train-data` first", path.display()))
    };
    let ids: Vec<i32> = words(&read("ids.i32")?).map(i32::from_le_bytes).collect();
    let labels: Vec<f32> = words(&read("labels.f32")?).map(f32::from_le_bytes).collect();
    ensure!(
        ids.len() == BATCH * BATCHES * FIELDS && labels.len() == BATCH * BATCHES * TASKS,
        "{} holds another workload: run `train-data` again",
        folder.display()
    );

    let fields: Vec<(String, &str)> = (0..FIELDS).map(|field| (format!("field_{field}"), "item")).collect();
    let recipe = mmoe_recipe(&fields, ROWS_PER_FIELD as u32, BATCH)?;
    let split = |rows: usize| Split {
        rows,
        request: (0..rows as u32).collect(),
        columns: (0..FIELDS)
            .map(|field| FeatureColumn::Codes {
                width: 1,
                data: (0..rows).map(|row| ids[row * FIELDS + field] + FIRST_VALUE_CODE).collect(),
            })
            .collect(),
        labels: ["label_a", "label_b"]
            .iter()
            .enumerate()
            .map(|(task, name)| {
                ((*name).to_owned(), (0..rows).map(|row| labels[row * TASKS + task]).collect())
            })
            .collect::<BTreeMap<_, _>>(),
        time: None,
        levels: levels(&recipe),
    };
    let data = TrainingData {
        encoders: encoders(&recipe),
        train: split(BATCH * BATCHES).into(),
        valid: split(VALIDATION_ROWS).into(),
        examples: Vec::new(),
        negative_sampling_rate: 1.0,
    };
    let trained = train(&recipe, &data, &TrainOptions { threads }, &mut Silent)?;
    Ok(json!({
        "samples_per_second": trained.report.samples_per_second,
        "steps": trained.report.steps,
        "threads": threads,
    }))
}

/// The bytes in groups of four.
fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]])
}
