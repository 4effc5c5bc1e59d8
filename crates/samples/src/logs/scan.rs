//! Files to lazy frames, and lazy frames to batches of rows.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use polars::prelude::*;

use super::names::{Format, Found};
use crate::SamplesError;

/// Rows of a CSV file that decide about types.
pub(super) const ROWS_FOR_TYPES: usize = 10_000;

/// The value that a text stands for; null where it stands for none.
pub(super) fn parse(text: Expr, wanted: &DataType) -> Expr {
    match wanted {
        DataType::String => text,
        DataType::Boolean => {
            let lower = text.str().to_lowercase();
            when(lower.clone().eq(lit("true")))
                .then(lit(true))
                .when(lower.eq(lit("false")))
                .then(lit(false))
                .otherwise(lit(NULL))
        }
        DataType::Datetime(unit, zone) => {
            let options = StrptimeOptions { strict: false, ..StrptimeOptions::default() };
            text.str().to_datetime(Some(*unit), zone.clone(), options, lit("null"))
        }
        DataType::Date => text.str().to_date(StrptimeOptions { strict: false, ..StrptimeOptions::default() }),
        wanted => text.cast(wanted.clone()),
    }
}

/// The columns of the files, which are the same in all of them.
pub(super) fn schema(files: &Found) -> Result<SchemaRef, SamplesError> {
    let of = |paths: &[PlRefPath], name: &Path| {
        let frame = scan(paths, files, None);
        frame.and_then(|mut frame| frame.collect_schema()).map_err(|source| unreadable(name, files, source))
    };
    if files.is_remote {
        return of(&files.paths, &files.name);
    }
    let path = |path: &PlRefPath| PathBuf::from(path.as_str());
    let (first, others) = files
        .paths
        .split_first()
        .ok_or_else(|| SamplesError::source(&files.name, "no file is named; give one at least"))?;
    let schema = of(std::slice::from_ref(first), &path(first))?;
    for other in others {
        let own = of(std::slice::from_ref(other), &path(other))?;
        // CSV looks its types up in the first rows, which may differ from file to file.
        let same = |found: &DataType, wanted: &DataType| files.format == Format::Csv || found == wanted;
        let differs = |text: String| {
            let text = format!("{text} {first}; the files of a log have the same columns");
            Err(SamplesError::source(&path(other), text))
        };
        for (name, wanted) in schema.iter() {
            match own.get(name) {
                None => return differs(format!("there is no column '{name}', which is in")),
                Some(found) if !same(found, wanted) => {
                    return differs(format!("column '{name}' has type {found}, but {wanted} in"));
                }
                _ => {}
            }
        }
        if let Some(more) = own.iter_names().find(|name| !schema.contains(name)) {
            return differs(format!("there is a column '{more}', which is not in"));
        }
    }
    // The types of CSV are those of all files together.
    if files.format == Format::Csv && !others.is_empty() { of(&files.paths, &files.name) } else { Ok(schema) }
}

pub(super) fn unreadable(path: &Path, files: &Found, source: PolarsError) -> SamplesError {
    if files.is_remote {
        return SamplesError::Store { path: path.to_owned(), source };
    }
    SamplesError::Unreadable { path: path.to_owned(), format: files.format.name(), source }
}

/// A lazy reader of some of the files of a log.
pub(super) fn scan(paths: &[PlRefPath], files: &Found, csv: Option<SchemaRef>) -> PolarsResult<LazyFrame> {
    let mut args = UnifiedScanArgs { glob: files.is_remote, ..UnifiedScanArgs::default() };
    if !files.is_remote && !files.is_partitioned {
        args.hive_options = HiveOptions::new_disabled();
    }
    let sources = ScanSources::Paths(paths.iter().cloned().collect());
    let plan = match files.format {
        Format::Parquet => DslBuilder::scan_parquet(sources, ParquetOptions::default(), args)?,
        Format::Ipc => DslBuilder::scan_ipc(sources, IpcScanOptions::default(), args)?,
        Format::Csv => {
            let options = CsvReadOptions::default()
                .with_infer_schema_length(Some(ROWS_FOR_TYPES))
                .with_schema_overwrite(csv)
                .map_parse_options(|options| options.with_try_parse_dates(true));
            DslBuilder::scan_csv(sources, options, args)?
        }
    };
    Ok(plan.build().into())
}

/// Hands the rows of a frame over batch by batch, in their order, until `take` says that it has enough.
pub(super) fn run(frame: LazyFrame, mut take: impl FnMut(DataFrame) -> bool) -> PolarsResult<()> {
    let (sender, receiver) = mpsc::sync_channel(2);
    // A closed channel means that nobody wants more.
    let callback = PlanCallback::new(move |batch: DataFrame| Ok(sender.send(batch).is_err()));
    let plan = frame.sink_batches(callback, true, None)?;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| plan.collect_with_engine(Engine::Streaming).map(drop));
        for batch in receiver {
            if !take(batch) {
                break;
            }
        }
        reader.join().unwrap_or_else(|_| Err(polars_err!(ComputeError: "the reader panicked")))
    })
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
    let mut taken = Ok(());
    let read = run(frame, |batch| {
        taken = take(batch);
        taken.is_ok()
    });
    taken.and_then(|()| read.map_err(failed))
}
