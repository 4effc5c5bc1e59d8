//! The multi-task ranking models, each as a short function that builds a graph.
//!
//! [`forward`] gives the graph that is served and exported: features in, probabilities out.
//! [`training`] gives the same graph with labels, weights and losses. Both have every input at
//! candidate level; `gatefold_graph::passes::user_once` derives the graph that computes a request
//! once. Whoever runs a graph owns the parameters; here they only get names, dimensions and how
//! they begin.
//!
//! - `inputs`: from features to the rows that every model reads.
//! - [`layers`]: linear layers, multi-layer perceptrons, towers.
//! - `models`: shared-bottom, ESMM, MMoE.
//! - `losses`: one loss for each task and their weighted sum.
//!
//! # Names
//! Embedding tables are `embedding.<table>`. Layer `i` of a part has `<part>.<i>.weight`
//! (`[in, out]`) and `<part>.<i>.bias`; the parts are `bottom`, `expert.<e>`, `gate.<task>` and
//! `tower.<task>`. Labels and weights of training are `label.<task>` and `weight.<task>`, losses
//! `loss.<task>` and `loss`.

mod inputs;
pub mod layers;
mod losses;
mod models;

use gatefold_graph::{Graph, GraphError, NodeId, Op};
use gatefold_schema::{Derived, FittedFeature, ModelConfig, Task};

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
    /// Tasks or widths that the model cannot have.
    #[error("model {kind}: {message}")]
    Model {
        /// Name of the kind of model.
        kind: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
    /// A derived output of something that is no task.
    #[error("derived output '{output}': {message}")]
    Derived {
        /// The output.
        output: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// The graph refused a node.
    #[error("the graph of the model does not fit together")]
    Graph(#[from] GraphError),
}

/// Name of the output with the weighted sum of the tasks' losses; a task's own is
/// [`loss_name`].
pub const LOSS: &str = "loss";

/// Name of the input with a task's labels: `f32 []` a candidate, 0 or 1.
pub fn label_name(task: &str) -> String {
    format!("label.{task}")
}

/// Name of the input with a task's row weights: `f32 []` a candidate, 1 in the task's sample
/// space and 0 outside it.
pub fn weight_name(task: &str) -> String {
    format!("weight.{task}")
}

/// Name of the output with a task's loss.
pub fn loss_name(task: &str) -> String {
    format!("loss.{task}")
}

/// What a model predicts for one task.
#[derive(Clone, Copy, Debug)]
struct Head {
    /// `[]` a candidate.
    logit: NodeId,
    /// Sigmoid of the logit.
    probability: NodeId,
}

/// The graph from features to probabilities. Inputs: one a feature, named as the feature, in
/// schema order, all at candidate level (`i32 []` codes, `f32 []` numbers, `i32 [max_len]`
/// sequences). Outputs: `f32 []` a candidate, one a task and one a derived output, by their names.
///
/// # Errors
/// When features or tasks do not fit the model; the message says which and what to do.
pub fn forward(
    features: &[FittedFeature],
    tasks: &[Task],
    derived: &[Derived],
    model: &ModelConfig,
) -> Result<Graph, NnError> {
    build(features, tasks, derived, model).map(|(graph, _)| graph)
}

/// The graph of [`forward`] with labels, weights and losses: further inputs `label.<task>` and
/// `weight.<task>`, further outputs `loss.<task>` and [`LOSS`] (constant `[]`), which is the sum
/// of the tasks' losses by their weights.
///
/// # Errors
/// As [`forward`].
pub fn training(
    features: &[FittedFeature],
    tasks: &[Task],
    derived: &[Derived],
    model: &ModelConfig,
) -> Result<Graph, NnError> {
    let (mut graph, heads) = build(features, tasks, derived, model)?;
    losses::append(&mut graph, tasks, &heads, model.kind)?;
    Ok(graph)
}

fn build(
    features: &[FittedFeature],
    tasks: &[Task],
    derived: &[Derived],
    model: &ModelConfig,
) -> Result<(Graph, Vec<Head>), NnError> {
    let mut graph = Graph::new();
    let rows = inputs::rows(&mut graph, features)?;
    let heads = models::heads(&mut graph, rows, tasks, model)?;
    for (task, head) in tasks.iter().zip(&heads) {
        graph.output(&task.name, head.probability);
    }
    for output in derived {
        let product = product(&mut graph, output, tasks, &heads)?;
        graph.output(&output.name, product);
    }
    graph.check()?;
    Ok((graph, heads))
}

/// The product of the probabilities of an output's tasks.
fn product(graph: &mut Graph, output: &Derived, tasks: &[Task], heads: &[Head]) -> Result<NodeId, NnError> {
    let fail = |message: String| NnError::Derived { output: output.name.clone(), message };
    let mut product = None;
    for name in &output.product {
        let task = tasks.iter().position(|task| task.name == *name);
        let task = task.ok_or_else(|| fail(format!("'{name}' is not a task; name a declared one")))?;
        let factor = heads[task].probability;
        product = Some(match product {
            None => factor,
            Some(product) => graph.apply(Op::Mul, &[product, factor])?,
        });
    }
    product.ok_or_else(|| fail("its product is empty; name at least one task".into()))
}
