//! Runs a plan, stage after stage.

mod context;
mod scratch;

use gatefold_graph::{Level, NodeId};
use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};

use crate::{
    error::ExecError,
    input::{InputValue, RowCounts},
    kernel,
    memory::Numbers,
    parameters::Parameters,
    plan::{CHUNK_ROWS, Place, Plan, Stage},
};
pub(crate) use context::{Context, Environment};
use scratch::{Layout, Scratch};

/// A plan with its memory and its threads. One run at a time; the memory grows to that of the
/// largest batch and is kept.
#[derive(Debug)]
pub struct Executor {
    plan: Plan,
    pool: ThreadPool,
    /// [`Plan::buffers`], as large as the largest run needed.
    memory: Numbers,
    /// Where they lie in it for the last run.
    layout: Layout,
    scratch: Scratch,
    counts: RowCounts,
}

impl Executor {
    /// Takes a plan and starts `threads` threads for it (at least one).
    ///
    /// # Errors
    /// When the system refuses the threads.
    pub fn new(plan: Plan, threads: usize) -> Result<Self, ExecError> {
        let threads = threads.max(1);
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("exec-{index}"))
            .build()
            .map_err(|error| ExecError::Threads { threads, message: error.to_string() })?;
        let slots = Layout::new(plan.scratch.iter().map(|row_len| row_len * CHUNK_ROWS));
        Ok(Self {
            pool,
            memory: Numbers::default(),
            layout: Layout::default(),
            scratch: Scratch::new(slots, threads),
            counts: RowCounts { requests: 0, candidates: 0 },
            plan,
        })
    }

    /// Computes the plan's targets for one batch. `inputs` holds a value for every graph input
    /// that the targets depend on, by name and in any order; others are ignored. Values at
    /// request level have `requests` rows, those at candidate level `candidates`; either may
    /// be 0.
    ///
    /// # Errors
    /// When a parameter or an input does not fit the graph, or a code its table. Nothing is
    /// computed then.
    pub fn run(
        &mut self,
        parameters: &Parameters,
        requests: usize,
        candidates: usize,
        inputs: &[(&str, InputValue<'_>)],
    ) -> Result<(), ExecError> {
        let counts = RowCounts { requests, candidates };
        self.check_parameters(parameters)?;
        let bound: Vec<InputValue<'_>> =
            self.plan.inputs.iter().map(|input| input.bind(inputs, counts)).collect::<Result<_, _>>()?;
        self.counts = counts;
        let buffers = self.plan.buffers.iter();
        self.layout = Layout::new(buffers.map(|buffer| counts.of(buffer.level) * buffer.row_len));
        if self.layout.len() > self.memory.len() {
            self.memory = Numbers::default();
            self.memory = Numbers::zeros(self.layout.len());
        }
        for stage in &self.plan.stages {
            let mut buffers = self.layout.split(&mut self.memory);
            let writes = stage.writes.iter();
            let mut written: Vec<&mut [f32]> =
                writes.map(|write| std::mem::take(&mut buffers[write.buffer])).collect();
            let buffers: Vec<&[f32]> = buffers.into_iter().map(|buffer| &*buffer).collect();
            let environment =
                Environment { plan: &self.plan, parameters, inputs: &bound, buffers: &buffers, counts };
            match stage.level {
                Level::Constant => run_constants(&environment, stage, &mut written, &self.pool),
                Level::Request | Level::Candidate => {
                    run_rows(&environment, stage, &mut written, &self.scratch, &self.pool);
                }
            }
        }
        Ok(())
    }

    /// A target's value in the last run, row-major; empty before the first.
    ///
    /// # Panics
    /// When the node is not among the targets that the plan was compiled for.
    pub fn value(&self, target: NodeId) -> &[f32] {
        let value = &self.plan.values[target.0];
        let Place::Buffer(buffer) = value.place else {
            panic!("node {} is not a target of this plan", target.0);
        };
        let len = self.counts.of(value.fact.level) * value.row_len;
        let memory = self.memory.get(self.layout.start(buffer)..).unwrap_or(&[]);
        memory.get(..len).unwrap_or(&[])
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Bytes of the values that the executor holds now, scratch included.
    pub fn memory_bytes(&self) -> usize {
        (self.memory.len() + self.scratch.len()) * size_of::<f32>()
    }

    /// The codes of a lookup among the inputs of the last run.
    ///
    /// # Panics
    /// When the node is not an input that the plan reads.
    pub(crate) fn codes<'a>(
        &self,
        codes: NodeId,
        inputs: &[(&str, InputValue<'a>)],
    ) -> Result<&'a [i32], ExecError> {
        let Place::Input(input) = self.plan.values[codes.0].place else {
            panic!("node {} is not among the inputs of this plan", codes.0);
        };
        Ok(self.plan.inputs[input].bind(inputs, self.counts)?.i32())
    }

    /// The threads, for work between two runs.
    pub(crate) fn pool(&self) -> &ThreadPool {
        &self.pool
    }

    fn check_parameters(&self, parameters: &Parameters) -> Result<(), ExecError> {
        let mut given = parameters.iter();
        for (index, (expected, expected_len)) in self.plan.parameters.iter().enumerate() {
            let found = match given.next() {
                Some((found, values)) if found.name == *expected && values.len() == *expected_len => continue,
                Some((found, values)) => format!("`{}` with {}", found.name, values.len()),
                None => "nothing".into(),
            };
            let (expected, expected_len) = (expected.clone(), *expected_len);
            return Err(ExecError::WrongParameter { index, expected, expected_len, found });
        }
        Ok(())
    }
}

/// Takes every chunk of rows through all steps of a stage.
fn run_rows(
    environment: &Environment<'_>,
    stage: &Stage,
    written: &mut [&mut [f32]],
    scratch: &Scratch,
    pool: &ThreadPool,
) {
    let rows = environment.counts.of(stage.level);
    let mut chunks: Vec<Vec<&mut [f32]>> = Vec::new();
    chunks.resize_with(rows.div_ceil(CHUNK_ROWS), Vec::new);
    for (memory, write) in written.iter_mut().zip(&stage.writes) {
        let mut rest = &mut memory[..];
        for (index, chunk) in chunks.iter_mut().enumerate() {
            let count = CHUNK_ROWS.min(rows - index * CHUNK_ROWS);
            let (part, after) = rest.split_at_mut(count * write.row_len);
            chunk.push(part);
            rest = after;
        }
    }
    let run_chunk = |(index, chunk): (usize, Vec<&mut [f32]>)| {
        let first = index * CHUNK_ROWS;
        let count = CHUNK_ROWS.min(rows - first);
        scratch.with(|slots| {
            let mut context = Context::new(environment, stage, first, count, chunk, slots);
            stage.steps.iter().for_each(|step| context.run(step));
        });
    };
    pool.install(|| chunks.into_par_iter().enumerate().for_each(run_chunk));
}

/// Sums rows up, all sums side by side, then runs the steps on constants in order.
fn run_constants(
    environment: &Environment<'_>,
    stage: &Stage,
    written: &mut [&mut [f32]],
    pool: &ThreadPool,
) {
    let reductions = stage.steps.iter().take_while(|step| step.is_reduction()).count();
    let sums = stage.steps[..reductions].iter().zip(written.iter_mut());
    let tasks: Vec<kernel::SumTask<'_>> =
        sums.flat_map(|(step, memory)| kernel::sum_tasks(environment, step, memory)).collect();
    pool.install(|| tasks.into_par_iter().for_each(kernel::SumTask::run));

    let outputs = written.iter_mut().map(|memory| &mut **memory).collect();
    let mut context = Context::new(environment, stage, 0, 1, outputs, Vec::new());
    stage.steps[reductions..].iter().for_each(|step| context.run(step));
}
