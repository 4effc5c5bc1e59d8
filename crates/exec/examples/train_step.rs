//! Samples a second of a training step (forward, backward, Adam) of the MMoE model with which
//! multi-task papers and libraries are compared: 26 categorical features of width 16, 8 experts of
//! 416-256-128, 2 tasks with a linear gate and a tower of 64, batches of 4,096.
//!
//! Beside wall time it gives CPU time, of all threads together, which other programs on the
//! machine disturb less: samples a CPU-second, and the share of what `gemm` alone reaches in the
//! same process.
//!
//! `cargo run --release -p gatefold-exec --example train_step -- [threads] [table rows in all] [steps]`

use std::time::Instant;

use gatefold_exec::{Executor, GradientOptions, InputValue, Optimizer, OptimizerConfig, Parameters, Plan};
use gatefold_graph::{Fact, Graph, GraphError, Init, Level, NodeId, Op, Parameter, differentiate};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const BATCH: usize = 4096;
const FEATURES: usize = 26;
const WIDTH: usize = 16;
const EXPERTS: usize = 8;
const TASKS: usize = 2;
/// Multiply-adds a sample, forward and backward.
const MULTIPLY_ADDS: usize =
    3 * (EXPERTS * (416 * 256 + 256 * 128) + TASKS * (416 * EXPERTS + 128 * 64 + 64));

struct Training {
    graph: Graph,
    loss: NodeId,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let threads = arguments.next().transpose()?.unwrap_or(2);
    let rows = arguments.next().transpose()?.unwrap_or(1_000_000) / FEATURES;
    let steps = arguments.next().transpose()?.unwrap_or(30);

    let Training { mut graph, loss } = mmoe(rows)?;
    let gradients = differentiate(&mut graph, loss)?;
    let plan = Plan::compile(&graph, &[&[loss], gradients.targets().as_slice()].concat())?;
    let mut executor = Executor::new(plan, threads)?;
    let mut parameters = Parameters::initialise(graph.parameters(), 1);
    let adam = OptimizerConfig::adam(1e-3);
    let mut optimizer = Optimizer::new(graph.parameters(), &adam, &adam, GradientOptions::default())?;
    let batches: Vec<Batch> = (0..steps + 2).map(|seed| Batch::random(seed as u64, rows)).collect();

    let mut product = Product::new();
    let (mut peaks, mut steps, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    let mut updates = Vec::new();
    for batch in &batches {
        let inputs = batch.inputs();
        peaks.push(product.speed(threads)?);
        let (begin, begin_cpu) = (Instant::now(), cpu_seconds()?);
        executor.run(&parameters, BATCH, BATCH, &inputs)?;
        let ran_cpu = cpu_seconds()?;
        optimizer.step(&mut parameters, &gradients, &executor, &inputs, 1.0)?;
        steps.push(begin.elapsed().as_secs_f64());
        cpu.push(cpu_seconds()? - begin_cpu);
        updates.push(cpu_seconds()? - ran_cpu);
    }
    let (step, cpu, update, peak) =
        (median(&mut steps), median(&mut cpu), median(&mut updates), median(&mut peaks));
    let speed = 2.0 * (BATCH * MULTIPLY_ADDS) as f64 / cpu;
    eprintln!(
        "{threads} threads: {:.0} samples/s, {:.0} a CPU-second; {:.0} GFLOP a CPU-second, {:.0} % of the \
         {:.0} of one large product; forward and backward {:.1} ms of CPU, Adam {:.1} ms; {:.0} MB of \
         values; loss {:.6}",
        BATCH as f64 / step,
        BATCH as f64 / cpu,
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
    const INNER: usize = 416;
    const COLUMNS: usize = 2048;

    fn new() -> Self {
        let (x, w) = (vec![0.5; BATCH * Self::INNER], vec![0.25; Self::INNER * Self::COLUMNS]);
        Self { x, w, out: vec![0.0; BATCH * Self::COLUMNS] }
    }

    fn speed(&mut self, threads: usize) -> std::io::Result<f64> {
        let rows = BATCH / threads;
        let begin = cpu_seconds()?;
        std::thread::scope(|scope| {
            let parts =
                self.x.chunks_exact(rows * Self::INNER).zip(self.out.chunks_exact_mut(rows * Self::COLUMNS));
            for (x, out) in parts {
                let w = &self.w;
                scope.spawn(move || multiply(out, x, w, rows));
            }
        });
        Ok(2.0 * (BATCH * Self::INNER * Self::COLUMNS) as f64 / (cpu_seconds()? - begin))
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

fn mmoe(rows: usize) -> Result<Training, GraphError> {
    let mut graph = Graph::new();
    let mut fields = Vec::new();
    for feature in 0..FEATURES {
        let name = format!("embedding.{feature}");
        let dims = vec![rows, WIDTH];
        let table = graph.parameter(Parameter { name, dims, init: Init::Normal(0.05), table: true });
        let codes = graph.input(&feature.to_string(), Fact::i32(Level::Candidate, &[]));
        fields.push(graph.apply(Op::Lookup, &[table, codes])?);
    }
    let x = graph.apply(Op::Concat, &fields)?;
    let mut experts = Vec::new();
    for expert in 0..EXPERTS {
        let hidden = linear(&mut graph, &format!("expert.{expert}.0"), x, 256, true)?;
        experts.push(linear(&mut graph, &format!("expert.{expert}.1"), hidden, 128, true)?);
    }
    let weights = graph.input("weight", Fact::f32(Level::Candidate, &[]));
    let mut losses = Vec::new();
    for task in 0..TASKS {
        let gate = linear(&mut graph, &format!("gate.{task}.0"), x, EXPERTS, false)?;
        let gate = graph.apply(Op::Softmax, &[gate])?;
        let mixed = graph.apply(Op::Mix, &[&[gate], experts.as_slice()].concat())?;
        let hidden = linear(&mut graph, &format!("tower.{task}.0"), mixed, 64, true)?;
        let logit = linear(&mut graph, &format!("tower.{task}.1"), hidden, 1, false)?;
        let logit = graph.apply(Op::Squeeze, &[logit])?;
        let labels = graph.input(&format!("label.{task}"), Fact::f32(Level::Candidate, &[]));
        losses.push(graph.apply(Op::BceWithLogits, &[logit, labels, weights])?);
    }
    let loss = graph.apply(Op::Add, &losses)?;
    Ok(Training { graph, loss })
}

fn linear(graph: &mut Graph, name: &str, x: NodeId, width: usize, relu: bool) -> Result<NodeId, GraphError> {
    let inner = graph.fact(x).row_len();
    let mut parameter = |part: &str, dims: &[usize], init: Init| {
        graph.parameter(Parameter { name: format!("{name}.{part}"), dims: dims.to_vec(), init, table: false })
    };
    let w = parameter("weight", &[inner, width], Init::GlorotUniform);
    let b = parameter("bias", &[width], Init::Zeros);
    let y = graph.apply(Op::MatMul, &[x, w])?;
    let y = graph.apply(Op::Add, &[y, b])?;
    if relu { graph.apply(Op::Relu, &[y]) } else { Ok(y) }
}

struct Batch {
    names: Vec<String>,
    codes: Vec<Vec<i32>>,
    labels: Vec<Vec<f32>>,
    weights: Vec<f32>,
}

impl Batch {
    /// Codes that fall off like Zipf's law with exponent 1.2, one label in ten positive.
    fn random(seed: u64, rows: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut code = || {
            let uniform: f64 = random.random_range(0.0..1.0);
            let rank = (1.0 - uniform).powf(-1.0 / 0.2).min(1e15) as usize;
            1 + (rank % (rows - 1)) as i32
        };
        let codes = (0..FEATURES).map(|_| (0..BATCH).map(|_| code()).collect()).collect();
        let mut label = || f32::from(random.random_range(0..10_u8) == 0);
        let labels = (0..TASKS).map(|_| (0..BATCH).map(|_| label()).collect()).collect();
        let names = (0..FEATURES).map(|feature| feature.to_string());
        let names = names.chain((0..TASKS).map(|task| format!("label.{task}"))).collect();
        Self { names, codes, labels, weights: vec![1.0; BATCH] }
    }

    fn inputs(&self) -> Vec<(&str, InputValue<'_>)> {
        let codes = self.codes.iter().map(|codes| InputValue::I32(codes));
        let labels = self.labels.iter().map(|labels| InputValue::F32(labels));
        let named = self.names.iter().map(String::as_str).zip(codes.chain(labels));
        named.chain([("weight", InputValue::F32(&self.weights))]).collect()
    }
}
