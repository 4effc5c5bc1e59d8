//! Raw rows from Parquet files, for scoring: the way back from a table to requests.
//!
//! A file has one row a candidate: a column for every feature, under the feature's name, and
//! anything else, which is carried over to the scores. Rows that stand together, have the same
//! `request_id` (where there is such a column) and the same user and context values are one
//! request.

use std::borrow::Cow;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use gatefold_features::{RawBatch, RawColumn};
use gatefold_schema::{EncoderSet, Feature, FittedFeature, Level};
use polars::prelude::*;

use crate::{
    SamplesError, columns,
    files::{Form, ParquetFile},
    prepared::REQUEST_ID,
};

/// Rows read from the file at once.
const CHUNK: usize = 1 << 18;

/// A Parquet file with raw feature values, read from front to back.
#[derive(Debug)]
pub struct RawTable {
    path: PathBuf,
    features: Vec<Feature>,
    rows: usize,
    /// Rows read from the file so far.
    read: usize,
    /// Rows read and not yet handed out.
    waiting: DataFrame,
    schema: SchemaRef,
}

impl RawTable {
    /// Opens the file and checks that it has a column for every feature of `set` that is not crossed, of its
    /// type.
    ///
    /// # Errors
    /// A file that is missing, damaged or no Parquet, a missing column, a column of another type or for a
    /// crossed feature.
    pub fn open(path: &Path, set: &EncoderSet) -> Result<Self, SamplesError> {
        let features: Vec<Feature> = set.sent().cloned().collect();
        let (_, schema) = crate::files::scan(path)?;
        for feature in &features {
            columns::check_column(path, &schema, &feature.name, feature)?;
        }
        for FittedFeature { feature, .. } in set.features.iter().filter(|fitted| fitted.feature.is_crossed())
        {
            if schema.contains(&feature.name) {
                let (name, parts) = (&feature.name, feature.cross.join(" and "));
                return Err(SamplesError::source(
                    path,
                    format!(
                        "column '{name}': that feature is made of {parts} wherever it is needed; remove it"
                    ),
                ));
            }
        }
        let rows = reader(path)?.num_rows().map_err(parquet(path))?;
        let waiting = DataFrame::empty_with_schema(&schema);
        Ok(Self { path: path.to_owned(), features, rows, read: 0, waiting, schema })
    }

    /// Rows in the file.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The next rows, at most `most` of them, ending between two requests where a request is not
    /// longer than that; `None` after the last.
    ///
    /// # Errors
    /// A file that cannot be read, a number that does not fit its feature.
    pub fn next_rows(&mut self, most: usize) -> Result<Option<RawRows>, SamplesError> {
        let most = most.max(1);
        // One row more shows whether the last request goes on.
        while self.waiting.height() <= most && self.read < self.rows {
            let length = CHUNK.max(most + 1).min(self.rows - self.read);
            let chunk = reader(&self.path)?
                .with_slice(Some((self.read, length)))
                .finish()
                .map_err(parquet(&self.path))?;
            self.read += length;
            self.waiting = if self.waiting.height() == 0 {
                chunk
            } else {
                self.waiting.vstack(&chunk).map_err(SamplesError::step("reading raw rows"))?
            };
        }
        if self.waiting.height() == 0 {
            return Ok(None);
        }
        let window = self.waiting.slice(0, most + 1);
        let mut rows = RawRows::new(window, &self.features).map_err(parquet(&self.path))?;
        if self.waiting.height() > most {
            let last_start = rows.starts.last().map_or(0, |start| *start as usize);
            let keep = if last_start == 0 { most } else { last_start };
            rows.truncate(keep);
        }
        self.waiting = self.waiting.slice(rows.rows() as i64, usize::MAX);
        Ok(Some(rows))
    }

    /// The request that the row `row` (from 0) belongs to.
    ///
    /// # Errors
    /// As [`RawTable::next_rows`], and if there is no such row.
    pub fn request_of_row(&mut self, row: usize) -> Result<RawRows, SamplesError> {
        let mut first = 0;
        while let Some(rows) = self.next_rows(CHUNK)? {
            if row < first + rows.rows() {
                let number = rows.starts.partition_point(|start| (*start as usize) <= row - first) - 1;
                return Ok(rows.request(number));
            }
            first += rows.rows();
        }
        Err(SamplesError::source(
            &self.path,
            format!("there is no row {row}; it has {} rows, counted from 0", self.rows),
        ))
    }

    /// The request whose `request_id` is `id`.
    ///
    /// # Errors
    /// As [`RawTable::next_rows`], and if there is no such request.
    pub fn request_of_id(&mut self, id: &str) -> Result<RawRows, SamplesError> {
        while let Some(rows) = self.next_rows(CHUNK)? {
            if let Some(number) = rows.request_ids().iter().position(|own| own == id) {
                return Ok(rows.request(number));
            }
        }
        Err(SamplesError::source(&self.path, format!("there is no request with {REQUEST_ID} {id}")))
    }
}

fn reader(path: &Path) -> Result<ParquetReader<File>, SamplesError> {
    Ok(ParquetReader::new(File::open(path).map_err(SamplesError::io("read", path))?))
}

fn parquet(path: &Path) -> impl FnOnce(PolarsError) -> SamplesError {
    let path = path.to_owned();
    move |source| SamplesError::Parquet { path, source }
}

/// Some raw rows, divided into requests.
#[derive(Clone, Debug)]
pub struct RawRows {
    frame: DataFrame,
    features: Vec<Feature>,
    /// Feature columns in schema order.
    series: Vec<Series>,
    /// First row of each request.
    starts: Vec<u32>,
}

impl RawRows {
    pub(crate) fn new(frame: DataFrame, features: &[Feature]) -> PolarsResult<Self> {
        let series = features
            .iter()
            .map(|feature| columns::normalise(frame.column(&feature.name)?, feature))
            .collect::<PolarsResult<Vec<Series>>>()?;
        let mut rows = Self { frame, features: features.to_vec(), series, starts: Vec::new() };
        rows.starts = rows.find_starts()?;
        Ok(rows)
    }

    /// Number of rows: candidates.
    pub fn rows(&self) -> usize {
        self.frame.height()
    }

    /// Number of requests.
    pub fn requests(&self) -> usize {
        self.starts.len()
    }

    /// The values as a batch that borrows them.
    ///
    /// # Errors
    /// None that a checked file can cause.
    pub fn batch(&self) -> PolarsResult<RawBatch<'_>> {
        let rows = self.rows();
        let mut request_of = vec![0u32; rows];
        for (number, &start) in self.starts.iter().enumerate() {
            let end = self.starts.get(number + 1).map_or(rows, |end| *end as usize);
            request_of[start as usize..end].fill(number as u32);
        }
        let mut batch =
            RawBatch { requests: self.requests(), candidates: rows, request_of, columns: Vec::new() };
        for (feature, series) in self.features.iter().zip(&self.series) {
            let column = match feature.side.level() {
                Level::Candidate => columns::raw_column(series)?,
                Level::Request => columns::raw_column(series)?.take(&self.starts),
            };
            batch.columns.push((Cow::Borrowed(feature.name.as_str()), column));
        }
        Ok(batch)
    }

    /// Values of a column of candidates as numbers, NaN where missing: of an item feature, or of a
    /// column that is no feature. `None` where there is no such column, or it holds no single ints or
    /// floats.
    pub fn numbers(&self, name: &str) -> Option<Vec<f64>> {
        let feature = self.features.iter().position(|feature| feature.name == name);
        let series = match feature {
            Some(place) if self.features[place].side.level() == Level::Request => return None,
            Some(place) => self.series[place].clone(),
            None => self.frame.column(name).ok()?.as_materialized_series().clone(),
        };
        if !series.dtype().is_primitive_numeric() {
            return None;
        }
        let numbers = series.cast(&DataType::Float64).ok()?;
        Some(numbers.f64().ok()?.iter().map(|number| number.unwrap_or(f64::NAN)).collect())
    }

    /// Identifier of each request; empty where the file has no `request_id`.
    pub fn request_ids(&self) -> Vec<String> {
        let Ok(column) = self.frame.column(REQUEST_ID) else { return vec![String::new(); self.requests()] };
        let text = |start: &u32| match column.get(*start as usize) {
            Ok(AnyValue::String(text)) => text.to_owned(),
            Ok(AnyValue::StringOwned(text)) => text.to_string(),
            Ok(value) => value.to_string(),
            Err(_) => String::new(),
        };
        self.starts.iter().map(text).collect()
    }

    /// The rows of one request.
    fn request(&self, number: usize) -> RawRows {
        let start = self.starts[number] as usize;
        let end = self.starts.get(number + 1).map_or(self.rows(), |end| *end as usize);
        RawRows {
            frame: self.frame.slice(start as i64, end - start),
            features: self.features.clone(),
            series: self
                .series
                .iter()
                .map(|series| series.slice(start as i64, end - start).rechunk())
                .collect(),
            starts: vec![0],
        }
    }

    fn truncate(&mut self, rows: usize) {
        self.frame = self.frame.slice(0, rows);
        self.series.iter_mut().for_each(|series| *series = series.slice(0, rows));
        self.starts.retain(|start| (*start as usize) < rows);
    }

    fn find_starts(&self) -> PolarsResult<Vec<u32>> {
        let id = match self.frame.column(REQUEST_ID) {
            Ok(column) => {
                let series = column.as_materialized_series();
                let text = *series.dtype() == DataType::String;
                Some(series.cast(if text { &DataType::String } else { &DataType::Int64 })?.rechunk())
            }
            Err(_) => None,
        };
        let request_level = self.features.iter().zip(&self.series);
        let request_level = request_level.filter(|(feature, _)| feature.side.level() == Level::Request);
        let compared: Vec<RawColumn<'_>> = id
            .iter()
            .chain(request_level.map(|(_, series)| series))
            .map(columns::raw_column)
            .collect::<PolarsResult<_>>()?;
        // Rows that agree in nothing but candidate features and have no identifier to tell them
        // together are requests of their own.
        let alone = compared.is_empty();
        let begins =
            |row: &usize| *row == 0 || alone || compared.iter().any(|column| !column.same(row - 1, *row));
        Ok((0..self.rows()).filter(begins).map(|row| row as u32).collect())
    }
}

/// A Parquet file of scores beside the columns of the scored rows that are no features; appears
/// under its name when it is finished.
pub struct ScoreFile {
    path: PathBuf,
    partial: PathBuf,
    outputs: Vec<String>,
    carried: Vec<PlSmallStr>,
    file: ParquetFile,
}

impl ScoreFile {
    /// Name of the column of fused scores.
    pub const FUSED: &str = "fused";

    /// Begins the file `path` for scores of rows of `table`: one column for each of `outputs`, and one
    /// named [`FUSED`](Self::FUSED) where they are `fused`.
    ///
    /// # Errors
    /// A file that cannot be created, an output called like a column that is carried over.
    pub fn create(
        path: &Path,
        table: &RawTable,
        outputs: &[String],
        fused: bool,
    ) -> Result<Self, SamplesError> {
        let is_feature =
            |name: &PlSmallStr| table.features.iter().any(|feature| feature.name == name.as_str());
        let mut schema = Schema::default();
        for (name, dtype) in table.schema.iter().filter(|(name, _)| !is_feature(name)) {
            schema.insert(name.clone(), dtype.clone());
        }
        let carried: Vec<PlSmallStr> = schema.iter_names().cloned().collect();
        let outputs: Vec<(&str, DataType)> = outputs
            .iter()
            .map(|output| (output.as_str(), DataType::Float32))
            .chain(fused.then_some((Self::FUSED, DataType::Float64)))
            .collect();
        for (output, dtype) in &outputs {
            if schema.insert((*output).into(), dtype.clone()).is_some() {
                return Err(SamplesError::source(
                    &table.path,
                    format!("column '{output}' has the name of an output; rename the column"),
                ));
            }
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let partial = path.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        let file = ParquetFile::create(&partial, &schema, Form::OUTPUT)?;
        Ok(Self {
            path: path.to_owned(),
            partial,
            outputs: outputs.iter().map(|(output, _)| (*output).to_owned()).collect(),
            carried,
            file,
        })
    }

    /// Adds the scores of `rows`: for each output one number a row, and with a fused score that.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(
        &mut self,
        rows: &RawRows,
        scores: &[Vec<f32>],
        fused: Option<&[f64]>,
    ) -> Result<(), SamplesError> {
        let frame = self.frame(rows, scores, fused).map_err(SamplesError::step("writing scores"))?;
        self.file.add(frame)
    }

    fn frame(&self, rows: &RawRows, scores: &[Vec<f32>], fused: Option<&[f64]>) -> PolarsResult<DataFrame> {
        let mut all = Vec::with_capacity(self.carried.len() + scores.len());
        for name in &self.carried {
            all.push(rows.frame.column(name)?.clone());
        }
        for (output, scores) in self.outputs.iter().zip(scores) {
            all.push(Column::new(output.as_str().into(), scores));
        }
        if let Some(fused) = fused {
            all.push(Column::new(Self::FUSED.into(), fused));
        }
        DataFrame::new(rows.rows(), all)
    }

    /// Completes the file and puts it in its place.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn finish(mut self) -> Result<(), SamplesError> {
        self.file.finish()?;
        fs::rename(&self.partial, &self.path).map_err(SamplesError::io("rename into place", &self.path))
    }
}

impl Drop for ScoreFile {
    fn drop(&mut self) {
        // Gone already after `finish`.
        let _ = fs::remove_file(&self.partial);
    }
}
