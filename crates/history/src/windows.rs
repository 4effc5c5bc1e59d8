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

/// Calls `visit` for every query, in the order of the queries' positions, with its position in `queries` and,
/// for each of `windows`, the positions in `events` of what the window holds. Both views number their keys alike.
///
/// The ends of all windows of a query are equal, and both borders only move forward from one query to the
/// next: what [`Total`], [`Extreme`] and [`Distinct`] need.
///
/// # Panics
///
/// When the views have different numbers of keys.
pub fn for_each_query(
    queries: View<'_>,
    events: View<'_>,
    windows: &[Option<i64>],
    mut visit: impl FnMut(usize, &[Range<u32>]),
) {
    assert_eq!(queries.keys(), events.keys(), "queries and events must number the same keys");
    let times = events.times();
    let mut held: Vec<Range<u32>> = vec![0..0; windows.len()];
    for key in 0..queries.keys() {
        let known = events.positions(key);
        let mut end = known.start;
        held.fill(known.start as u32..known.start as u32);
        for position in queries.positions(key) {
            let time = queries.times()[position];
            while end < known.end && times[end] < time {
                end += 1;
            }
            for (held, window) in held.iter_mut().zip(windows) {
                held.end = end as u32;
                if let Some(window) = window {
                    let from = time.saturating_sub(*window);
                    while held.start < held.end && times[held.start as usize] < from {
                        held.start += 1;
                    }
                }
            }
            visit(position, &held);
        }
    }
}

/// Number of events in each window before each query: `[row_count of queries, windows]`, in the order of the
/// caller's rows; 0 for a query without a key.
///
/// # Panics
///
/// As [`for_each_query`].
pub fn counts(queries: View<'_>, events: View<'_>, windows: &[Option<i64>]) -> Vec<u32> {
    let mut counts = vec![0; queries.row_count() * windows.len()];
    for_each_query(queries, events, windows, |position, held| {
        let first = queries.rows()[position] as usize * windows.len();
        for (count, held) in counts[first..].iter_mut().zip(held) {
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
    let rows = events.rows();
    match aggregate {
        Aggregate::Count => counts(queries, events, windows).into_iter().map(f64::from).collect(),
        Aggregate::Sum(values) => {
            let of = |total: &mut Total<'_>, held: &Range<u32>| total.over(held).0;
            each(queries, events, windows, 0.0, || Total::new(values, rows), of)
        }
        Aggregate::Mean(values) => {
            let of = |total: &mut Total<'_>, held: &Range<u32>| {
                let (sum, count) = total.over(held);
                sum / f64::from(count)
            };
            each(queries, events, windows, f64::NAN, || Total::new(values, rows), of)
        }
        Aggregate::Min(values) => {
            each(queries, events, windows, f64::NAN, || Extreme::least(values, rows), Extreme::over)
        }
        Aggregate::Max(values) => {
            each(queries, events, windows, f64::NAN, || Extreme::greatest(values, rows), Extreme::over)
        }
        Aggregate::Distinct(codes) => {
            let of = |distinct: &mut Distinct<'_>, held: &Range<u32>| f64::from(distinct.over(held));
            each(queries, events, windows, 0.0, || Distinct::new(codes, rows), of)
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
    for_each_query(queries, events, windows, |position, held| {
        let first = queries.rows()[position] as usize * windows.len();
        for ((result, state), held) in results[first..].iter_mut().zip(&mut states).zip(held) {
            *result = over(state, held);
        }
    });
    results
}
