//! Parquet files in and out.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use polars::prelude::*;

use crate::SamplesError;

/// Rows of a row group: small enough that readers can take a part, large enough to compress.
const ROW_GROUP: usize = 1 << 17;

/// Writes `frame` and returns the size in bytes. The bytes depend on the values alone. `notes` are
/// keys and values for the file's metadata.
pub(crate) fn write_parquet(
    frame: &mut DataFrame,
    path: &Path,
    notes: &[(&str, &str)],
) -> Result<u64, SamplesError> {
    // The writer makes row groups of whole chunks, so that chunks must not depend on threads.
    frame.rechunk_mut_par();
    let file = File::create(path).map_err(SamplesError::io("create", path))?;
    let notes = notes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ParquetWriter::new(BufWriter::new(file))
        .with_compression(ParquetCompression::Zstd(None))
        .with_row_group_size(Some(ROW_GROUP))
        .with_key_value_metadata(Some(KeyValueMetadata::from_static(notes)))
        .finish(frame)
        .map_err(|source| SamplesError::Step { step: "writing Parquet", source })?;
    Ok(std::fs::metadata(path).map_err(SamplesError::io("read", path))?.len())
}

/// A lazy reader of the file and its schema.
pub(crate) fn scan(path: &Path) -> Result<(LazyFrame, SchemaRef), SamplesError> {
    File::open(path).map_err(SamplesError::io("read", path))?;
    let bad = |source| SamplesError::Parquet { path: path.to_owned(), source };
    let args = ScanArgsParquet { glob: false, ..ScanArgsParquet::default() };
    let mut frame =
        LazyFrame::scan_parquet(PlRefPath::try_from_path(path).map_err(bad)?, args).map_err(bad)?;
    let schema = frame.collect_schema().map_err(bad)?;
    Ok((frame, schema))
}
