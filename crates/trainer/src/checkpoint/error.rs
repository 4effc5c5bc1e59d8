//! Why a checkpoint cannot be written or read.

use std::{fmt, io, path::PathBuf};

use gatefold_schema::{ConfigError, checkpoint::CHECKPOINT_FORMAT};

/// A checkpoint that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The folder, or a file in it, cannot be used.
    #[error("cannot use {path} for checkpoints: {source}", path = path.display())]
    Folder {
        /// The folder or the file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Two trainings, one folder.
    #[error("another training uses the checkpoints in {path}: wait for it, or name another folder with --checkpoints", path = path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The disk is full, or fails.
    #[error("cannot write {path}: {source}; {kept}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What a training can go on from.
        kept: Kept,
        /// The system's reason.
        source: io::Error,
    },
    /// A file that is not the one that was written.
    #[error("cannot use {path}: {source}; start the training again with --restart", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// A checkpoint of another version of the program.
    #[error("{path}: format {found} is not known, expected {CHECKPOINT_FORMAT}; go on with the program that wrote it, or start again with --restart", path = path.display())]
    Format {
        /// The manifest.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A manifest that cannot be understood.
    #[error(transparent)]
    Manifest(ConfigError),
    /// Nothing to go on with.
    #[error("there is no checkpoint in {path} to go on with: leave out --resume to begin", path = path.display())]
    Nothing {
        /// The folder.
        path: PathBuf,
    },
    /// Something that would be lost.
    #[error("{path} holds an unfinished training of {step} steps: go on with --resume, or begin again with --restart", path = path.display())]
    Unfinished {
        /// The folder.
        path: PathBuf,
        /// Its steps.
        step: usize,
    },
    /// The checkpoint is of another training.
    #[error("the checkpoint in {path} was written with {difference}: go on with the same, or begin again with --restart", path = path.display())]
    OtherTraining {
        /// The folder.
        path: PathBuf,
        /// What differs.
        difference: String,
    },
}

/// The step of the checkpoint that is still complete, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept(pub Option<usize>);

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(step) => write!(f, "the checkpoint of step {step} is complete: go on from it with --resume"),
            None => write!(f, "there is no earlier checkpoint"),
        }
    }
}
