//! From event logs to sample shards, and back from tables to requests.
//!
//! - [`synth`] writes event logs whose truth is known.
//! - [`build()`] turns logs, or the raw files of UCI Adult or census-income, into a sample set: encoded Parquet
//!   shards, vocabularies and a manifest. Features are joined as of the impression; only labels
//!   may look at what happened after it.
//! - [`parts`] does the same for logs that are larger than memory, or in several processes.
//! - [`raw`] reads tables of raw feature values for batch scoring and single requests.
//!
//! polars reads, filters and writes; what was known before a request is found by `gatefold-history`; every value
//! is encoded by `gatefold-features`, as in the server.

mod adult;
mod arrange;
mod build;
mod census;
mod columns;
mod decode;
mod encode;
mod error;
pub mod explain;
mod files;
mod folder;
mod init;
mod logs;
mod outlook;
mod parallel;
pub mod parts;
mod prepared;
pub mod progress;
pub mod raw;
mod report;
mod set;
mod shards;
mod skew;
pub mod synth;
mod tabular;
mod validate;
mod values;

pub use build::{BuildOptions, build};
pub use decode::{DecodedRows, decoded_rows};
pub use error::SamplesError;
pub use init::init;
pub use outlook::{FileOutlook, Outlook, outlook};
pub use progress::{Progress, Silent};
pub use raw::{RawRows, RawTable, ScoreFile};
pub use report::REPORT;
pub use skew::{FeatureSkew, Skew, SkewExample};
pub use validate::{FeatureSource, validate};
