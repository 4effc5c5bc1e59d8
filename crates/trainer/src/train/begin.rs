//! How a training begins and is kept: fresh, from the parameters of a bundle, or from a checkpoint.

use std::path::Path;

use gatefold_schema::{
    CheckpointManifest, Recipe, SamplesIdentity, StoredBest, checkpoint::CHECKPOINT_FORMAT,
};

use super::{Run, store::Best};
use crate::{
    balance,
    checkpoint::CheckpointError,
    error::TrainError,
    learner::Learner,
    progress::{Event, Progress},
    warm_start,
};

impl Run<'_> {
    /// Gives the training its first parameters; the steps that are behind it.
    pub(super) fn begin(
        &mut self,
        warm_start: Option<&Path>,
        progress: &mut dyn Progress,
    ) -> Result<usize, TrainError> {
        if let Some(manifest) = self.store.resumed() {
            let step = manifest.step;
            self.restore(manifest)?;
            progress.report(&Event::Resumed { step });
            return Ok(step);
        }
        if let Some(path) = warm_start {
            let failed = |source| TrainError::WarmStart { path: path.to_owned(), source };
            let report =
                warm_start::load(path, &self.data.encoders, &mut self.learner.parameters).map_err(failed)?;
            progress.report(&Event::WarmStarted { report: &report });
            self.warm_start = Some(report.from);
        }
        Ok(0)
    }

    fn restore(&mut self, manifest: CheckpointManifest) -> Result<(), TrainError> {
        let Some(folder) = &self.store.folder else { return Ok(()) };
        if let Some(difference) = difference(&manifest, self.recipe, &self.samples()) {
            let path = folder.path().to_owned();
            return Err(CheckpointError::OtherTraining { path, difference }.into());
        }
        folder.read_state(&manifest.state, &mut self.learner.parameters, &mut self.learner.optimizer)?;
        if !balance::restore(self.learner.weighing.as_mut(), &manifest.balance) {
            let (path, difference) = (folder.path().to_owned(), "another way of balancing".into());
            return Err(CheckpointError::OtherTraining { path, difference }.into());
        }
        self.selection.evaluations_without_gain = manifest.evaluations_without_gain;
        if let Some(StoredBest { step, score, parameters }) = manifest.best {
            self.selection.best = Some((step, score));
            self.store.best = Best::Disk(parameters);
        }
        self.warm_start = manifest.warm_start;
        self.steps_made = manifest.step;
        Ok(())
    }

    /// Writes a checkpoint after `step` steps, where there is a folder for it.
    pub(super) fn write_checkpoint(
        &mut self,
        step: usize,
        progress: &mut dyn Progress,
    ) -> Result<(), TrainError> {
        let samples = self.samples();
        let Some(folder) = &mut self.store.folder else { return Ok(()) };
        let is_there = folder.manifest().is_some_and(|manifest| manifest.step == step);
        // A step may have left parameters that are not finite; the loss of the next batch will say
        // so, and the checkpoint before stays the last good one.
        let mut numbers = self.learner.parameters.iter().flat_map(|(_, values)| values);
        if is_there || !numbers.all(|number| number.is_finite()) {
            return Ok(());
        }
        let best = match (&self.store.best, self.selection.best) {
            (Best::Disk(file), Some((step, score))) => {
                Some(StoredBest { step, score, parameters: file.clone() })
            }
            _ => None,
        };
        let balance = balance::stored(self.learner.weighing.as_mut());
        let Learner { parameters, optimizer, .. } = &self.learner;
        folder.write(step, parameters, optimizer, |state| CheckpointManifest {
            format: CHECKPOINT_FORMAT,
            recipe: self.recipe.clone(),
            samples,
            warm_start: self.warm_start.clone(),
            step,
            state,
            balance,
            best,
            evaluations_without_gain: self.selection.evaluations_without_gain,
        })?;
        progress.report(&Event::CheckpointWritten { step, folder: folder.path() });
        self.store.written();
        Ok(())
    }

    /// The end of a training that was asked to stop after `step` steps.
    pub(super) fn interrupt(&mut self, step: usize, progress: &mut dyn Progress) -> TrainError {
        if step > 0
            && let Err(error) = self.write_checkpoint(step, progress)
        {
            return error;
        }
        let checkpoint = self.store.checkpoint().map(|(step, folder)| (step, folder.to_owned()));
        TrainError::Interrupted { step, checkpoint }
    }

    fn samples(&self) -> SamplesIdentity {
        SamplesIdentity {
            fingerprint: self.data.encoders.fingerprint(),
            train_rows: self.data.train.rows(),
            valid_rows: self.data.valid.rows(),
        }
    }
}

/// What a checkpoint was written with that is not what it would go on with.
fn difference(manifest: &CheckpointManifest, recipe: &Recipe, samples: &SamplesIdentity) -> Option<String> {
    let CheckpointManifest { recipe: written, samples: seen, .. } = manifest;
    let sections = [
        (written.features == recipe.features, "another [[feature]] list"),
        (
            written.tasks == recipe.tasks && written.derived == recipe.derived,
            "other tasks or derived outputs",
        ),
        (written.model == recipe.model, "another [model]"),
        (written.train == recipe.train, "another [train]"),
        (written.name == recipe.name && written.samples == recipe.samples, "another recipe"),
        (seen == samples, "other samples"),
    ];
    sections.into_iter().find(|(same, _)| !same).map(|(_, what)| what.to_owned())
}
