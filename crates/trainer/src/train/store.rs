//! Where the best parameters and checkpoints go: into the checkpoint folder, or, for a training
//! without one, into memory.

use std::{path::Path, time::Instant};

use gatefold_exec::Parameters;
use gatefold_schema::{CheckpointManifest, StoredFile};

use super::options::{Checkpoints, Existing};
use crate::checkpoint::{CheckpointError, CheckpointFolder};

/// Keeps what a training must not lose.
pub(super) struct Store {
    pub(super) folder: Option<CheckpointFolder>,
    settings: Option<Checkpoints>,
    pub(super) best: Best,
    /// When a checkpoint was written, or the training began.
    last: Instant,
}

/// The best parameters so far.
pub(super) enum Best {
    None,
    Memory(Parameters),
    Disk(StoredFile),
}

impl Store {
    /// Opens the folder, and makes sure that nothing in it gets lost unless that is wanted.
    pub(super) fn open(settings: Option<&Checkpoints>) -> Result<Self, CheckpointError> {
        let mut folder = settings.map(|settings| CheckpointFolder::open(&settings.folder)).transpose()?;
        if let (Some(settings), Some(folder)) = (settings, &mut folder) {
            let path = || folder.path().to_owned();
            match (settings.existing, folder.manifest()) {
                (Existing::Refuse, Some(manifest)) => {
                    return Err(CheckpointError::Unfinished { path: path(), step: manifest.step });
                }
                (Existing::Resume, None) => return Err(CheckpointError::Nothing { path: path() }),
                (Existing::Resume, Some(_)) => {}
                (Existing::Refuse, None) | (Existing::Discard, _) => folder.clear()?,
            }
        }
        Ok(Self { folder, settings: settings.cloned(), best: Best::None, last: Instant::now() })
    }

    /// The checkpoint that the training goes on from.
    pub(super) fn resumed(&self) -> Option<CheckpointManifest> {
        self.folder.as_ref()?.manifest().cloned()
    }

    /// Step and folder of the last checkpoint.
    pub(super) fn checkpoint(&self) -> Option<(usize, &Path)> {
        let folder = self.folder.as_ref()?;
        Some((folder.manifest()?.step, folder.path()))
    }

    /// Keeps the parameters after `step` steps as the best ones.
    pub(super) fn keep_best(&mut self, step: usize, parameters: &Parameters) -> Result<(), CheckpointError> {
        self.best = match &mut self.folder {
            Some(folder) => Best::Disk(folder.write_best(step, parameters)?),
            None => Best::Memory(parameters.clone()),
        };
        Ok(())
    }

    /// Puts the best parameters into `parameters`.
    pub(super) fn take_best(&mut self, parameters: &mut Parameters) -> Result<(), CheckpointError> {
        match (std::mem::replace(&mut self.best, Best::None), &self.folder) {
            (Best::Memory(best), _) => *parameters = best,
            (Best::Disk(file), Some(folder)) => folder.read_best(&file, parameters)?,
            _ => {}
        }
        Ok(())
    }

    /// Whether a checkpoint should be written after `step` steps.
    pub(super) fn checkpoint_is_due(&self, step: usize) -> bool {
        self.settings.as_ref().is_some_and(|settings| {
            let by_steps = settings.every_steps > 0 && step.is_multiple_of(settings.every_steps);
            by_steps || settings.every.is_some_and(|every| self.last.elapsed() >= every)
        })
    }

    /// Takes in that a checkpoint was written.
    pub(super) fn written(&mut self) {
        self.last = Instant::now();
    }
}
