//! Columns of a Parquet file that has one row for each row of a split.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use gatefold_dataset::Split;
use polars::prelude::{DataFrame, DataType, ParquetReader, SerReader, Series};

/// A file whose rows are those of a split, in order.
pub(super) struct Columns {
    path: PathBuf,
    frame: DataFrame,
}

impl Columns {
    /// Opens a file and proves that its rows are the split's: as many of them, and the same values
    /// in every label column that both have.
    pub(super) fn open(path: &Path, split: &Split) -> Result<Self> {
        let failed = || format!("cannot read {}", path.display());
        let file = File::open(path).with_context(failed)?;
        let frame = ParquetReader::new(file).finish().with_context(failed)?;
        ensure!(
            frame.height() == split.rows,
            "{} has {} rows, but the split has {}: score the rows of this split",
            path.display(),
            frame.height(),
            split.rows
        );
        let columns = Self { path: path.to_owned(), frame };
        for (label, values) in &split.labels {
            let Some(found) = columns.numbers(label)? else { continue };
            if let Some(row) = found.iter().zip(values).position(|(found, value)| found != value) {
                bail!(
                    "{}, row {row}: {label} is {}, but {} in the split: the rows must be those of the split, in its order",
                    path.display(),
                    found[row],
                    values[row]
                );
            }
        }
        Ok(columns)
    }

    /// The numbers of a column, where there is one.
    pub(super) fn numbers(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let Some(series) = self.series(name)? else { return Ok(None) };
        let failed = || format!("{}: column '{name}' holds no numbers", self.path.display());
        let numbers = series.strict_cast(&DataType::Float32).with_context(failed)?;
        Ok(Some(numbers.f32().with_context(failed)?.into_no_null_iter().collect()))
    }

    /// A number for each distinct value of a column, where there is one.
    pub(super) fn groups(&self, name: &str) -> Result<Option<Vec<u32>>> {
        let Some(series) = self.series(name)? else { return Ok(None) };
        let failed = || format!("{}: column '{name}' cannot be grouped by", self.path.display());
        let texts = series.cast(&DataType::String).with_context(failed)?;
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        let mut groups = Vec::with_capacity(texts.len());
        for text in texts.str().with_context(failed)?.iter() {
            let next = numbers.len() as u32;
            groups.push(*numbers.entry(text.unwrap_or_default()).or_insert(next));
        }
        Ok(Some(groups))
    }

    /// A column without nulls.
    fn series(&self, name: &str) -> Result<Option<&Series>> {
        let Ok(column) = self.frame.column(name) else { return Ok(None) };
        ensure!(
            !column.has_nulls(),
            "{}: column '{name}' has {} nulls; fill them, or use another column",
            self.path.display(),
            column.null_count()
        );
        Ok(Some(column.as_materialized_series()))
    }
}
