//! The last version of a key that was known before an instant: the point-in-time join of profiles.

use crate::order::same_length;
use crate::{HistoryError, NONE, Timeline, View};

/// A table that holds several versions of a key, each with the time from which it holds (event time) and, where
/// known, the time at which it was written (created time).
///
/// A version is known from the later of the two on: one that was back-filled later was not known before.
#[derive(Debug, Clone)]
pub struct Versions<'a> {
    /// Versions by the time from which they are known.
    known: Timeline,
    events: &'a [i64],
    created: Option<&'a [i64]>,
}

impl<'a> Versions<'a> {
    /// Versions of `key_of[row]` in `0..keys` (or [`NONE`]), with their event times and created times in
    /// microseconds. A version without a created time was written when it began to hold: give its event time.
    ///
    /// # Errors
    ///
    /// As [`Timeline::new`].
    pub fn new(
        key_of: &[u32],
        events: &'a [i64],
        created: Option<&'a [i64]>,
        keys: usize,
    ) -> Result<Self, HistoryError> {
        same_length("the column of event times", key_of, events)?;
        let known = match created {
            None => Timeline::new(key_of, events, keys)?,
            Some(created) => {
                same_length("the column of created times", key_of, created)?;
                let later: Vec<i64> =
                    events.iter().zip(created).map(|(event, made)| *event.max(made)).collect();
                Timeline::new(key_of, &later, keys)?
            }
        };
        Ok(Self { known, events, created })
    }

    /// Which of two rows is the newer version: by event time, then created time, then row.
    fn rank(&self, row: u32) -> (i64, i64, u32) {
        let at = row as usize;
        (self.events[at], self.created.map_or(i64::MIN, |created| created[at]), row)
    }
}

/// For each query the row of the version with the greatest event time among those with `event < time` and
/// `created < time`, unless `time - event` is above the time to live: `[row_count of queries]`, in the order of the
/// caller's rows, [`NONE`] where there is none. Among equal event times the last created is used, then the last row.
///
/// What is known only grows with time, so the best version of a key is a running maximum.
///
/// # Panics
///
/// When queries and versions have different numbers of keys.
pub fn latest(queries: View<'_>, versions: &Versions<'_>, time_to_live: Option<i64>) -> Vec<u32> {
    let known = versions.known.view();
    assert_eq!(queries.keys(), known.keys(), "queries and versions must number the same keys");
    let mut found = vec![NONE; queries.row_count()];
    for key in 0..queries.keys() {
        let positions = known.positions(key);
        let mut next = positions.start;
        let mut best = NONE;
        for query in queries.positions(key) {
            let time = queries.times()[query];
            while next < positions.end && known.times()[next] < time {
                let row = known.rows()[next];
                if best == NONE || versions.rank(best) < versions.rank(row) {
                    best = row;
                }
                next += 1;
            }
            if best == NONE {
                continue;
            }
            let age = time.saturating_sub(versions.events[best as usize]);
            if time_to_live.is_none_or(|limit| age <= limit) {
                found[queries.rows()[query] as usize] = best;
            }
        }
    }
    found
}
