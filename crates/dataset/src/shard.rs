//! Reading one shard file.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use gatefold_features::FeatureColumn;
use gatefold_schema::{
    FittedFeature, Kind, Level, Loss, PADDING_CODE, SampleManifest, manifest::SHARD_FINGERPRINT,
};
use polars::prelude::*;

use crate::{DatasetError, Split, shards::Columns};

/// Arrays of codes inside lists.
type CodeArray = <Int32Type as PolarsDataType>::Array;

/// The rows of the shard at `path`, which must be `rows`.
pub(crate) fn read(
    path: &Path,
    manifest: &SampleManifest,
    rows: u64,
    columns: Columns<'_>,
) -> Result<Split, DatasetError> {
    let parquet = |source| DatasetError::Parquet { path: path.to_owned(), source };
    let file = File::open(path).map_err(DatasetError::io(path))?;
    let mut reader = ParquetReader::new(file);
    let metadata = reader.get_metadata().map_err(parquet)?;
    check_fingerprint(path, metadata, &manifest.fingerprint)?;
    if metadata.num_rows as u64 != rows {
        return Err(DatasetError::content(
            path,
            format!("has {} rows, expected {rows}; build the samples again", metadata.num_rows),
        ));
    }
    let schema = reader.schema().map_err(parquet)?;
    let names = wanted(manifest, columns, schema.contains("time"));
    if let Some(missing) = names.iter().find(|name| !schema.contains(name.as_str())) {
        return Err(DatasetError::content(
            path,
            format!("there is no column '{missing}'; build the samples again"),
        ));
    }
    // One thread: the others train meanwhile.
    let reader = reader.with_columns(Some(names)).read_parallel(ParallelStrategy::None);
    let mut shard = Shard { path, frame: reader.finish().map_err(parquet)? };
    let mut split = Split::empty(manifest);
    split.rows = shard.frame.height();
    split.request = shard.requests()?;
    split.columns.truncate(if columns.features { manifest.features.len() } else { 0 });
    for (fitted, column) in manifest.features.iter().zip(&mut split.columns) {
        shard.feature(fitted, column)?;
        if fitted.feature.side.level() == Level::Request {
            shard.check_same(&fitted.feature.name, column, &split.request)?;
        }
    }
    let exact = exact_labels(manifest);
    split.labels.retain(|name, _| columns.labels.contains(name));
    for (name, values) in &mut split.labels {
        *values = shard.label(name, exact.contains(name.as_str()))?;
    }
    if shard.frame.column("time").is_ok() {
        split.time = Some(shard.numbers::<Int64Type>("time")?);
    }
    Ok(split)
}

/// Names of the columns to read.
fn wanted(manifest: &SampleManifest, columns: Columns<'_>, has_time: bool) -> Vec<String> {
    let mut names = vec!["request".to_owned()];
    if columns.features {
        names.extend(manifest.features.iter().map(|fitted| fitted.feature.name.clone()));
    }
    names.extend(columns.labels.iter().cloned());
    if columns.time && has_time {
        names.push("time".into());
    }
    names
}

/// A shard says which encoders its codes come from.
fn check_fingerprint(path: &Path, metadata: &FileMetadata, expected: &str) -> Result<(), DatasetError> {
    let entries = metadata.key_value_metadata().iter().flatten();
    let found = entries.filter(|entry| entry.key == SHARD_FINGERPRINT).find_map(|entry| entry.value.clone());
    match found {
        Some(found) if found == expected => Ok(()),
        Some(found) => {
            Err(DatasetError::Fingerprint { path: path.to_owned(), found, expected: expected.to_owned() })
        }
        None => Err(DatasetError::content(
            path,
            format!(
                "does not say which encoders it comes from ({SHARD_FINGERPRINT}); build the samples again"
            ),
        )),
    }
}

/// Labels that must be 0 or 1: those that tasks learn from or are evaluated against, unless what
/// they predict is a number.
fn exact_labels(manifest: &SampleManifest) -> BTreeSet<&str> {
    let tasks = manifest.tasks.iter().filter(|task| task.loss != Loss::SquaredError);
    let of_tasks = tasks.flat_map(|task| [Some(&task.label), task.potential_label.as_ref()]).flatten();
    of_tasks.chain(manifest.derived.iter().map(|output| &output.label)).map(String::as_str).collect()
}

/// A shard's columns; each is freed when its values have been taken.
struct Shard<'a> {
    path: &'a Path,
    frame: DataFrame,
}

impl Shard<'_> {
    /// Takes a column, which must not have nulls.
    fn take(&mut self, name: &str) -> Result<Series, DatasetError> {
        let parquet = |source| DatasetError::Parquet { path: self.path.to_owned(), source };
        let column = self.frame.drop_in_place(name).map_err(parquet)?;
        if column.has_nulls() {
            let row = column.is_null().iter().position(|is_null| is_null == Some(true)).unwrap_or(0);
            return Err(self.refuse(format!(
                "column '{name}' has {} nulls (the first is in row {row}), expected none",
                column.null_count()
            )));
        }
        Ok(column.take_materialized_series())
    }

    /// Takes a column of numbers.
    fn numbers<T: PolarsNumericType>(&mut self, name: &str) -> Result<Vec<T::Native>, DatasetError> {
        let series = self.take(name)?;
        let wanted = T::get_static_dtype();
        if *series.dtype() != wanted {
            return Err(self.wrong_type(name, &series, &wanted));
        }
        let array: &ChunkedArray<T> = series.as_ref().as_ref();
        let mut values = Vec::with_capacity(series.len());
        array.downcast_iter().for_each(|chunk| values.extend_from_slice(chunk.values().as_slice()));
        Ok(values)
    }

    /// The request of each row: rows of a request stand together, in the order of their numbers.
    fn requests(&mut self) -> Result<Vec<u32>, DatasetError> {
        let request = self.numbers::<UInt32Type>("request")?;
        match request.windows(2).position(|pair| pair[1].wrapping_sub(pair[0]) > 1) {
            None => Ok(request),
            Some(row) => Err(self.refuse(format!(
                "row {} is of request {} after request {}, expected requests numbered in order",
                row + 1,
                request[row + 1],
                request[row]
            ))),
        }
    }

    /// A label: 0 or 1 where it must be exact, otherwise any finite number.
    fn label(&mut self, name: &str, exact: bool) -> Result<Vec<f32>, DatasetError> {
        let values = self.numbers::<Float32Type>(name)?;
        let is_good = |value: &f32| if exact { *value == 0.0 || *value == 1.0 } else { value.is_finite() };
        let Some(row) = values.iter().position(|value| !is_good(value)) else { return Ok(values) };
        let wanted = if exact { "0 or 1" } else { "a finite number" };
        Err(self.refuse(format!("label '{name}', row {row}: {} is not {wanted}", values[row])))
    }

    /// Fills `column` with a feature's values.
    fn feature(&mut self, fitted: &FittedFeature, column: &mut FeatureColumn) -> Result<(), DatasetError> {
        let name = fitted.feature.name.as_str();
        let (width, data) = match column {
            FeatureColumn::Numbers(values) => {
                *values = self.numbers::<Float32Type>(name)?;
                let Some(row) = values.iter().position(|value| !value.is_finite()) else { return Ok(()) };
                return Err(
                    self.refuse(format!("feature '{name}', row {row}: {} is not finite", values[row]))
                );
            }
            FeatureColumn::Codes { width, data } => (*width, data),
        };
        *data = match fitted.feature.kind {
            Kind::Sequence => self.lists(name, width)?,
            _ => self.numbers::<Int32Type>(name)?,
        };
        let limit = fitted.code_count().unwrap_or(0);
        let is_bad = |code: &i32| usize::try_from(*code).map_or(true, |code| code >= limit);
        match data.iter().position(is_bad) {
            None => Ok(()),
            Some(place) => Err(self.refuse(format!(
                "feature '{name}', row {}: code {} is outside its table of {limit} rows",
                place / width,
                data[place]
            ))),
        }
    }

    /// A user or context feature has one value a request, whatever its rows.
    fn check_same(&self, name: &str, column: &FeatureColumn, request: &[u32]) -> Result<(), DatasetError> {
        let differs = |row: &usize| {
            request[*row] == request[row - 1]
                && match column {
                    FeatureColumn::Numbers(values) => values[*row] != values[row - 1],
                    FeatureColumn::Codes { width, data } => {
                        let (before, rest) = data[(row - 1) * width..].split_at(*width);
                        before != &rest[..*width]
                    }
                }
        };
        match (1..request.len()).find(differs) {
            None => Ok(()),
            Some(row) => Err(self.refuse(format!(
                "feature '{name}', row {row}: differs from the row before, which is of the same request; a user or \
                 context feature has one value a request: give it side = \"item\""
            ))),
        }
    }

    /// Takes a column of lists of codes, each padded to `width`.
    fn lists(&mut self, name: &str, width: usize) -> Result<Vec<i32>, DatasetError> {
        let series = self.take(name)?;
        let wanted = DataType::List(Box::new(DataType::Int32));
        let wrong_type = || self.wrong_type(name, &series, &wanted);
        let lists = series.list().map_err(|_| wrong_type())?;
        let mut data = Vec::with_capacity(width * series.len());
        for chunk in lists.downcast_iter() {
            let codes = chunk.values().as_any().downcast_ref::<CodeArray>().ok_or_else(wrong_type)?;
            let codes = codes.values().as_slice();
            for bounds in chunk.offsets().as_slice().windows(2) {
                let list = &codes[bounds[0] as usize..bounds[1] as usize];
                if list.len() > width {
                    let (row, found) = (data.len() / width, list.len());
                    return Err(self
                        .refuse(format!("feature '{name}', row {row}: {found} codes, at most {width} fit")));
                }
                data.extend_from_slice(list);
                data.resize(data.len() + width - list.len(), PADDING_CODE);
            }
        }
        Ok(data)
    }

    fn wrong_type(&self, name: &str, series: &Series, wanted: &DataType) -> DatasetError {
        self.refuse(format!("column '{name}' has type {}, expected {wanted}", series.dtype()))
    }

    /// What is wrong with the file, with the remedy.
    fn refuse(&self, text: String) -> DatasetError {
        DatasetError::content(self.path, format!("{text}; build the samples again"))
    }
}
