//! What can be wrong with a sample set.

use std::path::{Path, PathBuf};

use gatefold_schema::ConfigError;
use polars::prelude::PolarsError;

/// A sample set that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A manifest or vocabulary that cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A shard that is not readable as Parquet.
    #[error("cannot read {path} as Parquet ({source}); build the samples again", path = path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The reader's reason.
        #[source]
        source: PolarsError,
    },
    /// A file that does not hold what the manifest says.
    #[error("{path}: {text}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        text: String,
    },
    /// A split that the sample set does not have.
    #[error("there is no split '{name}'; the sample set has: {known}")]
    UnknownSplit {
        /// Name as given.
        name: String,
        /// The splits there are.
        known: String,
    },
}

impl DatasetError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| DatasetError::Io { path, source }
    }

    pub(crate) fn content(path: &Path, text: impl Into<String>) -> Self {
        DatasetError::Content { path: path.to_owned(), text: text.into() }
    }
}
