//! A log before it is read: its files as a lazy frame, the rows that a condition keeps, and what its rows must
//! fulfil.
//!
//! CSV has no types. What the first rows look like decides them, unless what reads a column says otherwise; values
//! are parsed here, so that one which cannot be is a bad row and not the end of the reading.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use gatefold_schema::{Feature, Files, Kind};
use polars::prelude::*;

use super::{
    bad::{Check, Fault},
    names::{Format, Found, find},
};
use crate::{
    SamplesError,
    columns::{check_column, raw_type},
};

/// Rows of a CSV file that decide about types.
const ROWS_FOR_TYPES: usize = 10_000;
/// Share of them.
const NEARLY_ALL: f64 = 0.9;
/// Before the name of a CSV column as it is written.
const RAW: &str = "#raw:";

/// A log before it is read.
pub(crate) struct Source {
    /// What messages call it: its files as the recipe names them.
    pub(crate) name: PathBuf,
    /// Its key in `[samples.logs]`.
    pub(crate) log: &'static str,
    /// Its columns.
    pub(crate) schema: SchemaRef,
    files: Found,
    scanned: LazyFrame,
    condition: Option<Expr>,
    /// Columns of CSV that are parsed as another type than they look like.
    retyped: Vec<(String, DataType)>,
    /// What rows must fulfil that are read.
    pub(super) checks: Vec<Check>,
}

impl Source {
    /// Opens the files of a log, relative to `folder`; rows that do not meet `condition` are left out.
    ///
    /// # Errors
    /// What [`find`] refuses, files that cannot be read or differ in their columns, a condition that is no SQL or
    /// names a column that is not there.
    pub(crate) fn open(
        log: &'static str,
        folder: &Path,
        files: &Files,
        condition: Option<&str>,
    ) -> Result<Self, SamplesError> {
        let files = find(folder, files)?;
        let name = files.name.clone();
        let schema = schema(&files)?;
        let unreadable = |source| unreadable(&name, &files, source);
        let scanned = match files.format {
            Format::Csv => {
                // Every column as it is written, and parsed as it looks.
                let texts = schema.iter_names().map(|name| Field::new(name.clone(), DataType::String));
                let texts = Schema::from_iter(texts);
                let raw = schema.iter_names().map(|name| col(name.clone()).alias(raw_name(name)));
                let parsed =
                    schema.iter().map(|(name, found)| parse(col(name.clone()), found).alias(name.clone()));
                let frame = scan(&files.paths, files.format, Some(texts.into())).map_err(unreadable)?;
                frame.with_columns(raw.chain(parsed).collect::<Vec<_>>())
            }
            _ => scan(&files.paths, files.format, None).map_err(unreadable)?,
        };
        let condition = match condition {
            None => None,
            Some(text) => {
                let wrong = |error: PolarsError| {
                    let columns: Vec<&str> = schema.iter_names().map(PlSmallStr::as_str).collect();
                    let columns = columns.join(", ");
                    SamplesError::source(
                        &name,
                        format!("where = \"{text}\" cannot be used: {error}; its columns are: {columns}"),
                    )
                };
                let kept = polars::sql::sql_expr(text).map_err(wrong)?;
                let empty = DataFrame::empty_with_schema(&schema).lazy();
                let selected = empty.select([kept.clone().alias("#kept")]).collect_schema().map_err(wrong)?;
                if selected.get("#kept") != Some(&DataType::Boolean) {
                    return Err(wrong(
                        polars_err!(ComputeError: "it is no condition, which is true or false"),
                    ));
                }
                Some(kept)
            }
        };
        Ok(Self { name, log, schema, files, scanned, condition, retyped: Vec::new(), checks: Vec::new() })
    }

    /// The rows that the condition keeps.
    pub(crate) fn frame(&self) -> LazyFrame {
        self.kept(self.scanned.clone())
    }

    /// As [`frame`](Self::frame), with the number of each row in the log from 1 on, as column `name`.
    pub(super) fn numbered(&self, name: &str) -> LazyFrame {
        self.kept(self.scanned.clone().with_row_index(name, Some(1)))
    }

    fn kept(&self, mut frame: LazyFrame) -> LazyFrame {
        if let Some(condition) = &self.condition {
            frame = frame.filter(condition.clone());
        }
        if self.retyped.is_empty() {
            return frame;
        }
        let parsed =
            self.retyped.iter().map(|(name, wanted)| parse(self.raw(name), wanted).alias(name.as_str()));
        frame.with_columns(parsed.collect::<Vec<_>>())
    }

    /// A column as it is written.
    pub(super) fn raw(&self, column: &str) -> Expr {
        if self.files.format == Format::Csv { col(raw_name(column)) } else { col(column) }
    }

    /// Rows are bad that have no value in the column.
    pub(crate) fn require(&mut self, column: &str) {
        let bad = self.raw(column).is_null();
        self.check(Check { fault: Fault::Missing, column: column.to_owned(), bad });
    }

    /// Rows are bad whose value in the column cannot be read as its type says. Every column that is read is
    /// announced here.
    pub(crate) fn use_column(&mut self, column: &str) {
        let Some(found) = self.schema.get(column).filter(|_| self.files.format == Format::Csv) else {
            return;
        };
        let what = match found {
            DataType::String => return,
            found if found.is_integer() => "integer",
            found if found.is_float() => "number",
            DataType::Boolean => "truth value",
            _ => "timestamp",
        };
        let bad = self.raw(column).is_not_null().and(col(column).is_null());
        self.check(Check { fault: Fault::Unreadable(what), column: column.to_owned(), bad });
    }

    /// Has a column of CSV of which nearly all values look like one of `candidates`, and some do not, parsed as that.
    pub(super) fn settle(&mut self, column: &str, candidates: &[DataType]) -> Result<(), SamplesError> {
        if self.schema.get(column) != Some(&DataType::String) || self.files.format != Format::Csv {
            return Ok(());
        }
        let rows = self.scanned.clone().limit(ROWS_FOR_TYPES as u32);
        let texts = rows.select([self.raw(column)]).collect().map_err(|error| self.unreadable(error))?.lazy();
        for wanted in candidates {
            let share = parse(self.raw(column), wanted).is_not_null().mean().alias(column);
            // Texts of which none looks like a timestamp are an error of the parser.
            let share = texts
                .clone()
                .select([share])
                .collect()
                .and_then(|share| Ok(share.column(column)?.f64()?.get(0)));
            if share.is_ok_and(|share| share.is_some_and(|share| share > NEARLY_ALL)) {
                self.parse_as(column, wanted.clone());
                return Ok(());
            }
        }
        Ok(())
    }

    /// Adds a check, once.
    pub(super) fn check(&mut self, check: Check) {
        if !self.checks.iter().any(|other| other.column == check.column && other.fault == check.fault) {
            self.checks.push(check);
        }
    }

    /// Sees to it that a feature can be read from a column.
    ///
    /// # Errors
    /// No such column, or one of another type.
    pub(crate) fn use_feature(&mut self, column: &str, feature: &Feature) -> Result<(), SamplesError> {
        if feature.kind != Kind::Sequence {
            self.parse_as(column, raw_type(feature));
        }
        check_column(&self.name, &self.schema, column, feature)?;
        self.use_column(column);
        if self.schema.get(column) == Some(&DataType::UInt64) && raw_type(feature) == DataType::Int64 {
            let bad = col(column).gt(lit(i64::MAX.cast_unsigned()));
            self.check(Check {
                fault: Fault::Unreadable("integer below 2^63"),
                column: column.to_owned(),
                bad,
            });
        }
        Ok(())
    }

    /// Has a column of CSV parsed as `wanted`, whatever it looks like; other formats say themselves what their
    /// columns are.
    pub(crate) fn parse_as(&mut self, column: &str, wanted: DataType) {
        let Some(found) = self.schema.get(column).filter(|_| self.files.format == Format::Csv) else {
            return;
        };
        if *found == wanted {
            return;
        }
        Arc::make_mut(&mut self.schema).insert(column.into(), wanted.clone());
        self.retyped.push((column.to_owned(), wanted));
    }

    /// What to say of rows that cannot be read: which file it is.
    pub(super) fn unreadable(&self, source: PolarsError) -> SamplesError {
        let reads = |path: &&PlRefPath| {
            let frame = scan(std::slice::from_ref(*path), self.files.format, None);
            frame.and_then(|frame| run(frame, |_| true)).is_ok()
        };
        let mut path = self.name.clone();
        if self.files.paths.len() > 1 && !self.files.is_remote {
            if let Some(damaged) = self.files.paths.iter().find(|path| !reads(path)) {
                path = PathBuf::from(damaged.as_str());
            }
        }
        SamplesError::Reading { path, source }
    }
}

fn raw_name(column: &str) -> PlSmallStr {
    format!("{RAW}{column}").into()
}

/// The value that a text stands for; null where it stands for none.
fn parse(text: Expr, wanted: &DataType) -> Expr {
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
fn schema(files: &Found) -> Result<SchemaRef, SamplesError> {
    let of = |paths: &[PlRefPath], name: &Path| {
        let frame = scan(paths, files.format, None);
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

fn unreadable(path: &Path, files: &Found, source: PolarsError) -> SamplesError {
    if files.is_remote {
        return SamplesError::Store { path: path.to_owned(), source };
    }
    SamplesError::Unreadable { path: path.to_owned(), format: files.format.name(), source }
}

/// A lazy reader of the files. Folders such as `day=2026-01-05` are columns.
fn scan(paths: &[PlRefPath], format: Format, csv: Option<SchemaRef>) -> PolarsResult<LazyFrame> {
    let is_remote = paths.iter().any(|path| path.has_scheme());
    let partitioned =
        paths.iter().any(|path| path.as_str().split('/').rev().skip(1).any(|part| part.contains('=')));
    let mut args = UnifiedScanArgs { glob: is_remote, ..UnifiedScanArgs::default() };
    if !partitioned {
        args.hive_options = HiveOptions::new_disabled();
    }
    let sources = ScanSources::Paths(paths.iter().cloned().collect());
    let plan = match format {
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
fn run(frame: LazyFrame, mut take: impl FnMut(DataFrame) -> bool) -> PolarsResult<()> {
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
