//! The model while it learns: parameters, the compiled step of each kind of batch, the optimizer.

mod program;

use gatefold_dataset::Shards;
use gatefold_exec::{GradientOptions, InputValue, Optimizer, OptimizerConfig, Parameters};
use gatefold_features::FeatureColumn;
use gatefold_graph::{Graph, Op};
use gatefold_nn::{DROPOUT_SEED, LATE, label_name, loss_name, loss_weight_name, weight_name};
use gatefold_schema::{EncoderSet, LATE_COLUMN, OptimizerConfig as Config, REQUEST_OF, Recipe, TrainConfig};

use crate::{
    balance::{self, Observed, Weighing},
    batches::Batch,
    error::{NotFinite, TrainError},
    forward::{Forward, input_value},
    levels,
    mixture::{BatchKind, Mixture},
    space::{MeasuredOutput, loss_weights, measured_outputs},
};
use program::Program;

/// Spreads the seeds of trainings, so that neighbours draw other numbers at every step.
const SEED_STREAM: u64 = 1_000_003;

/// Parameters, plans and optimizer of one training.
pub(crate) struct Learner {
    pub(crate) parameters: Parameters,
    pub(crate) optimizer: Optimizer,
    pub(crate) weighing: Box<dyn Weighing>,
    programs: Vec<(BatchKind, Program)>,
    forward: Forward,
    features: Vec<String>,
    tasks: Vec<LearnedTask>,
    sample_weight: Option<String>,
    seed: u64,
}

/// A task as the training graph knows it.
struct LearnedTask {
    name: String,
    measured: MeasuredOutput,
    label_input: String,
    weight_input: String,
    loss_weight_input: String,
    /// Weight of its loss in the recipe.
    weight: f32,
    /// The task whose rows the loss counts: its own, unless the model learns it on others'.
    space: usize,
}

/// The losses of a batch, before the step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BatchLosses {
    /// What the step lowered.
    pub(crate) total: f32,
    /// The loss of each task that the batch taught.
    pub(crate) by_task: Vec<Option<f32>>,
}

impl Learner {
    pub(crate) fn new(
        recipe: &Recipe,
        encoders: &EncoderSet,
        mixture: &Mixture,
        threads: usize,
    ) -> Result<Self, TrainError> {
        let Recipe { tasks, train: settings, .. } = recipe;
        let graph = levels::training(recipe, encoders)?;
        let learned = tasks
            .iter()
            .zip(measured_outputs(tasks, &[]))
            .enumerate()
            .map(|(index, (task, measured))| LearnedTask {
                space: space_of(&graph, &loss_name(&task.name), recipe).unwrap_or(index),
                name: task.name.clone(),
                measured,
                label_input: label_name(&task.name),
                weight_input: weight_name(&task.name),
                loss_weight_input: loss_weight_name(&task.name),
                weight: task.weight,
            })
            .collect();
        let compile =
            |kind| Ok((kind, Program::new(graph.clone(), kind, tasks, &settings.balance, threads)?));
        Ok(Self {
            parameters: Parameters::initialise(graph.parameters(), settings.seed),
            optimizer: optimizer(&graph, settings)?,
            weighing: balance::weighing(&settings.balance, tasks),
            programs: mixture.kinds().into_iter().map(compile).collect::<Result<_, TrainError>>()?,
            forward: Forward::new(recipe, encoders, threads)?,
            features: encoders.features.iter().map(|fitted| fitted.feature.name.clone()).collect(),
            tasks: learned,
            sample_weight: settings.sample_weight.clone(),
            seed: settings.seed,
        })
    }

    /// Trained numbers in all.
    pub(crate) fn parameter_count(&self) -> usize {
        self.parameters.iter().map(|(_, values)| values.len()).sum()
    }

    /// The task whose sample space the batches of a kind are drawn from; none for all rows.
    pub(crate) fn space(&self, kind: BatchKind) -> Option<&str> {
        match kind {
            BatchKind::Joint => None,
            BatchKind::Task(task) => Some(&self.tasks[self.tasks[task].space].name),
        }
    }

    /// Scores every row of a split in order: one list an output.
    pub(crate) fn score(&mut self, rows: &Shards) -> Result<Vec<Vec<f32>>, TrainError> {
        self.forward.score_rows(&self.parameters, rows)
    }

    /// Makes one step, the `step`th over all epochs from 1, with step sizes times `rate_factor`;
    /// the losses before it.
    ///
    /// # Errors
    /// A loss that is not finite, with the feature ranges of the batch; the parameters are then
    /// those before the step.
    pub(crate) fn step(
        &mut self,
        kind: BatchKind,
        batch: &Batch,
        step: usize,
        rate_factor: f32,
    ) -> Result<BatchLosses, TrainError> {
        let Batch { features, labels, .. } = batch;
        let row_weights = self.row_weights(batch);
        let factors = self.weighing.factors();
        let loss_weights: Vec<f32> = self
            .tasks
            .iter()
            .zip(&factors)
            .map(|(task, factor)| task.weight * if kind == BatchKind::Joint { *factor as f32 } else { 1.0 })
            .collect();
        let seed = self.seed.wrapping_mul(SEED_STREAM).wrapping_add(step as u64);
        let request_of: Vec<i32> = features.request_of.iter().map(|request| *request as i32).collect();
        let dropout_seed = [seed as i32];
        let names = self.features.iter().map(String::as_str);
        let mut inputs: Vec<(&str, InputValue)> =
            names.zip(features.columns.iter().map(input_value)).collect();
        for ((task, weights), loss_weight) in self.tasks.iter().zip(&row_weights).zip(&loss_weights) {
            inputs.push((&task.label_input, InputValue::F32(&labels[&task.measured.label])));
            inputs.push((&task.weight_input, InputValue::F32(weights)));
            inputs.push((&task.loss_weight_input, InputValue::F32(std::slice::from_ref(loss_weight))));
        }
        // Only some graphs read these.
        inputs.push((REQUEST_OF, InputValue::I32(&request_of)));
        inputs.push((DROPOUT_SEED, InputValue::I32(&dropout_seed)));
        if let Some(late) = labels.get(LATE_COLUMN) {
            inputs.push((LATE, InputValue::F32(late)));
        }

        let program = self.programs.iter_mut().find(|(other, _)| *other == kind).map(|(_, program)| program);
        let Some(program) = program else { unreachable!("every kind of the mixture was compiled") };
        program.run(&self.parameters, [features.requests, features.candidates], &inputs)?;
        let losses = BatchLosses { total: program.total(), by_task: program.losses() };
        if !losses.total.is_finite() {
            return Err(not_finite(&self.tasks, &losses, batch, step, &self.features));
        }
        program.step(&mut self.parameters, &mut self.optimizer, &inputs, &loss_weights, seed, rate_factor)?;
        program.move_statistics(&mut self.parameters, features.candidates);
        if kind == BatchKind::Joint {
            let observed = |(index, task): (usize, &LearnedTask)| Observed {
                loss: f64::from(losses.by_task[index].unwrap_or(0.0)),
                gradient_norm: program.gradient_norm(index),
                present: row_weights[task.space].iter().any(|weight| *weight > 0.0),
            };
            let observed: Vec<Observed> = self.tasks.iter().enumerate().map(observed).collect();
            self.weighing.observe(&observed);
        }
        Ok(losses)
    }

    /// The weight of each row in each task's loss: that of the sample in the task's sample space,
    /// and 0 elsewhere.
    fn row_weights(&self, batch: &Batch) -> Vec<Vec<f32>> {
        let samples = self.sample_weight.as_ref().map(|column| &batch.labels[column]);
        let of_task = |task: &LearnedTask| {
            let mut weights = loss_weights(&task.measured, &batch.labels, batch.features.candidates);
            for (weight, sample) in weights.iter_mut().zip(samples.into_iter().flatten()) {
                *weight *= sample;
            }
            weights
        };
        self.tasks.iter().map(of_task).collect()
    }
}

/// The task whose row weights a loss reads, as they are or with predictions.
fn space_of(graph: &Graph, loss: &str, recipe: &Recipe) -> Option<usize> {
    let behind = program::behind(graph, graph.output_named(loss)?);
    let mut read = graph.nodes().iter().zip(behind).filter(|(_, is_behind)| *is_behind);
    read.find_map(|(node, _)| match &node.op {
        Op::Input { name } => recipe.tasks.iter().position(|task| weight_name(&task.name) == *name),
        _ => None,
    })
}

fn optimizer(graph: &Graph, settings: &TrainConfig) -> Result<Optimizer, TrainError> {
    let dense = optimizer_config(&settings.optimizer, settings.learning_rate);
    let table_rate = settings.embedding_learning_rate.unwrap_or(settings.learning_rate);
    let tables = optimizer_config(settings.table_optimizer(), table_rate);
    let options = GradientOptions {
        clip_norm: settings.clip_norm,
        l2: settings.l2,
        embedding_l2: settings.embedding_l2,
    };
    Ok(Optimizer::new(graph.parameters(), &dense, &tables, options)?)
}

fn optimizer_config(config: &Config, learning_rate: f32) -> OptimizerConfig {
    match *config {
        Config::Sgd { momentum } => OptimizerConfig::Sgd { learning_rate, momentum },
        Config::Adam { beta1, beta2, epsilon } => {
            OptimizerConfig::Adam { learning_rate, beta1, beta2, epsilon }
        }
        Config::AdamW { beta1, beta2, epsilon, weight_decay } => {
            OptimizerConfig::AdamW { learning_rate, beta1, beta2, epsilon, weight_decay }
        }
        Config::Adagrad { initial, epsilon } => OptimizerConfig::Adagrad { learning_rate, epsilon, initial },
        Config::RowwiseAdagrad { initial, epsilon } => {
            OptimizerConfig::RowwiseAdagrad { learning_rate, epsilon, initial }
        }
        Config::Ftrl { beta, l1, l2 } => OptimizerConfig::Ftrl { learning_rate, beta, l1, l2 },
    }
}

fn not_finite(
    tasks: &[LearnedTask],
    losses: &BatchLosses,
    batch: &Batch,
    step: usize,
    features: &[String],
) -> TrainError {
    let is_bad = |loss: &Option<f32>| loss.is_some_and(|loss| !loss.is_finite());
    let bad = tasks.iter().zip(&losses.by_task).filter(|(_, loss)| is_bad(loss));
    TrainError::NotFinite(Box::new(NotFinite {
        task: bad.map(|(task, _)| task.name.as_str()).collect::<Vec<_>>().join(", "),
        loss: losses.total,
        epoch: batch.epoch + 1,
        step,
        ranges: ranges(features, &batch.features.columns),
        kept: None,
    }))
}

/// Smallest and largest value of each feature, in words.
fn ranges(features: &[String], columns: &[FeatureColumn]) -> String {
    let of_column = |column: &FeatureColumn| match column {
        FeatureColumn::Codes { data, .. } => {
            let (low, high) = (data.iter().min(), data.iter().max());
            format!("codes {} to {}", low.unwrap_or(&0), high.unwrap_or(&0))
        }
        FeatureColumn::Numbers(data) => {
            let low = data.iter().copied().fold(f32::INFINITY, f32::min);
            let high = data.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let bad = data.iter().filter(|value| !value.is_finite()).count();
            let bad = if bad > 0 { format!(", {bad} not finite") } else { String::new() };
            format!("{low} to {high}{bad}")
        }
    };
    let parts = features.iter().zip(columns).map(|(name, column)| format!("{name}: {}", of_column(column)));
    parts.collect::<Vec<_>>().join("; ")
}
