//! Train, valid and test: by time, and never through a request.

use std::collections::BTreeMap;
use std::ops::Range;

use gatefold_schema::{Instant, LabelConfig, Maturity, SplitBy, SplitConfig};
use serde::{Deserialize, Serialize};

use crate::{SamplesError, prepared::SPLITS};

/// Where in time the splits are: one decision for all samples, however many processes make them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cuts {
    /// Times of `train`, `valid` and `test`: from the first, up to before the second.
    splits: [Range<i64>; 3],
    /// Requests from here on are younger than their windows, and held back.
    end: i64,
}

impl Cuts {
    /// Divides requests, given by time and number of rows in the order of time, at the times that are configured
    /// or where the rows' shares are; by user alone, all times are for training. The logs end at `until`; a label
    /// needs `window` microseconds to be known.
    ///
    /// # Errors
    /// When a split that is wanted has no row.
    pub(crate) fn new(
        requests: &[(i64, u32)],
        config: &SplitConfig,
        maturity: Maturity,
        window: i64,
        until: i64,
    ) -> Result<Self, SamplesError> {
        let end = match maturity {
            Maturity::HoldBack => first_young(until, window),
            Maturity::Keep | Maturity::Elapsed | Maturity::FakeNegatives | Maturity::Weight(_) => i64::MAX,
        };
        let requests = &requests[..requests.partition_point(|(time, _)| *time < end)];
        let rows: u64 = requests.iter().map(|(_, rows)| u64::from(*rows)).sum();
        let (first, last) =
            (requests.first().map(|request| request.0), requests.last().map(|request| request.0));
        // The time of the row at this place, so that rows of one time stay together.
        let at_row = |row: u64| {
            let mut before = 0;
            let found = requests.iter().find(|(_, own)| {
                before += u64::from(*own);
                before > row
            });
            found.map_or(end, |(time, _)| *time)
        };
        let share = |share: f64| at_row(rows - ((rows as f64 * share).round() as u64).min(rows));
        let (valid, test) = match (config.valid_from, config.test_from) {
            _ if config.by == SplitBy::User => (end, end),
            (Some(valid), Some(test)) => (valid.micros().min(end), test.micros().min(end)),
            _ => (share(config.valid + config.test), share(config.test)),
        };
        let gap = config.gap.map_or(0, gatefold_schema::Span::micros);
        // A request keeps away from the first of the next split by the gap at least.
        let before = |next: i64| match requests.iter().find(|(time, _)| *time >= next) {
            Some((time, _)) if gap > 0 => time.saturating_sub(gap).saturating_add(1).min(next),
            _ => next,
        };
        let splits = [i64::MIN..before(valid), valid..before(test).max(valid), test..end];
        for ((name, range), wanted) in SPLITS.iter().zip(&splits).zip(wanted_times(config)) {
            if wanted && !requests.iter().any(|(time, _)| range.contains(time)) {
                let shown = |time: Option<i64>| match time {
                    Some(time) => Instant::from_micros(time).to_string(),
                    None => "none".to_owned(),
                };
                return Err(SamplesError::config(format!(
                    "[samples.split]: no row is left for {name} ({rows} rows from {} to {}); use more data, another \
                     share or other times",
                    shown(first),
                    shown(last)
                )));
            }
        }
        Ok(Self { splits, end })
    }

    /// The requests of each split, by their times in ascending order.
    pub(crate) fn ranges(&self, times: &[i64]) -> Vec<(&'static str, Range<usize>)> {
        let place = |bound: i64| times.partition_point(|time| *time < bound);
        let ranges = self.splits.iter().map(|split| place(split.start)..place(split.end));
        SPLITS.into_iter().zip(ranges).collect()
    }

    /// The first time that is not for training.
    pub(crate) fn train_end(&self) -> i64 {
        self.splits[0].end
    }

    /// Rows that are in no split, by reason; `rows` says how many each request has.
    pub(crate) fn dropped(&self, times: &[i64], rows: impl Fn(usize) -> u64) -> BTreeMap<String, u64> {
        let (mut young, mut between) = (0, 0);
        for (request, time) in times.iter().enumerate() {
            if *time >= self.end {
                young += rows(request);
            } else if !self.splits.iter().any(|split| split.contains(time)) {
                between += rows(request);
            }
        }
        let reasons = [
            ("impressions younger than their windows", young),
            ("impressions in the gap before a split", between),
        ];
        reasons
            .into_iter()
            .filter(|(_, rows)| *rows > 0)
            .map(|(reason, rows)| (reason.to_owned(), rows))
            .collect()
    }
}

/// Which of train, valid and test must have a stretch of time with rows.
pub(super) fn wanted_times(config: &SplitConfig) -> [bool; 3] {
    match config.valid_from {
        _ if config.by == SplitBy::User => [true, false, false],
        Some(_) => [true, config.valid_from != config.test_from, true],
        None => [true, config.valid > 0.0, config.test > 0.0],
    }
}

/// The first time whose labels can change after the logs end, at `until`.
pub(crate) fn first_young(until: i64, window: i64) -> i64 {
    until.saturating_sub(window).saturating_add(1)
}

/// How long after a request its labels can change, microseconds.
pub(crate) fn label_window(config: &LabelConfig, has_conversions: bool) -> i64 {
    let conversion = if has_conversions { config.conversion_window.micros() } else { 0 };
    let view = config.view_window.map_or(0, gatefold_schema::Span::micros);
    (config.click_window.micros() + conversion).max(view)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(times: &[i64], config: &SplitConfig) -> Result<Vec<Range<usize>>, SamplesError> {
        let requests: Vec<(i64, u32)> = times.iter().map(|time| (*time, 1)).collect();
        let cuts = Cuts::new(&requests, config, Maturity::Keep, 0, 0)?;
        Ok(cuts.ranges(times).into_iter().map(|(_, range)| range).collect())
    }

    fn shares(valid: f64, test: f64) -> SplitConfig {
        SplitConfig { valid, test, ..SplitConfig::default() }
    }

    #[track_caller]
    fn check(times: &[i64], valid: f64, test: f64, expected: [usize; 2]) {
        let ranges = cut(times, &shares(valid, test)).unwrap();
        assert_eq!(ranges, [0..expected[0], expected[0]..expected[1], expected[1]..times.len()]);
    }

    #[test]
    fn the_latest_rows_are_for_the_test_and_one_time_is_never_torn() {
        check(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0.1, 0.2, [7, 8]);
        check(&[1, 1, 1, 1, 2, 2, 2, 2, 3, 3], 0.4, 0.2, [4, 8]);
        check(&[1, 1, 1, 1, 2, 2, 2, 2, 3, 3], 0.3, 0.2, [4, 8]);
        check(&[1, 2, 3, 4], 0.25, 0.0, [3, 4]);
    }

    #[test]
    fn an_empty_split_is_refused() {
        let error = cut(&[5, 5, 5, 5], &shares(0.25, 0.25)).unwrap_err().to_string();
        assert!(
            error.contains("no row is left for train (4 rows from 1970-01-01T00:00:00.000005Z to"),
            "{error}"
        );
    }

    #[test]
    fn splits_begin_at_the_times_given_and_keep_the_gap() {
        let day = |day: i64| Instant::parse("2024-03-01").unwrap().micros() + day * 86_400_000_000;
        let times: Vec<i64> = (0..10).map(day).collect();
        let config = SplitConfig {
            valid_from: Some(Instant::from_micros(day(6))),
            test_from: Some(Instant::from_micros(day(8))),
            ..SplitConfig::default()
        };
        assert_eq!(cut(&times, &config).unwrap(), [0..6, 6..8, 8..10]);
        let gap = SplitConfig { gap: Some(gatefold_schema::Span::days(1)), ..config.clone() };
        // The last day of training is a whole day before validation: it stays.
        assert_eq!(cut(&times, &gap).unwrap(), [0..6, 6..8, 8..10]);
        let gap = SplitConfig { gap: Some(gatefold_schema::Span::days(2)), ..config };
        assert_eq!(cut(&times, &gap).unwrap(), [0..5, 6..7, 8..10]);
    }

    #[test]
    fn what_is_too_young_is_held_back_and_counted() {
        let requests: Vec<(i64, u32)> = (0..10).map(|time| (time, 2)).collect();
        let times: Vec<i64> = (0..10).collect();
        let cuts = Cuts::new(&requests, &shares(0.25, 0.25), Maturity::HoldBack, 3, 10).unwrap();
        let ranges: Vec<_> = cuts.ranges(&times).into_iter().map(|(_, range)| range).collect();
        // At 10 the labels of requests up to 7 are known.
        assert_eq!(ranges, [0..4, 4..6, 6..8]);
        let dropped = cuts.dropped(&times, |_| 2);
        assert_eq!(dropped, BTreeMap::from([("impressions younger than their windows".to_owned(), 4)]));
    }
}
