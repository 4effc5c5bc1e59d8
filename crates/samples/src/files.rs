//! Parquet files in and out.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use polars::io::parquet::write::BatchedWriter;
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
        .map_err(|source| SamplesError::Step { step: WRITING, source })?;
    Ok(std::fs::metadata(path).map_err(SamplesError::io("read", path))?.len())
}

/// How a file is written that is made of many pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// Rows of a row group.
    group: usize,
    compression: ParquetCompression,
}

impl Form {
    /// For people and programs.
    pub(crate) const OUTPUT: Form = Form { group: ROW_GROUP, compression: ParquetCompression::Zstd(None) };
    /// For rows that are read again once, of which as many as `files` are written at a time: no more than a few hundred
    /// thousand rows wait in memory for all of them.
    pub(crate) fn spill(files: usize) -> Form {
        Form { group: ((1 << 18) / files.max(1)).max(1 << 10), compression: ParquetCompression::Uncompressed }
    }
}

/// A Parquet file that is written piece by piece. Its row groups are cut at fixed rows, so that its bytes do not depend
/// on the pieces.
pub(crate) struct ParquetFile {
    writer: BatchedWriter<BufWriter<File>>,
    waiting: DataFrame,
    group: usize,
}

impl ParquetFile {
    /// Begins a file.
    pub(crate) fn create(path: &Path, schema: &Schema, form: Form) -> Result<Self, SamplesError> {
        let file = File::create(path).map_err(SamplesError::io("create", path))?;
        let writer = ParquetWriter::new(BufWriter::new(file))
            .with_compression(form.compression)
            .batched(schema)
            .map_err(SamplesError::step(WRITING))?;
        Ok(Self { writer, waiting: DataFrame::empty_with_schema(schema), group: form.group })
    }

    /// Appends rows.
    pub(crate) fn add(&mut self, rows: DataFrame) -> Result<(), SamplesError> {
        self.waiting.vstack_mut_owned(rows).map_err(SamplesError::step(WRITING))?;
        let mut from = 0;
        while self.waiting.height() - from >= self.group {
            self.write(from, self.group)?;
            from += self.group;
        }
        if from > 0 {
            // A copy: what is written is not kept in memory by what is left of its chunk.
            self.waiting = self.waiting.slice(from as i64, usize::MAX);
            self.waiting.rechunk_mut_par();
        }
        Ok(())
    }

    /// Writes what is left, and returns when the file is complete.
    pub(crate) fn finish(&mut self) -> Result<(), SamplesError> {
        if self.waiting.height() > 0 {
            self.write(0, self.waiting.height())?;
        }
        self.writer.finish().map(drop).map_err(SamplesError::step(WRITING))
    }

    fn write(&mut self, from: usize, rows: usize) -> Result<(), SamplesError> {
        let mut group = self.waiting.slice(from as i64, rows);
        group.rechunk_mut_par();
        self.writer.write_batch(&group).map_err(SamplesError::step(WRITING))
    }
}

/// All rows of a Parquet file.
pub(crate) fn read_parquet(path: &Path) -> Result<DataFrame, SamplesError> {
    let file = File::open(path).map_err(SamplesError::io("read", path))?;
    let rows = ParquetReader::new(file).set_rechunk(true).finish();
    rows.map_err(|source| SamplesError::Parquet { path: path.to_owned(), source })
}

const WRITING: &str = "writing Parquet";

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
