//! The last known version.

use gatefold_history::latest::{Versions, latest};
use gatefold_history::{HistoryError, NONE, Timeline};
use proptest::prelude::*;

use crate::{KEYS, Log, cases, log};

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn versions_are_those_of_a_scan(
        queries in log(25),
        (events, created) in log(30).prop_flat_map(|log| {
            let created = prop::option::of(prop::collection::vec(-6_i64..10, log.len()));
            (Just(log), created)
        }),
        time_to_live in prop::option::of(0..9_i64),
    ) {
        let versions = Versions::new(&events.keys, &events.times, created.as_deref(), KEYS).unwrap();
        let found = latest(queries.timeline().view(), &versions, time_to_live);
        let written = |row: u32| created.as_ref().map(|created| created[row as usize]);
        for (row, &found) in found.iter().enumerate() {
            let time = queries.times[row];
            let best = events
                .rows_before(queries.keys[row], time, None)
                .into_iter()
                .filter(|&version| written(version).is_none_or(|written| written < time))
                .max_by_key(|&version| (events.times[version as usize], written(version), version))
                .filter(|&version| time_to_live.is_none_or(|limit| time - events.times[version as usize] <= limit));
            prop_assert_eq!(found, best.unwrap_or(NONE), "query {}", row);
        }
    }
}

#[test]
fn equal_times_are_not_known_and_old_versions_expire() {
    let queries = Log::of(&[(0, 10), (0, 11), (0, 15), (0, 16), (NONE, 15)]);
    let versions = Versions::new(&[0], &[10], None, KEYS).unwrap();
    assert_eq!(latest(queries.timeline().view(), &versions, Some(5)), [NONE, 0, 0, NONE, NONE]);
}

/// A version for time 5 that was written at 20 changes nothing before; from then on it is an older one than that of
/// time 8, and newer than that of time 3.
#[test]
fn a_back_filled_version_is_not_known_before_it_was_written() {
    let queries = Log::of(&[(0, 7), (0, 20), (0, 21), (1, 20), (1, 21)]);
    let (keys, events, created) = ([0, 0, 0, 1, 1], [3, 5, 8, 3, 5], [3, 20, 8, 3, 20]);
    let versions = Versions::new(&keys, &events, Some(&created), KEYS).unwrap();
    assert_eq!(latest(queries.timeline().view(), &versions, None), [0, 2, 2, 3, 4]);
}

#[test]
fn a_correction_of_the_same_event_time_replaces_it_once_written() {
    let queries = Log::of(&[(0, 5), (0, 10), (0, 11)]);
    let versions = Versions::new(&[0, 0], &[3, 3], Some(&[10, 4]), KEYS).unwrap();
    assert_eq!(latest(queries.timeline().view(), &versions, None), [1, 1, 0]);
}

/// The example of Feathr's documentation (docs/concepts/point-in-time-join.md). Its times are days, and it gives an
/// observation the feature of its own day. Under the strict rule that is what a clock would show on which each
/// feature was written an hour before the observations of its day; at the same instant it is not known, and the
/// observation gets that of the day before, or nothing on the first day.
#[test]
fn the_example_of_feathr() {
    let observations = Log::of(&[(1, DAY), (2, DAY), (3, 2 * DAY), (1, 3 * DAY), (3, 3 * DAY)]);
    let features = [
        (1, DAY, 0.5),
        (2, DAY, 0.3),
        (3, DAY, 0.1),
        (1, 2 * DAY, 0.4),
        (2, 2 * DAY, 0.2),
        (3, 2 * DAY, 0.1),
        (1, 3 * DAY, 0.3),
        (2, 3 * DAY, 0.2),
        (3, 3 * DAY, 0.15),
    ];
    let queries = Timeline::new(&observations.keys, &observations.times, 4).unwrap();
    let found = |earlier: i64| -> Vec<Option<f64>> {
        let keys: Vec<u32> = features.iter().map(|feature| feature.0).collect();
        let times: Vec<i64> = features.iter().map(|feature| feature.1 - earlier).collect();
        let versions = Versions::new(&keys, &times, None, 4).unwrap();
        let rows = latest(queries.view(), &versions, None);
        rows.iter().map(|&row| features.get(row as usize).map(|feature| feature.2)).collect()
    };
    assert_eq!(found(HOUR), [Some(0.5), Some(0.3), Some(0.1), Some(0.3), Some(0.15)]);
    assert_eq!(found(0), [None, None, Some(0.1), Some(0.4), Some(0.1)]);
}

#[test]
fn bad_columns_are_named() {
    let what = Versions::new(&[0], &[1], Some(&[]), 1).unwrap_err();
    assert_eq!(
        what,
        HistoryError::LengthMismatch { what: "the column of created times", expected: 1, found: 0 }
    );
}
