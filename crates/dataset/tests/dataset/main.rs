//! Sample sets as real Parquet files: opening, decoding, and reading in the order of an epoch.

mod reader;
mod sample_set;
mod tiny;
