//! Training speed on the workloads that Gatefold and its peers are compared on: T1, a large MMoE;
//! T2, an ESMM; T3, T1 with twenty times the embedding rows. Ids are Zipf-distributed.

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use gatefold_dataset::Split;
use gatefold_features::FeatureColumn;
use gatefold_schema::{FIRST_VALUE_CODE, Recipe};
use gatefold_trainer::{Checkpoints, Event, Existing, Progress, TrainOptions, TrainingData, train};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zeta};
use serde_json::{Value, json};

use crate::{
    resources::{self, Resources},
    world::{WIDTH, encoders, esmm_recipe, levels, mmoe_recipe},
};

const TASKS: usize = 2;
/// Rows of the validation split, which a training cannot do without.
const VALIDATION_ROWS: usize = 256;
/// Steps that are not timed, as with the peers: memory is touched for the first time in them.
const WARM_UP: usize = 3;

/// What is trained.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Workload {
    /// MMoE: 26 fields, a million embedding rows, 8 experts 256-128, two towers of 64, batch 4096.
    T1,
    /// ESMM: 17 fields, a million embedding rows, two towers 256-128-64, batch 2048.
    T2,
    /// T1 with 20 million embedding rows.
    T3,
}

impl Workload {
    fn from_name(name: &str) -> Option<Self> {
        Self::from_str(name, false).ok()
    }

    fn name(self) -> &'static str {
        match self {
            Workload::T1 => "t1",
            Workload::T2 => "t2",
            Workload::T3 => "t3",
        }
    }

    fn fields(self) -> usize {
        if matches!(self, Workload::T2) { 17 } else { 26 }
    }

    fn rows_per_field(self) -> usize {
        let rows = if matches!(self, Workload::T3) { 20_000_000 } else { 1_000_000 };
        rows / self.fields()
    }

    fn batch(self) -> usize {
        if matches!(self, Workload::T2) { 2048 } else { 4096 }
    }

    fn is_esmm(self) -> bool {
        matches!(self, Workload::T2)
    }

    /// Floating-point operations of the matrix products for one sample: forward, and backward by
    /// inputs and by weights, two for each weight each time.
    fn operations(self) -> usize {
        let inputs = self.fields() * WIDTH;
        let weights = if self.is_esmm() {
            TASKS * (inputs * 256 + 256 * 128 + 128 * 64 + 64)
        } else {
            8 * (inputs * 256 + 256 * 128) + TASKS * (inputs * 8 + 128 * 64 + 64)
        };
        6 * weights
    }

    fn recipe(self) -> Result<Recipe> {
        let fields: Vec<(String, &str)> =
            (0..self.fields()).map(|field| (format!("field_{field}"), "item")).collect();
        let make = if self.is_esmm() { esmm_recipe } else { mmoe_recipe };
        make(&fields, self.rows_per_field() as u32, self.batch())
    }
}

/// Writes `batches` batches of ids and 0/1 labels as plain little-endian numbers, row by row. The
/// second label is 0 wherever the first is, as a conversion needs a click.
pub(crate) fn write_data(out: &Path, workload: Workload, batches: usize) -> Result<Value> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let samples = workload.batch() * batches;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let zipf = Zeta::new(1.2).context("the exponent is above 1")?;
    let rows = workload.rows_per_field() as f64;
    let ids: Vec<u8> = (0..samples * workload.fields())
        .flat_map(|_| {
            let value: f64 = zipf.sample(&mut random);
            ((value % rows) as i32).to_le_bytes()
        })
        .collect();
    let labels: Vec<u8> = (0..samples)
        .flat_map(|_| {
            let click = random.random_bool(0.1);
            [click, click && random.random_bool(0.3)]
        })
        .flat_map(|label| f32::from(u8::from(label)).to_le_bytes())
        .collect();
    let shape = json!({
        "workload": workload.name(),
        "model": if workload.is_esmm() { "esmm" } else { "mmoe" },
        "samples": samples,
        "fields": workload.fields(),
        "rows_per_field": workload.rows_per_field(),
        "batch": workload.batch(),
    });
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
    let shape: Value = serde_json::from_slice(&read("shape.json")?)?;
    let workload = shape["workload"].as_str().and_then(Workload::from_name);
    let workload =
        workload.with_context(|| format!("{} names no workload: run `train-data`", folder.display()))?;
    let fields = workload.fields();
    let ids: Vec<i32> = words(&read("ids.i32")?).map(i32::from_le_bytes).collect();
    let labels: Vec<f32> = words(&read("labels.f32")?).map(f32::from_le_bytes).collect();
    let samples = labels.len() / TASKS;
    ensure!(
        samples > VALIDATION_ROWS && ids.len() == samples * fields,
        "{} holds another workload: run `train-data` again",
        folder.display()
    );

    let recipe = workload.recipe()?;
    let split = |rows: std::ops::Range<usize>| Split {
        rows: rows.len(),
        request: (0..rows.len() as u32).collect(),
        columns: (0..fields)
            .map(|field| FeatureColumn::Codes {
                width: 1,
                data: rows.clone().map(|row| ids[row * fields + field] + FIRST_VALUE_CODE).collect(),
            })
            .collect(),
        labels: ["label_a", "label_b"]
            .iter()
            .enumerate()
            .map(|(task, name)| {
                ((*name).to_owned(), rows.clone().map(|row| labels[row * TASKS + task]).collect())
            })
            .collect::<BTreeMap<_, _>>(),
        time: None,
        levels: levels(&recipe),
    };
    let data = TrainingData {
        encoders: encoders(&recipe),
        train: split(0..samples).into(),
        valid: split(0..VALIDATION_ROWS).into(),
        examples: Vec::new(),
        negative_sampling_rate: 1.0,
        late_label: None,
    };
    let mut stopwatch = Stopwatch::default();
    // As the command does: the best parameters go to disk, not into a second copy of the tables.
    let checkpoints = Checkpoints {
        folder: folder.join("checkpoint"),
        every_steps: 0,
        every: None,
        existing: Existing::Discard,
    };
    let options = TrainOptions { checkpoints: Some(checkpoints), ..TrainOptions::new(threads) };
    let trained = train(&recipe, &data, &options, &mut stopwatch)?;
    let peak_memory_mb = resources::now().peak_memory_mb;
    let parameters: usize = trained.parameters.iter().map(|(_, values)| values.len()).sum();
    let (warm, last) = stopwatch.marks.context("the data holds too few batches to time")?;
    let samples = last.rows - warm.rows;
    let speed = samples as f64 / last.at.duration_since(warm.at).as_secs_f64();
    Ok(json!({
        "samples_per_second": speed,
        "samples": samples,
        "cpu_seconds": last.used.cpu_seconds - warm.used.cpu_seconds,
        "gflops": speed * workload.operations() as f64 / 1e9,
        "peak_memory_mb": peak_memory_mb,
        "parameter_mb": (parameters * size_of::<f32>()) as f64 / f64::from(1 << 20),
        "steps": trained.report.steps,
        "threads": threads,
    }))
}

/// Notes when the last step of the warm-up and when the last step of all ended.
#[derive(Default)]
struct Stopwatch {
    marks: Option<(Mark, Mark)>,
}

struct Mark {
    rows: usize,
    at: Instant,
    used: Resources,
}

impl Progress for Stopwatch {
    fn report(&mut self, event: &Event<'_>) {
        let Event::Stepped { step, rows, .. } = event else { return };
        let mark = || Mark { rows: *rows, at: Instant::now(), used: resources::now() };
        match &mut self.marks {
            None if *step == WARM_UP => self.marks = Some((mark(), mark())),
            None => {}
            Some((_, last)) => *last = mark(),
        }
    }
}

/// The bytes in groups of four.
fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]])
}
