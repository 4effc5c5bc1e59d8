//! Target encoding: smoothed means of a label by value, without a training row ever seeing its own label.
//!
//! What is counted is kept by group, which is the fold of a row's request or the row's time. A training
//! row learns from the other folds, or from the times before its own; every other row from all groups.

use std::collections::HashMap;

use gatefold_schema::{
    ConfigError, Encoder as Encoding, EncoderState, Feature, TargetBy, TargetMeans, ValueType,
    VocabularyValues, feature::DEFAULT_FOLDS,
};

use super::hasher::FastState;
use crate::{
    RawColumn, RawValues,
    murmur::{hash_int, hash_text},
};

/// What is known of training rows beside the values of a feature; one entry a row.
#[derive(Clone, Copy, Debug)]
pub struct TrainingRows<'a> {
    /// The label of the encoder's task; NaN where the row is outside the task's sample space, so that it
    /// does not count.
    pub labels: &'a [f32],
    /// The request of each row, integers or text.
    pub requests: &'a RawColumn<'a>,
    /// When the row was shown, in microseconds; only `by = "time"` needs it.
    pub times: Option<&'a [i64]>,
}

/// Seed of the hash that puts requests into folds: another one than features are hashed with.
const FOLD_SEED: u32 = u32::from_be_bytes(*b"zget");

/// Labels are summed in whole multiples of 2^−40, so that the order of the rows changes no bit.
const UNITS_PER_LABEL: f64 = (1u64 << 40) as f64;

/// Labels of some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    count: u64,
    /// In units of 1 / [`UNITS_PER_LABEL`].
    units: i128,
}

impl Sum {
    fn of(label: f32) -> Self {
        Sum { count: 1, units: (f64::from(label) * UNITS_PER_LABEL) as i128 }
    }

    fn add(&mut self, other: Sum) {
        self.count += other.count;
        self.units = self.units.saturating_add(other.units);
    }

    fn without(self, other: Sum) -> Sum {
        Sum { count: self.count - other.count, units: self.units.saturating_sub(other.units) }
    }

    fn total(self) -> f64 {
        self.units as f64 / UNITS_PER_LABEL
    }

    /// The mean, 0 where there are none.
    fn mean(self) -> f64 {
        if self.count == 0 { 0.0 } else { self.total() / self.count as f64 }
    }

    /// The mean drawn to `prior`, which counts as `smoothing` rows.
    fn smoothed(self, prior: f64, smoothing: f64) -> f64 {
        (self.total() + prior * smoothing) / (self.count as f64 + smoothing)
    }
}

/// Sums by group: while counting in any order, and after [`History::seal`] ascending, each with all before it.
#[derive(Clone, Debug, Default)]
struct History(Vec<(i64, Sum)>);

impl History {
    fn add(&mut self, group: i64, sum: Sum) {
        match self.0.last_mut() {
            Some((last, own)) if *last == group => own.add(sum),
            _ => self.0.push((group, sum)),
        }
        // Folds are few: what has grown well beyond its groups is drawn together.
        if self.0.len().is_power_of_two() && self.0.len() >= 64 {
            self.join();
        }
    }

    /// One entry a group, ascending.
    fn join(&mut self) {
        self.0.sort_unstable_by_key(|(group, _)| *group);
        self.0.dedup_by(|(group, sum), (kept_group, kept)| {
            let same = group == kept_group;
            if same {
                kept.add(*sum);
            }
            same
        });
    }

    fn seal(&mut self) {
        self.join();
        let mut all = Sum::default();
        for (_, sum) in &mut self.0 {
            all.add(*sum);
            *sum = all;
        }
    }

    fn all(&self) -> Sum {
        self.0.last().map_or_else(Sum::default, |(_, sum)| *sum)
    }

    /// The sum of the groups below `end`.
    fn below(&self, end: i64) -> Sum {
        match self.0.partition_point(|(group, _)| *group < end) {
            0 => Sum::default(),
            count => self.0[count - 1].1,
        }
    }
}

#[derive(Clone, Debug)]
enum Histories {
    Int(HashMap<i64, History, FastState>),
    Text(HashMap<Box<str>, History, FastState>),
}

/// Counts the labels of a feature's values.
#[derive(Clone, Debug)]
pub struct TargetCounter {
    feature: String,
    smoothing: f64,
    by: TargetBy,
    folds: u32,
    /// Microseconds from a row to the moment its label is known.
    delay: i64,
    of_value: Histories,
    all: History,
}

impl TargetCounter {
    /// A counter that has seen nothing; `None` where the feature has another encoder.
    pub(super) fn new(feature: &Feature) -> Option<Self> {
        let Encoding::Target { smoothing, by, folds, delay, .. } = feature.encoder else {
            return None;
        };
        let of_value = match feature.value_type {
            ValueType::Text => Histories::Text(HashMap::default()),
            _ => Histories::Int(HashMap::default()),
        };
        Some(Self {
            feature: feature.name.clone(),
            smoothing,
            by,
            folds: folds.unwrap_or(DEFAULT_FOLDS).max(1),
            delay: delay.map_or(0, gatefold_schema::Span::micros),
            of_value,
            all: History::default(),
        })
    }

    /// Counts the labels of training rows by the values of `column`.
    pub(super) fn add(&mut self, column: &RawColumn<'_>, rows: &TrainingRows<'_>) -> Result<(), ConfigError> {
        let count = self.check(column, rows)?;
        for row in 0..count {
            let label = rows.labels[row];
            if label.is_nan() {
                continue;
            }
            let (group, sum) = (self.group(rows, row), Sum::of(label));
            self.all.add(group, sum);
            if column.is_missing(row) {
                continue;
            }
            match (&mut self.of_value, &column.values) {
                (Histories::Int(values), RawValues::Ints(ints)) => {
                    values.entry(ints[row]).or_default().add(group, sum);
                }
                (Histories::Text(values), RawValues::Texts(texts)) => match values.get_mut(texts[row]) {
                    Some(history) => history.add(group, sum),
                    None => values.entry(texts[row].into()).or_default().add(group, sum),
                },
                _ => return Err(self.wrong_type(column)),
            }
        }
        Ok(())
    }

    /// Adds what `other` has counted.
    pub(super) fn merge(&mut self, other: TargetCounter) {
        other.all.0.into_iter().for_each(|(group, sum)| self.all.add(group, sum));
        match (&mut self.of_value, other.of_value) {
            (Histories::Int(own), Histories::Int(others)) => {
                for (value, history) in others {
                    let own = own.entry(value).or_default();
                    history.0.into_iter().for_each(|(group, sum)| own.add(group, sum));
                }
            }
            (Histories::Text(own), Histories::Text(others)) => {
                for (value, history) in others {
                    let own = own.entry(value).or_default();
                    history.0.into_iter().for_each(|(group, sum)| own.add(group, sum));
                }
            }
            _ => {}
        }
    }

    /// Ends the counting.
    pub(super) fn finish(mut self) -> TargetTable {
        self.all.seal();
        match &mut self.of_value {
            Histories::Int(values) => values.values_mut().for_each(History::seal),
            Histories::Text(values) => values.values_mut().for_each(History::seal),
        }
        TargetTable(self)
    }

    /// Checks that every row has what it needs, and returns their number.
    fn check(&self, column: &RawColumn<'_>, rows: &TrainingRows<'_>) -> Result<usize, ConfigError> {
        let fail = |text: String| Err(ConfigError::new(format!("feature '{}': {text}", self.feature)));
        let count = column.values.rows();
        let lengths =
            [rows.labels.len(), rows.requests.values.rows(), rows.times.map_or(count, <[i64]>::len)];
        if let Some(length) = lengths.into_iter().find(|length| *length != count) {
            return fail(format!("{count} values for {length} training rows"));
        }
        if self.by == TargetBy::Time && rows.times.is_none() {
            return fail("by = \"time\", but the rows have no time; use by = \"folds\"".into());
        }
        Ok(count)
    }

    /// The fold of a row's request, or its time.
    fn group(&self, rows: &TrainingRows<'_>, row: usize) -> i64 {
        match (self.by, rows.times, &rows.requests.values) {
            (TargetBy::Time, Some(times), _) => times[row],
            (_, _, RawValues::Ints(ids)) => i64::from(hash_int(ids[row], FOLD_SEED) % self.folds),
            (_, _, RawValues::Texts(ids)) => i64::from(hash_text(ids[row], FOLD_SEED) % self.folds),
            _ => 0,
        }
    }

    fn wrong_type(&self, column: &RawColumn<'_>) -> ConfigError {
        let expected = if matches!(self.of_value, Histories::Int(_)) { "int" } else { "text" };
        ConfigError::new(format!(
            "feature '{}': values of type {}, expected {expected}",
            self.feature,
            column.values.type_name()
        ))
    }
}

/// A counted target encoding: what training rows get, and the means for all others.
#[derive(Clone, Debug)]
pub struct TargetTable(TargetCounter);

impl TargetTable {
    /// The encoded values of training rows that were counted, each without what its label has taught.
    ///
    /// # Errors
    /// Rows of another number or type than the values.
    pub fn training_values(
        &self,
        column: &RawColumn<'_>,
        rows: &TrainingRows<'_>,
    ) -> Result<Vec<f32>, ConfigError> {
        let counter = &self.0;
        let count = counter.check(column, rows)?;
        let known = |history: &History, group: i64| match counter.by {
            // A label of time `t` is known after `t + delay`.
            TargetBy::Time => history.below(group.saturating_sub(counter.delay)),
            TargetBy::Folds => {
                history.all().without(history.below(group.saturating_add(1)).without(history.below(group)))
            }
        };
        let encoded = |row: usize| {
            let group = counter.group(rows, row);
            let prior = known(&counter.all, group).mean();
            let history = match (&counter.of_value, &column.values) {
                _ if column.is_missing(row) => None,
                (Histories::Int(values), RawValues::Ints(ints)) => values.get(&ints[row]),
                (Histories::Text(values), RawValues::Texts(texts)) => values.get(texts[row]),
                _ => return Err(counter.wrong_type(column)),
            };
            let mean =
                history.map_or(prior, |history| known(history, group).smoothed(prior, counter.smoothing));
            Ok(mean as f32)
        };
        (0..count).map(encoded).collect()
    }

    /// The state, and the means over all training rows.
    pub fn means(&self) -> (EncoderState, TargetMeans) {
        let counter = &self.0;
        let prior = counter.all.all().mean();
        let mean = |history: &History| history.all().smoothed(prior, counter.smoothing) as f32;
        let (values, means): (VocabularyValues, Vec<f32>) = match &counter.of_value {
            Histories::Int(values) => {
                let mut sorted: Vec<_> =
                    values.iter().map(|(value, history)| (*value, mean(history))).collect();
                sorted.sort_unstable_by_key(|(value, _)| *value);
                let (values, means) = sorted.into_iter().unzip();
                (VocabularyValues::Int(values), means)
            }
            Histories::Text(values) => {
                let mut sorted: Vec<_> =
                    values.iter().map(|(value, history)| (value.to_string(), mean(history))).collect();
                sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
                let (values, means) = sorted.into_iter().unzip();
                (VocabularyValues::Text(values), means)
            }
        };
        let state = EncoderState::Target { prior: prior as f32, size: means.len() };
        (state, TargetMeans { feature: counter.feature.clone(), values, means })
    }
}
