//! The trainer's own forward pass: the scores that every exported form must give.

use std::collections::BTreeMap;

use gatefold_dataset::{Condition, ReadOptions, Reader, Shards};
use gatefold_exec::{Executor, InputValue, Parameters, Plan};
use gatefold_features::{FeatureBatch, FeatureColumn};
use gatefold_graph::{Graph, NodeId};
use gatefold_schema::{Calibrator, EncoderSet, Level, Recipe};

use crate::{error::TrainError, space::conditions};

/// Rows scored at a time.
const ROWS_PER_BATCH: usize = 4096;

/// Scores batches with given parameters.
pub struct Forward {
    graph: Graph,
    executor: Executor,
    outputs: Vec<NodeId>,
    features: Vec<InputFeature>,
    conditions: Vec<Condition>,
}

/// What the forward pass must know of a feature.
struct InputFeature {
    name: String,
    level: Level,
}

impl Forward {
    /// Builds the recipe's model and compiles its forward pass for `threads` threads.
    ///
    /// # Errors
    /// When the model cannot be built or run.
    pub fn new(recipe: &Recipe, encoders: &EncoderSet, threads: usize) -> Result<Self, TrainError> {
        Self::calibrated(recipe, encoders, &BTreeMap::new(), threads)
    }

    /// As [`Self::new`], with the outputs of these tasks calibrated.
    ///
    /// # Errors
    /// When the model cannot be built or run.
    pub fn calibrated(
        recipe: &Recipe,
        encoders: &EncoderSet,
        calibrators: &BTreeMap<String, Calibrator>,
        threads: usize,
    ) -> Result<Self, TrainError> {
        let Recipe { tasks, derived, model, .. } = recipe;
        let graph = gatefold_nn::calibrated(&encoders.features, tasks, derived, model, calibrators)?;
        let outputs = graph.outputs().iter().map(|(_, node)| *node).collect();
        Self::with_targets(graph, outputs, recipe, encoders, threads)
    }

    /// Compiles a forward graph to values other than its outputs, which stand in their place.
    pub(crate) fn with_targets(
        graph: Graph,
        targets: Vec<NodeId>,
        recipe: &Recipe,
        encoders: &EncoderSet,
        threads: usize,
    ) -> Result<Self, TrainError> {
        let executor = Executor::new(Plan::compile(&graph, &targets)?, threads)?;
        let features = encoders
            .features
            .iter()
            .map(|fitted| InputFeature {
                name: fitted.feature.name.clone(),
                level: fitted.feature.side.level(),
            })
            .collect();
        let conditions = conditions(&recipe.tasks, recipe.train.outside_space);
        Ok(Self { graph, executor, outputs: targets, features, conditions })
    }

    /// The graph, every input at candidate level.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Names of the outputs: the tasks, then the derived outputs.
    pub fn output_names(&self) -> impl Iterator<Item = &str> {
        self.graph.outputs().iter().map(|(name, _)| name.as_str())
    }

    /// Probabilities of every candidate of `batch`: one list an output.
    ///
    /// # Errors
    /// When the batch does not fit the model.
    pub fn score(
        &mut self,
        parameters: &Parameters,
        batch: &FeatureBatch,
    ) -> Result<Vec<Vec<f32>>, TrainError> {
        let columns: Vec<FeatureColumn> = batch
            .columns
            .iter()
            .zip(&self.features)
            .map(|(column, feature)| match feature.level {
                Level::Request => column.take(&batch.request_of),
                Level::Candidate => column.clone(),
            })
            .collect();
        let scores = self.run(parameters, batch.candidates, &columns)?;
        Ok(scores.into_iter().map(<[f32]>::to_vec).collect())
    }

    /// Probabilities of every row of a split in order, those aside that the recipe leaves out: one
    /// list an output. Shards on disk are decoded while those before them are scored.
    ///
    /// # Errors
    /// As [`Self::score`], and shards that cannot be read.
    pub fn score_rows(
        &mut self,
        parameters: &Parameters,
        rows: &Shards,
    ) -> Result<Vec<Vec<f32>>, TrainError> {
        let mut scores: Vec<Vec<f32>> =
            self.outputs.iter().map(|_| Vec::with_capacity(rows.rows())).collect();
        self.scan(parameters, rows, |found| {
            scores.iter_mut().zip(found).for_each(|(all, found)| all.extend_from_slice(found));
            Ok(())
        })?;
        Ok(scores)
    }

    /// Runs every row of a split in order, and hands on the values of the outputs batch by batch.
    ///
    /// # Errors
    /// As [`Self::score_rows`], and what `each` answers.
    pub(crate) fn scan(
        &mut self,
        parameters: &Parameters,
        rows: &Shards,
        mut each: impl FnMut(&[&[f32]]) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let options = ReadOptions { conditions: self.conditions.clone(), ..ReadOptions::new(ROWS_PER_BATCH) };
        for batch in Reader::new(rows, options)?.batches(0..1, 0)? {
            let features = batch?.features;
            each(&self.run(parameters, features.candidates, &features.columns)?)?;
        }
        Ok(())
    }

    fn run(
        &mut self,
        parameters: &Parameters,
        rows: usize,
        columns: &[FeatureColumn],
    ) -> Result<Vec<&[f32]>, TrainError> {
        let names = self.features.iter().map(|feature| feature.name.as_str());
        let inputs: Vec<(&str, InputValue)> = names.zip(columns.iter().map(input_value)).collect();
        self.executor.run(parameters, rows, rows, &inputs)?;
        Ok(self.outputs.iter().map(|output| self.executor.value(*output)).collect())
    }
}

/// A column as a graph input.
pub(crate) fn input_value(column: &FeatureColumn) -> InputValue<'_> {
    match column {
        FeatureColumn::Codes { data, .. } => InputValue::I32(data),
        FeatureColumn::Numbers(data) => InputValue::F32(data),
    }
}
