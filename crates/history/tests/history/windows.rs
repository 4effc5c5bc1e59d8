//! Aggregates over windows.

use std::collections::BTreeSet;
use std::ops::Range;

use gatefold_history::NONE;
use gatefold_history::windows::{Aggregate, ExactSum, aggregate, counts, for_each_query};
use proptest::prelude::*;

use crate::{KEYS, Log, cases, log};

const WINDOWS: [Option<i64>; 6] = [Some(1), Some(3), Some(7), Some(0), Some(-2), None];

/// Any aggregate of the events in each window, by a scan of all of them.
fn by_scan(queries: &Log, events: &Log, of: impl Fn(&[u32]) -> f64) -> Vec<f64> {
    let mut results = Vec::new();
    for (&key, &time) in queries.keys.iter().zip(&queries.times) {
        for window in WINDOWS {
            results.push(of(&events.rows_before(key, time, window)));
        }
    }
    results
}

#[track_caller]
fn check(queries: &Log, events: &Log, what: Aggregate<'_>, of: impl Fn(&[u32]) -> f64) {
    let (queried, known) = (queries.timeline(), events.timeline());
    let found = aggregate(queried.view(), known.view(), &WINDOWS, what);
    let expected = by_scan(queries, events, of);
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!(
            found == expected || found.is_nan() && expected.is_nan(),
            "{what:?} of query {}, window {:?}: {found}, not {expected}",
            at / WINDOWS.len(),
            WINDOWS[at % WINDOWS.len()]
        );
    }
}

/// A value of an event: none, or an integer times 2^-40 to 2^40, so that sums of many are exact in `i128`.
fn value() -> impl Strategy<Value = Option<(i64, u32)>> {
    prop::option::weighted(0.85, (prop_oneof![-9..10_i64, -(1_i64 << 53)..1 << 53], 0..61_u32))
}

fn as_float(value: Option<(i64, u32)>) -> f64 {
    value.map_or(f64::NAN, |(integer, power)| integer as f64 * 2_f64.powi(power as i32 - 30))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn counts_are_those_of_a_scan(queries in log(25), events in log(40)) {
        check(&queries, &events, Aggregate::Count, |rows| rows.len() as f64);
        check(&events, &events, Aggregate::Count, |rows| rows.len() as f64);
    }

    #[test]
    fn several_logs_are_counted_in_one_pass(queries in log(25), logs in [log(30), log(30)]) {
        let timelines = logs.each_ref().map(Log::timeline);
        let found = counts(queries.timeline().view(), &[timelines[0].view(), timelines[1].view()], &WINDOWS);
        let mut expected = Vec::new();
        for (&key, &time) in queries.keys.iter().zip(&queries.times) {
            for log in &logs {
                expected.extend(WINDOWS.map(|window| log.rows_before(key, time, window).len() as u32));
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn sums_and_means_are_exact(
        queries in log(25),
        (events, values) in log(40).prop_flat_map(|log| {
            let values = prop::collection::vec(value(), log.len());
            (Just(log), values)
        }),
    ) {
        let column: Vec<f64> = values.iter().map(|&value| as_float(value)).collect();
        let present = |rows: &[u32]| -> Vec<i128> {
            rows.iter()
                .filter_map(|&row| values[row as usize].map(|(integer, power)| i128::from(integer) << power))
                .collect()
        };
        let sum = |rows: &[u32]| present(rows).iter().sum::<i128>() as f64 * 2_f64.powi(-30);
        check(&queries, &events, Aggregate::Sum(&column), sum);
        check(&queries, &events, Aggregate::Mean(&column), |rows| match present(rows).len() {
            0 => f64::NAN,
            count => sum(rows) / count as f64,
        });
    }

    #[test]
    fn extremes_are_those_of_a_scan(
        queries in log(25),
        (events, values) in log(40).prop_flat_map(|log| {
            let value = prop_oneof![4 => (-3..4_i32).prop_map(f64::from), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)];
            let values = prop::collection::vec(value, log.len());
            (Just(log), values)
        }),
    ) {
        let of = |rows: &[u32], better: fn(f64, f64) -> f64| {
            rows.iter().map(|&row| values[row as usize]).fold(f64::NAN, better)
        };
        check(&queries, &events, Aggregate::Min(&values), |rows| of(rows, f64::min));
        check(&queries, &events, Aggregate::Max(&values), |rows| of(rows, f64::max));
    }

    #[test]
    fn distinct_codes_are_those_of_a_set(
        queries in log(25),
        (events, codes) in log(40).prop_flat_map(|log| {
            let codes = prop::collection::vec(prop_oneof![5 => 0..5_u32, 1 => Just(NONE)], log.len());
            (Just(log), codes)
        }),
    ) {
        check(&queries, &events, Aggregate::Distinct(&codes), |rows| {
            let seen: BTreeSet<u32> = rows.iter().map(|&row| codes[row as usize]).filter(|&code| code != NONE).collect();
            seen.len() as f64
        });
    }

    #[test]
    fn shares_of_the_keys_give_the_whole(queries in log(25), events in log(40), cut in 0..=KEYS) {
        let (queries, events) = (queries.timeline(), events.timeline());
        let visits = |shares: &[Range<usize>]| {
            let mut visits = Vec::new();
            for keys in shares {
                for_each_query(queries.keys_in(keys.clone()), &[events.keys_in(keys.clone())], &WINDOWS, |position, held| {
                    visits.push((position, held.to_vec()));
                });
            }
            visits
        };
        let whole = 0..KEYS;
        prop_assert_eq!(visits(&[whole]), visits(&[0..cut, cut..KEYS]));
    }

    #[test]
    fn an_exact_sum_does_not_depend_on_the_order(mut values in prop::collection::vec(any::<f64>(), 0..40), gone in any::<f64>()) {
        values.retain(|value| !value.is_nan());
        let mut forward = ExactSum::default();
        let mut backward = ExactSum::default();
        values.iter().for_each(|&value| forward.add(value));
        if !gone.is_nan() {
            backward.add(gone);
        }
        values.iter().rev().for_each(|&value| backward.add(value));
        if !gone.is_nan() {
            backward.subtract(gone);
        }
        prop_assert_eq!(forward.rounded().to_bits(), backward.rounded().to_bits());
    }
}

/// More queries of a key than are looked at together.
#[test]
fn keys_with_many_events_are_counted_like_any() {
    let rows: Vec<(u32, i64)> =
        (0..1_000_i64).map(|row| (u32::from(row % 10 == 3), row * 7919 % 613)).collect();
    let log = Log::of(&rows);
    check(&log, &log, Aggregate::Count, |rows| rows.len() as f64);
    let windows = [Some(100), None];
    let found = counts(log.timeline().view(), &[log.timeline().view(), log.timeline().view()], &windows);
    for (found, &(key, time)) in found.chunks(4).zip(&rows) {
        let expected = windows.map(|window| log.rows_before(key, time, window).len() as u32);
        assert_eq!(found, [expected, expected].concat());
    }
}

#[test]
fn no_windows_are_nothing() {
    let log = Log::of(&[(0, 1), (0, 2)]).timeline();
    assert!(counts(log.view(), &[log.view()], &[]).is_empty());
    assert!(counts(log.view(), &[], &[None]).is_empty());
}

#[test]
fn windows_are_closed_on_the_left_and_open_at_the_instant() {
    let events = Log::of(&[(0, 10), (0, 11), (0, 20)]);
    let queries = Log::of(&[(0, 20), (0, 21), (0, 22), (0, 10), (0, i64::MIN), (NONE, 22), (1, 22)]);
    let found =
        counts(queries.timeline().view(), &[events.timeline().view()], &[Some(10), None, Some(i64::MAX)]);
    assert_eq!(found, [2, 2, 2, 2, 3, 3, 1, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn sums_keep_what_f64_would_lose() {
    let sum = |values: &[f64]| {
        let mut sum = ExactSum::default();
        values.iter().for_each(|&value| sum.add(value));
        sum.rounded()
    };
    let tiny = f64::from_bits(1);
    assert_eq!(sum(&[1e16, 1.0, -1e16]), 1.0);
    assert_eq!(sum(&[1e300, 1.0, tiny, -1e300, -1.0]), tiny);
    assert_eq!(sum(&[0.1; 10]), 1.0);
    assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]), f64::MAX);
    assert_eq!(sum(&[f64::MAX, f64::MAX]), f64::INFINITY);
    assert_eq!(sum(&[-f64::MAX, -f64::MAX]), f64::NEG_INFINITY);
    // Half way between two neighbours: to the even one, unless anything at all is beyond.
    assert_eq!(sum(&[1.0, f64::EPSILON / 2.0]), 1.0);
    assert_eq!(sum(&[1.0, f64::EPSILON / 2.0, tiny]), 1.0 + f64::EPSILON);
    assert_eq!(sum(&[-1.0, -f64::EPSILON / 2.0, -tiny]), -1.0 - f64::EPSILON);
    assert_eq!(sum(&[f64::MIN_POSITIVE, -tiny]), f64::MIN_POSITIVE - tiny);
    assert_eq!(sum(&[f64::INFINITY, 1.0]), f64::INFINITY);
    assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    assert_eq!(sum(&[]).to_bits(), 0);
    assert_eq!(sum(&[-0.0, 0.0]), 0.0);
}

/// Enough values to carry beyond the highest digit of any of them, wherever their bits lie in it.
#[test]
fn sums_of_many_values_carry() {
    for (power, sign) in (0..32).flat_map(|power| [(power, 1), (power, -1)]) {
        let integer = (sign * ((1_i128 << 53) - 1)) << power;
        let mut sum = ExactSum::default();
        (0..10_000).for_each(|_| sum.add(integer as f64));
        assert_eq!(sum.rounded(), (10_000 * integer) as f64);
    }
}

#[test]
fn an_infinity_leaves_with_its_event() {
    let events = Log::of(&[(0, 1), (0, 2), (0, 3)]);
    let queries = Log::of(&[(0, 3), (0, 4), (0, 5)]);
    let values = [1.0, f64::INFINITY, 3.0];
    let found =
        aggregate(queries.timeline().view(), events.timeline().view(), &[Some(2)], Aggregate::Sum(&values));
    assert_eq!(found, [f64::INFINITY, f64::INFINITY, 3.0]);
}

#[test]
#[should_panic(expected = "must number the same keys")]
fn logs_that_number_other_keys_are_refused() {
    let log = Log::of(&[(0, 1)]).timeline();
    counts(log.view(), &[log.keys_in(0..1)], &[None]);
}
