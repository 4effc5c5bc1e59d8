//! What reading costs a training: shards on disk against shards in memory, rows against whole
//! requests, and how much memory a training on shards takes.

use anyhow::{Result, ensure};
use gatefold_dataset::SampleSet;
use gatefold_exec::Parameters;
use gatefold_schema::Recipe;
use gatefold_trainer::{Event, Progress, Silent, TrainOptions, Trained, TrainingData, train};
use serde_json::{Value, json};

use crate::{resources, shards::Shape};

/// Trains in turns from disk and from memory, on the same batches.
pub(crate) fn disk_against_memory(shape: &Shape, threads: usize, rounds: usize) -> Result<Value> {
    shape.write()?;
    let recipe = shape.recipe()?;
    let set = SampleSet::open(&shape.out)?;
    let disk = data(&set, false)?;
    let memory = data(&set, true)?;
    let (from_disk, from_memory) =
        in_turns(rounds, || run(&recipe, &disk, threads), || run(&recipe, &memory, threads))?;
    ensure!(from_disk.parameters == from_memory.parameters, "other batches came from disk");
    Ok(json!({
        "disk": from_disk.json(),
        "memory": from_memory.json(),
        "ratio": median(&from_disk.speeds) / median(&from_memory.speeds),
        "cpu_ratio": median(&from_memory.cpu_seconds) / median(&from_disk.cpu_seconds),
        "threads": threads,
    }))
}

/// Trains in turns on single rows and on whole requests, whose user level is computed once.
pub(crate) fn requests_against_rows(shape: &Shape, threads: usize, rounds: usize) -> Result<Value> {
    shape.write()?;
    let mut by_requests = shape.recipe()?;
    by_requests.train.request_batches = true;
    let mut by_rows = by_requests.clone();
    by_rows.train.request_batches = false;
    let data = data(&SampleSet::open(&shape.out)?, true)?;
    let (requests, rows) =
        in_turns(rounds, || run(&by_requests, &data, threads), || run(&by_rows, &data, threads))?;
    Ok(json!({
        "requests": requests.json(),
        "rows": rows.json(),
        "ratio": median(&requests.speeds) / median(&rows.speeds),
        "cpu_ratio": median(&rows.cpu_seconds) / median(&requests.cpu_seconds),
        "threads": threads,
    }))
}

/// Trains once from disk; the memory that was resident beside parameters and optimizer state.
pub(crate) fn memory(shape: &Shape, threads: usize) -> Result<Value> {
    shape.write()?;
    let data = data(&SampleSet::open(&shape.out)?, false)?;
    let mut stepping = PeakWhileStepping::default();
    let trained = train(&shape.recipe()?, &data, &TrainOptions::new(threads), &mut stepping)?;
    let mib = |numbers: usize| (numbers * size_of::<f32>()) as f64 / f64::from(1 << 20);
    let parameters = mib(trained.parameters.iter().map(|(_, values)| values.len()).sum());
    // Adam keeps two means of each.
    let state = 2.0 * parameters;
    let used = resources::now();
    Ok(json!({
        "peak_mib": used.peak_memory_mb,
        "peak_stepping_mib": stepping.mib,
        "parameter_mib": parameters,
        "state_mib": state,
        "rest_stepping_mib": stepping.mib - parameters - state,
        "cpu_seconds": used.cpu_seconds,
        "samples_per_second": trained.report.samples_per_second,
    }))
}

/// The most memory that was resident before the last evaluation.
#[derive(Default)]
struct PeakWhileStepping {
    mib: f64,
}

impl Progress for PeakWhileStepping {
    fn report(&mut self, event: &Event<'_>) {
        if let Event::Stepped { .. } = event {
            self.mib = resources::now().peak_memory_mb;
        }
    }
}

fn data(set: &SampleSet, keep: bool) -> Result<TrainingData> {
    let train = set.shards("train")?;
    Ok(TrainingData {
        encoders: set.encoders.clone(),
        train: if keep { train.keep()? } else { train },
        valid: set.shards("valid")?.keep()?,
        examples: Vec::new(),
        negative_sampling_rate: 1.0,
        late_label: None,
    })
}

fn run(recipe: &Recipe, data: &TrainingData, threads: usize) -> Result<Trained> {
    Ok(train(recipe, data, &TrainOptions::new(threads), &mut Silent)?)
}

/// What the turns of one of two took, and what it learned.
struct Turns {
    /// Samples a second.
    speeds: Vec<f64>,
    /// Time of all threads, with the drawing of first parameters: less moved than speed by whatever
    /// else the machine does.
    cpu_seconds: Vec<f64>,
    parameters: Parameters,
}

impl Turns {
    /// The first turn, which warms caches and is not counted.
    fn begin(trained: Trained) -> Self {
        Self { speeds: Vec::new(), cpu_seconds: Vec::new(), parameters: trained.parameters }
    }

    fn add(&mut self, turn: &mut impl FnMut() -> Result<Trained>) -> Result<()> {
        let before = resources::now().cpu_seconds;
        self.speeds.push(turn()?.report.samples_per_second);
        self.cpu_seconds.push(resources::now().cpu_seconds - before);
        Ok(())
    }

    fn json(&self) -> Value {
        json!({ "samples_per_second": self.speeds, "cpu_seconds": self.cpu_seconds })
    }
}

fn in_turns(
    rounds: usize,
    mut one: impl FnMut() -> Result<Trained>,
    mut other: impl FnMut() -> Result<Trained>,
) -> Result<(Turns, Turns)> {
    ensure!(rounds > 0, "rounds must be at least 1");
    let (mut ones, mut others) = (Turns::begin(one()?), Turns::begin(other()?));
    for _ in 0..rounds {
        ones.add(&mut one)?;
        others.add(&mut other)?;
    }
    Ok((ones, others))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
