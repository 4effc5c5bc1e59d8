//! Writing sample shards.

use std::ops::Range;

use gatefold_schema::{Recipe, ShardInfo, SplitInfo, WEIGHT_COLUMN, manifest::SHARD_FINGERPRINT};
use polars::prelude::*;

use crate::{
    Progress, SamplesError,
    encode::Encoded,
    files::write_parquet,
    folder::StagedFolder,
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
        let mut first = requests.start;
        while first < requests.end {
            let end = shard_end(&prepared.starts, first..requests.end, self.recipe.samples.rows_per_shard);
            let file = format!("{name}-{:05}.parquet", info.shards.len());
            let rows = prepared.rows(&(first..end));
            let request_of = requests_of(&prepared.starts, rows.clone());
            let mut frame = self.shard(requests.start, rows.clone(), &request_of)?;
            tally.add(name, prepared, first..end, &request_of, &frame)?;
            let notes = [(SHARD_FINGERPRINT, self.encoded.fingerprint())];
            let bytes = write_parquet(&mut frame, &self.folder.path(&file), &notes)?;
            info.shards.push(ShardInfo { file, rows: rows.len() as u64, bytes });
            self.progress.advance(rows.len() as u64);
            first = end;
        }
        Ok(info)
    }

    /// The rows `rows`, whose requests are `requests`, of a split whose first request is `first`.
    fn shard(&self, first: usize, rows: Range<usize>, requests: &[u32]) -> Result<DataFrame, SamplesError> {
        let numbers: Vec<u32> = requests.iter().map(|request| request - first as u32).collect();
        let mut all = vec![Column::new("request".into(), numbers)];
        all.extend(self.prepared.keys(rows.clone()).map_err(SamplesError::step("making a shard"))?);
        all.extend(self.encoded.columns(rows.clone(), requests)?);
        all.extend(self.prepared.label_columns(rows.clone()));
        DataFrame::new(rows.len(), all).map_err(SamplesError::step("making a shard"))
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
            let mut ends = vec![0];
            while ends[ends.len() - 1] < 4 {
                ends.push(shard_end(&starts, ends[ends.len() - 1]..4, most));
            }
            ends.into_iter().map(|end| starts[end]).collect::<Vec<_>>()
        };
        assert_eq!(ends(3), [0, 2, 5, 8]);
        assert_eq!(ends(1), [0, 2, 5, 6, 8]);
        assert_eq!(ends(5), [0, 5, 8]);
        assert_eq!(ends(100), [0, 8]);
    }
}
