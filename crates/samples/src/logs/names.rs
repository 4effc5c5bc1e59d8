//! The names of a log's files in a recipe to the files that there are.

use std::path::{Path, PathBuf};

use gatefold_schema::Files;
use polars::prelude::PlRefPath;

use crate::SamplesError;

/// What a file's ending says of its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
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

    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Parquet => "Parquet",
            Format::Csv => "CSV",
            Format::Ipc => "Arrow IPC",
        }
    }
}

/// The files of a log.
pub(super) struct Found {
    /// What messages call them: as the recipe names them, below the folder of the logs.
    pub(super) name: PathBuf,
    /// Local files, each there; of a store, names that may have patterns.
    pub(super) paths: Vec<PlRefPath>,
    pub(super) format: Format,
    /// Whether they lie in a store that is reached by an address.
    pub(super) is_remote: bool,
    /// Whether folders such as `day=2026-01-05` are columns: those below the folder of the logs, wherever that lies.
    pub(super) is_partitioned: bool,
}

/// Whether a name is an address of a store, such as `s3://bucket/clicks/*.parquet`.
fn is_address(name: &str) -> bool {
    name.contains("://")
}

/// Finds the files of a log, whose names are relative to `folder`.
///
/// # Errors
/// Names that no file has, files of several formats or of none, empty files.
pub(super) fn find(folder: &Path, files: &Files) -> Result<Found, SamplesError> {
    let shown = |name: &String| {
        if is_address(name) { name.clone() } else { folder.join(name).display().to_string() }
    };
    let name = PathBuf::from(files.names().iter().map(shown).collect::<Vec<_>>().join(", "));
    let is_remote = files.names().iter().any(|name| is_address(name));
    if is_remote && !files.names().iter().all(|name| is_address(name)) {
        let text = "some files are in a store and some are not; a log lies in one place";
        return Err(SamplesError::source(&name, text));
    }
    let mut local = Vec::new();
    for written in files.names().iter().filter(|_| !is_remote) {
        resolve(&folder.join(written), &mut local)?;
    }
    let listed: Vec<String> = match is_remote {
        true => files.names().iter().map(|name| address(name)).collect::<Result<_, _>>()?,
        false => local.iter().map(|path| text(path).map(str::to_owned)).collect::<Result<_, _>>()?,
    };
    let mut format: Option<(Format, &str)> = None;
    for path in &listed {
        let own = Format::of(path).ok_or_else(|| unknown_format(Path::new(path)))?;
        match format {
            Some((first, other)) if first != own => {
                let text = format!(
                    "is {}, but {other} of the same log is {}; a log has one format",
                    own.name(),
                    first.name()
                );
                return Err(SamplesError::source(Path::new(path), text));
            }
            _ => format = Some((own, path)),
        }
    }
    let Some((format, _)) = format else {
        return Err(SamplesError::source(&name, "no file is named; give one at least"));
    };
    for path in &local {
        let bytes = std::fs::metadata(path).map_err(SamplesError::io("read", path))?.len();
        if bytes == 0 {
            return Err(SamplesError::source(path, "the file is empty; write it again, or remove it"));
        }
    }
    let is_partitioned = listed.iter().any(|path| {
        let path = Path::new(path);
        let below = path.strip_prefix(folder).unwrap_or(path).parent();
        below.is_some_and(|below| below.to_string_lossy().contains('='))
    });
    let paths = listed.iter().map(PlRefPath::new).collect();
    Ok(Found { name, paths, format, is_remote, is_partitioned })
}

/// A name of files in a store, as the reader wants it.
fn address(name: &str) -> Result<String, SamplesError> {
    let place = Path::new(name);
    if !cfg!(feature = "s3") {
        return Err(SamplesError::source(
            place,
            "is an address, but this program was built without the feature 's3'",
        ));
    }
    if !name.starts_with("s3://") {
        return Err(SamplesError::source(
            place,
            "is no address that can be read; use s3://bucket/name.parquet",
        ));
    }
    if name.ends_with('/') {
        return Err(SamplesError::source(
            place,
            "is a folder in a store; name its files, such as s3://bucket/clicks/**/*.parquet",
        ));
    }
    Ok(name.to_owned())
}

fn unknown_format(path: &Path) -> SamplesError {
    let text = "has none of the endings .parquet, .csv, .arrow, .ipc and .feather, so its format is open; rename it, \
                or unpack it where it is packed";
    SamplesError::source(path, text)
}

fn text(path: &Path) -> Result<&str, SamplesError> {
    path.to_str().ok_or_else(|| SamplesError::source(path, "the name is not UTF-8; rename it"))
}

/// Appends the files that `path` stands for: itself, those in a folder, or those that a pattern fits.
fn resolve(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), SamplesError> {
    if path.is_dir() {
        let before = found.len();
        inside(path, found)?;
        if found.len() == before {
            let text = "the folder and those inside hold no .parquet, .csv or .arrow file";
            return Err(SamplesError::source(path, text));
        }
        return Ok(());
    }
    let pattern = text(path)?;
    // A file may be called like a pattern.
    if path.exists() || !pattern.contains(['*', '?', '[']) {
        std::fs::metadata(path).map_err(SamplesError::io("read", path))?;
        found.push(path.to_owned());
        return Ok(());
    }
    let bad = |reason: String| SamplesError::source(path, reason);
    let entries = glob::glob(pattern).map_err(|error| bad(format!("is no pattern of names: {error}")))?;
    let before = found.len();
    for entry in entries {
        let file = entry.map_err(|error| {
            let path = error.path().to_owned();
            SamplesError::io("read", &path)(error.into())
        })?;
        if file.is_file() {
            found.push(file);
        }
    }
    found[before..].sort();
    if found.len() == before { Err(bad("no file has such a name".into())) } else { Ok(()) }
}

/// Appends the files of a folder and of those inside by name. Hidden ones, and those that writers leave as marks,
/// such as `_SUCCESS`, are not read.
fn inside(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), SamplesError> {
    let read = SamplesError::io("read", folder);
    let entries = std::fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<PathBuf>>>()
    });
    let mut entries = entries.map_err(read)?;
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(['.', '_']) {
            continue;
        }
        if path.is_dir() {
            inside(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}
