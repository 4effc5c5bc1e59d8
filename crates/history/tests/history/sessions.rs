//! Sessions by an idle gap.

use gatefold_history::NONE;
use gatefold_history::sessions::sessions;
use proptest::prelude::*;

use crate::{Log, cases, log};

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn sessions_are_those_of_a_scan(log in log(40), gap in 0..5_i64) {
        let found = sessions(log.timeline().view(), gap);
        for (row, &number) in found.iter().enumerate() {
            // Each row at or before it that no row of the `gap` before precedes begins a session.
            let (key, time) = (log.keys[row], log.times[row]);
            let mut begins: Vec<i64> = log
                .rows_where(key, |other| other <= time)
                .iter()
                .map(|&other| log.times[other as usize])
                .filter(|&other| log.rows_where(key, |before| before < other && other - before <= gap).is_empty())
                .collect();
            begins.dedup();
            prop_assert_eq!(number, if key == NONE { NONE } else { begins.len() as u32 - 1 });
        }
    }
}

#[test]
fn a_pause_longer_than_the_gap_begins_a_session() {
    let log = Log::of(&[(0, 0), (1, 5), (0, 30), (0, 61), (NONE, 61), (0, 61), (0, 92)]);
    assert_eq!(sessions(log.timeline().view(), 30), [0, 0, 0, 1, NONE, 1, 2]);
}
