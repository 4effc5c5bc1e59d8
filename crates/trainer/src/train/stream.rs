//! The batches of a training in the order of its steps, each kind from its own rows.

use gatefold_schema::Recipe;

use crate::{
    batches::{Batch, BatchSource},
    data::TrainingData,
    error::TrainError,
    learner::Learner,
    mixture::{BatchKind, Mixture},
};

/// Batches of one kind.
type Batches = Box<dyn Iterator<Item = Result<Batch, TrainError>>>;

/// The batches from some step on. Each kind of batch goes through its own rows in epochs of its
/// own, and takes up where its last batch ended.
pub(super) struct BatchStream {
    mixture: Mixture,
    step: usize,
    kinds: Vec<(BatchKind, Batches)>,
}

/// Steps of an epoch: as many batches as the training split fills.
pub(super) fn steps_per_epoch(recipe: &Recipe, data: &TrainingData) -> Result<usize, TrainError> {
    Ok(BatchSource::new(recipe, &data.train, None)?.steps())
}

impl BatchStream {
    /// The batches of steps `first` to `last`, from 1.
    pub(super) fn new(
        recipe: &Recipe,
        data: &TrainingData,
        mixture: &Mixture,
        learner: &Learner,
        first: usize,
        last: usize,
    ) -> Result<Self, TrainError> {
        let open = |kind: BatchKind| -> Result<_, TrainError> {
            let source = BatchSource::new(recipe, &data.train, learner.space(kind))?;
            let steps = source.steps();
            let (made, all) = (mixture.count(kind, first - 1), mixture.count(kind, last));
            let batches = source.batches(made / steps..all.div_ceil(steps), made % steps)?;
            Ok((kind, Box::new(batches) as Batches))
        };
        let kinds = mixture.kinds().into_iter().map(open).collect::<Result<_, TrainError>>()?;
        Ok(Self { mixture: mixture.clone(), step: first, kinds })
    }

    /// The batch of the next step.
    ///
    /// # Panics
    /// After the last step.
    pub(super) fn next(&mut self) -> Result<Batch, TrainError> {
        let kind = self.mixture.kind(self.step);
        self.step += 1;
        let batches = self.kinds.iter_mut().find(|(other, _)| *other == kind);
        let batch = batches.and_then(|(_, batches)| batches.next());
        batch.unwrap_or_else(|| panic!("there is a batch for every step of the training"))
    }
}
