//! The last events before a query.

use gatefold_history::last::{Tail, last};
use gatefold_history::{NONE, Timeline};
use proptest::prelude::*;

use crate::{Log, cases, log};

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn tails_are_those_of_a_scan(queries in log(25), events in log(40), count in 0..6_u32, window in prop::option::of(0..9_i64)) {
        let (queried, known) = (queries.timeline(), events.timeline());
        let tails = last(queried.view(), known.view(), count, window);
        prop_assert_eq!(tails.len(), queries.len());
        for (row, tail) in tails.iter().enumerate() {
            let all = events.rows_before(queries.keys[row], queries.times[row], window);
            let expected = &all[all.len().saturating_sub(count as usize)..];
            prop_assert_eq!(tail.rows(known.view()), expected);
            let times: Vec<i64> = expected.iter().map(|&row| events.times[row as usize]).collect();
            prop_assert_eq!(tail.times(known.view()), times);
        }
    }
}

#[test]
fn clicks_at_one_time_are_in_the_order_of_their_ties() {
    let clicks = Log::of(&[(0, 5), (0, 5), (0, 4), (0, 5), (0, 6)]);
    let items = [30_i64, 10, 40, 20, 50];
    let clicks = Timeline::with_ties(&clicks.keys, &clicks.times, &items, 1).unwrap();
    let queries = Timeline::new(&[0, 0, NONE], &[6, 5, 6], 1).unwrap();
    let tails = last(queries.view(), clicks.view(), 3, None);
    assert_eq!(tails[0].rows(clicks.view()), [1, 3, 0]);
    assert_eq!(tails[1].rows(clicks.view()), [2]);
    assert_eq!(tails[2], Tail::default());
    assert!(tails[2].rows(clicks.view()).is_empty());
}
