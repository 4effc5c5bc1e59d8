//! What every source becomes before it is encoded: samples in their final order, raw.

use std::collections::BTreeMap;
use std::ops::Range;

use gatefold_schema::{LATE_COLUMN, Recipe};
use polars::prelude::*;
use serde::{Deserialize, Serialize};

use crate::columns;
use crate::report::Delays;
use crate::skew::Skew;
use crate::values::{Starts, Values, requests_of};

/// Labelled samples with raw feature values, in the order of the shards.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// First row of each request, and the number of rows.
    pub(crate) starts: Vec<u32>,
    /// Identifier of each request; numbered from 0 where the source has none.
    pub(crate) request_ids: Option<Series>,
    /// Time of each request, microseconds since 1970 UTC, where the source has one.
    pub(crate) times: Option<Vec<i64>>,
    /// Raw values of each feature, in the order of the recipe; `None` of a crossed one.
    pub(crate) values: Vec<Option<Values>>,
    /// Labels, audit columns included.
    pub(crate) labels: Vec<Label>,
    /// Requests of each split: `train`, `valid`, `test`, one after another.
    pub(crate) splits: Vec<(&'static str, Range<usize>)>,
    /// How each row is written; as it is unless given. Encoders are fitted to all, as they are.
    pub(crate) written: Option<Vec<Written>>,
    /// How the features compare with what was served, where that is known.
    pub(crate) skew: Option<Skew>,
    /// What is counted beside the samples.
    pub(crate) facts: Facts,
}

/// What is counted of logs beside their samples. The counts of all users are the sums of those of some.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Rows left out, by reason.
    pub(crate) dropped: BTreeMap<String, u64>,
    /// What became of the events, by outcome.
    pub(crate) events: BTreeMap<String, u64>,
    /// How long after what led to them events came.
    pub(crate) delays: Vec<Delays>,
}

impl Facts {
    /// Adds the counts of other users.
    pub(crate) fn add(&mut self, other: &Facts) {
        for (own, more) in [(&mut self.dropped, &other.dropped), (&mut self.events, &other.events)] {
            for (reason, count) in more {
                *own.entry(reason.clone()).or_default() += count;
            }
        }
        if self.delays.is_empty() {
            self.delays.clone_from(&other.delays);
        } else {
            self.delays.iter_mut().zip(&other.delays).for_each(|(own, more)| own.add(more));
        }
    }
}

/// How a row is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Once, with what came of it.
    AsItIs,
    /// Not at all: sampling leaves it out.
    SampledAway,
    /// As a negative, where training has what a stream brings: what came of it, if anything did, came later.
    Negative,
    /// As a positive: it was shown before the stream.
    Positive,
    /// As a negative, and again as a positive.
    Twice,
    /// Not at all: it was shown before the stream, and nothing came of it while the stream lasted.
    Never,
}

impl Written {
    /// In the order of their codes in files.
    const ALL: [Written; 6] = [
        Written::AsItIs,
        Written::SampledAway,
        Written::Negative,
        Written::Positive,
        Written::Twice,
        Written::Never,
    ];

    /// Its code in files.
    pub(crate) fn code(self) -> u32 {
        self as u32
    }

    /// The way with this code.
    pub(crate) fn from_code(code: u32) -> Option<Self> {
        Self::ALL.get(code as usize).copied()
    }

    /// The rows that are written: of each the label that comes late, `None` where it is that of the row.
    pub(crate) fn copies(self) -> &'static [Option<f32>] {
        match self {
            Written::AsItIs => &[None],
            Written::SampledAway | Written::Never => &[],
            Written::Negative => &[Some(0.0)],
            Written::Positive => &[Some(1.0)],
            Written::Twice => &[Some(0.0), Some(1.0)],
        }
    }
}

/// Gives rows the label that comes late, and marks those that are there because it came. `copies` are as
/// [`Written::copies`] has them.
pub(crate) fn set_late(labels: &mut [Label], late: &str, copies: &[Option<f32>]) {
    for label in labels.iter_mut().filter(|label| label.name == late || label.name == LATE_COLUMN) {
        for (value, copy) in label.values.iter_mut().zip(copies) {
            *value = copy.unwrap_or(*value);
        }
    }
}

/// A number of every row that is no feature.
#[derive(Debug)]
pub(crate) struct Label {
    /// Name of the column.
    pub(crate) name: String,
    /// One value a row.
    pub(crate) values: Vec<f32>,
}

impl Label {
    pub(crate) fn new(name: &str, values: Vec<f32>) -> Self {
        Self { name: name.to_owned(), values }
    }
}

impl Prepared {
    /// The rows of some requests.
    pub(crate) fn rows(&self, requests: &Range<usize>) -> Range<usize> {
        self.starts[requests.start] as usize..self.starts[requests.end] as usize
    }

    /// Requests of each split.
    pub(crate) fn requests_of_splits(&self) -> [usize; 3] {
        let requests = |name: &str| self.splits.iter().find(|(split, _)| *split == name);
        SPLITS.map(|name| requests(name).map_or(0, |(_, requests)| requests.len()))
    }

    /// 1 for those of some rows that are there because their outcome came late; `None` where training has no fake
    /// negatives.
    pub(crate) fn late_marks(&self, rows: Range<usize>) -> Option<&[f32]> {
        self.labels.iter().find(|label| label.name == LATE_COLUMN).map(|label| &label.values[rows])
    }

    /// The names of the labels.
    pub(crate) fn label_names(&self) -> Vec<String> {
        self.labels.iter().map(|label| label.name.clone()).collect()
    }

    /// Number of rows.
    pub(crate) fn row_count(&self) -> usize {
        self.starts.last().map_or(0, |end| *end as usize)
    }

    /// Raw values, identifiers and labels of some rows.
    pub(crate) fn raw_rows(&self, recipe: &Recipe, rows: Range<usize>) -> PolarsResult<DataFrame> {
        let requests = requests_of(&self.starts, rows.clone());
        let mut all = self.keys(rows.clone())?;
        for (feature, values) in recipe.features.iter().zip(&self.values) {
            let Some(values) = values else { continue };
            let values = values.rows(rows.clone(), &requests)?.with_name(feature.name.as_str().into());
            all.push(columns::normalise(&values.into_column(), feature)?.into_column());
        }
        all.extend(self.label_columns(rows.clone()));
        DataFrame::new(rows.len(), all)
    }

    /// The columns `request_id` and, where the source has it, `time` of some rows.
    pub(crate) fn keys(&self, rows: Range<usize>) -> PolarsResult<Vec<Column>> {
        let requests = requests_of(&self.starts, rows);
        let ids = match &self.request_ids {
            Some(ids) => ids.take(&IdxCa::from_slice(PlSmallStr::EMPTY, &requests))?,
            None => {
                Series::new(PlSmallStr::EMPTY, requests.iter().map(|id| i64::from(*id)).collect::<Vec<_>>())
            }
        };
        let mut columns = vec![ids.with_name(REQUEST_ID.into()).into_column()];
        if let Some(times) = &self.times {
            let times: Vec<i64> = requests.iter().map(|request| times[*request as usize]).collect();
            columns.push(Column::new(TIME_COLUMN.into(), times));
        }
        Ok(columns)
    }

    /// The label columns of some rows.
    pub(crate) fn label_columns(&self, rows: Range<usize>) -> impl Iterator<Item = Column> {
        self.labels
            .iter()
            .map(move |label| Column::new(label.name.as_str().into(), &label.values[rows.clone()]))
    }
}

/// Starts of requests of one row each.
pub(crate) fn single_rows(rows: usize) -> Box<Starts> {
    (0..=rows as u32).collect()
}

/// Name of the column that holds a row's request.
pub(crate) const REQUEST_ID: &str = "request_id";
/// Name of the column that holds a row's time.
pub(crate) const TIME_COLUMN: &str = "time";
/// The splits in the order of their rows.
pub(crate) const SPLITS: [&str; 3] = ["train", "valid", "test"];
