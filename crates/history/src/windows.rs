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
    let mut slides: Vec<Slide<'_>> = logs.iter().map(|log| Slide::new(*log, windows)).collect();
    let mut held = vec![0..0; BLOCK * width];
    for key in 0..queries.keys() {
        slides.iter_mut().for_each(|slide| slide.start(key));
        let mut positions = queries.positions(key);
        while !positions.is_empty() {
            let block = positions.start..positions.end.min(positions.start + BLOCK);
            positions.start = block.end;
            for (log, slide) in slides.iter_mut().enumerate() {
                slide.find(&queries.times()[block.clone()], &mut held[log * windows.len()..], width);
            }
            for (index, position) in block.enumerate() {
                visit(position, &held[index * width..(index + 1) * width]);
            }
        }
    }
}

/// Queries whose windows are found together: border by border, so that each search is a loop of few registers.
const BLOCK: usize = 128;

/// The windows over one log as they slide from query to query of a key.
struct Slide<'a> {
    log: View<'a>,
    windows: &'a [Option<i64>],
    /// Times of the log up to the last of the key.
    times: &'a [i64],
    end: Cursor,
    /// Of each window.
    starts: Vec<Cursor>,
    /// End of the windows of each query of a block.
    ends: [usize; BLOCK],
}

impl<'a> Slide<'a> {
    fn new(log: View<'a>, windows: &'a [Option<i64>]) -> Self {
        let starts = vec![Cursor(0); windows.len()];
        Self { log, windows, times: &[], end: Cursor(0), starts, ends: [0; BLOCK] }
    }

    /// Goes to the first event of a key.
    fn start(&mut self, key: usize) {
        let positions = self.log.positions(key);
        self.times = &self.log.times()[..positions.end];
        self.end = Cursor(positions.start);
        self.starts.fill(self.end);
    }

    /// Finds the windows of up to [`BLOCK`] queries: `held[query * width + window]`.
    fn find(&mut self, instants: &[i64], held: &mut [Range<u32>], width: usize) {
        // Copies of the cursors stay in registers.
        let mut cursor = self.end;
        for (end, &instant) in self.ends.iter_mut().zip(instants) {
            cursor.move_to(instant, self.times);
            *end = cursor.0;
        }
        self.end = cursor;
        for (column, (start, window)) in self.starts.iter_mut().zip(self.windows).enumerate() {
            let mut cursor = *start;
            for (query, (&end, &instant)) in self.ends.iter().zip(instants).enumerate() {
                if let Some(window) = window {
                    cursor.move_to(instant.saturating_sub(*window), &self.times[..end]);
                }
                held[query * width + column] = cursor.0 as u32..end as u32;
            }
            *start = cursor;
        }
    }
}

/// A position that only moves forward.
#[derive(Debug, Clone, Copy)]
struct Cursor(usize);

impl Cursor {
    /// Moves on to the first of `times` that is not before `instant`, or to their end.
    fn move_to(&mut self, instant: i64, times: &[i64]) {
        while times.get(self.0).is_some_and(|&time| time < instant) {
            self.0 += 1;
        }
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
