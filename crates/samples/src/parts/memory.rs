//! How many parts keep a build within a memory limit.

use std::path::Path;

use gatefold_schema::{EventLogs, Recipe};

use super::MOST_PARTS;
use crate::{SamplesError, logs, logs::parts::Division, outlook::row_bytes};

/// Least memory that a build can be asked to keep to.
const LEAST: u64 = 512 << 20;
/// What a process has whatever it reads: code, buffers of readers and writers.
const BASE: u64 = 256 << 20;
/// Bytes of a row while it is joined, beside those of its features and events.
const ROW: u64 = 128;

/// How to divide logs so that a build stays below `limit` bytes; `None` where it can be made in memory at once.
///
/// # Errors
/// A limit that is too small for any build.
pub(crate) fn division(
    recipe: &Recipe,
    config: &EventLogs,
    folder: &Path,
    limit: u64,
) -> Result<Option<Division>, SamplesError> {
    if limit < LEAST {
        return Err(SamplesError::config(format!(
            "--memory: {} MiB are too few to build with; give {} MiB at least",
            limit >> 20,
            LEAST >> 20
        )));
    }
    let rows = logs::count_impressions(config, folder)?;
    let needed = rows * (ROW + row_bytes(recipe));
    let most = limit - BASE;
    if needed <= most {
        return Ok(None);
    }
    // As many parts as there are processors are joined at a time.
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let parts = (needed * threads).div_ceil(most).clamp(2, MOST_PARTS as u64) as usize;
    Ok(Some(Division { parts, stretch: stretch(recipe) }))
}

/// Rows of a stretch of time: a few shards, which are written at a time.
pub(super) fn stretch(recipe: &Recipe) -> u64 {
    2 * recipe.samples.rows_per_shard as u64
}
