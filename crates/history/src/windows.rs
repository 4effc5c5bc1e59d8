//! Aggregates over the events of a key in the windows before each query.
//!
//! A window of `Some(w)` holds the events with `time - w <= event < time`: closed at its left border, open at
//! the instant of the query. `None` holds every event before the instant. A window that is not positive is empty.

mod exact_sum;
mod sliding;

use std::ops::Range;

pub use exact_sum::ExactSum;
pub use sliding::{Distinct, Extreme, Total};

use crate::View;

/// Calls `visit` for every query, in the order of the queries' positions, with its position in `queries` and the
/// positions that each window holds: `[logs, windows]`, those of the first log first. All views number their keys
/// alike. Several logs in one pass cost less than one each, for what is found goes back to the caller's rows once.
///
/// The windows of a log end together, and both borders only move forward from one query to the next: what
/// [`Total`], [`Extreme`] and [`Distinct`] need.
///
/// # Panics
///
/// When the views have different numbers of keys.
pub fn for_each_query(
    queries: View<'_>,
    logs: &[View<'_>],
    windows: &[Option<i64>],
    mut visit: impl FnMut(usize, &[Range<u32>]),
) {
    for log in logs {
        assert_eq!(queries.keys(), log.keys(), "queries and events must number the same keys");
    }
    let width = logs.len() * windows.len();
    // Borders of the queries of one block, found window by window, so that each search is a loop of few registers.
    let mut ends = [0; BLOCK];
    let mut held = vec![0..0; BLOCK * width];
    let mut cursors: Vec<Cursor> = Vec::with_capacity(logs.len() * (1 + windows.len()));
    for key in 0..queries.keys() {
        cursors.clear();
        for log in logs {
            let start = log.positions(key).start;
            cursors.extend(std::iter::repeat_n(Cursor(start), 1 + windows.len()));
        }
        let mut positions = queries.positions(key);
        while !positions.is_empty() {
            let block = positions.start..positions.end.min(positions.start + BLOCK);
            positions.start = block.end;
            let instants = &queries.times()[block.clone()];
            let mut column = 0;
            for (log, cursors) in logs.iter().zip(cursors.chunks_exact_mut(1 + windows.len())) {
                let times = &log.times()[..log.positions(key).end];
                let (end, starts) = cursors.split_at_mut(1);
                for (found, &instant) in ends.iter_mut().zip(instants) {
                    *found = end[0].first_not_before(times, instant);
                }
                for (start, window) in starts.iter_mut().zip(windows) {
                    let borders = held[column..].iter_mut().step_by(width).zip(ends.iter().zip(instants));
                    match window {
                        Some(window) => {
                            for (held, (&end, &instant)) in borders {
                                let from = instant.saturating_sub(*window);
                                *held = start.first_not_before(&times[..end], from) as u32..end as u32;
                            }
                        }
                        None => borders.for_each(|(held, (&end, _))| *held = start.0 as u32..end as u32),
                    }
                    column += 1;
                }
            }
            for (index, position) in block.enumerate() {
                visit(position, &held[index * width..(index + 1) * width]);
            }
        }
    }
}

/// Queries whose windows are found together.
const BLOCK: usize = 128;

/// A position that only moves forward.
#[derive(Debug, Clone, Copy)]
struct Cursor(usize);

impl Cursor {
    /// Moves to the first of `times`, from where it is, that is not before `instant`, or to their end.
    fn first_not_before(&mut self, times: &[i64], instant: i64) -> usize {
        let mut position = self.0;
        while position < times.len() && times[position] < instant {
            position += 1;
        }
        self.0 = position;
        position
    }
}

/// Number of events in each window before each query: `[row_count of queries, logs, windows]`, in the order of the
/// caller's rows; 0 for a query without a key.
///
/// # Panics
///
/// As [`for_each_query`].
pub fn counts(queries: View<'_>, logs: &[View<'_>], windows: &[Option<i64>]) -> Vec<u32> {
    let width = logs.len() * windows.len();
    let mut counts = vec![0; queries.row_count() * width];
    for_each_query(queries, logs, windows, |position, held| {
        let first = queries.rows()[position] as usize * width;
        for (count, held) in counts[first..first + width].iter_mut().zip(held) {
            *count = held.end - held.start;
        }
    });
    counts
}

/// What to compute of the events in a window. Columns have one value an event row; where a value is `NaN`, or
/// a code [`NONE`](crate::NONE), the event has none and only [`Aggregate::Count`] sees it.
#[derive(Debug, Clone, Copy)]
pub enum Aggregate<'a> {
    /// Number of events.
    Count,
    /// Sum of the values, rounded once; 0 of no value.
    Sum(&'a [f64]),
    /// The rounded sum over the number of values; `NaN` of no value.
    Mean(&'a [f64]),
    /// The least value; `NaN` of no value.
    Min(&'a [f64]),
    /// The greatest value; `NaN` of no value.
    Max(&'a [f64]),
    /// Number of distinct codes.
    Distinct(&'a [u32]),
}

/// An aggregate of each window before each query: `[row_count of queries, windows]`, in the order of the
/// caller's rows; a query without a key has that of an empty window.
///
/// # Panics
///
/// As [`for_each_query`], and when a column has fewer values than there are event rows.
pub fn aggregate(
    queries: View<'_>,
    events: View<'_>,
    windows: &[Option<i64>],
    aggregate: Aggregate<'_>,
) -> Vec<f64> {
    match aggregate {
        Aggregate::Count => counts(queries, &[events], windows).into_iter().map(f64::from).collect(),
        Aggregate::Sum(values) => {
            let values = events.in_order(values);
            each(queries, events, windows, 0.0, || Total::new(&values), |total, held| total.over(held).0)
        }
        Aggregate::Mean(values) => {
            let values = events.in_order(values);
            each(
                queries,
                events,
                windows,
                f64::NAN,
                || Total::new(&values),
                |total, held| {
                    let (sum, count) = total.over(held);
                    sum / f64::from(count)
                },
            )
        }
        Aggregate::Min(values) => {
            let values = events.in_order(values);
            each(queries, events, windows, f64::NAN, || Extreme::least(&values), Extreme::over)
        }
        Aggregate::Max(values) => {
            let values = events.in_order(values);
            each(queries, events, windows, f64::NAN, || Extreme::greatest(&values), Extreme::over)
        }
        Aggregate::Distinct(codes) => {
            let codes = events.in_order(codes);
            each(
                queries,
                events,
                windows,
                0.0,
                || Distinct::new(&codes),
                |distinct, held| f64::from(distinct.over(held)),
            )
        }
    }
}

/// Runs one sliding state a window over all queries.
fn each<S>(
    queries: View<'_>,
    events: View<'_>,
    windows: &[Option<i64>],
    of_nothing: f64,
    start: impl Fn() -> S,
    mut over: impl FnMut(&mut S, &Range<u32>) -> f64,
) -> Vec<f64> {
    let mut states: Vec<S> = windows.iter().map(|_| start()).collect();
    let mut results = vec![of_nothing; queries.row_count() * windows.len()];
    for_each_query(queries, &[events], windows, |position, held| {
        let first = queries.rows()[position] as usize * windows.len();
        for ((result, state), held) in results[first..].iter_mut().zip(&mut states).zip(held) {
            *result = over(state, held);
        }
    });
    results
}
