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
    /// A shard that was encoded by other encoders than the manifest names.
    #[error(
        "{path}: its rows were encoded by encoders with fingerprint {found}, the sample set's are {expected}; the \
         file belongs to another sample set: build the samples again",
        path = path.display()
    )]
    Fingerprint {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: String,
        /// What the manifest says.
        expected: String,
    },
    /// A shard that does not begin with the request after those of the shard before.
    #[error(
        "{shard} begins with request {found}, expected {expected}; shards have been changed: build the samples again"
    )]
    Order {
        /// The shard.
        shard: String,
        /// Its first request.
        found: u32,
        /// The one that should be there.
        expected: u32,
    },
    /// A label or audit column that the shards do not have.
    #[error("the samples have no column '{name}' beside the features; they have: {known}")]
    UnknownLabel {
        /// The column.
        name: String,
        /// The columns there are.
        known: String,
    },
    /// Conditions that no row satisfies.
    #[error("no row is left to read ({conditions})")]
    NoRow {
        /// The conditions.
        conditions: String,
    },
    /// A request that is longer than a batch of whole requests.
    #[error(
        "{shard}: a request of {rows} rows does not fit a batch of {batch_size}: raise batch_size, or set \
         request_batches = false"
    )]
    LongRequest {
        /// The shard.
        shard: String,
        /// Rows of the request.
        rows: usize,
        /// Rows of a batch.
        batch_size: usize,
    },
    /// The system refused a thread.
    #[error("cannot start a thread that reads the samples")]
    Threads(#[source] std::io::Error),
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
