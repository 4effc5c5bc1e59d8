//! Opening the files of a log: names to files, files to a lazy frame, and the rows that a condition keeps.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use gatefold_schema::Files;
use polars::prelude::*;

use crate::SamplesError;

/// A log before it is read.
pub(crate) struct Source {
    /// What messages call it: its files as the recipe names them.
    pub(crate) name: PathBuf,
    /// Its rows, those that the condition leaves out already left out.
    pub(crate) frame: LazyFrame,
    /// Its columns.
    pub(crate) schema: SchemaRef,
}

/// What a file's ending says of its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Parquet,
    Csv,
    Ipc,
}

impl Format {
    fn of(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Some(Format::Parquet),
            "csv" => Some(Format::Csv),
            "arrow" | "ipc" | "feather" => Some(Format::Ipc),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::Parquet => "Parquet",
            Format::Csv => "CSV",
            Format::Ipc => "Arrow IPC",
        }
    }
}

/// Opens the files of a log, relative to `folder`, and leaves out the rows that do not meet `condition`.
///
/// # Errors
/// Names that no file has, files of several formats or of none, files that cannot be read, a condition that is
/// no SQL or names a column that is not there.
pub(crate) fn open(folder: &Path, files: &Files, condition: Option<&str>) -> Result<Source, SamplesError> {
    let name = folder.join(files.to_string());
    let mut paths = Vec::new();
    let mut formats = Vec::new();
    for written in files.names() {
        let (found, format) = resolve(folder, written)?;
        paths.extend(found);
        formats.push(format);
    }
    let Some(&format) = formats.first() else {
        return Err(SamplesError::source(&name, "no file is named; give one at least"));
    };
    if let Some(other) = formats.iter().find(|other| **other != format) {
        return Err(SamplesError::source(
            &name,
            format!("some files are {} and some {}; a log has one format", format.name(), other.name()),
        ));
    }
    let unreadable = |source| SamplesError::Unreadable { path: name.clone(), format: format.name(), source };
    let mut frame = scan(paths, format).map_err(unreadable)?;
    let schema = frame.collect_schema().map_err(unreadable)?;
    if let Some(condition) = condition {
        let wrong = |error: PolarsError| {
            SamplesError::source(&name, format!("where = \"{condition}\" cannot be used: {error}"))
        };
        let kept = polars::sql::sql_expr(condition).map_err(wrong)?;
        frame = frame.filter(kept);
        frame.collect_schema().map_err(wrong)?;
    }
    Ok(Source { name, frame, schema })
}

/// The paths that a name stands for, and their format.
fn resolve(folder: &Path, written: &str) -> Result<(Vec<PlRefPath>, Format), SamplesError> {
    let no_format = |path: &Path| {
        let text = "has none of the endings .parquet, .csv, .arrow, .ipc and .feather, so its format is open; \
                    rename it, or unpack it where it is packed";
        SamplesError::source(path, text)
    };
    if written.contains("://") {
        if !cfg!(feature = "s3") {
            let text = "is an address, but this program was built without the feature 's3'";
            return Err(SamplesError::source(Path::new(written), text));
        }
        let format = Format::of(written).ok_or_else(|| no_format(Path::new(written)))?;
        return Ok((vec![PlRefPath::new(written)], format));
    }
    let path = folder.join(written);
    let local = |path: &Path| {
        PlRefPath::try_from_path(path).map_err(|source| SamplesError::Unreadable {
            path: path.to_owned(),
            format: "a name of UTF-8",
            source,
        })
    };
    if path.is_dir() {
        // Partitions: folders such as `day=2024-03-13` are columns.
        let format = first_file(&path).as_deref().and_then(Format::of).ok_or_else(|| {
            SamplesError::source(&path, "the folder and those inside hold no .parquet, .csv or .arrow file")
        })?;
        return Ok((vec![local(&path)?], format));
    }
    if !written.contains(['*', '?', '[']) {
        std::fs::metadata(&path).map_err(SamplesError::io("read", &path))?;
        let format = Format::of(written).ok_or_else(|| no_format(&path))?;
        return Ok((vec![local(&path)?], format));
    }
    let bad = |reason: String| SamplesError::source(&path, reason);
    let pattern = path.to_str().ok_or_else(|| bad("the name is not UTF-8".into()))?;
    let entries = glob::glob(pattern).map_err(|error| bad(format!("is no pattern of names: {error}")))?;
    let mut found = Vec::new();
    for entry in entries {
        let file = entry.map_err(|error| {
            let path = error.path().to_owned();
            SamplesError::io("read", &path)(error.into())
        })?;
        if file.is_file() {
            found.push(file);
        }
    }
    found.sort();
    let Some(first) = found.first() else {
        return Err(bad("no file has such a name".into()));
    };
    let format = Format::of(&first.to_string_lossy()).ok_or_else(|| no_format(first))?;
    Ok((found.iter().map(|file| local(file)).collect::<Result<_, _>>()?, format))
}

/// The name of a file in a folder or the folders inside, of which the format can be told.
fn first_file(folder: &Path) -> Option<String> {
    let mut inside: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    inside.sort();
    let known = |path: &PathBuf| path.to_str().filter(|name| Format::of(name).is_some()).map(str::to_owned);
    let files = inside.iter().filter(|path| path.is_file()).find_map(known);
    files.or_else(|| inside.iter().filter(|path| path.is_dir()).find_map(|folder| first_file(folder)))
}

fn scan(paths: Vec<PlRefPath>, format: Format) -> PolarsResult<LazyFrame> {
    match format {
        Format::Parquet => LazyFrame::scan_parquet_files(paths.into(), ScanArgsParquet::default()),
        Format::Csv => LazyCsvReader::new_paths(paths.into())
            .with_try_parse_dates(true)
            .with_infer_schema_length(Some(10_000))
            .finish(),
        Format::Ipc => LazyFrame::scan_ipc_sources(
            ScanSources::Paths(paths.into()),
            IpcScanOptions::default(),
            UnifiedScanArgs { glob: false, ..UnifiedScanArgs::default() },
        ),
    }
}

/// Hands over the rows of a frame batch by batch, in their order.
///
/// # Errors
/// What `take` returns, and a file that cannot be read to its end.
pub(crate) fn for_each_batch(
    frame: LazyFrame,
    failed: impl FnOnce(PolarsError) -> SamplesError,
    mut take: impl FnMut(DataFrame) -> Result<(), SamplesError>,
) -> Result<(), SamplesError> {
    let (sender, receiver) = mpsc::sync_channel(2);
    // A closed channel means that nobody wants more.
    let callback = PlanCallback::new(move |batch: DataFrame| Ok(sender.send(batch).is_err()));
    let plan = match frame.sink_batches(callback, true, None) {
        Ok(plan) => plan,
        Err(source) => return Err(failed(source)),
    };
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| plan.collect_with_engine(Engine::Streaming).map(drop));
        let mut taken = Ok(());
        for batch in receiver {
            taken = take(batch);
            if taken.is_err() {
                break;
            }
        }
        let read = reader.join().unwrap_or_else(|_| Err(polars_err!(ComputeError: "the reader panicked")));
        taken.and_then(|()| read.map_err(failed))
    })
}
