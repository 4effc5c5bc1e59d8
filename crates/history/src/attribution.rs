//! Which touch gets the credit for which event: clicks of impressions, conversions of clicks, views.
//!
//! A *touch* is what may have led to an *event*: an impression to a click, a click or an impression to a
//! conversion. Both are logs over the same keys, which say what belongs together: the pair of request and item
//! where events carry the request, else that of user and item ([`pair`](crate::intern::pair)).
//!
//! | label | touches | events | rule |
//! |---|---|---|---|
//! | click of an impression, by request and item | impressions | clicks | [`Credit::Last`], `same_time` |
//! | click of an impression, by user and item | impressions | clicks | the same, with a window |
//! | conversion of a click: last or first click | clicks | conversions | [`Credit::Last`], [`Credit::First`] |
//! | conversion of a click: any that it follows | clicks | conversions | [`Credit::Every`] |
//! | conversion after a view | impressions | conversions | as above, of those that no click has: [`attribute_rest`] |
//!
//! Where an event belongs to its touch by identifier alone, whatever the clocks say, the earliest event of a key
//! ([`View::earliest`]) is the answer.

use crate::{NONE, View};

/// Which of several touches gets the credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credit {
    /// The last touch before the event, if the event is within its window.
    Last,
    /// The first touch whose window the event is in.
    First,
    /// Every touch whose window the event is in: what happened after a touch is its own, whoever else had a part in
    /// it. An event names the last of them as its touch.
    Every,
}

/// When an event may be credited to a touch of its key, and to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The longest time from touch to event, itself included; `None` for ever.
    pub window: Option<i64>,
    /// Whether an event at the very instant of a touch comes after it: `touch <= event`, else `touch < event`.
    pub same_time: bool,
    /// Which touch gets the credit.
    pub credit: Credit,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// It was credited to a touch.
    Credited,
    /// Its key has no touch, or it has no key.
    NoTouch,
    /// All touches of its key came after it (or at its instant).
    BeforeTouch,
    /// The touches before it were longer ago than the window.
    TooLate,
    /// It was not asked for: it has its credit elsewhere.
    Elsewhere,
}

/// Touches and events brought together, in the order of the caller's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    /// For each touch the row of the earliest event credited to it, or [`NONE`]: repeated events are one.
    pub event_of: Vec<u32>,
    /// For each event the row of its touch, or [`NONE`].
    pub touch_of: Vec<u32>,
    /// For each event what became of it.
    pub outcomes: Vec<Outcome>,
}

impl Attribution {
    /// Number of events with an outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.outcomes.iter().filter(|&&found| found == outcome).count()
    }
}

/// Credits events to touches of their keys by a rule. Among touches at one instant the one of the later row is the
/// last.
///
/// # Panics
///
/// When touches and events have different numbers of keys.
pub fn attribute(touches: View<'_>, events: View<'_>, rule: Rule) -> Attribution {
    attribute_where(touches, events, rule, |_| true)
}

/// As [`attribute`], for the events that `before` credited to nothing: conversions after a view (`touches`, the
/// impressions), of those that follow no click (`before`, conversions to clicks).
///
/// # Panics
///
/// As [`attribute`], and when `before` is of other events.
pub fn attribute_rest(touches: View<'_>, events: View<'_>, rule: Rule, before: &Attribution) -> Attribution {
    assert_eq!(
        before.touch_of.len(),
        events.row_count(),
        "the attribution before must be of the same events"
    );
    attribute_where(touches, events, rule, |event| before.touch_of[event as usize] == NONE)
}

fn attribute_where(
    touches: View<'_>,
    events: View<'_>,
    rule: Rule,
    asked: impl Fn(u32) -> bool,
) -> Attribution {
    assert_eq!(touches.keys(), events.keys(), "touches and events must number the same keys");
    let mut found = Attribution {
        event_of: vec![NONE; touches.row_count()],
        touch_of: vec![NONE; events.row_count()],
        outcomes: vec![Outcome::NoTouch; events.row_count()],
    };
    for key in 0..touches.keys() {
        credit_events(touches, events, rule, key, &asked, &mut found);
        if rule.credit == Credit::Every {
            find_events_of_all(touches, events, rule, key, &asked, &mut found.event_of);
        }
    }
    // Events without a key are of no timeline, so no key has come to them.
    for (event, outcome) in found.outcomes.iter_mut().enumerate() {
        if !asked(event as u32) {
            *outcome = Outcome::Elsewhere;
        }
    }
    found
}

/// Finds the touch of each event of a key, and its first event of each touch found so.
fn credit_events(
    touches: View<'_>,
    events: View<'_>,
    rule: Rule,
    key: usize,
    asked: &impl Fn(u32) -> bool,
    found: &mut Attribution,
) {
    let all = touches.positions(key);
    if all.is_empty() {
        return;
    }
    // Touches from `first` to `end` are before the event and have it in their window.
    let (mut first, mut end) = (all.start, all.start);
    for position in events.positions(key) {
        let (event, time) = (events.rows()[position], events.times()[position]);
        if !asked(event) {
            continue;
        }
        while end < all.end && rule.follows(touches.times()[end], time) {
            end += 1;
        }
        while first < end && !rule.holds(touches.times()[first], time) {
            first += 1;
        }
        let outcome = &mut found.outcomes[event as usize];
        if end == all.start {
            *outcome = Outcome::BeforeTouch;
            continue;
        }
        if first == end {
            *outcome = Outcome::TooLate;
            continue;
        }
        *outcome = Outcome::Credited;
        let touch = touches.rows()[if rule.credit == Credit::First { first } else { end - 1 }];
        found.touch_of[event as usize] = touch;
        let earliest = &mut found.event_of[touch as usize];
        if *earliest == NONE {
            *earliest = event;
        }
    }
}

/// Finds the first event after each touch of a key, where it is in the window.
fn find_events_of_all(
    touches: View<'_>,
    events: View<'_>,
    rule: Rule,
    key: usize,
    asked: &impl Fn(u32) -> bool,
    event_of: &mut [u32],
) {
    let all = events.positions(key);
    let mut next = all.start;
    for position in touches.positions(key) {
        let time = touches.times()[position];
        while next < all.end && !(rule.follows(time, events.times()[next]) && asked(events.rows()[next])) {
            next += 1;
        }
        if next < all.end && rule.holds(time, events.times()[next]) {
            event_of[touches.rows()[position] as usize] = events.rows()[next];
        }
    }
}

impl Rule {
    /// Whether an event comes after a touch.
    fn follows(&self, touch: i64, event: i64) -> bool {
        if self.same_time { touch <= event } else { touch < event }
    }

    /// Whether an event after a touch is within its window.
    fn holds(&self, touch: i64, event: i64) -> bool {
        self.window.is_none_or(|window| event.saturating_sub(touch) <= window)
    }
}
