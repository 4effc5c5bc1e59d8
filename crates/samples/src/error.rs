//! What can go wrong between logs and shards.

use std::path::{Path, PathBuf};

use gatefold_features::EncodeError;
use gatefold_schema::ConfigError;
use polars::prelude::PolarsError;

/// Samples that cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SamplesError {
    /// A setting that cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Raw values that cannot be encoded.
    #[error("{origin}: {source}")]
    Encode {
        /// File or step.
        origin: String,
        /// What is wrong.
        #[source]
        source: EncodeError,
    },
    /// A file or folder that cannot be read or written.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried, such as `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A file that is not readable as Parquet.
    #[error(
        "cannot read {path} as Parquet ({source}); it is cut off, damaged or of another format: write it again",
        path = path.display()
    )]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The reader's reason.
        #[source]
        source: PolarsError,
    },
    /// Files whose rows cannot be known.
    #[error(
        "cannot read {path} as {format} ({source}); it is cut off, damaged or of another format: write it again",
        path = path.display()
    )]
    Unreadable {
        /// The files.
        path: PathBuf,
        /// What they should be.
        format: &'static str,
        /// The reader's reason.
        #[source]
        source: PolarsError,
    },
    /// Files of a store that cannot be reached.
    #[error(
        "cannot read {path} ({source}); check the name, AWS_ENDPOINT_URL, AWS_REGION and the keys in the environment",
        path = path.display()
    )]
    Store {
        /// The files.
        path: PathBuf,
        /// The reader's reason.
        #[source]
        source: PolarsError,
    },
    /// Files that could be opened and not read to their end.
    #[error("cannot read the rows of {path}: {source}", path = path.display())]
    Reading {
        /// The files.
        path: PathBuf,
        /// The reader's reason.
        #[source]
        source: PolarsError,
    },
    /// A step of the pipeline failed.
    #[error("{step} failed: {source}")]
    Step {
        /// The step.
        step: &'static str,
        /// The engine's reason.
        #[source]
        source: PolarsError,
    },
    /// A source that does not hold what it should.
    #[error("{path}: {text}", path = path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        text: String,
    },
    /// The output folder is in the way.
    #[error("{path} {text}", path = path.display())]
    Output {
        /// The folder.
        path: PathBuf,
        /// What is wrong and what to do.
        text: String,
    },
}

impl SamplesError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| SamplesError::Io { action, path, source }
    }

    pub(crate) fn step(step: &'static str) -> impl FnOnce(PolarsError) -> Self {
        move |source| SamplesError::Step { step, source }
    }

    pub(crate) fn source(path: &Path, text: impl Into<String>) -> Self {
        SamplesError::Source { path: path.to_owned(), text: text.into() }
    }

    pub(crate) fn config(text: impl Into<String>) -> Self {
        SamplesError::Config(ConfigError::new(text.into()))
    }
}
