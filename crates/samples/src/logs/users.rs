//! Splits by user: a stable hash of the user's id decides, alone or together with the time.

use std::ops::Range;

use gatefold_schema::{SplitBy, SplitConfig};

use super::{
    impressions::{Impressions, Keys},
    split::wanted_times,
};
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
pub(crate) fn divide(
    config: &SplitConfig,
    keys: &Keys,
    impressions: &Impressions,
    by_time: &[(&'static str, Range<usize>)],
) -> Option<Divided> {
    if config.by == SplitBy::Time {
        return None;
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
    Some(Divided { splits, left_out })
}

/// Sees to it that every split that is wanted has users, by the number of its requests.
///
/// # Errors
/// When there is none for a split. A split that is empty by time was refused already, or is wanted so.
pub(crate) fn check(config: &SplitConfig, requests: &[usize; 3]) -> Result<(), SamplesError> {
    let wanted = match config.by {
        SplitBy::Time => [false; 3],
        SplitBy::User => [true, config.valid > 0.0, config.test > 0.0],
        SplitBy::Both => wanted_times(config),
    };
    match SPLITS.iter().zip(requests).zip(wanted).find(|((_, own), wanted)| *wanted && **own == 0) {
        Some(((name, _), _)) => Err(SamplesError::config(format!(
            "[samples.split]: no user is left for {name}; use more data or other shares"
        ))),
        None => Ok(()),
    }
}
