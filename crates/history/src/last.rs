//! The last k events of a key before an instant: behaviour sequences, as ranges of positions.

use crate::View;
use crate::windows::for_each_query;

/// The last events before a query: `length` positions of the events' view, up to `end` (excluded). Eight bytes,
/// whatever the length: the elements are read where they are needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tail {
    /// Position after the newest event.
    pub end: u32,
    /// Number of events.
    pub length: u32,
}

impl Tail {
    /// Rows of the events, oldest first (`.iter().rev()` for newest first).
    ///
    /// # Panics
    ///
    /// When `events` is not the view this tail was found in.
    pub fn rows<'a>(&self, events: View<'a>) -> &'a [u32] {
        &events.rows()[(self.end - self.length) as usize..self.end as usize]
    }

    /// Times of the events, oldest first.
    ///
    /// # Panics
    ///
    /// As [`Tail::rows`].
    pub fn times<'a>(&self, events: View<'a>) -> &'a [i64] {
        &events.times()[(self.end - self.length) as usize..self.end as usize]
    }
}

/// For each query the last `count` events of its key with `event < time` and, where a window is given,
/// `time - window <= event`: `[row_count of queries]`, in the order of the caller's rows. Events at one time are in
/// the order of `events`: that of their rows, or of the ties given to [`Timeline::with_ties`](crate::Timeline::with_ties).
///
/// # Panics
///
/// When queries and events have different numbers of keys.
pub fn last(queries: View<'_>, events: View<'_>, count: u32, window: Option<i64>) -> Vec<Tail> {
    let mut tails = vec![Tail::default(); queries.row_count()];
    for_each_query(queries, &[events], &[window], |position, held| {
        let held = &held[0];
        let length = (held.end - held.start).min(count);
        tails[queries.rows()[position] as usize] = Tail { end: held.end, length };
    });
    tails
}
