//! Sessions: stretches of activity of one key without a long pause.

use crate::{NONE, View};

/// The number of the session of each row among those of its key, from 0: `[row_count]`, in the order of the caller's
/// rows, [`NONE`] for a row without a key. A new session begins where more than `gap` has passed since the row before.
///
/// It depends on nothing after the row, so it is known at its instant.
pub fn sessions(log: View<'_>, gap: i64) -> Vec<u32> {
    let mut numbers = vec![NONE; log.row_count()];
    for key in 0..log.keys() {
        let mut number = 0;
        let mut previous = None;
        for position in log.positions(key) {
            let time = log.times()[position];
            if previous.is_some_and(|previous: i64| time.saturating_sub(previous) > gap) {
                number += 1;
            }
            previous = Some(time);
            numbers[log.rows()[position] as usize] = number;
        }
    }
    numbers
}
