//! CPU time of the optimizer's part of a training step: 26 lookups of 4,096 codes in tables of
//! width 16, codes falling off like Zipf's law, as in `train_step`; dense parameters apart.
//!
//! `cargo run --release -p gatefold-exec --example optimizer_step -- [optimizer] [threads] [table rows in all] [steps]`

use std::{fs, time::Instant};

use gatefold_exec::{Executor, GradientOptions, InputValue, Optimizer, OptimizerConfig, Parameters, Plan};
use gatefold_graph::{Fact, Graph, Init, Level, Op, Parameter, differentiate};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const BATCH: usize = 4096;
const FEATURES: usize = 26;
const WIDTH: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |place: usize, otherwise: usize| arguments.get(place).map_or(Ok(otherwise), |text| text.parse());
    let name = arguments.first().map_or("adam", String::as_str);
    let config = match name {
        "sgd" => OptimizerConfig::sgd(1e-3),
        "adam" => OptimizerConfig::adam(1e-3),
        "adamw" => OptimizerConfig::adam_w(1e-3),
        "adagrad" => OptimizerConfig::adagrad(1e-3),
        "rowwise-adagrad" => OptimizerConfig::rowwise_adagrad(1e-3),
        "ftrl" => OptimizerConfig::ftrl(1e-3),
        other => return Err(format!("`{other}` is no optimizer").into()),
    };
    let (threads, rows, steps) = (number(1, 1)?, number(2, 1_000_000)? / FEATURES, number(3, 60)?);

    let mut graph = Graph::new();
    let mut fields = Vec::new();
    for feature in 0..FEATURES {
        let (name, dims) = (format!("embedding.{feature}"), vec![rows, WIDTH]);
        let table = graph.parameter(Parameter { name, dims, init: Init::Normal(0.05), table: true });
        let codes = graph.input(&feature.to_string(), Fact::i32(Level::Candidate, &[]));
        fields.push(graph.apply(Op::Lookup, &[table, codes])?);
    }
    let x = graph.apply(Op::Concat, &fields)?;
    let dims = vec![FEATURES * WIDTH, 1];
    let init = Init::GlorotUniform;
    let w = graph.parameter(Parameter { name: "w".into(), dims, init, table: false });
    let logit = graph.apply(Op::MatMul, &[x, w])?;
    let logit = graph.apply(Op::Squeeze, &[logit])?;
    let [labels, weights] =
        ["labels", "weights"].map(|name| graph.input(name, Fact::f32(Level::Candidate, &[])));
    let loss = graph.apply(Op::BceWithLogits, &[logit, labels, weights])?;
    let gradients = differentiate(&mut graph, loss)?;

    let begin = Instant::now();
    let mut parameters = Parameters::initialise(graph.parameters(), 1);
    let initialised = begin.elapsed();
    let mut executor = Executor::new(Plan::compile(&graph, &gradients.targets())?, threads)?;
    let mut optimizer = Optimizer::new(graph.parameters(), &config, &config, GradientOptions::default())?;
    let names: Vec<String> = (0..FEATURES).map(|feature| feature.to_string()).collect();
    let ones = vec![1.0; BATCH];
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    for _ in 0..steps {
        let mut code = || {
            let uniform: f64 = random.random_range(0.0..1.0);
            let rank = (1.0 - uniform).powf(-1.0 / 0.2).min(1e15) as usize;
            1 + (rank % (rows - 1)) as i32
        };
        let codes: Vec<Vec<i32>> = (0..FEATURES).map(|_| (0..BATCH).map(|_| code()).collect()).collect();
        let mut inputs: Vec<(&str, InputValue)> =
            names.iter().map(String::as_str).zip(codes.iter().map(|codes| InputValue::I32(codes))).collect();
        inputs.extend(["labels", "weights"].map(|name| (name, InputValue::F32(&ones))));
        executor.run(&parameters, BATCH, BATCH, &inputs)?;
        let (begin, begin_cpu) = (Instant::now(), cpu_seconds()?);
        optimizer.step(&mut parameters, &gradients, &executor, &inputs, 1.0)?;
        cpu.push(cpu_seconds()? - begin_cpu);
        wall.push(begin.elapsed().as_secs_f64());
    }
    let first = cpu[..3.min(steps)].iter().sum::<f64>() / 3.0;
    let (cpu, wall) = (median(&mut cpu), median(&mut wall));
    eprintln!(
        "{name}, {threads} threads, {rows} rows in each of {FEATURES} tables: {:.2} ms of CPU a step ({:.2} in \
         the first three), {:.2} ms; tables initialised in {:.2} s; {} MB resident",
        1e3 * cpu,
        1e3 * first,
        1e3 * wall,
        initialised.as_secs_f64(),
        resident_megabytes()?,
    );
    Ok(())
}

/// CPU time of all threads so far, as Linux counts it.
fn cpu_seconds() -> std::io::Result<f64> {
    let mut nanoseconds = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(nanoseconds as f64 / 1e9)
}

fn resident_megabytes() -> std::io::Result<usize> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    Ok(kilobytes.unwrap_or(0) / 1000)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
