//! Training rows as a stream would have brought them: each impression as a negative when it is shown, and once
//! more as a positive when its outcome comes (S. I. Ktena et al., "Addressing delayed feedback for continuous
//! training with neural networks in CTR prediction", RecSys 2019, arXiv:1907.06558).
//!
//! While impressions are shown and lead to outcomes at a steady pace, the outcomes that come in a stretch of time
//! are as many as those that the impressions of that time lead to, whenever these come. So of the rows the share
//! `p / (1 + p)` is positive, and training waits for no window to end. That holds from the time on by which the
//! windows of the first impressions have ended.

use std::ops::Range;

use gatefold_history::NONE;
use gatefold_schema::{EventLogs, Instant};

use super::{events::Events, impressions::Impressions, labels::Outcomes};
use crate::{SamplesError, prepared::Written};

/// When the outcomes of one label came.
pub(crate) struct Arrivals {
    /// One a row; `None` of a row without an outcome.
    times: Vec<Option<i64>>,
}

/// When the outcomes came of which training has fake negatives, where it has.
pub(crate) fn arrivals(
    config: &EventLogs,
    outcomes: &Outcomes,
    clicks: &Events,
    conversions: Option<&Events>,
) -> Option<Arrivals> {
    config.late_label()?;
    let (log, event_of) = match conversions {
        Some(conversions) => (conversions, &outcomes.conversion_of),
        None => (clicks, &outcomes.click_of),
    };
    let time = |event: &u32| (*event != NONE).then(|| log.time[*event as usize]);
    Some(Arrivals { times: event_of.iter().map(time).collect() })
}

/// The times that training has the stream of: from when the windows of the impressions at `first` have ended, which
/// are `window` microseconds long, to the `end` of training.
///
/// # Errors
/// When there is no such time.
pub(crate) fn stream(first: i64, window: i64, end: i64) -> Result<Range<i64>, SamplesError> {
    let from = first.saturating_add(window);
    if from >= end {
        return Err(SamplesError::config(format!(
            "[samples.logs]: labels.maturity: with \"fake-negatives\" training begins when the windows of the first \
             impressions have ended ({}), but it ends earlier ({}); use longer logs, shorter windows or another \
             maturity",
            Instant::from_micros(from),
            Instant::from_micros(end),
        )));
    }
    Ok(from..end)
}

impl Arrivals {
    /// Says how the rows of the `train` requests are `written` that sampling has left.
    pub(crate) fn stream(
        &self,
        impressions: &Impressions,
        train: &[u32],
        stream: &Range<i64>,
        written: &mut [Written],
    ) {
        for &request in train {
            let is_shown = stream.contains(&impressions.request_time[request as usize]);
            let rows = impressions.rows_of(request as usize);
            for (row, written) in rows.clone().zip(&mut written[rows]) {
                if *written == Written::SampledAway {
                    continue;
                }
                let comes = self.times[row].is_some_and(|time| stream.contains(&time));
                *written = match (is_shown, comes) {
                    (true, true) => Written::Twice,
                    (true, false) => Written::Negative,
                    (false, true) => Written::Positive,
                    (false, false) => Written::Never,
                };
            }
        }
    }
}
