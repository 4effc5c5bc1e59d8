//! Aggregates that follow a window whose borders only move forward: each event enters and leaves once.

use std::collections::VecDeque;
use std::ops::Range;

use super::ExactSum;
use crate::NONE;

/// How a window changes from one query to the next.
struct Step {
    /// Whether nothing of the window before is left.
    afresh: bool,
    /// Positions that leave it, unless it starts afresh.
    leave: Range<u32>,
    /// Positions that enter it.
    enter: Range<u32>,
}

/// The step from one window to the next. Windows of different keys never overlap, so a new key starts afresh.
fn step(from: &Range<u32>, to: &Range<u32>) -> Step {
    if to.start >= from.end {
        return Step { afresh: true, leave: from.clone(), enter: to.clone() };
    }
    Step { afresh: false, leave: from.start..to.start, enter: from.end..to.end }
}

/// Sum and number of the values in a window.
///
/// The sum is exact before it is rounded ([`ExactSum`]), so it does not depend on the windows before.
#[derive(Debug, Clone)]
pub struct Total<'a> {
    values: &'a [f64],
    held: Range<u32>,
    sum: ExactSum,
    rounded: f64,
    count: u32,
}

impl<'a> Total<'a> {
    /// Of `values[position]`: a column [in the order](crate::View::in_order) of the events. A `NaN` is no value.
    pub fn new(values: &'a [f64]) -> Self {
        Self { values, held: 0..0, sum: ExactSum::default(), rounded: 0.0, count: 0 }
    }

    /// Sum and number of the values at these positions. Neither border may be before that of the call before.
    pub fn over(&mut self, held: &Range<u32>) -> (f64, u32) {
        if self.held == *held {
            return (self.rounded, self.count);
        }
        let Step { afresh, leave, enter } = step(&self.held, held);
        if afresh {
            self.sum.clear();
            self.count = 0;
        } else {
            for value in present(self.values, leave) {
                self.sum.subtract(value);
                self.count -= 1;
            }
        }
        for value in present(self.values, enter) {
            self.sum.add(value);
            self.count += 1;
        }
        self.held = held.clone();
        self.rounded = self.sum.rounded();
        (self.rounded, self.count)
    }
}

fn present(values: &[f64], positions: Range<u32>) -> impl Iterator<Item = f64> {
    let values = &values[positions.start as usize..positions.end as usize];
    values.iter().copied().filter(|value| !value.is_nan())
}

/// The least or the greatest value in a window: a queue of those that no later one beats.
#[derive(Debug, Clone)]
pub struct Extreme<'a> {
    values: &'a [f64],
    /// 1 for the greatest, -1 for the least: what the values are multiplied by.
    sign: f64,
    held: Range<u32>,
    /// Positions and values times `sign`, each greater than all after it.
    queue: VecDeque<(u32, f64)>,
}

impl<'a> Extreme<'a> {
    /// The least of `values[position]`; see [`Total::new`].
    pub fn least(values: &'a [f64]) -> Self {
        Self { values, sign: -1.0, held: 0..0, queue: VecDeque::new() }
    }

    /// The greatest of `values[position]`; see [`Total::new`].
    pub fn greatest(values: &'a [f64]) -> Self {
        Self { sign: 1.0, ..Self::least(values) }
    }

    /// The extreme of the values at these positions, `NaN` of none. Neither border may be before that of the
    /// call before.
    pub fn over(&mut self, held: &Range<u32>) -> f64 {
        let Step { afresh, enter, .. } = step(&self.held, held);
        if afresh {
            self.queue.clear();
        }
        while self.queue.front().is_some_and(|&(position, _)| position < held.start) {
            self.queue.pop_front();
        }
        for position in enter {
            let value = self.values[position as usize] * self.sign;
            if value.is_nan() {
                continue;
            }
            while self.queue.back().is_some_and(|&(_, last)| value >= last) {
                self.queue.pop_back();
            }
            self.queue.push_back((position, value));
        }
        self.held = held.clone();
        self.queue.front().map_or(f64::NAN, |&(_, value)| value * self.sign)
    }
}

/// Number of distinct codes in a window, by a count of each: 4 bytes a code.
#[derive(Debug, Clone)]
pub struct Distinct<'a> {
    codes: &'a [u32],
    held: Range<u32>,
    /// How often the window holds each code.
    counts: Vec<u32>,
    distinct: u32,
}

impl<'a> Distinct<'a> {
    /// Of the dense `codes[position]`; see [`Total::new`]. [`NONE`] is no code.
    pub fn new(codes: &'a [u32]) -> Self {
        let size = codes.iter().filter(|&&code| code != NONE).max().map_or(0, |&code| code as usize + 1);
        Self { codes, held: 0..0, counts: vec![0; size], distinct: 0 }
    }

    /// Number of distinct codes at these positions. Neither border may be before that of the call before.
    pub fn over(&mut self, held: &Range<u32>) -> u32 {
        let Step { leave, enter, .. } = step(&self.held, held);
        for &code in &self.codes[leave.start as usize..leave.end as usize] {
            if let Some(count) = self.counts.get_mut(code as usize) {
                *count -= 1;
                self.distinct -= u32::from(*count == 0);
            }
        }
        for &code in &self.codes[enter.start as usize..enter.end as usize] {
            if let Some(count) = self.counts.get_mut(code as usize) {
                self.distinct += u32::from(*count == 0);
                *count += 1;
            }
        }
        self.held = held.clone();
        self.distinct
    }
}
