//! One training of the experiment.

use std::fmt::{self, Write as _};

use anyhow::{Context, Result};
use gatefold_exec::{Executor, GradientOptions, InputValue, Optimizer, OptimizerConfig, Parameters, Plan};
use gatefold_graph::{Gradients, NodeId, differentiate};
use gatefold_nn::{LOSS, label_name, loss_weight_name, weight_name};
use gatefold_schema::{ModelKind, Recipe};
use serde::Serialize;

use super::generator::{DIMENSIONS, Samples, Source};
use crate::world::encoders;

const TASKS: [&str; 2] = ["first", "second"];
/// Samples of a step.
pub(crate) const BATCH: usize = 128;
/// Samples that the loss is measured on, the same at every measurement.
const HELD_OUT: usize = 4096;
/// Measurements, evenly spread over a training.
const MEASUREMENTS: usize = 8;

/// Three models trained side by side on the same samples.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    /// The paper's `p`.
    pub(crate) correlation: f64,
    /// The models with their learning rates.
    pub(crate) models: [(ModelKind, f64); 3],
    /// Decides weight vectors, samples and initial weights.
    pub(crate) seed: u64,
    pub(crate) steps: usize,
}

/// The loss on held-out samples, the mean of both tasks' mean squared errors, as training goes on.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Curve(Vec<f64>);

impl Curve {
    /// The loss when training ended.
    pub(crate) fn last(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "correlation {}, seed {}", self.correlation, self.seed)?;
        self.models.iter().try_for_each(|(model, rate)| write!(f, ", {} at {rate}", model.name()))
    }
}

impl Trial {
    /// The curve of each model.
    pub(crate) fn run(&self) -> Result<[Curve; 3]> {
        let mut source = Source::new(self.correlation, self.seed);
        let held_out = source.draw(HELD_OUT);
        let [a, b, c] = self.models.map(|(model, rate)| Learner::new(model, rate, self.seed));
        let mut learners = [a?, b?, c?];
        let mut curves = [const { Curve(Vec::new()) }; 3];
        for step in 1..=self.steps {
            let batch = source.draw(BATCH);
            let factor = rate_factor(step, self.steps);
            learners.iter_mut().try_for_each(|learner| learner.learn(&batch, factor))?;
            if step % (self.steps / MEASUREMENTS).max(1) == 0 {
                for (curve, learner) in curves.iter_mut().zip(&mut learners) {
                    curve.0.push(learner.loss(&held_out)?);
                }
            }
        }
        Ok(curves)
    }
}

/// What the learning rate is multiplied with in a step, counted from 1: it stays for the first half
/// of a training and falls to zero in the second, in a straight line. With a rate that stays, a
/// loss at the end is mostly the noise of the last steps.
fn rate_factor(step: usize, steps: usize) -> f32 {
    let left = (steps - step) as f32 / steps as f32;
    (2.0 * left).min(1.0)
}

/// A model while it learns.
struct Learner {
    executor: Executor,
    parameters: Parameters,
    gradients: Gradients,
    optimizer: Optimizer,
    loss: NodeId,
    names: Names,
}

impl Learner {
    fn new(model: ModelKind, learning_rate: f64, seed: u64) -> Result<Self> {
        let recipe = recipe(model)?;
        let mut graph =
            gatefold_nn::training(&encoders(&recipe).features, &recipe.tasks, &[], &recipe.model)?;
        let loss = graph.output_named(LOSS).context("the training graph has no loss")?;
        let gradients = differentiate(&mut graph, loss)?;
        let mut targets = vec![loss];
        targets.extend(gradients.targets());
        let adam = OptimizerConfig::adam(learning_rate as f32);
        Ok(Self {
            executor: Executor::new(Plan::compile(&graph, &targets)?, 1)?,
            parameters: Parameters::initialise(graph.parameters(), seed),
            gradients,
            optimizer: Optimizer::new(graph.parameters(), &adam, &adam, GradientOptions::default())?,
            loss,
            names: Names::new(&recipe),
        })
    }

    /// One step on a batch, with the learning rate times `rate_factor`.
    fn learn(&mut self, batch: &Samples, rate_factor: f32) -> Result<()> {
        let inputs = self.names.inputs(batch);
        self.executor.run(&self.parameters, BATCH, BATCH, &inputs)?;
        let Self { parameters, gradients, executor, .. } = self;
        Ok(self.optimizer.step(parameters, gradients, executor, &inputs, rate_factor)?)
    }

    /// The mean of both tasks' mean squared errors on the held-out samples.
    fn loss(&mut self, held_out: &Samples) -> Result<f64> {
        self.executor.run(&self.parameters, HELD_OUT, HELD_OUT, &self.names.inputs(held_out))?;
        Ok(f64::from(self.executor.value(self.loss)[0]) / TASKS.len() as f64)
    }
}

/// Features, tasks and model as a recipe declares them.
///
/// Section 5.1: 8 experts of one layer of 16 and towers of one layer of 8 have
/// `100·16·8 + 16·8·2 = 13056` weights; the shared bottom of equal size has `13056 / (100 + 8·2)`
/// units, 113 in round numbers.
fn recipe(model: ModelKind) -> Result<Recipe> {
    let mut text = format!(
        "name = \"mmoe-paper\"\n[samples]\ncensus = {{ file = \"-\" }}\n[train]\n\
         [model]\nkind = \"{}\"\nbottom = [113]\nexperts = 8\nexpert = [16]\ngate = []\ntower = [8]\n",
        model.name()
    );
    for task in TASKS {
        write!(text, "[[task]]\nname = \"{task}\"\nlabel = \"{task}\"\nloss = \"squared-error\"\n")?;
    }
    for index in 0..DIMENSIONS {
        write!(
            text,
            "[[feature]]\nname = \"x{index}\"\nside = \"item\"\nkind = \"numeric\"\ntype = \"float\"\n\
             encoder = {{ kind = \"none\" }}\n"
        )?;
    }
    Ok(Recipe::parse(&text, "mmoe-paper.toml")?)
}

/// Names of the graph's inputs.
struct Names {
    features: Vec<String>,
    labels: [String; 2],
    weights: [String; 2],
    loss_weights: [String; 2],
    /// The weight of every row.
    ones: Vec<f32>,
}

impl Names {
    fn new(recipe: &Recipe) -> Self {
        Self {
            features: recipe.features.iter().map(|feature| feature.name.clone()).collect(),
            labels: TASKS.map(label_name),
            weights: TASKS.map(weight_name),
            loss_weights: TASKS.map(loss_weight_name),
            ones: vec![1.0; BATCH.max(HELD_OUT)],
        }
    }

    /// What the graph reads of these samples.
    fn inputs<'a>(&'a self, samples: &'a Samples) -> Vec<(&'a str, InputValue<'a>)> {
        let ones = |count: usize| InputValue::F32(&self.ones[..count]);
        let columns = self.features.iter().zip(&samples.x);
        let mut inputs: Vec<(&str, InputValue)> =
            columns.map(|(name, column)| (name.as_str(), InputValue::F32(column))).collect();
        for (task, labels) in samples.y.iter().enumerate() {
            inputs.push((&self.labels[task], InputValue::F32(labels)));
            inputs.push((&self.weights[task], ones(labels.len())));
            inputs.push((&self.loss_weights[task], ones(1)));
        }
        inputs
    }
}
