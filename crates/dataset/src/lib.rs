//! Sample sets as the trainer reads them: a folder of shards in, batches of features and labels
//! out.
//!
//! A [`SampleSet`] is a folder written by `gatefold samples build`; [`SampleSet::load`] reads one
//! split into memory, column by column, and [`Split::batch`] and [`Split::request_batch`] gather
//! rows of it. How shards are stored is known here alone; no data frame leaves this crate.

mod error;
mod sample_set;
mod shard;
mod split;

pub use error::DatasetError;
pub use sample_set::SampleSet;
pub use split::Split;
