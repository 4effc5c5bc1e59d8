//! The batches of a training: the rows of the training split in the order of seed and epoch,
//! prepared ahead on threads of their own.

use std::ops::Range;

use gatefold_dataset::{Condition, ReadOptions, Reader, SampleBatch, Shards, Unit};
use gatefold_features::FeatureBatch;
use gatefold_schema::Recipe;

use crate::{
    error::TrainError,
    space::{Labels, conditions, label_columns, measured_outputs},
};

/// The rows of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Step in the epoch, from 0.
    pub step: usize,
    /// Encoded features, with the numbers of requests and candidates. In batches of whole requests,
    /// user and context features have one row a request; otherwise each row is a request.
    pub features: FeatureBatch,
    /// The label columns of tasks and derived outputs and the weights of rows, one value a candidate.
    pub labels: Labels,
}

/// Gives the batches of any epoch from any step on; the same ones whether the shards lie in memory
/// or on disk.
#[derive(Clone, Debug)]
pub struct BatchSource {
    reader: Reader,
}

impl BatchSource {
    /// Batches as the recipe wants them, of all rows of `shards`, or of those in the sample space
    /// of one task.
    ///
    /// # Errors
    /// When no row is left, or the shards cannot be read.
    pub fn new(recipe: &Recipe, shards: &Shards, task: Option<&str>) -> Result<Self, TrainError> {
        let outputs = measured_outputs(&recipe.tasks, &[]);
        let within = outputs.iter().find(|output| Some(output.output.as_str()) == task);
        let within = within.and_then(|output| output.within.clone());
        let settings = &recipe.train;
        let options = ReadOptions {
            shuffle: settings.shuffle.then_some(settings.seed),
            unit: if settings.request_batches { Unit::Request } else { Unit::Row },
            conditions: within
                .map(Condition::Positive)
                .into_iter()
                .chain(conditions(&recipe.tasks, settings.outside_space))
                .collect(),
            labels: label_columns(recipe),
            ..ReadOptions::new(settings.batch_size)
        };
        Ok(Self { reader: Reader::new(shards, options)? })
    }

    /// Rows of an epoch.
    pub fn rows(&self) -> usize {
        self.reader.rows()
    }

    /// Steps of an epoch.
    pub fn steps(&self) -> usize {
        self.reader.steps()
    }

    /// The batches of `epochs` (from 0) in order, beginning with step `first_step` (from 0) of the
    /// first. `0..usize::MAX` never ends.
    ///
    /// # Errors
    /// When the threads cannot be started; each batch may bring an error of its shard.
    pub fn batches(
        &self,
        epochs: Range<usize>,
        first_step: usize,
    ) -> Result<impl Iterator<Item = Result<Batch, TrainError>> + use<>, TrainError> {
        let batches = self.reader.batches(epochs, first_step)?;
        Ok(batches.map(|batch| {
            let SampleBatch { epoch, step, features, labels } = batch?;
            Ok(Batch { epoch, step, features, labels })
        }))
    }
}
