//! Samples a second of a training step (forward, backward, Adam) of the models with which
//! multi-task papers and libraries are compared, two tasks each, on categorical features of width
//! 16: an MMoE (26 features, 8 experts of 256-128, linear gates, towers of 64, batches of 4,096) or
//! an ESMM (17 features, two towers of 256-128-64, batches of 2,048).
//!
//! Beside wall time it gives CPU time, of all threads together, which other programs on the
//! machine disturb less: samples a CPU-second, and the share of what `gemm` alone reaches in the
//! same process.
//!
//! `cargo run --release -p gatefold-exec --example train_step -- [threads] [table rows in all] [steps] [mmoe|esmm]`

mod model;

use std::time::Instant;

use gatefold_exec::{Executor, GradientOptions, InputValue, Optimizer, OptimizerConfig, Parameters, Plan};
use gatefold_graph::differentiate;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use model::{TASKS, Training, Workload, training};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let is_esmm = std::env::args().any(|argument| argument == "esmm");
    let workload = if is_esmm { Workload::Esmm } else { Workload::Mmoe };
    let numbers = std::env::args().skip(1).filter(|argument| !["esmm", "mmoe"].contains(&argument.as_str()));
    let mut numbers = numbers.map(|argument| argument.parse::<usize>());
    let threads = numbers.next().transpose()?.unwrap_or(2);
    let rows = numbers.next().transpose()?.unwrap_or(1_000_000) / workload.features();
    let steps = numbers.next().transpose()?.unwrap_or(30);

    let Training { mut graph, loss } = training(workload, rows)?;
    let batch_rows = workload.batch();
    let gradients = differentiate(&mut graph, loss)?;
    let plan = Plan::compile(&graph, &[&[loss], gradients.targets().as_slice()].concat())?;
    let mut executor = Executor::new(plan, threads)?;
    let mut parameters = Parameters::initialise(graph.parameters(), 1);
    let adam = OptimizerConfig::adam(1e-3);
    let mut optimizer = Optimizer::new(graph.parameters(), &adam, &adam, GradientOptions::default())?;
    let batches: Vec<Batch> = (0..steps + 2).map(|seed| Batch::random(workload, seed as u64, rows)).collect();

    let mut product = Product::new();
    let (mut peaks, mut steps, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    let mut updates = Vec::new();
    for batch in &batches {
        let inputs = batch.inputs();
        peaks.push(product.speed(threads)?);
        let (begin, begin_cpu) = (Instant::now(), cpu_seconds()?);
        executor.run(&parameters, batch_rows, batch_rows, &inputs)?;
        let ran_cpu = cpu_seconds()?;
        optimizer.step(&mut parameters, &gradients, &executor, &inputs, 1.0)?;
        steps.push(begin.elapsed().as_secs_f64());
        cpu.push(cpu_seconds()? - begin_cpu);
        updates.push(cpu_seconds()? - ran_cpu);
    }
    let (step, cpu, update, peak) =
        (median(&mut steps), median(&mut cpu), median(&mut updates), median(&mut peaks));
    let speed = (batch_rows * workload.operations()) as f64 / cpu;
    eprintln!(
        "{threads} threads: {:.0} samples/s, {:.0} a CPU-second; {:.0} GFLOP a CPU-second, {:.0} % of the \
         {:.0} of one large product; forward and backward {:.1} ms of CPU, Adam {:.1} ms; {:.0} MB of \
         values; loss {:.6}",
        batch_rows as f64 / step,
        batch_rows as f64 / cpu,
        speed / 1e9,
        100.0 * speed / peak,
        peak / 1e9,
        1e3 * (cpu - update),
        1e3 * update,
        executor.memory_bytes() as f64 / 1e6,
        executor.value(loss)[0],
    );
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time of this process, all threads together.
fn cpu_seconds() -> std::io::Result<f64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes the time to a place that we hold.
    if unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64)
}

/// FLOP a CPU-second of `gemm` alone on 4096×416×2048, the rows shared among the threads; measured between
/// the steps, so that both meet the same machine.
struct Product {
    x: Vec<f32>,
    w: Vec<f32>,
    out: Vec<f32>,
}

impl Product {
    const ROWS: usize = 4096;
    const INNER: usize = 416;
    const COLUMNS: usize = 2048;

    fn new() -> Self {
        let (x, w) = (vec![0.5; Self::ROWS * Self::INNER], vec![0.25; Self::INNER * Self::COLUMNS]);
        Self { x, w, out: vec![0.0; Self::ROWS * Self::COLUMNS] }
    }

    fn speed(&mut self, threads: usize) -> std::io::Result<f64> {
        let rows = Self::ROWS / threads;
        let begin = cpu_seconds()?;
        std::thread::scope(|scope| {
            let parts =
                self.x.chunks_exact(rows * Self::INNER).zip(self.out.chunks_exact_mut(rows * Self::COLUMNS));
            for (x, out) in parts {
                let w = &self.w;
                scope.spawn(move || multiply(out, x, w, rows));
            }
        });
        Ok(2.0 * (Self::ROWS * Self::INNER * Self::COLUMNS) as f64 / (cpu_seconds()? - begin))
    }
}

fn multiply(out: &mut [f32], x: &[f32], w: &[f32], rows: usize) {
    let (inner, columns) = (Product::INNER, Product::COLUMNS);
    assert!(x.len() == rows * inner && w.len() == inner * columns && out.len() == rows * columns);
    let (out, x, w) = (out.as_mut_ptr(), x.as_ptr(), w.as_ptr());
    let (inner_stride, column_stride) = (inner as isize, columns as isize);
    // SAFETY: row-major matrices of these sizes fill the slices exactly, as asserted.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            out,
            1,
            column_stride,
            false,
            x,
            1,
            inner_stride,
            w,
            1,
            column_stride,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

struct Batch {
    names: Vec<String>,
    codes: Vec<Vec<i32>>,
    labels: Vec<Vec<f32>>,
    weights: Vec<f32>,
}

impl Batch {
    /// Codes that fall off like Zipf's law with exponent 1.2, one label in ten positive.
    fn random(workload: Workload, seed: u64, rows: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut code = || {
            let uniform: f64 = random.random_range(0.0..1.0);
            let rank = (1.0 - uniform).powf(-1.0 / 0.2).min(1e15) as usize;
            1 + (rank % (rows - 1)) as i32
        };
        let codes =
            (0..workload.features()).map(|_| (0..workload.batch()).map(|_| code()).collect()).collect();
        let mut label = || f32::from(random.random_range(0..10_u8) == 0);
        let labels = (0..TASKS).map(|_| (0..workload.batch()).map(|_| label()).collect()).collect();
        let names = (0..workload.features()).map(|feature| feature.to_string());
        let names = names.chain((0..TASKS).map(|task| format!("label.{task}"))).collect();
        Self { names, codes, labels, weights: vec![1.0; workload.batch()] }
    }

    fn inputs(&self) -> Vec<(&str, InputValue<'_>)> {
        let codes = self.codes.iter().map(|codes| InputValue::I32(codes));
        let labels = self.labels.iter().map(|labels| InputValue::F32(labels));
        let named = self.names.iter().map(String::as_str).zip(codes.chain(labels));
        let weights = InputValue::F32(&self.weights);
        named.chain([("weight.0", weights), ("weight.1", weights)]).collect()
    }
}
