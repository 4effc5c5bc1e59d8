//! Sample shards: which requests each has, and writing one.

use std::ops::Range;
use std::path::Path;

use gatefold_schema::{Feature, Kind, Recipe, SampleSource, manifest::SHARD_FINGERPRINT};
use polars::prelude::*;

use crate::{
    SamplesError,
    encode::Encoded,
    files::write_parquet,
    logs,
    prepared::Prepared,
    values::{Starts, requests_of},
};

/// A shard that has been written.
pub(crate) struct Written {
    pub(crate) frame: DataFrame,
    /// The request of each row, as it is numbered in what was prepared.
    pub(crate) request_of: Vec<u32>,
    /// Size of the file.
    pub(crate) bytes: u64,
}

/// Writes the shard of some requests, of which the first is number `number` of its split.
pub(crate) fn write(
    prepared: &Prepared,
    encoded: &Encoded<'_>,
    requests: &Range<usize>,
    number: u32,
    path: &Path,
) -> Result<Written, SamplesError> {
    let rows = prepared.rows(requests);
    let request_of = requests_of(&prepared.starts, rows.clone());
    let numbers: Vec<u32> =
        request_of.iter().map(|request| request - requests.start as u32 + number).collect();
    let mut all = vec![Column::new("request".into(), numbers)];
    all.extend(prepared.keys(rows.clone()).map_err(SamplesError::step("making a shard"))?);
    all.extend(encoded.columns(rows.clone(), &request_of)?);
    all.extend(prepared.label_columns(rows.clone()));
    let mut frame = DataFrame::new(rows.len(), all).map_err(SamplesError::step("making a shard"))?;
    let bytes = write_parquet(&mut frame, path, &[(SHARD_FINGERPRINT, encoded.fingerprint())])?;
    Ok(Written { frame, request_of, bytes })
}

/// Bytes of a row of a shard before it is compressed.
pub(crate) fn row_bytes(recipe: &Recipe) -> u64 {
    let of_feature = |feature: &Feature| match feature.kind {
        Kind::Sequence => 4 * feature.width() as u64 + 8,
        _ => 4,
    };
    // The request's number, its id and its time.
    let keys = 4 + 8 + 8;
    let labels = match recipe.samples.source() {
        Ok(SampleSource::Logs(config)) => logs::label_names(config).len(),
        _ => recipe.tasks.len(),
    };
    keys + recipe.features.iter().map(of_feature).sum::<u64>() + 4 * labels as u64
}

/// Rows that a shard holds at most.
pub(crate) fn most_rows(recipe: &Recipe) -> usize {
    recipe.samples.rows_per_shard.unwrap_or_else(|| (SHARD_BYTES / row_bytes(recipe)).max(1) as usize)
}

/// Bytes of a shard before it is compressed, unless the recipe says how many rows it has.
const SHARD_BYTES: u64 = 64 << 20;

/// The requests of each shard of at most `most` rows.
pub(crate) fn divide(starts: &Starts, requests: Range<usize>, most: usize) -> Vec<Range<usize>> {
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
pub(crate) fn shard_end(starts: &Starts, requests: Range<usize>, most: usize) -> usize {
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
            let ends = divide(&starts, 0..4, most).into_iter().map(|shard| starts[shard.end]);
            std::iter::once(0).chain(ends).collect::<Vec<_>>()
        };
        assert_eq!(ends(3), [0, 2, 5, 8]);
        assert_eq!(ends(1), [0, 2, 5, 6, 8]);
        assert_eq!(ends(5), [0, 5, 8]);
        assert_eq!(ends(100), [0, 8]);
    }
}
