//! From event logs to sample shards, and back from tables to requests.
//!
//! - [`synth`] writes event logs whose truth is known.
//! - [`build()`] turns logs, or the raw files of UCI Adult or census-income, into a sample set: encoded Parquet
//!   shards, vocabularies and a manifest. Features are joined as of the impression; only labels
//!   may look at what happened after it.
//! - [`raw`] reads tables of raw feature values for batch scoring and single requests.
//!
//! The pipeline runs on polars; every value is encoded by `gatefold-features`, as in the server.

mod adult;
mod arrange;
mod build;
mod census;
mod columns;
mod encode;
mod error;
mod files;
mod folder;
mod logs;
mod parallel;
mod prepared;
pub mod progress;
pub mod raw;
mod shards;
mod skew;
pub mod synth;
mod tabular;
mod values;

pub use build::{BuildOptions, build};
pub use error::SamplesError;
pub use progress::{Progress, Silent};
pub use raw::{RawRows, RawTable, ScoreFile};
pub use skew::{FeatureSkew, Skew, SkewExample};
