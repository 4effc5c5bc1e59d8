//! From raw values to a [`FeatureBatch`]: the one definition of every encoding, used by sample
//! building, training, batch scoring and serving alike.
//!
//! This crate does no IO and knows nothing of data frames, wire messages or ONNX: callers bring
//! their columns as [`RawColumn`]s that borrow what they already have, and an [`Encoder`] writes
//! codes and 32-bit numbers into a batch whose memory can be used again.
//!
//! | raw value | code or number |
//! |---|---|
//! | missing (null; NaN in logs) | code 1; the number 0; a sequence of one code 1 |
//! | in the vocabulary | 2 + out-of-vocabulary buckets + position in the vocabulary |
//! | out of the vocabulary | 2 + murmur3_x86_32(value, seed 0) mod buckets |
//! | hashed | 2 + murmur3_x86_32(value, seed) mod buckets |
//! | bucketized, by given edges or quantiles | 2 + number of edges ≤ value, clipped |
//! | target-encoded | the smoothed mean label of the value; the prior where it is missing or unseen |
//! | crossed | as text that is made of the values of others: [`gatefold_schema::Feature::cross`] |
//! | a position after the end of a sequence | code 0 |
//!
//! The hash of an integer is that of its eight little-endian bytes as an `i64`, the hash of text
//! that of its UTF-8 bytes ([`murmur`]).

pub mod batch;
pub mod cross;
pub mod encoder;
pub mod error;
pub mod fit;
pub mod json;
mod lookup;
pub mod murmur;
pub mod owned;
pub mod raw;
mod tally;

pub use batch::{FeatureBatch, FeatureColumn};
pub use cross::{Cross, CrossPart, CrossValues};
pub use encoder::{Encoder, Strictness};
pub use error::EncodeError;
pub use owned::OwnedBatch;
pub use raw::{RawBatch, RawColumn, RawValues};
pub use tally::Tally;
