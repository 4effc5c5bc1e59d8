//! One split in memory, and batches of its rows.

use std::collections::BTreeMap;
use std::ops::Range;

use gatefold_features::{FeatureBatch, FeatureColumn};
use gatefold_schema::{Kind, Level, SampleManifest};

/// The rows of a split, column by column.
#[derive(Clone, Debug)]
pub struct Split {
    /// Number of samples.
    pub rows: usize,
    /// Request of each sample, counted from 0, never falling.
    pub request: Vec<u32>,
    /// One column a feature, in schema order; one row a sample, whatever the feature's side.
    pub columns: Vec<FeatureColumn>,
    /// Label and audit columns by name.
    pub labels: BTreeMap<String, Vec<f32>>,
    /// Time of each sample's request, microseconds since 1970 UTC, where the source has one.
    pub time: Option<Vec<i64>>,
    /// The level of each feature, in schema order.
    pub levels: Vec<Level>,
}

impl Split {
    pub(crate) fn empty(manifest: &SampleManifest) -> Self {
        let column = |feature: &gatefold_schema::Feature| match feature.kind {
            Kind::Numeric => FeatureColumn::Numbers(Vec::new()),
            _ => FeatureColumn::Codes { width: feature.width(), data: Vec::new() },
        };
        let features = || manifest.features.iter().map(|fitted| &fitted.feature);
        Self {
            rows: 0,
            request: Vec::new(),
            columns: features().map(column).collect(),
            labels: manifest.labels.iter().map(|label| (label.clone(), Vec::new())).collect(),
            time: None,
            levels: features().map(|feature| feature.side.level()).collect(),
        }
    }

    /// Appends the rows of `part`, which must be of the same sample set.
    pub(crate) fn append(&mut self, part: &Split) {
        self.rows += part.rows;
        self.request.extend_from_slice(&part.request);
        for (column, more) in self.columns.iter_mut().zip(&part.columns) {
            column.append(more);
        }
        for (name, values) in &mut self.labels {
            values.extend_from_slice(&part.labels[name]);
        }
        if let Some(more) = &part.time {
            self.time.get_or_insert_default().extend_from_slice(more);
        }
    }

    /// Number of requests.
    pub fn requests(&self) -> usize {
        self.request.last().map_or(0, |last| *last as usize + 1)
    }

    /// The samples `rows`, in that order, each a request of its own.
    ///
    /// # Panics
    /// When a row is not below [`Split::rows`].
    pub fn batch(&self, rows: &[u32]) -> FeatureBatch {
        FeatureBatch {
            requests: rows.len(),
            candidates: rows.len(),
            request_of: (0..rows.len() as u32).collect(),
            columns: self.columns.iter().map(|column| column.take(rows)).collect(),
        }
    }

    /// The samples in `rows`, where neighbours of one request share its row: user and context
    /// features are taken from the first of them.
    ///
    /// # Panics
    /// When the range goes beyond [`Split::rows`].
    pub fn request_batch(&self, rows: Range<usize>) -> FeatureBatch {
        let request = &self.request[rows.clone()];
        let mut first_rows: Vec<u32> = Vec::new();
        let mut request_of = Vec::with_capacity(request.len());
        for (offset, number) in request.iter().enumerate() {
            if offset == 0 || *number != request[offset - 1] {
                first_rows.push((rows.start + offset) as u32);
            }
            request_of.push(first_rows.len() as u32 - 1);
        }
        let all: Vec<u32> = (rows.start as u32..rows.end as u32).collect();
        let columns = self.columns.iter().zip(&self.levels);
        FeatureBatch {
            requests: first_rows.len(),
            candidates: rows.len(),
            request_of,
            columns: columns
                .map(|(column, level)| match level {
                    Level::Request => column.take(&first_rows),
                    Level::Candidate => column.take(&all),
                })
                .collect(),
        }
    }

    /// First row of each request, and the number of rows as the last entry.
    pub fn request_starts(&self) -> Vec<usize> {
        let begins = |row: &usize| *row == 0 || self.request[row - 1] != self.request[*row];
        (0..self.rows).filter(begins).chain([self.rows]).collect()
    }
}
