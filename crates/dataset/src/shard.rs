//! Reading one shard file.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use gatefold_features::FeatureColumn;
use gatefold_schema::{FittedFeature, Kind, PADDING_CODE, SampleManifest};
use polars::prelude::*;

use crate::{DatasetError, Split};

/// Arrays of codes inside lists.
type CodeArray = <Int32Type as PolarsDataType>::Array;

/// Appends the rows of the shard at `path` to `split`.
pub(crate) fn read(
    path: &Path,
    manifest: &SampleManifest,
    rows: u64,
    split: &mut Split,
) -> Result<(), DatasetError> {
    let file = File::open(path).map_err(DatasetError::io(path))?;
    let parquet = |source| DatasetError::Parquet { path: path.to_owned(), source };
    let mut frame = ParquetReader::new(file).finish().map_err(parquet)?;
    frame.rechunk_mut_par();
    if frame.height() as u64 != rows {
        return Err(DatasetError::content(
            path,
            format!("has {} rows, expected {rows}; build the samples again", frame.height()),
        ));
    }
    let shard = Shard { path, frame: &frame };
    split.rows += frame.height();
    split.request.extend_from_slice(shard.numbers::<UInt32Type>("request")?);
    for (fitted, column) in manifest.features.iter().zip(&mut split.columns) {
        shard.feature(fitted, column)?;
    }
    let exact = exact_labels(manifest);
    for (label, values) in &mut split.labels {
        let more = shard.numbers::<Float32Type>(label)?;
        let is_good = |value: &f32| match exact.contains(label.as_str()) {
            true => *value == 0.0 || *value == 1.0,
            false => value.is_finite(),
        };
        if let Some(row) = more.iter().position(|value| !is_good(value)) {
            let wanted = if exact.contains(label.as_str()) { "0 or 1" } else { "a finite number" };
            return Err(DatasetError::content(
                path,
                format!("label '{label}', row {row}: {} is not {wanted}; build the samples again", more[row]),
            ));
        }
        values.extend_from_slice(more);
    }
    if frame.column("time").is_ok() {
        split.time.get_or_insert_default().extend_from_slice(shard.numbers::<Int64Type>("time")?);
    }
    Ok(())
}

/// Labels that must be 0 or 1: those that tasks learn from or are evaluated against.
fn exact_labels(manifest: &SampleManifest) -> BTreeSet<&str> {
    let tasks = manifest.tasks.iter();
    let of_tasks = tasks.flat_map(|task| [Some(&task.label), task.potential_label.as_ref()]).flatten();
    of_tasks.chain(manifest.derived.iter().map(|output| &output.label)).map(String::as_str).collect()
}

struct Shard<'a> {
    path: &'a Path,
    frame: &'a DataFrame,
}

impl<'a> Shard<'a> {
    fn column(&self, name: &str) -> Result<&'a Series, DatasetError> {
        let column = self.frame.column(name).map_err(|_| {
            DatasetError::content(self.path, format!("there is no column '{name}'; build the samples again"))
        })?;
        if column.has_nulls() {
            return Err(DatasetError::content(
                self.path,
                format!(
                    "column '{name}' has {} nulls, expected none; build the samples again",
                    column.null_count()
                ),
            ));
        }
        Ok(column.as_materialized_series())
    }

    fn numbers<T: PolarsNumericType>(&self, name: &str) -> Result<&'a [T::Native], DatasetError> {
        let series = self.column(name)?;
        let wanted = T::get_static_dtype();
        if *series.dtype() != wanted {
            return Err(self.wrong_type(name, series, &wanted));
        }
        let array: &ChunkedArray<T> = series.as_ref().as_ref();
        array.cont_slice().map_err(|source| DatasetError::Parquet { path: self.path.to_owned(), source })
    }

    fn wrong_type(&self, name: &str, series: &Series, wanted: &DataType) -> DatasetError {
        DatasetError::content(
            self.path,
            format!(
                "column '{name}' has type {}, expected {wanted}; build the samples again",
                series.dtype()
            ),
        )
    }

    /// Appends a feature's values.
    fn feature(&self, fitted: &FittedFeature, column: &mut FeatureColumn) -> Result<(), DatasetError> {
        let name = fitted.feature.name.as_str();
        match column {
            FeatureColumn::Numbers(values) => {
                let more = self.numbers::<Float32Type>(name)?;
                if let Some(row) = more.iter().position(|value| !value.is_finite()) {
                    return Err(DatasetError::content(
                        self.path,
                        format!(
                            "feature '{name}', row {row}: {} is not finite; build the samples again",
                            more[row]
                        ),
                    ));
                }
                values.extend_from_slice(more);
            }
            FeatureColumn::Codes { width, data } => {
                let first = data.len();
                if fitted.feature.kind == Kind::Sequence {
                    self.lists(name, *width, data)?;
                } else {
                    data.extend_from_slice(self.numbers::<Int32Type>(name)?);
                }
                let limit = fitted.code_count().unwrap_or(0);
                let is_bad = |code: &i32| usize::try_from(*code).map_or(true, |code| code >= limit);
                if let Some(position) = data[first..].iter().position(is_bad) {
                    return Err(DatasetError::content(
                        self.path,
                        format!(
                            "feature '{name}', row {}: code {} is outside 0..{limit}; build the samples again",
                            position / *width,
                            data[first + position]
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Appends lists of codes, padded to `width`.
    fn lists(&self, name: &str, width: usize, data: &mut Vec<i32>) -> Result<(), DatasetError> {
        let series = self.column(name)?;
        let wanted = DataType::List(Box::new(DataType::Int32));
        let wrong_type = || self.wrong_type(name, series, &wanted);
        let lists = series.list().map_err(|_| wrong_type())?;
        let array = lists.downcast_as_array();
        let codes = array.values().as_any().downcast_ref::<CodeArray>().ok_or_else(wrong_type)?;
        let codes = codes.values().as_slice();
        data.reserve(width * series.len());
        for (row, bounds) in array.offsets().as_slice().windows(2).enumerate() {
            let list = &codes[bounds[0] as usize..bounds[1] as usize];
            if list.len() > width {
                return Err(DatasetError::content(
                    self.path,
                    format!(
                        "feature '{name}', row {row}: {} codes, at most {width} fit; build the samples again",
                        list.len()
                    ),
                ));
            }
            let first = data.len();
            data.extend_from_slice(list);
            data.resize(first + width, PADDING_CODE);
        }
        Ok(())
    }
}
