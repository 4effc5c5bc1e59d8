//! Runs graphs on the CPU and trains their parameters.
//!
//! ```text
//! let gradients = gatefold_graph::differentiate(&mut graph, loss)?;
//! let plan = Plan::compile(&graph, &[&[loss], gradients.targets().as_slice()].concat())?;
//! let mut executor = Executor::new(plan, threads)?;
//! let mut parameters = Parameters::initialise(graph.parameters(), seed);
//! let rule = OptimizerConfig::adam(1e-3);
//! let mut optimizer = Optimizer::new(graph.parameters(), &rule, &rule, GradientOptions::default())?;
//! for batch in batches {
//!     let inputs = [("user", InputValue::I32(&batch.user)), …];
//!     executor.run(&parameters, requests, candidates, &inputs)?;
//!     optimizer.step(&mut parameters, &gradients, &executor, &inputs, 1.0)?;
//!     let loss = executor.value(loss)[0];
//! }
//! ```
//!
//! A [`Plan`] is a graph made ready: only the nodes that its targets need, runs of nodes fused
//! into single steps, steps put into *stages*, and a place for every value. A stage either works
//! on rows, where every step needs only the same row of its inputs, or on constants, where rows
//! are summed up. The [`Executor`] cuts the rows of a stage into chunks of a fixed number of rows;
//! a thread takes a chunk through all steps of the stage, so that what passes between them stays
//! in its cache, and only what later stages read is written for the whole batch. For a usual
//! model the whole forward and backward pass is one such stage, and one more stage sums up the
//! gradients of the weights.
//!
//! Chunks, tiles and the order of all sums are the same for any number of threads, and so is
//! every bit of every result. (On another kind of processor the results differ in the last bits:
//! the matrix kernels and their blocking are chosen for the processor.)
//!
//! An [`Optimizer`] costs what a batch touches: tables are updated only in the rows looked up.

pub mod error;
mod executor;
mod input;
mod kernel;
mod memory;
pub mod optimizer;
mod parameters;
mod plan;
mod wide;

pub use error::ExecError;
pub use executor::Executor;
pub use input::InputValue;
pub use optimizer::{
    GradientOptions, GradientValue, GradientValues, Optimizer, OptimizerConfig, StateArray, TouchedRows,
};
pub use parameters::Parameters;
pub use plan::Plan;
