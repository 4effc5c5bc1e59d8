//! Splits by user: a stable hash of the user's id decides, alone or together with the time.

use std::ops::Range;

use gatefold_schema::{SplitBy, SplitConfig};

use super::impressions::{Impressions, Keys};
use crate::{SamplesError, prepared::SPLITS};

/// Seed of the hash that divides users: another one than rows are sampled or features hashed with.
const USER_SEED: u32 = u32::from_be_bytes(*b"user");

/// The requests of each split by user, in the order of time; and the rows of requests that are in none although
/// their time is in a split.
#[derive(Debug, PartialEq)]
pub(crate) struct Divided {
    pub(crate) splits: Vec<(&'static str, Vec<u32>)>,
    pub(crate) left_out: u64,
}

/// Divides the requests that `by_time` names for each split. `None` where users do not matter.
///
/// # Errors
/// When a split that is wanted has no row.
pub(crate) fn divide(
    config: &SplitConfig,
    keys: &Keys,
    impressions: &Impressions,
    by_time: &[(&'static str, Range<usize>)],
) -> Result<Option<Divided>, SamplesError> {
    if config.by == SplitBy::Time {
        return Ok(None);
    }
    // A hash in [0, 1).
    let point = |user: u32| f64::from(keys.users.hash(user, USER_SEED)) / 2f64.powi(32);
    let split_of = |split: usize, user: u32| match config.by {
        SplitBy::Time => Some(split),
        SplitBy::User if point(user) < config.valid => Some(1),
        SplitBy::User if point(user) < config.valid + config.test => Some(2),
        SplitBy::User => Some(0),
        SplitBy::Both => {
            let is_held_out = point(user) < config.users.unwrap_or(0.0);
            (is_held_out != (split == 0)).then_some(split)
        }
    };
    let mut splits: Vec<(&'static str, Vec<u32>)> = SPLITS.map(|name| (name, Vec::new())).into();
    let mut left_out = 0;
    for (split, (_, requests)) in by_time.iter().enumerate() {
        for request in requests.clone() {
            match split_of(split, impressions.user[request]) {
                Some(split) => splits[split].1.push(request as u32),
                None => left_out += impressions.rows_of(request).len() as u64,
            }
        }
    }
    let wanted = match config.by {
        SplitBy::User => [true, config.valid > 0.0, config.test > 0.0],
        // What is empty by time was refused already, or is wanted so.
        _ => [0, 1, 2].map(|split| !by_time[split].1.is_empty()),
    };
    if let Some(((name, _), _)) =
        splits.iter().zip(wanted).find(|((_, own), wanted)| *wanted && own.is_empty())
    {
        return Err(SamplesError::config(format!(
            "[samples.split]: no user is left for {name} ({} users in all); use more data or other shares",
            keys.users.len()
        )));
    }
    Ok(Some(Divided { splits, left_out }))
}
