//! Writing sample shards.

use std::ops::Range;

use gatefold_schema::{Recipe, ShardInfo, SplitInfo, WEIGHT_COLUMN, manifest::SHARD_FINGERPRINT};
use polars::prelude::*;

use crate::{
    Progress, SamplesError,
    encode::Encoded,
    files::write_parquet,
    folder::StagedFolder,
    parallel::in_order,
    prepared::Prepared,
    report::Tally,
    values::{Starts, requests_of},
};

/// Writes the rows of splits.
pub(crate) struct Writer<'a> {
    recipe: &'a Recipe,
    prepared: &'a Prepared,
    encoded: &'a Encoded<'a>,
    folder: &'a StagedFolder,
    progress: &'a mut dyn Progress,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        recipe: &'a Recipe,
        prepared: &'a Prepared,
        encoded: &'a Encoded<'a>,
        folder: &'a StagedFolder,
        progress: &'a mut dyn Progress,
    ) -> Self {
        Self { recipe, prepared, encoded, folder, progress }
    }

    /// Writes the shards of one split, and counts their rows for the report.
    pub(crate) fn split(
        &mut self,
        name: &str,
        requests: Range<usize>,
        tally: &mut Tally<'_>,
    ) -> Result<SplitInfo, SamplesError> {
        let prepared = self.prepared;
        let rows = prepared.rows(&requests);
        let mut info =
            SplitInfo { rows: rows.len() as u64, requests: requests.len() as u64, ..SplitInfo::default() };
        if let Some(times) = &prepared.times {
            // Requests are in the order of time.
            let times = &times[requests.clone()];
            (info.time_min, info.time_max) = (times.first().copied(), times.last().copied());
        }
        for label in prepared.labels.iter().filter(|label| label.name != WEIGHT_COLUMN) {
            let values = &label.values[rows.clone()];
            if values.iter().all(|value| *value == 0.0 || *value == 1.0) {
                let positives = values.iter().filter(|value| **value == 1.0).count();
                info.positives.insert(label.name.clone(), positives as u64);
            }
        }
        let (recipe, encoded, folder) = (self.recipe, self.encoded, self.folder);
        let shards = shards(&prepared.starts, requests.clone(), recipe.samples.rows_per_shard);
        let file = |index: usize| format!("{name}-{index:05}.parquet");
        let write = |index: usize| -> Result<Written, SamplesError> {
            let rows = prepared.rows(&shards[index]);
            let request_of = requests_of(&prepared.starts, rows.clone());
            let mut frame = shard(prepared, encoded, requests.start, rows, &request_of)?;
            let notes = [(SHARD_FINGERPRINT, encoded.fingerprint())];
            let bytes = write_parquet(&mut frame, &folder.path(&file(index)), &notes)?;
            Ok(Written { frame, request_of, bytes })
        };
        in_order(shards.len(), write, |index, Written { frame, request_of, bytes }| {
            tally.add(name, prepared, shards[index].clone(), &request_of, &frame)?;
            info.shards.push(ShardInfo { file: file(index), rows: frame.height() as u64, bytes });
            self.progress.advance(frame.height() as u64);
            Ok(())
        })?;
        Ok(info)
    }

    /// Writes the raw rows of one split, in the order of its shards.
    pub(crate) fn raw(&mut self, name: &str) -> Result<(), SamplesError> {
        let found = self.prepared.splits.iter().find(|(split, _)| *split == name);
        let Some((_, requests)) = found else { return Ok(()) };
        let rows = self.prepared.rows(requests);
        let mut part =
            self.prepared.raw_rows(self.recipe, rows).map_err(SamplesError::step("collecting raw rows"))?;
        write_parquet(&mut part, &self.folder.path(&format!("raw-{name}.parquet")), &[])?;
        Ok(())
    }
}

/// A shard that has been written, for the report.
struct Written {
    frame: DataFrame,
    request_of: Vec<u32>,
    bytes: u64,
}

/// The rows `rows`, whose requests are `requests`, of a split whose first request is `first`.
fn shard(
    prepared: &Prepared,
    encoded: &Encoded<'_>,
    first: usize,
    rows: Range<usize>,
    requests: &[u32],
) -> Result<DataFrame, SamplesError> {
    let numbers: Vec<u32> = requests.iter().map(|request| request - first as u32).collect();
    let mut all = vec![Column::new("request".into(), numbers)];
    all.extend(prepared.keys(rows.clone()).map_err(SamplesError::step("making a shard"))?);
    all.extend(encoded.columns(rows.clone(), requests)?);
    all.extend(prepared.label_columns(rows.clone()));
    DataFrame::new(rows.len(), all).map_err(SamplesError::step("making a shard"))
}

/// The requests of each shard.
fn shards(starts: &Starts, requests: Range<usize>, most: usize) -> Vec<Range<usize>> {
    let mut shards = Vec::new();
    let mut first = requests.start;
    while first < requests.end {
        let end = shard_end(starts, first..requests.end, most);
        shards.push(first..end);
        first = end;
    }
    shards
}

/// Where the shard that begins with the first of `requests` ends: after `most` rows, or earlier so that no
/// request is torn; a request longer than a shard makes a shard of its own.
fn shard_end(starts: &Starts, requests: Range<usize>, most: usize) -> usize {
    let limit = starts[requests.start] as usize + most;
    let end = starts.partition_point(|start| *start as usize <= limit) - 1;
    end.clamp(requests.start + 1, requests.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_end_between_requests() {
        let starts = [0, 2, 5, 6, 8];
        let ends = |most: usize| {
            let ends = shards(&starts, 0..4, most).into_iter().map(|shard| starts[shard.end]);
            std::iter::once(0).chain(ends).collect::<Vec<_>>()
        };
        assert_eq!(ends(3), [0, 2, 5, 8]);
        assert_eq!(ends(1), [0, 2, 5, 6, 8]);
        assert_eq!(ends(5), [0, 5, 8]);
        assert_eq!(ends(100), [0, 8]);
    }
}
