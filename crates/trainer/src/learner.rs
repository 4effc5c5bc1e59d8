//! The model while it learns: parameters, one compiled step, the optimizer.

use gatefold_dataset::Shards;
use gatefold_exec::{Executor, GradientOptions, InputValue, Optimizer, OptimizerConfig, Parameters, Plan};
use gatefold_features::FeatureColumn;
use gatefold_graph::{
    NodeId,
    autodiff::{Gradients, differentiate},
};
use gatefold_nn::{
    DROPOUT_SEED, LOSS, RunningStatistic, label_name, loss_name, loss_weight_name, running_statistics,
    weight_name,
};
use gatefold_schema::{EncoderSet, REQUEST_OF, Recipe};

use crate::{
    batches::Batch,
    error::TrainError,
    forward::{Forward, input_value},
    levels,
    space::{MeasuredOutput, loss_weights, measured_outputs},
};

/// Spreads the seeds of trainings, so that neighbours drop other units at every step.
const DROPOUT_STREAM: u64 = 1_000_003;

/// Parameters, plan and optimizer of one training.
pub(crate) struct Learner {
    parameters: Parameters,
    executor: Executor,
    gradients: Gradients,
    optimizer: Optimizer,
    loss: NodeId,
    statistics: Vec<RunningStatistic>,
    seed: u64,
    forward: Forward,
    features: Vec<String>,
    tasks: Vec<LearnedTask>,
}

/// A task as the training graph knows it.
struct LearnedTask {
    name: String,
    measured: MeasuredOutput,
    label_input: String,
    weight_input: String,
    loss_weight_input: String,
    loss_weight: f32,
    loss: NodeId,
}

impl Learner {
    pub(crate) fn new(recipe: &Recipe, encoders: &EncoderSet, threads: usize) -> Result<Self, TrainError> {
        let mut graph = levels::training(recipe, encoders)?;
        let node = |name: &str| {
            graph.output_named(name).ok_or_else(|| TrainError::NoOutput { output: name.to_owned() })
        };
        let loss = node(LOSS)?;
        let tasks: Vec<LearnedTask> = recipe
            .tasks
            .iter()
            .zip(measured_outputs(&recipe.tasks, &[]))
            .map(|(task, measured)| {
                Ok(LearnedTask {
                    name: task.name.clone(),
                    measured,
                    label_input: label_name(&task.name),
                    weight_input: weight_name(&task.name),
                    loss_weight_input: loss_weight_name(&task.name),
                    loss_weight: task.weight,
                    loss: node(&loss_name(&task.name))?,
                })
            })
            .collect::<Result<_, TrainError>>()?;
        let statistics = running_statistics(&graph);
        let gradients = differentiate(&mut graph, loss)?;
        let mut targets = vec![loss];
        targets.extend(tasks.iter().map(|task| task.loss));
        targets.extend(gradients.targets());
        targets.extend(statistics.iter().map(|statistic| statistic.batch));
        let parameters = Parameters::initialise(graph.parameters(), recipe.train.seed);
        let rate = recipe.train.learning_rate;
        let dense = OptimizerConfig::adam(rate);
        let tables = OptimizerConfig::adam(recipe.train.embedding_learning_rate.unwrap_or(rate));
        Ok(Self {
            optimizer: Optimizer::new(graph.parameters(), &dense, &tables, GradientOptions::default())?,
            parameters,
            executor: Executor::new(Plan::compile(&graph, &targets)?, threads)?,
            gradients,
            loss,
            statistics,
            seed: recipe.train.seed,
            forward: Forward::new(recipe, encoders, threads)?,
            features: encoders.features.iter().map(|fitted| fitted.feature.name.clone()).collect(),
            tasks,
        })
    }

    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Trained numbers in all.
    pub(crate) fn parameter_count(&self) -> usize {
        self.parameters.iter().map(|(_, values)| values.len()).sum()
    }

    /// Scores every row of a split in order: one list an output.
    pub(crate) fn score(&mut self, rows: &Shards) -> Result<Vec<Vec<f32>>, TrainError> {
        self.forward.score_rows(&self.parameters, rows)
    }

    /// Makes one step, the `step`th over all epochs from 1; the total loss before it.
    ///
    /// # Errors
    /// A loss that is not finite, with the feature ranges of the batch; the parameters are then
    /// those before the step.
    pub(crate) fn step(&mut self, batch: &Batch, step: usize) -> Result<f32, TrainError> {
        let Batch { features, labels, .. } = batch;
        let weights: Vec<Vec<f32>> =
            self.tasks.iter().map(|task| loss_weights(&task.measured, labels, features.candidates)).collect();
        let request_of: Vec<i32> = features.request_of.iter().map(|request| *request as i32).collect();
        let names = self.features.iter().map(String::as_str);
        let mut inputs: Vec<(&str, InputValue)> =
            names.zip(features.columns.iter().map(input_value)).collect();
        // Only the graph with the request level apart reads it.
        inputs.push((REQUEST_OF, InputValue::I32(&request_of)));
        for (task, weights) in self.tasks.iter().zip(&weights) {
            inputs.push((&task.label_input, InputValue::F32(&labels[&task.measured.label])));
            inputs.push((&task.weight_input, InputValue::F32(weights)));
            inputs.push((&task.loss_weight_input, InputValue::F32(std::slice::from_ref(&task.loss_weight))));
        }
        let dropout_seed = [self.seed.wrapping_mul(DROPOUT_STREAM).wrapping_add(step as u64) as i32];
        inputs.push((DROPOUT_SEED, InputValue::I32(&dropout_seed)));
        self.executor.run(&self.parameters, features.requests, features.candidates, &inputs)?;
        let loss = self.scalar(self.loss);
        if !loss.is_finite() {
            let bad = self.tasks.iter().filter(|task| !self.scalar(task.loss).is_finite());
            return Err(TrainError::NotFinite {
                task: bad.map(|task| task.name.as_str()).collect::<Vec<_>>().join(", "),
                loss,
                epoch: batch.epoch + 1,
                step,
                ranges: ranges(&self.features, &features.columns),
            });
        }
        self.optimizer.step(&mut self.parameters, &self.gradients, &self.executor, &inputs, 1.0)?;
        self.move_statistics(features.candidates);
        Ok(loss)
    }

    /// Moves the running statistics of batch normalization towards those of the last batch.
    fn move_statistics(&mut self, rows: usize) {
        for statistic in &self.statistics {
            let batch = self.executor.value(statistic.batch);
            let running = self.parameters.get_mut(statistic.parameter);
            running.iter_mut().zip(batch).for_each(|(running, batch)| {
                *running = statistic.moved(*running, *batch, rows);
            });
        }
    }

    fn scalar(&self, node: NodeId) -> f32 {
        self.executor.value(node).first().copied().unwrap_or(f32::NAN)
    }
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
