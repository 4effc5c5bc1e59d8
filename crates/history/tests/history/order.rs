//! The order by key and time.

use gatefold_history::{HistoryError, NONE, Timeline};
use proptest::prelude::*;

use crate::{KEYS, cases, log};

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn rows_are_ordered_by_key_time_and_row(log in log(40)) {
        let timeline = log.timeline();
        let view = timeline.view();
        for key in 0..KEYS {
            let expected = log.rows_where(key as u32, |_| true);
            let times: Vec<i64> = expected.iter().map(|&row| log.times[row as usize]).collect();
            prop_assert_eq!(&view.rows()[view.positions(key)], expected);
            prop_assert_eq!(&view.times()[view.positions(key)], times);
        }
        prop_assert_eq!(view.row_count(), log.len());
    }

    #[test]
    fn ties_are_ordered_by_their_column_then_row(log in log(40), seed in any::<u64>()) {
        let ties: Vec<u64> = (0..log.len() as u64).map(|row| (row ^ seed).wrapping_mul(0x9e37_79b9) >> 7 & 3).collect();
        let timeline = Timeline::with_ties(&log.keys, &log.times, &ties, KEYS).unwrap();
        let view = timeline.view();
        for key in 0..KEYS {
            let mut expected = log.rows_where(key as u32, |_| true);
            expected.sort_by_key(|&row| (log.times[row as usize], ties[row as usize], row));
            prop_assert_eq!(&view.rows()[view.positions(key)], expected);
        }
    }

    #[test]
    fn memory_used_before_leaves_no_trace(before in log(40), log in log(40)) {
        let mut timeline = before.timeline();
        timeline.fill(&log.keys, &log.times, KEYS).unwrap();
        let fresh = log.timeline();
        prop_assert_eq!(timeline.view().rows(), fresh.view().rows());
        prop_assert_eq!(timeline.view().times(), fresh.view().times());
        prop_assert_eq!(timeline.view().all_positions(), fresh.view().all_positions());
    }

    #[test]
    fn a_range_of_keys_is_a_part_of_the_whole(log in log(40), bounds in [0..=KEYS, 0..=KEYS]) {
        let (start, end) = (bounds[0].min(bounds[1]), bounds[0].max(bounds[1]));
        let timeline = log.timeline();
        let part = timeline.keys_in(start..end);
        prop_assert_eq!(part.keys(), end - start);
        for key in start..end {
            prop_assert_eq!(part.positions(key - start), timeline.view().positions(key));
        }
        prop_assert_eq!(part.all_positions().len(), (start..end).map(|key| part.positions(key - start).len()).sum::<usize>());
    }

    #[test]
    fn the_earliest_row_of_each_key(log in log(20)) {
        let expected: Vec<u32> =
            (0..KEYS as u32).map(|key| log.rows_where(key, |_| true).first().copied().unwrap_or(NONE)).collect();
        prop_assert_eq!(log.timeline().view().earliest(), expected);
    }
}

#[test]
fn nothing_at_all_is_in_order() {
    let timeline = Timeline::new(&[], &[], 0).unwrap();
    assert_eq!(timeline.view().keys(), 0);
    assert_eq!(timeline.view().all_positions(), 0..0);
    assert_eq!(Timeline::default().view().keys(), 0);
}

#[test]
fn bad_columns_are_named() {
    assert_eq!(
        Timeline::new(&[0, 1], &[5], 2).unwrap_err(),
        HistoryError::LengthMismatch { what: "the column of times", expected: 2, found: 1 }
    );
    assert_eq!(
        Timeline::new(&[0, NONE, 2], &[5, 6, 7], 2).unwrap_err(),
        HistoryError::KeyOutOfRange { row: 2, key: 2, keys: 2 }
    );
    let mut timeline = Timeline::new(&[0], &[5], 1).unwrap();
    assert!(timeline.fill(&[3], &[5], 1).is_err());
    assert_eq!((timeline.view().keys(), timeline.view().row_count()), (0, 0));
    let error = Timeline::with_ties(&[0], &[5], &[1, 2], 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the column that orders ties has 2 values but there are 1 keys: pass one value a row"
    );
}
