//! The credit for events.

use gatefold_history::attribution::{Attribution, Credit, Outcome, Rule, attribute, attribute_rest};
use gatefold_history::{NONE, Timeline};
use proptest::prelude::*;

use crate::{Log, cases, log};

/// Attribution by its definition: every touch against every event.
fn by_scan(touches: &Log, events: &Log, rule: Rule, asked: impl Fn(usize) -> bool) -> Attribution {
    let mut found = Attribution {
        event_of: vec![NONE; touches.len()],
        touch_of: vec![NONE; events.len()],
        outcomes: vec![Outcome::Elsewhere; events.len()],
    };
    let earlier = |event: u32, than: u32| {
        let order = |row: u32| (events.times[row as usize], row);
        than == NONE || order(event) < order(than)
    };
    for event in (0..events.len()).filter(|&event| asked(event)) {
        let (key, time) = (events.keys[event], events.times[event]);
        let follows = |touch: i64| if rule.same_time { time >= touch } else { time > touch };
        let in_window = |touch: i64| rule.window.is_none_or(|window| time <= touch + window);
        let held = touches.rows_where(key, |touch| follows(touch) && in_window(touch));
        found.outcomes[event] = match () {
            () if touches.rows_where(key, |_| true).is_empty() => Outcome::NoTouch,
            () if touches.rows_where(key, follows).is_empty() => Outcome::BeforeTouch,
            () if held.is_empty() => Outcome::TooLate,
            () => Outcome::Credited,
        };
        let credited = match rule.credit {
            Credit::Last => &held[held.len().saturating_sub(1)..],
            Credit::First => &held[..held.len().min(1)],
            Credit::Every => &held[..],
        };
        found.touch_of[event] = credited.last().copied().unwrap_or(NONE);
        for &touch in credited {
            let event_of = &mut found.event_of[touch as usize];
            if earlier(event as u32, *event_of) {
                *event_of = event as u32;
            }
        }
    }
    found
}

fn rule() -> impl Strategy<Value = Rule> {
    let credit = prop::sample::select(vec![Credit::Last, Credit::First, Credit::Every]);
    (prop::option::of(0..7_i64), any::<bool>(), credit).prop_map(|(window, same_time, credit)| Rule {
        window,
        same_time,
        credit,
    })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn credits_are_those_of_a_scan(touches in log(25), events in log(25), rule in rule()) {
        let found = attribute(touches.timeline().view(), events.timeline().view(), rule);
        prop_assert_eq!(&found, &by_scan(&touches, &events, rule, |_| true));
        let outcomes =
            [Outcome::Credited, Outcome::NoTouch, Outcome::BeforeTouch, Outcome::TooLate, Outcome::Elsewhere];
        prop_assert_eq!(outcomes.map(|outcome| found.count(outcome)).iter().sum::<usize>(), events.len());
    }

    #[test]
    fn the_rest_is_credited_as_by_a_scan(
        clicks in log(15),
        views in log(25),
        events in log(25),
        rules in [rule(), rule()],
    ) {
        let conversions = events.timeline();
        let clicked = attribute(clicks.timeline().view(), conversions.view(), rules[0]);
        let viewed = attribute_rest(views.timeline().view(), conversions.view(), rules[1], &clicked);
        let left = |event: usize| clicked.touch_of[event] == NONE;
        prop_assert_eq!(viewed, by_scan(&views, &events, rules[1], left));
    }
}

/// Clicks at 10 and 20, conversions at 10, 15, 25, 30 and 31, and a window of 10.
fn conversions_of_two_clicks(credit: Credit) -> Attribution {
    let clicks = Timeline::new(&[0, 0], &[10, 20], 1).unwrap();
    let conversions = Timeline::new(&[0, 0, 0, 0, 0, NONE], &[10, 15, 20, 30, 31, 15], 1).unwrap();
    attribute(clicks.view(), conversions.view(), Rule { window: Some(10), same_time: false, credit })
}

#[test]
fn conversions_after_two_clicks() {
    use Outcome::{BeforeTouch, Credited, NoTouch, TooLate};
    let outcomes = vec![BeforeTouch, Credited, Credited, Credited, TooLate, NoTouch];
    let last = conversions_of_two_clicks(Credit::Last);
    assert_eq!((last.touch_of, last.event_of), (vec![NONE, 0, 0, 1, NONE, NONE], vec![1, 3]));
    assert_eq!(last.outcomes, outcomes);
    let first = conversions_of_two_clicks(Credit::First);
    assert_eq!((first.touch_of, first.event_of), (vec![NONE, 0, 0, 1, NONE, NONE], vec![1, 3]));
    assert_eq!(first.outcomes, outcomes);
}

/// One conversion after two clicks: the last, the first, or both have it.
#[test]
fn credit_decides_between_clicks() {
    let clicks = Timeline::new(&[0, 0], &[10, 20], 1).unwrap();
    let conversions = Timeline::new(&[0, 0], &[25, 26], 1).unwrap();
    let event_of = |credit, window| {
        attribute(clicks.view(), conversions.view(), Rule { window, same_time: false, credit }).event_of
    };
    assert_eq!(event_of(Credit::Last, None), [NONE, 0]);
    assert_eq!(event_of(Credit::First, None), [0, NONE]);
    assert_eq!(event_of(Credit::Every, None), [0, 0]);
    assert_eq!(event_of(Credit::First, Some(14)), [NONE, 0]);
    assert_eq!(event_of(Credit::Every, Some(14)), [NONE, 0]);
}

/// Clicks carry the request of their impression: a double click is one, and a click may be at the very instant.
#[test]
fn clicks_go_to_the_impression_of_their_request() {
    let impressions = Timeline::new(&[0, 1, 2], &[10, 10, 10], 3).unwrap();
    let clicks = Timeline::new(&[2, 0, 0, NONE], &[10, 40, 30, 30], 3).unwrap();
    let rule = Rule { window: Some(3600), same_time: true, credit: Credit::Last };
    let found = attribute(impressions.view(), clicks.view(), rule);
    assert_eq!(found.event_of, [2, NONE, 0]);
    assert_eq!(found.touch_of, [2, 0, 0, NONE]);
}

/// A conversion that a click has is not given to a view as well; one without a click is, within its own window.
#[test]
fn views_have_what_clicks_do_not() {
    let clicks = Timeline::new(&[0], &[20], 2).unwrap();
    let views = Timeline::new(&[0, 1, 1], &[10, 10, 12], 2).unwrap();
    let conversions = Timeline::new(&[0, 1, 1], &[25, 14, 99], 2).unwrap();
    let clicked = attribute(
        clicks.view(),
        conversions.view(),
        Rule { window: Some(30), same_time: false, credit: Credit::Last },
    );
    let rule = Rule { window: Some(5), same_time: false, credit: Credit::Last };
    let viewed = attribute_rest(views.view(), conversions.view(), rule, &clicked);
    assert_eq!(viewed.event_of, [NONE, NONE, 1]);
    assert_eq!(viewed.touch_of, [NONE, 2, NONE]);
    assert_eq!(viewed.outcomes, [Outcome::Elsewhere, Outcome::Credited, Outcome::TooLate]);
}
