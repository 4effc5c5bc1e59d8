//! Columns of the request alone: the user's session, how many requests it had before, and for how long outcomes
//! could be observed.

use gatefold_history::{Timeline, sessions::sessions};
use gatefold_schema::{Level, OBSERVED, SESSION, SESSION_POSITION, Span};
use polars::prelude::*;

use super::{derived::Made, impressions::Impressions, labels::many};
use crate::{
    SamplesError,
    values::{Place, Values},
};

/// The columns `session` and `session_position`, one value a request. Requests of one user at one time do not see
/// each other.
pub(crate) fn columns(impressions: &Impressions, users: usize, gap: Span) -> Result<[Made; 2], SamplesError> {
    let order = Timeline::new(&impressions.user, &impressions.request_time, users).map_err(many)?;
    let order = order.view();
    let numbers = sessions(order, gap.micros());
    let mut positions = vec![0u32; numbers.len()];
    for user in 0..users {
        // How many requests of the session come before the time of the present one, and before the next.
        let (mut before, mut seen) = (0, 0);
        let mut last: Option<(u32, i64)> = None;
        for position in order.positions(user) {
            let (request, time) = (order.rows()[position] as usize, order.times()[position]);
            match last {
                Some((session, _)) if session != numbers[request] => (before, seen) = (0, 0),
                Some((_, earlier)) if earlier < time => before = seen,
                _ => {}
            }
            positions[request] = before;
            seen += 1;
            last = Some((numbers[request], time));
        }
    }
    Ok([of_requests(SESSION, numbers), of_requests(SESSION_POSITION, positions)])
}

/// The column `observed`: for how many seconds the outcomes of each request could be observed before the logs end at
/// `until`; outside of the `train` requests the length of the label's `window`.
pub(crate) fn observed(impressions: &Impressions, train: &[u32], until: i64, window: i64) -> Made {
    let seconds = |micros: i64| u32::try_from(micros / 1_000_000).unwrap_or(u32::MAX);
    let mut values = vec![seconds(window); impressions.request_time.len()];
    for &request in train {
        let age = until.saturating_sub(impressions.request_time[request as usize]);
        values[request as usize] = seconds(age.min(window));
    }
    of_requests(OBSERVED, values)
}

fn of_requests(name: &str, values: Vec<u32>) -> Made {
    Made {
        name: name.to_owned(),
        level: Level::Request,
        values: Values::Scalars {
            dictionary: UInt32Chunked::from_vec(PlSmallStr::EMPTY, values).into_series(),
            place: Place::Request,
        },
    }
}
