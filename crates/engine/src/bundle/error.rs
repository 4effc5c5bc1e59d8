//! Why a bundle cannot be read or written.

use std::{
    io,
    path::{Path, PathBuf},
};

use gatefold_schema::{ConfigError, manifest::BUNDLE_FORMAT};

/// A bundle that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// No manifest where one is expected.
    #[error(
        "{} is not a model bundle: it has no manifest.json; give the folder models/<name>/<version>",
        path.display()
    )]
    NotABundle {
        /// The folder.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A JSON file does not parse.
    #[error(transparent)]
    Syntax(#[from] ConfigError),
    /// The bundle was written by another version of the program.
    #[error(
        "{}: bundle format {found}, this program reads format {BUNDLE_FORMAT}: publish the model again \
         with this program, or use the program that wrote it",
        path.display()
    )]
    Format {
        /// The manifest.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A file of the manifest is not there.
    #[error("{} is missing: copy the whole bundle again", path.display())]
    MissingFile {
        /// The file.
        path: PathBuf,
    },
    /// A file has another size than the manifest states.
    #[error(
        "{} has {found} bytes, the manifest says {expected}: it was cut off or changed; copy the whole \
         bundle again, or publish the model again",
        path.display()
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes by the manifest.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// A file has other bytes than the manifest states.
    #[error(
        "{} was changed: its sha256 is {found}, the manifest says {expected}; copy the whole bundle \
         again, or publish the model again",
        path.display()
    )]
    Hash {
        /// The file.
        path: PathBuf,
        /// Hash by the manifest.
        expected: String,
        /// Hash found.
        found: String,
    },
    /// The encoders are not those the bundle was published with.
    #[error(
        "{}: the encoders' fingerprint is {found}, the manifest says {expected}: manifest or vocabularies \
         were edited; publish the model again",
        path.display()
    )]
    Fingerprint {
        /// The bundle's folder.
        path: PathBuf,
        /// Fingerprint by the manifest.
        expected: String,
        /// Fingerprint of what is there.
        found: String,
    },
    /// Parts of the bundle contradict each other.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The caller's check of a written bundle failed; nothing was published.
    #[error("the new bundle was not published because its check failed: {0}")]
    Refused(String),
}

impl BundleError {
    pub(crate) fn invalid(path: &Path, reason: impl Into<String>) -> BundleError {
        BundleError::Invalid { path: path.to_path_buf(), reason: reason.into() }
    }
}
