//! One file of the log: gathered in row groups, and put in place when it is whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::NaiveDateTime;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use super::columns::Gathered;
use super::layout;
use super::record::Record;

/// The time in the name of a file, UTC.
pub(super) const TIME: &str = "%Y-%m-%dT%H-%M-%S";

/// Bytes gathered in memory before a row group is written.
const GROUP_BYTES: usize = 8 << 20;

/// A file that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the request log {}: {reason}", path.display())]
pub(super) struct WriteError {
    path: PathBuf,
    reason: String,
}

/// A file that is being written.
pub(super) struct LogFile {
    /// `None` once the file is whole.
    writer: Option<SerializedFileWriter<File>>,
    columns: Vec<Gathered>,
    hidden: PathBuf,
    path: PathBuf,
    gathered_bytes: usize,
    /// Requests in the file.
    pub(super) requests: u64,
    /// Rows in the file.
    pub(super) rows: u64,
    /// When it was begun.
    pub(super) opened: Instant,
}

impl LogFile {
    /// Begins the file `<folder>/<time>-<number>.parquet` for requests like `record`, with the first
    /// `number` from that given on which is free.
    pub(super) fn create(
        folder: &Path,
        time: &str,
        number: &mut u64,
        record: &Record,
    ) -> Result<LogFile, WriteError> {
        let failed = |reason: String| WriteError { path: folder.to_owned(), reason };
        let specs = layout::columns(record.bundle.manifest());
        let schema = layout::schema(&specs).map_err(|error| failed(error.to_string()))?;
        let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
        fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        let (file, hidden, path) = loop {
            let path = folder.join(format!("{time}-{number}.parquet"));
            let hidden = folder.join(format!(".{time}-{number}.parquet.part"));
            *number += 1;
            match File::create_new(&hidden) {
                Ok(_) if path.exists() => _ = fs::remove_file(&hidden),
                Ok(file) => {
                    // Held until the file is closed: says that a server writes it. Where a file system
                    // has no locks, nothing is ever removed.
                    let _ = file.try_lock();
                    break (file, hidden, path);
                }
                // Of another server that logs into the same folder.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error.to_string())),
            }
        };
        let writer = SerializedFileWriter::new(file, schema, properties);
        let columns = specs.into_iter().map(Gathered::new).collect();
        // From here on a failure removes what was begun.
        let mut begun = LogFile {
            writer: None,
            columns,
            hidden,
            path,
            gathered_bytes: 0,
            requests: 0,
            rows: 0,
            opened: Instant::now(),
        };
        begun.writer = Some(writer.map_err(|error| begun.failed(&error))?);
        Ok(begun)
    }

    /// Adds the candidates of a request.
    pub(super) fn add(&mut self, record: &Record) -> Result<(), WriteError> {
        self.requests += 1;
        let raw = record.batch.raw();
        self.rows += raw.candidates as u64;
        self.gathered_bytes += self.columns.iter_mut().map(|column| column.add(record, &raw)).sum::<usize>();
        if self.gathered_bytes < GROUP_BYTES { Ok(()) } else { self.write_group() }
    }

    /// Bytes of the file so far, those that are still to be written uncompressed.
    pub(super) fn bytes(&self) -> usize {
        self.writer.as_ref().map_or(0, SerializedFileWriter::bytes_written) + self.gathered_bytes
    }

    /// Makes the file whole and puts it in place; its bytes.
    pub(super) fn finish(mut self) -> Result<u64, WriteError> {
        self.write_group()?;
        let Some(writer) = self.writer.take() else { return Ok(0) };
        let file = writer.into_inner().map_err(|error| self.failed(&error))?;
        let placed = file.sync_all().and_then(|()| fs::rename(&self.hidden, &self.path));
        placed.and_then(|()| Ok(file.metadata()?.len())).map_err(|error| self.failed(&error))
    }

    fn write_group(&mut self) -> Result<(), WriteError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let columns = &mut self.columns;
        let written = (|| {
            let mut group = writer.next_row_group()?;
            for column in columns {
                if let Some(mut writer) = group.next_column()? {
                    column.write(&mut writer)?;
                    writer.close()?;
                }
            }
            group.close().map(drop)
        })();
        self.gathered_bytes = 0;
        written.map_err(|error: ParquetError| self.failed(&error))
    }

    fn failed(&self, reason: &dyn std::error::Error) -> WriteError {
        WriteError { path: self.path.clone(), reason: reason.to_string() }
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        // Where it was put in place there is none of that name.
        let _ = fs::remove_file(&self.hidden);
    }
}

/// How long a file is left alone whatever becomes of it: it may have been made a moment before its
/// server locks it.
const YOUNG: Duration = Duration::from_secs(60);

/// Removes the unfinished files of servers that were killed while they wrote to `folder`, those of all
/// models; their number and bytes. A file is only removed that has the name of one, was made a while
/// ago, and is locked by nobody.
pub(super) fn remove_unfinished(folder: &Path) -> (usize, u64) {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let (mut files, mut bytes) = (0, 0);
    for entry in entries(folder).flat_map(|model| entries(&model.path()).collect::<Vec<_>>()) {
        if entry.file_name().to_str().is_some_and(is_unfinished)
            && let Ok(file) = File::open(entry.path())
            && let Ok(metadata) = file.metadata()
            && metadata.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age > YOUNG))
            && file.try_lock().is_ok()
            && fs::remove_file(entry.path()).is_ok()
        {
            files += 1;
            bytes += metadata.len();
        }
    }
    (files, bytes)
}

/// Whether a file has the name of one that is being written: `.<time>-<number>.parquet.part`.
fn is_unfinished(name: &str) -> bool {
    let stem = name.strip_prefix('.').and_then(|name| name.strip_suffix(".parquet.part"));
    stem.and_then(|stem| stem.rsplit_once('-')).is_some_and(|(time, number)| {
        NaiveDateTime::parse_from_str(time, TIME).is_ok() && number.parse::<u64>().is_ok()
    })
}

/// Checks that files can be written in `folder`, which is made where it is missing.
pub(super) fn check_folder(folder: &Path) -> io::Result<()> {
    let named = |error: io::Error| {
        let text = format!("cannot write in the folder of the request log, {}: {error}", folder.display());
        io::Error::new(error.kind(), text)
    };
    fs::create_dir_all(folder).map_err(named)?;
    let probe = folder.join(format!(".probe-{}", std::process::id()));
    File::create(&probe).map_err(named)?;
    fs::remove_file(&probe).map_err(named)
}
