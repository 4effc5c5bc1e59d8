//! How many parts keep a build within a memory limit.

use std::path::Path;

use gatefold_schema::{EventLogs, Recipe};

use super::MOST_PARTS;
use crate::{
    SamplesError, logs,
    shards::{most_rows, row_bytes},
};

/// What a process has whatever it reads: code, buffers of readers and writers.
const BASE: u64 = 256 << 20;
/// Shards that the memory for writing is as large as: a stretch of raw rows of all parts, put in order and joined to what
/// the last one left, and two shards while they are encoded and written. With the default size of shards 974 MiB were
/// measured, of which 256 are [`BASE`].
const SHARDS: u64 = 12;
/// Bytes of a click, a conversion or a profile.
const EVENT: u64 = 96;
/// Bytes of an impression while it is joined, beside those of its features and events.
const ROW: u64 = 128;

/// Into how many parts logs are divided so that a build stays below `limit` bytes; `None` where it can be made in memory
/// at once.
///
/// # Errors
/// A limit that is too small for any build.
pub(crate) fn parts_within(
    recipe: &Recipe,
    config: &EventLogs,
    folder: &Path,
    limit: u64,
) -> Result<Option<usize>, SamplesError> {
    let needed: u64 = logs::count_rows(config, folder)?
        .into_iter()
        .map(|(log, rows)| rows * if log == "impressions" { ROW + row_bytes(recipe) } else { EVENT })
        .sum();
    let most = limit.saturating_sub(BASE);
    if needed <= most {
        return Ok(None);
    }
    let shard = most_rows(recipe) as u64 * row_bytes(recipe);
    let least = BASE + SHARDS * shard;
    if limit < least {
        return Err(SamplesError::config(format!(
            "--memory: {limit} bytes are too few for these logs in shards of {} rows; give {} MiB at least (fewer \
             [samples] rows_per_shard need less, down to {} MiB)",
            most_rows(recipe),
            least.div_ceil(1 << 20),
            BASE >> 20
        )));
    }
    // As many parts as there are processors are joined at a time, each with readers of its own.
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let at_once = needed * threads * 3 / 2;
    let parts = at_once.div_ceil(most).max(2);
    if parts > MOST_PARTS as u64 {
        return Err(SamplesError::config(format!(
            "--memory: {} MiB are too few for these logs, which need {parts} parts where {MOST_PARTS} can be made; give \
             {} MiB at least",
            limit >> 20,
            (at_once.div_ceil(MOST_PARTS as u64) + BASE).div_ceil(1 << 20)
        )));
    }
    Ok(Some(parts as usize))
}
