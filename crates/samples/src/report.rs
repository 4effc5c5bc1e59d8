//! The data report: what the encoded rows are like, counted shard by shard while they are in memory.

mod tally;

use std::ops::Range;

use gatefold_experiment::data::{
    CHANGED, DataReport, DelayReport, FeatureReport, FeatureSplit, Numbers, SHIFTED, Separation, SplitReport,
    TaskReport, TopValue, Within,
};
use gatefold_schema::{
    Encoder, EncoderSet, FIRST_VALUE_CODE, FittedFeature, Instant, Kind, Loss, MISSING_CODE, Recipe, Span,
    Task,
};
use polars::prelude::*;
use serde::{Deserialize, Serialize};

use self::tally::{FeatureTally, TaskRows};
use crate::{
    SamplesError, decode,
    prepared::{Facts, Prepared, SPLITS},
};

/// Name of the report in a sample set.
pub const REPORT: &str = "report.json";
/// Values listed of each feature, and told apart when a split is compared with the training split.
const TOP: usize = 20;
/// Parts that the numbers of the training split are divided into for the same.
const PARTS: u64 = 10;
/// Rows that the rate of all counts for in the rate of a code.
const SMOOTHING: f64 = 20.0;

/// Counts of all splits.
pub(crate) struct Tally<'a> {
    recipe: &'a Recipe,
    tasks: Vec<&'a Task>,
    splits: Vec<SplitTally>,
}

struct SplitTally {
    rows: u64,
    requests: u64,
    times: Option<[i64; 2]>,
    /// Rows of the sample space and positives of each task.
    outcomes: Vec<[u64; 2]>,
    features: Vec<FeatureTally>,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(recipe: &'a Recipe, encoders: &EncoderSet) -> Self {
        let tasks: Vec<&Task> = recipe.tasks.iter().filter(|task| task.loss == Loss::CrossEntropy).collect();
        let split = || SplitTally {
            rows: 0,
            requests: 0,
            times: None,
            outcomes: vec![[0; 2]; tasks.len()],
            features: encoders.features.iter().map(|fitted| FeatureTally::new(fitted, tasks.len())).collect(),
        };
        Self { recipe, splits: SPLITS.iter().map(|_| split()).collect(), tasks }
    }

    /// Counts the rows `rows` of a split, which are the requests `requests` and whose shard is `frame`.
    pub(crate) fn add(
        &mut self,
        split: &str,
        prepared: &Prepared,
        requests: Range<usize>,
        request_of: &[u32],
        frame: &DataFrame,
    ) -> Result<(), SamplesError> {
        let Some(place) = SPLITS.iter().position(|name| *name == split) else { return Ok(()) };
        let rows = prepared.rows(&requests);
        let outcomes: Vec<TaskRows> =
            self.tasks.iter().map(|task| self.outcomes(task, prepared, rows.clone())).collect();
        let split = &mut self.splits[place];
        split.rows += rows.len() as u64;
        split.requests += requests.len() as u64;
        for time in prepared.times.iter().flat_map(|times| &times[requests.clone()]) {
            let [first, last] = split.times.unwrap_or([*time, *time]);
            split.times = Some([first.min(*time), last.max(*time)]);
        }
        for (counts, found) in split.outcomes.iter_mut().zip(&outcomes) {
            counts[0] += found.space.as_ref().map_or(rows.len(), Vec::len) as u64;
            counts[1] += found.positives.len() as u64;
        }
        let step = SamplesError::step("counting for the report");
        let mut run = || -> PolarsResult<()> {
            for (index, (feature, tally)) in self.recipe.features.iter().zip(&mut split.features).enumerate()
            {
                tally.add(frame.column(&feature.name)?, &outcomes)?;
                if feature.kind == Kind::Numeric
                    && let Some(values) = &prepared.values[index]
                {
                    tally.missing += values.missing(rows.clone(), request_of)? as u64;
                }
            }
            Ok(())
        };
        run().map_err(step)
    }

    /// The rows of a task's sample space, those of them that are positive, both counted from the first of `rows`.
    fn outcomes(&self, task: &Task, prepared: &Prepared, rows: Range<usize>) -> TaskRows {
        let label = |name: &str| {
            let found = prepared.labels.iter().find(|label| label.name == name);
            found.map(|label| &label.values[rows.clone()]).unwrap_or_default()
        };
        let positive = |values: &[f32], row: u32| values.get(row as usize) == Some(&1.0);
        // What came late counts for the tasks that learn from it alone.
        let late = prepared.late_marks(rows.clone()).filter(|_| task.fake_negatives.is_none());
        let mut space: Option<Vec<u32>> =
            late.map(|late| (0..rows.len() as u32).filter(|row| !positive(late, *row)).collect());
        let mut given = task.given.as_deref();
        while let Some(condition) =
            given.and_then(|name| self.recipe.tasks.iter().find(|task| task.name == name))
        {
            let values = label(&condition.label);
            space = Some(match space {
                None => (0..rows.len() as u32).filter(|row| positive(values, *row)).collect(),
                Some(space) => space.into_iter().filter(|row| positive(values, *row)).collect(),
            });
            given = condition.given.as_deref();
        }
        let values = label(&task.label);
        let positives = match &space {
            None => (0..rows.len() as u32).filter(|row| positive(values, *row)).collect(),
            Some(space) => space.iter().copied().filter(|row| positive(values, *row)).collect(),
        };
        TaskRows { space, positives }
    }

    /// What was counted, as a report.
    pub(crate) fn finish(self, facts: &Facts, encoders: &EncoderSet, fingerprint: &str) -> DataReport {
        let splits = self.splits.iter().zip(SPLITS).map(|(split, name)| SplitReport {
            name: name.to_owned(),
            rows: split.rows,
            requests: split.requests,
            times: split
                .times
                .map(|times| times.map(|time| Instant::from_micros(time - time % 1_000_000).to_string())),
            tasks: split
                .outcomes
                .iter()
                .zip(&self.tasks)
                .map(|(counts, task)| TaskReport {
                    task: task.name.clone(),
                    rows: counts[0],
                    positives: counts[1],
                })
                .collect(),
        });
        let features: Vec<FeatureReport> = encoders
            .features
            .iter()
            .enumerate()
            .map(|(index, fitted)| self.feature(encoders, fitted, index))
            .collect();
        DataReport {
            name: self.recipe.name.clone(),
            fingerprint: fingerprint.to_owned(),
            warnings: warnings(&features, self.recipe.samples.leak_auc),
            splits: splits.collect(),
            features,
            delays: facts.delays.iter().map(Delays::report).collect(),
            dropped: facts.dropped.clone(),
        }
    }

    fn feature(&self, encoders: &EncoderSet, fitted: &FittedFeature, index: usize) -> FeatureReport {
        let train = &self.splits[0].features[index];
        let groups = Groups::new(fitted, train);
        let expected = groups.count(train);
        let splits = self.splits.iter().enumerate().map(|(place, split)| {
            let own = &split.features[index];
            FeatureSplit {
                missing: own.missing,
                out_of_vocabulary: unknown(fitted, own.values()),
                values: own.values().iter().map(|count| u64::from(*count)).sum(),
                psi: (place > 0).then(|| gatefold_metrics::psi(&expected, &groups.count(own))).flatten(),
                numbers: own.numbers().map(|[min, mean, max]| Numbers { min, mean, max }),
            }
        });
        let mut top = Vec::new();
        if fitted.feature.is_coded() {
            for code in most_frequent(train.values()).into_iter().take(TOP) {
                let value = decode::meaning(encoders, fitted, code as i32);
                top.push(TopValue { value, count: u64::from(train.values()[code]) });
            }
        }
        FeatureReport {
            name: fitted.feature.name.clone(),
            side: fitted.feature.side.name().to_owned(),
            encoder: fitted.feature.encoder.name().to_owned(),
            splits: splits.collect(),
            top,
            separation: (0..self.tasks.len())
                .filter_map(|task| self.separation(fitted, index, task))
                .collect(),
        }
    }

    /// AUC of the feature at `index` by itself for the task at `task`; `None` where one of the outcomes is not there.
    fn separation(&self, fitted: &FittedFeature, index: usize, task: usize) -> Option<Separation> {
        let counts = |split: usize| self.splits[split].features[index].outcomes(task);
        let report = |auc: f64, split: usize| Separation {
            task: self.tasks[task].name.clone(),
            auc,
            split: SPLITS[split].to_owned(),
        };
        let train = counts(0);
        if fitted.feature.kind != Kind::Categorical {
            let by_value = train.iter().enumerate().map(|(bin, counts)| (bin as f32, *counts));
            let auc = auc_of_bins(by_value)?;
            return Some(report(auc.max(1.0 - auc), 0));
        }
        let [space, positives] = self.splits[0].outcomes[task];
        let prior = positives as f64 / space.max(1) as f64;
        let rate = |[space, positives]: [u32; 2]| {
            ((f64::from(positives) + prior * SMOOTHING) / (f64::from(space) + SMOOTHING)) as f32
        };
        // Rates of a code look good on the rows that they come from: they are tried on others.
        let held_out = (1..SPLITS.len()).find(|split| self.splits[*split].rows > 0).unwrap_or(0);
        let scored = train.iter().zip(counts(held_out)).map(|(known, counts)| (rate(*known), counts));
        Some(report(auc_of_bins(scored)?, held_out))
    }
}

/// The AUC of bins with a score, rows and positives.
fn auc_of_bins(bins: impl Iterator<Item = (f32, [u32; 2])>) -> Option<f64> {
    let (mut scores, mut labels, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for (score, [rows, positives]) in bins {
        for (label, weight) in [(0.0, rows.saturating_sub(positives)), (1.0, positives)] {
            if weight > 0 {
                scores.push(score);
                labels.push(label);
                weights.push(weight as f32);
            }
        }
    }
    gatefold_metrics::auc(&scores, &labels, Some(&weights)).ok()
}

/// Values that a vocabulary does not have.
fn unknown(fitted: &FittedFeature, counts: &[u32]) -> Option<u64> {
    let Encoder::Vocab { oov_buckets, .. } = fitted.feature.encoder else { return None };
    let first = FIRST_VALUE_CODE as usize;
    Some(counts[first..first + oov_buckets as usize].iter().map(|count| u64::from(*count)).sum())
}

/// Bins that have rows, those with the most first.
fn most_frequent(counts: &[u32]) -> Vec<usize> {
    let mut found: Vec<usize> = (0..counts.len()).filter(|bin| counts[*bin] > 0).collect();
    found.sort_by_key(|bin| (std::cmp::Reverse(counts[*bin]), *bin));
    found
}

/// Groups of values whose shares are compared between splits: chosen on the training split.
struct Groups {
    /// By code or bin.
    of: Vec<u32>,
    count: usize,
}

impl Groups {
    fn new(fitted: &FittedFeature, train: &FeatureTally) -> Self {
        let counts = train.values();
        if !fitted.feature.is_coded() {
            let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
            let mut before = 0;
            let part = |count: &u32| {
                // The part that the middle of the bin lies in.
                let middle = before + u64::from(*count) / 2;
                before += u64::from(*count);
                (middle * PARTS / total.max(1)).min(PARTS - 1) as u32
            };
            return Self { of: counts.iter().map(part).collect(), count: PARTS as usize };
        }
        // The rest is group 0; what is missing and what is unknown have groups of their own.
        let mut of = vec![0; counts.len()];
        let first = FIRST_VALUE_CODE as usize;
        let unknown = match fitted.feature.encoder {
            Encoder::Vocab { oov_buckets, .. } => first..first + oov_buckets as usize,
            _ => first..first,
        };
        of[MISSING_CODE as usize] = 1;
        of[unknown.clone()].fill(2);
        let own = |code: &usize| *code >= first && !unknown.contains(code);
        let mut count = 3;
        for code in most_frequent(counts).into_iter().filter(own).take(TOP) {
            of[code] = count as u32;
            count += 1;
        }
        Self { of, count }
    }

    fn count(&self, tally: &FeatureTally) -> Vec<u64> {
        let mut counts = vec![0; self.count];
        for (group, count) in self.of.iter().zip(tally.values()) {
            counts[*group as usize] += u64::from(*count);
        }
        counts
    }
}

/// What a person should look at before a model is trained.
fn warnings(features: &[FeatureReport], leak_auc: f64) -> Vec<String> {
    let mut warnings = Vec::new();
    for feature in features {
        for separation in feature.separation.iter().filter(|separation| separation.auc > leak_auc) {
            warnings.push(format!(
                "feature '{}' alone has an AUC of {:.4} for '{}' on {} (limit {leak_auc}): it may know the outcome; \
                 check when its value is written, or raise leak_auc",
                feature.name, separation.auc, separation.task, separation.split
            ));
        }
    }
    for feature in features {
        for (split, name) in feature.splits.iter().zip(SPLITS) {
            if let Some(psi) = split.psi.filter(|psi| *psi >= SHIFTED) {
                warnings.push(format!(
                    "feature '{}' has shifted from train to {name}: PSI {psi:.3} (a change from {CHANGED} on)",
                    feature.name
                ));
            }
        }
    }
    warnings
}

/// How long after what led to them events came: counts by time, for [`DelayReport`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Delays {
    event: String,
    since: String,
    /// Events by the first of [`DELAYS`] that they came within; the last is of those that took longer.
    counts: Vec<u64>,
}

/// Times that delays are counted by.
const DELAYS: [&str; 15] =
    ["1m", "5m", "15m", "30m", "1h", "3h", "6h", "12h", "1d", "2d", "3d", "7d", "14d", "30d", "90d"];

impl Delays {
    /// Counts delays in microseconds.
    pub(crate) fn new(event: &str, since: &str, delays: impl Iterator<Item = i64>) -> Self {
        let bounds = DELAYS.map(|time| Span::parse(time).map_or(i64::MAX, Span::micros));
        let mut counts = vec![0; bounds.len() + 1];
        for delay in delays {
            counts[bounds.partition_point(|bound| *bound < delay)] += 1;
        }
        Self { event: event.to_owned(), since: since.to_owned(), counts }
    }

    /// Adds those of other users.
    pub(crate) fn add(&mut self, other: &Delays) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, more)| *own += more);
    }

    fn report(&self) -> DelayReport {
        let events = self.counts.iter().sum();
        let (mut within, mut sum) = (Vec::new(), 0);
        for (time, count) in DELAYS.iter().zip(&self.counts) {
            if sum == events {
                break;
            }
            sum += count;
            within.push(Within { time: (*time).to_owned(), events: sum });
        }
        DelayReport { event: self.event.clone(), since: self.since.clone(), events, within }
    }
}
