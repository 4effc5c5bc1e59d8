//! The multi-task ranking models, each as a short function that builds a graph.
//!
//! [`forward`] gives the graph that is served and exported: features in, probabilities out.
//! [`training`] gives the same graph with labels, weights and losses. Both have every input at
//! candidate level; `gatefold_graph::passes::user_once` derives the graph that computes a request
//! once. Whoever runs a graph owns the parameters; here they only get names, dimensions and how
//! they begin.
//!
//! - `net`: a model under construction; linear and hidden layers, towers.
//! - `inputs`: from features to the rows that every model reads.
//! - `pooling`: sequences that become one row.
//! - `experts`: experts and the gates that mix them.
//! - `models`: one file a model, with its paper.
//! - `losses`: one loss for each task and their weighted sum.
//! - `shared`: what several tasks learn together.
//! - `statistics`: what batch normalization keeps beside what is learned.
//!
//! # Names
//! Layer `i` of a part has the parameters `<part>.<i>.weight` (`[in, out]`) and `<part>.<i>.bias`.
//!
//! | name | what |
//! |---|---|
//! | `embedding.<table>` | an embedding table; `embedding.<task>.<table>` where a task has its own |
//! | `pooling.<feature>` | the activation unit or the recurrent unit that pools a sequence |
//! | `tower.<task>` | the part of a task's network that ends in its output |
//! | `bottom`, `bottom.<task>` | the hidden layers below it, shared or a task's own |
//! | `stitch.<task>.<i>` | a task's combination of all tasks' activations after layer `i` |
//! | `expert.<e>`, `gate.<task>` | experts that all tasks read, and the gate of a task |
//! | `gate.shared` | the gate of all tasks |
//! | `expert.<task>.<e>`, `expert.shared.<e>` | experts of a task's own, and those they share |
//! | `level.<l>.…` | experts and gates of a level of PLE |
//! | `transfer.<task>`, `attention.<part>.weight` | what AITM passes to a task, and how it is weighed |
//! | `<layer>.norm.gamma`, `.beta` | scale and shift of a normalized hidden layer |
//! | `<layer>.norm.running_mean`, `.running_variance` | statistics of batch normalization; no loss reaches them |
//!
//! Training has the inputs `label.<task>`, `weight.<task>` (of each row) and `loss_weight.<task>`, and
//! `row.late` where a task learns from fake negatives; and the outputs `loss.<task>`, `loss.penalty`
//! where there is one, and `loss`.

mod calibration;
mod experts;
mod inputs;
mod losses;
mod models;
mod net;
mod pooling;
mod shared;
mod statistics;

use std::collections::BTreeMap;

use gatefold_graph::{Graph, GraphError, NodeId, Op};
use gatefold_schema::{Calibrator, ConfigError, Derived, FittedFeature, GateOutput, ModelConfig, Task};

pub use experts::Gate;
use models::Head;
use net::Net;
pub use shared::{SharedParameters, shared_parameters};
pub use statistics::{RunningStatistic, STATISTICS_MOMENTUM, running_statistics};

/// A model that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum NnError {
    /// Nothing to read.
    #[error("a model needs at least one feature: declare a [[feature]]")]
    NoFeature,
    /// Nothing to predict.
    #[error("a model needs at least one task: declare a [[task]]")]
    NoTask,
    /// A feature that no input can be made of.
    #[error("feature '{feature}': {message}")]
    Feature {
        /// The feature.
        feature: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// Tasks or settings that the model cannot have.
    #[error(transparent)]
    Model(#[from] ConfigError),
    /// A derived output of something that is no task.
    #[error("derived output '{output}': {message}")]
    Derived {
        /// The output.
        output: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A logistic calibration of an output that is no sigmoid.
    #[error("task '{task}' has no logit to calibrate: use an isotonic calibration")]
    NoLogit {
        /// The task.
        task: String,
    },
    /// Fake negatives of a task that predicts a number.
    #[error(
        "task '{task}' predicts a number, and fake negatives are of probabilities: leave fake_negatives out"
    )]
    NoProbability {
        /// The task.
        task: String,
    },
    /// The graph refused a node.
    #[error("the graph of the model does not fit together")]
    Graph(#[from] GraphError),
}

/// Name of the output with the weighted sum of the tasks' losses; a task's own is
/// [`loss_name`].
pub const LOSS: &str = "loss";

/// Name of the output with what the loss has beside the tasks' losses: the constraint of
/// l2-sharing, trace-norm and AITM, by its strength. Other models have none.
pub const PENALTY: &str = "loss.penalty";

/// Name of the input that seeds dropout in training: one `i32`, another at each step. A graph
/// without dropout has none.
pub const DROPOUT_SEED: &str = "dropout.seed";

/// Name of the input with a task's labels: `f32 []` a candidate; 0 or 1, or any number where the
/// task's loss is the squared error.
pub fn label_name(task: &str) -> String {
    format!("label.{task}")
}

/// Name of the input with a task's row weights: `f32 []` a candidate, 1 in the task's sample
/// space and 0 outside it.
pub fn weight_name(task: &str) -> String {
    format!("weight.{task}")
}

/// Name of the input that marks late rows: `f32 []` a candidate, 1 on a row that is there again as a
/// positive, 0 on others. A graph has it where a task learns from fake negatives; such rows count for
/// those tasks alone.
pub const LATE: &str = "row.late";

/// Name of the input with the weight of a task's loss in [`LOSS`]: one number.
pub fn loss_weight_name(task: &str) -> String {
    format!("loss_weight.{task}")
}

/// Name of the output with a task's loss.
pub fn loss_name(task: &str) -> String {
    format!("loss.{task}")
}

/// The graph from features to predictions. Inputs: one a feature, named as the feature, in schema
/// order, all at candidate level (`i32 []` codes, `f32 []` numbers, `i32 [max_len]` sequences).
/// Outputs: `f32 []` a candidate, one a task and one a derived output, by their names: a
/// probability, or the number itself where the task's loss is the squared error.
///
/// # Errors
/// When features or tasks do not fit the model; the message says which and what to do.
pub fn forward(
    features: &[FittedFeature],
    tasks: &[Task],
    derived: &[Derived],
    model: &ModelConfig,
) -> Result<Graph, NnError> {
    calibrated(features, tasks, derived, model, &BTreeMap::new())
}

/// The graph of [`forward`] with the outputs of these tasks calibrated; derived outputs multiply
/// the calibrated factors. Its parameters are those of [`forward`], then the constants of the
/// calibrators, which begin with their values: `calibration.<task>.scale` and `.shift`, or
/// `calibration.<task>.scores` and `.rates`.
///
/// # Errors
/// As [`forward`], and [`NnError::NoLogit`].
pub fn calibrated(
    features: &[FittedFeature],
    tasks: &[Task],
    derived: &[Derived],
    model: &ModelConfig,
    calibrators: &BTreeMap<String, Calibrator>,
) -> Result<Graph, NnError> {
    build(features, tasks, derived, model, false, calibrators).map(|(net, _)| net.graph)
}

/// The graph of [`calibrated`] that is served with its explanation: after the other outputs come
/// the gates through which the tasks are predicted, `f32 [experts]` a candidate; none where the
/// model has no experts. Of several levels only the last is one that towers read.
///
/// # Errors
/// As [`calibrated`].
pub fn explained(
    features: &[FittedFeature],
    tasks: &[Task],
    derived: &[Derived],
    model: &ModelConfig,
    calibrators: &BTreeMap<String, Calibrator>,
) -> Result<(Graph, Vec<GateOutput>), NnError> {
    let (mut net, _) = build(features, tasks, derived, model, false, calibrators)?;
    let gates = net.name_tower_gates(tasks);
    Ok((net.graph, gates))
}

/// The graph of [`forward`] in which every gate and every expert is an output too, for looking
/// into a model; none where the model has no gates.
///
/// # Errors
/// As [`forward`].
pub fn forward_with_gates(
    features: &[FittedFeature],
    tasks: &[Task],
    derived: &[Derived],
    model: &ModelConfig,
) -> Result<(Graph, Vec<Gate>), NnError> {
    let (mut net, _) = build(features, tasks, derived, model, false, &BTreeMap::new())?;
    let gates = net.name_gates();
    Ok((net.graph, gates))
}

/// The graph of [`forward`] with labels, weights and losses, and as a model is in training: with
/// dropout, and normalized by the statistics of the batch. It declares the same parameters.
///
/// Further inputs: [`DROPOUT_SEED`] where there is dropout, [`LATE`] where there are fake negatives,
/// `label.<task>`, `weight.<task>` and `loss_weight.<task>`. Further outputs: `loss.<task>`, [`PENALTY`] where the model has one, and
/// [`LOSS`] (each constant `[]`), which is the sum of the tasks' losses by their weights and of the
/// penalty; and what [`running_statistics`] follow.
///
/// # Errors
/// As [`forward`].
pub fn training(
    features: &[FittedFeature],
    tasks: &[Task],
    derived: &[Derived],
    model: &ModelConfig,
) -> Result<Graph, NnError> {
    let (mut net, heads) = build(features, tasks, derived, model, true, &BTreeMap::new())?;
    losses::append(&mut net, tasks, &heads)?;
    Ok(net.graph)
}

fn build<'a>(
    features: &'a [FittedFeature],
    tasks: &[Task],
    derived: &[Derived],
    model: &'a ModelConfig,
    training: bool,
    calibrators: &BTreeMap<String, Calibrator>,
) -> Result<(Net<'a>, Vec<Head>), NnError> {
    let mut net = Net::new(features, model, training)?;
    let mut heads = models::heads(&mut net, tasks)?;
    for (task, head) in tasks.iter().zip(&mut heads) {
        if let Some(calibrator) = calibrators.get(&task.name) {
            head.output = calibration::calibrated(&mut net, &task.name, head.output, calibrator)?;
        }
    }
    for (task, head) in tasks.iter().zip(&heads) {
        net.graph.output(&task.name, head.output);
    }
    for output in derived {
        let product = product(&mut net, output, tasks, &heads)?;
        net.graph.output(&output.name, product);
    }
    net.graph.check()?;
    Ok((net, heads))
}

/// The product of the probabilities of an output's tasks.
fn product(net: &mut Net, output: &Derived, tasks: &[Task], heads: &[Head]) -> Result<NodeId, NnError> {
    let fail = |message: String| NnError::Derived { output: output.name.clone(), message };
    let mut product = None;
    for name in &output.product {
        let task = tasks.iter().position(|task| task.name == *name);
        let task = task.ok_or_else(|| fail(format!("'{name}' is not a task; name a declared one")))?;
        let factor = heads[task].output;
        product = Some(match product {
            None => factor,
            Some(product) => net.apply(Op::Mul, &[product, factor])?,
        });
    }
    product.ok_or_else(|| fail("its product is empty; name at least one task".into()))
}
