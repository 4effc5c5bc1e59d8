//! Rows that cannot be used: counted by reason while a log is read, and then left out, refused, or kept aside.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use gatefold_schema::OnBadRow;
use polars::prelude::*;

use super::{scan::for_each_batch, source::Source, times::TimeColumn};
use crate::SamplesError;

const REASON: &str = "#reason";
const ROW: &str = "#row";
/// Rows that messages show.
const EXAMPLES: u32 = 3;

/// Something that makes a row a bad one.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    pub(super) fault: Fault,
    pub(super) column: String,
    /// Where it is so.
    pub(super) bad: Expr,
}

/// What can be wrong with a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// There is none.
    Missing,
    /// It is none of these.
    Unreadable(&'static str),
    /// It is a time that cannot be when something happened.
    Time(TimeColumn),
}

impl Check {
    fn reason(&self) -> String {
        let column = &self.column;
        match &self.fault {
            Fault::Missing => format!("no '{column}'"),
            Fault::Unreadable(what) => format!("'{column}' is no {what}"),
            Fault::Time(_) => format!("'{column}' is before 1973 or after 2200"),
        }
    }

    /// What to do where most rows are so: then it is no matter of single rows.
    fn remedy(&self, value: &AnyValue<'_>) -> Option<String> {
        let column = &self.column;
        match &self.fault {
            Fault::Missing => None,
            Fault::Unreadable(what) => Some(format!(
                "column '{column}': {value} is no {what}, and so in most rows; correct the column, or the type of \
                 what reads it"
            )),
            Fault::Time(time) => Some(time.remedy(value)),
        }
    }
}

/// What becomes of bad rows.
#[derive(Clone, Debug)]
pub(crate) struct BadRows {
    pub(crate) policy: OnBadRow,
    /// Folder for those that are kept aside.
    pub(crate) quarantine: PathBuf,
}

/// Rows left out, by log and reason.
pub(crate) type Dropped = BTreeMap<String, u64>;

impl Source {
    /// Hands over the `selected` columns of the good rows batch by batch, in the order of the log, and returns
    /// how many others there are.
    ///
    /// # Errors
    /// What `take` returns, files that cannot be read to their end, bad rows where they are refused, and most rows
    /// being bad in a way that says that the column is another one than is meant.
    pub(crate) fn read(
        &self,
        mut selected: Vec<Expr>,
        bad_rows: &BadRows,
        mut take: impl FnMut(DataFrame) -> Result<(), SamplesError>,
    ) -> Result<Dropped, SamplesError> {
        selected.push(self.fault());
        let mut counts = vec![0_u64; self.checks.len()];
        let mut rows = 0;
        let failed = |error| self.unreadable(error);
        for_each_batch(self.frame().select(selected), failed, |batch| {
            rows += batch.height() as u64;
            let good = || -> PolarsResult<DataFrame> {
                let faults = batch.column(REASON)?.u32()?;
                if faults.null_count() == faults.len() {
                    return Ok(batch);
                }
                faults.iter().flatten().for_each(|fault| counts[fault as usize] += 1);
                batch.filter(&faults.is_null())
            };
            take(good().map_err(|source| SamplesError::Reading { path: self.name.clone(), source })?)
        })?;
        for (number, check) in self.checks.iter().enumerate().filter(|(number, _)| counts[*number] * 2 > rows)
        {
            let examples = self.examples(Some(number))?;
            let Some((_, rows)) = examples.first() else { continue };
            let first = rows.column(&check.column).and_then(|column| column.get(0));
            let first = first.map_err(SamplesError::step("looking for a bad row"))?;
            if let Some(remedy) = check.remedy(&first) {
                return Err(SamplesError::source(&self.name, remedy));
            }
        }
        let dropped: Vec<(String, u64)> = self
            .checks
            .iter()
            .zip(&counts)
            .filter(|(_, count)| **count > 0)
            .map(|(check, count)| (check.reason(), *count))
            .collect();
        if !dropped.is_empty() {
            match bad_rows.policy {
                OnBadRow::Drop => {}
                OnBadRow::Fail => return Err(self.refuse(&dropped)?),
                OnBadRow::Quarantine => self.set_aside(bad_rows)?,
            }
        }
        Ok(dropped.into_iter().map(|(reason, count)| (format!("{}: {reason}", self.log), count)).collect())
    }

    /// The number of the first check that a row fails; null of a good one.
    fn fault(&self) -> Expr {
        self.first_fault(|number, _| lit(number as u32), DataType::UInt32).alias(REASON)
    }

    fn first_fault(&self, value: impl Fn(usize, &Check) -> Expr, found: DataType) -> Expr {
        let checks = self.checks.iter().enumerate().rev();
        checks.fold(lit(NULL).cast(found), |rest, (number, check)| {
            when(check.bad.clone()).then(value(number, check)).otherwise(rest)
        })
    }

    /// The first bad rows, or those that fail one check, by file: their number in it, and the columns that are
    /// checked as they are written.
    fn examples(&self, check: Option<usize>) -> Result<Vec<(PathBuf, DataFrame)>, SamplesError> {
        let mut columns: Vec<&String> = Vec::new();
        for check in &self.checks {
            if !columns.contains(&&check.column) {
                columns.push(&check.column);
            }
        }
        let shown = columns.into_iter().map(|column| self.raw(column).alias(column.as_str()));
        let selected: Vec<Expr> = [col(ROW), self.fault()].into_iter().chain(shown).collect();
        let wanted = match check {
            Some(number) => col(REASON).eq(lit(number as u32)),
            None => col(REASON).is_not_null(),
        };
        let unreadable = |error| self.unreadable(error);
        let (mut examples, mut left) = (Vec::new(), EXAMPLES);
        for (path, frame) in self.numbered(ROW).map_err(unreadable)? {
            let found = frame.select(selected.clone()).filter(wanted.clone()).limit(left).collect();
            let found = found.map_err(unreadable)?;
            left -= found.height() as u32;
            if found.height() > 0 {
                examples.push((path, found));
            }
            if left == 0 {
                break;
            }
        }
        Ok(examples)
    }

    /// The error that names bad rows.
    fn refuse(&self, dropped: &[(String, u64)]) -> Result<SamplesError, SamplesError> {
        let mut shown = Vec::new();
        for (path, examples) in self.examples(None)? {
            let file = if path == self.name { String::new() } else { format!(" of {}", path.display()) };
            let [number, _, values @ ..] = examples.columns() else { continue };
            for row in 0..examples.height() {
                let show = |column: &Column| column.get(row).unwrap_or(AnyValue::Null).to_string();
                let values: Vec<String> =
                    values.iter().map(|column| format!("{} {}", column.name(), show(column))).collect();
                shown.push(format!("row {}{file} ({})", show(number), values.join(", ")));
            }
        }
        let reasons: Vec<String> =
            dropped.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
        Ok(SamplesError::source(
            &self.name,
            format!(
                "rows cannot be used ({}), such as {}; correct them, or set on_bad_row to \"drop\" or \"quarantine\"",
                reasons.join(", "),
                shown.join(", ")
            ),
        ))
    }

    /// Writes the bad rows as they are, with their reasons.
    fn set_aside(&self, bad_rows: &BadRows) -> Result<(), SamplesError> {
        let mut reason = "reason".to_owned();
        while self.schema.contains(&reason) {
            reason = format!("{reason}_of_quarantine");
        }
        let own = self.schema.iter_names().map(|name| self.raw(name).alias(name.clone()));
        let text = self.first_fault(|_, check| lit(check.reason()), DataType::String);
        let selected: Vec<Expr> = own.chain([text.alias(reason.as_str())]).collect();
        let mut frame = self.frame().select(selected).filter(col(reason.as_str()).is_not_null());
        let schema = frame.collect_schema().map_err(|error| self.unreadable(error))?;
        let folder = &bad_rows.quarantine;
        std::fs::create_dir_all(folder).map_err(SamplesError::io("create", folder))?;
        let path = folder.join(format!("{}.parquet", self.log));
        let file = File::create(&path).map_err(SamplesError::io("create", &path))?;
        let wrong = SamplesError::step("writing bad rows");
        let writer =
            ParquetWriter::new(BufWriter::new(file)).with_compression(ParquetCompression::Zstd(None));
        let mut writer = writer.batched(&schema).map_err(wrong)?;
        for_each_batch(
            frame,
            |error| self.unreadable(error),
            |batch| writer.write_batch(&batch).map_err(SamplesError::step("writing bad rows")),
        )?;
        writer.finish().map(drop).map_err(SamplesError::step("writing bad rows"))
    }
}
