//! Sample sets as the trainer reads them: a folder of shards in, batches of features and labels
//! out.
//!
//! ```text
//! SampleSet ─▶ Shards ─▶ Reader ─▶ Batches
//!  manifest,    on disk    order     prepared ahead on
//!  encoders     or kept              threads of their own
//! ```
//!
//! - [`SampleSet`]: a folder written by `gatefold samples build`, checked against itself.
//! - [`Shards`]: the rows of a split, decoded when they are needed or kept in memory.
//! - [`Reader`]: their order in an epoch, from any step on, and the batches made of it. The same
//!   seed gives the same batches wherever the shards lie.
//! - [`Split`]: rows in memory, column by column.
//!
//! How shards are stored is known here alone; no data frame leaves this crate.

mod error;
mod filter;
mod gather;
mod order;
mod reader;
mod sample_set;
mod shard;
mod shards;
mod split;

pub use error::DatasetError;
pub use filter::Condition;
pub use order::Unit;
pub use reader::{BATCHES_AHEAD, Batches, ReadOptions, Reader, SampleBatch};
pub use sample_set::SampleSet;
pub use shards::{Columns, Shards};
pub use split::Split;
