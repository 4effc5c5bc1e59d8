//! A log before it is read: its files as a lazy frame, the rows that a condition keeps, and what its rows must
//! fulfil.
//!
//! CSV has no types. What the first rows look like decides them, unless what reads a column says otherwise; values
//! are parsed here, so that one which cannot be is a bad row and not the end of the reading.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gatefold_schema::{Feature, Files, Kind};
use polars::prelude::*;

use super::{
    bad::{Check, Fault},
    names::{Format, Found, find},
    scan::{ROWS_FOR_TYPES, parse, run, scan, schema, unreadable},
};
use crate::{
    SamplesError,
    columns::{check_column, raw_type},
};

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
        let scanned = rows(&files.paths, &files, &schema).map_err(unreadable)?;
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

    /// The rows of each file by itself, with their numbers in it from 1 on as column `name`. Files of a store, whose
    /// names are not known here, are taken together.
    pub(super) fn numbered(&self, name: &str) -> PolarsResult<Vec<(PathBuf, LazyFrame)>> {
        if self.files.is_remote {
            let frame = self.scanned.clone().with_row_index(name, Some(1));
            return Ok(vec![(self.name.clone(), self.kept(frame))]);
        }
        let of_file = |path: &PlRefPath| {
            let frame = rows(std::slice::from_ref(path), &self.files, &self.schema)?;
            Ok((PathBuf::from(path.as_str()), self.kept(frame.with_row_index(name, Some(1)))))
        };
        self.files.paths.iter().map(of_file).collect()
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
        } else if self.files.format == Format::Csv && self.schema.contains(column) {
            let text = format!(
                "feature '{}' is a sequence, and CSV has no lists; write the log as Parquet or Arrow IPC",
                feature.name
            );
            return Err(SamplesError::source(&self.name, text));
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
            let frame = scan(std::slice::from_ref(*path), &self.files, None);
            frame.and_then(|frame| run(frame, |_| true)).is_ok()
        };
        let mut path = self.name.clone();
        if self.files.paths.len() > 1
            && !self.files.is_remote
            && let Some(damaged) = self.files.paths.iter().find(|path| !reads(path))
        {
            path = PathBuf::from(damaged.as_str());
        }
        SamplesError::Reading { path, source }
    }
}

fn raw_name(column: &str) -> PlSmallStr {
    format!("{RAW}{column}").into()
}

/// The rows of files with the columns of `schema`. Of CSV there is every column twice: as it is written, and parsed
/// as it looks.
fn rows(paths: &[PlRefPath], files: &Found, schema: &Schema) -> PolarsResult<LazyFrame> {
    if files.format != Format::Csv {
        return scan(paths, files, None);
    }
    let texts = schema.iter_names().map(|name| Field::new(name.clone(), DataType::String));
    let raw = schema.iter_names().map(|name| col(name.clone()).alias(raw_name(name)));
    let parsed = schema.iter().map(|(name, found)| parse(col(name.clone()), found).alias(name.clone()));
    let frame = scan(paths, files, Some(Schema::from_iter(texts).into()))?;
    Ok(frame.with_columns(raw.chain(parsed).collect::<Vec<_>>()))
}
