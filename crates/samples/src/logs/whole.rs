//! What is known only of all users together, and decided once for all samples, however many parts they are made in.

use std::ops::Range;

use gatefold_schema::{EventLogs, Instant, Recipe, Span};
use serde::{Deserialize, Serialize};

use super::{
    features::Plan,
    feedback,
    split::{self, Cuts},
};
use crate::SamplesError;

/// What is known only of all users together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Whole {
    /// Times of the first event and of the last, microseconds.
    pub(super) span: Range<i64>,
    /// Where the splits are in time.
    pub(super) cuts: Cuts,
    /// How long after a request its labels can change, microseconds.
    pub(super) window: i64,
    /// The times that training has the stream of, where it has fake negatives.
    pub(super) stream: Option<Range<i64>>,
}

impl Whole {
    /// Of all requests, given by time and number of rows in the order of time.
    pub(super) fn new(
        recipe: &Recipe,
        config: &EventLogs,
        requests: &[(i64, u32)],
        span: Range<i64>,
    ) -> Result<Self, SamplesError> {
        let window = split::label_window(&config.labels, config.conversions.is_some());
        let cuts = Cuts::new(requests, &recipe.samples.split, config.labels.maturity, window, span.end)?;
        let first = requests.first().map_or(i64::MAX, |(time, _)| *time);
        let end = cuts.train_end().min(span.end.saturating_add(1));
        let stream = config.late_label().map(|_| feedback::stream(first, window, end)).transpose()?;
        Ok(Self { span, cuts, window, stream })
    }

    /// A window that is longer than the logs is full for no request: what it says of the first and of the last would
    /// be of spans of another length.
    pub(super) fn check_windows(&self, config: &EventLogs, plan: &Plan) -> Result<(), SamplesError> {
        for aggregate in &config.aggregates {
            let longer = |window: &&Span| {
                plan.derived.contains(&aggregate.column_name(**window))
                    && window.micros() > self.span.end - self.span.start
            };
            if let Some(window) = aggregate.windows.iter().find(longer) {
                return Err(SamplesError::config(format!(
                    "[[samples.logs.aggregate]] '{}': the window of {window} is longer than the logs, which are from {} \
                     to {}; give a shorter one, or longer logs",
                    aggregate.name,
                    Instant::from_micros(self.span.start),
                    Instant::from_micros(self.span.end)
                )));
            }
        }
        Ok(())
    }
}
