//! Published files of comma-separated values as a source.
//!
//! The files of the UCI repository share a form: plain or gzipped, no header, a space after each
//! comma, `?` for a missing value, blank lines, in some editions a first line that begins with `|`,
//! and in some a full stop after each outcome. A [`Layout`] says what the columns of one data set
//! are. Every row is a request of its own with one candidate.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use gatefold_schema::{Feature, Recipe, ValueType};
use polars::prelude::*;

use crate::{
    SamplesError, columns,
    prepared::{Facts, Label, Prepared, SPLITS, single_rows},
    values::Values,
};

/// Resolution of the shares by which rows are divided.
const PARTS: u32 = 10_000;

/// What the files of a data set hold.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The data set, as messages name it.
    pub(crate) title: &'static str,
    /// The columns in order.
    pub(crate) columns: &'static [(&'static str, Holds)],
    /// The column that must hold one of these two values.
    pub(crate) outcome: (&'static str, [&'static str; 2]),
    /// The labels.
    pub(crate) labels: &'static [LabelRule],
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Integers,
    Strings,
    /// Weights of a survey, which are neither features nor labels.
    Weights,
}

/// A label: 1 where a column has a value, otherwise 0.
#[derive(Debug)]
pub(crate) struct LabelRule {
    pub(crate) name: &'static str,
    pub(crate) column: &'static str,
    pub(crate) positive: &'static str,
}

impl Layout {
    fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|(name, _)| *name == column)
    }
}

/// The whole text of a file, unpacked.
pub(crate) fn read(path: &Path) -> Result<String, SamplesError> {
    let bytes = std::fs::read(path).map_err(SamplesError::io("read", path))?;
    let mut text = String::new();
    let unpacked = if bytes.starts_with(&[0x1f, 0x8b]) {
        MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text)
    } else {
        bytes.as_slice().read_to_string(&mut text)
    };
    unpacked.map_err(SamplesError::io("unpack", path))?;
    Ok(text)
}

/// Rows of one or more files of a layout, column by column.
pub(crate) struct Table<'t> {
    layout: &'static Layout,
    columns: Vec<Vec<Option<&'t str>>>,
    /// Lines without values.
    blank: u64,
}

impl<'t> Table<'t> {
    /// Takes a file's text apart; `path` is for messages.
    pub(crate) fn parse(layout: &'static Layout, text: &'t str, path: &Path) -> Result<Self, SamplesError> {
        let mut table = Self { layout, columns: vec![Vec::new(); layout.columns.len()], blank: 0 };
        for (index, text) in text.lines().enumerate() {
            if text.trim().is_empty() {
                table.blank += 1;
            } else if !text.starts_with('|') {
                let fail = |problem| SamplesError::source(path, format!("line {}{problem}", index + 1));
                table.add(text).map_err(fail)?;
            }
        }
        if table.rows() == 0 {
            return Err(SamplesError::source(path, "there are no rows; give the published file"));
        }
        Ok(table)
    }

    /// Adds a line; the error continues the words `line N`.
    fn add(&mut self, line: &'t str) -> Result<(), String> {
        let columns = self.layout.columns;
        let found = line.split(',').count();
        if found != columns.len() {
            let (expected, title) = (columns.len(), self.layout.title);
            return Err(format!(" has {found} values, expected {expected}: it is not a file of {title}"));
        }
        let (outcome, [negative, positive]) = self.layout.outcome;
        for (((name, holds), values), value) in columns.iter().zip(&mut self.columns).zip(line.split(',')) {
            let mut value = value.trim();
            if *name == outcome {
                value = value.trim_end_matches('.');
                if value != negative && value != positive {
                    return Err(format!(": {outcome} is '{value}', expected '{positive}' or '{negative}'"));
                }
            }
            if *holds == Holds::Integers && value != "?" && value.parse::<i64>().is_err() {
                return Err(format!(": {name} is '{value}', expected an integer"));
            }
            values.push((value != "?").then_some(value));
        }
        Ok(())
    }

    /// Adds the rows of another file.
    pub(crate) fn append(&mut self, other: Self) {
        self.columns.iter_mut().zip(other.columns).for_each(|(values, more)| values.extend(more));
        self.blank += other.blank;
    }

    pub(crate) fn rows(&self) -> usize {
        self.columns[0].len()
    }

    /// All values of a row.
    pub(crate) fn row(&self, row: usize) -> impl Iterator<Item = Option<&'t str>> {
        self.columns.iter().map(move |values| values[row])
    }

    /// The features and labels of the rows of each split, train, valid and test.
    pub(crate) fn prepare(self, recipe: &Recipe, splits: [Vec<usize>; 3]) -> Result<Prepared, SamplesError> {
        let mut ranges = Vec::with_capacity(splits.len());
        let mut start = 0;
        for (name, rows) in SPLITS.into_iter().zip(&splits) {
            ranges.push((name, start..start + rows.len()));
            start += rows.len();
        }
        let order = splits.concat();
        let values = |feature: &Feature| -> Result<Option<Values>, SamplesError> {
            if feature.is_crossed() {
                return Ok(None);
            }
            Ok(Some(Values::of_rows(self.feature(feature, &order)?.take_materialized_series())))
        };
        Ok(Prepared {
            starts: single_rows(order.len()).into_vec(),
            request_ids: None,
            times: None,
            values: recipe.features.iter().map(values).collect::<Result<_, _>>()?,
            labels: self.layout.labels.iter().map(|label| self.label(label, &order)).collect(),
            splits: ranges,
            written: None,
            skew: None,
            facts: Facts {
                dropped: BTreeMap::from([("blank lines".to_owned(), self.blank)]),
                ..Facts::default()
            },
        })
    }

    fn label(&self, label: &LabelRule, order: &[usize]) -> Label {
        let column = self.layout.position(label.column).map(|index| &self.columns[index]);
        let is_positive = |row: &usize| column.is_some_and(|values| values[*row] == Some(label.positive));
        Label::new(label.name, order.iter().map(|row| f32::from(u8::from(is_positive(row)))).collect())
    }

    /// The raw values of a feature in the given order of rows.
    fn feature(&self, feature: &Feature, order: &[usize]) -> Result<Column, SamplesError> {
        let (source, title) = (feature.source_column(), self.layout.title);
        let fail = |text: String| Err(SamplesError::config(format!("feature '{}': {text}", feature.name)));
        let Some(index) = self.layout.position(source) else {
            let names = self.layout.columns.iter().map(|(name, _)| *name);
            let near = gatefold_schema::strict::nearest(source, names)
                .map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
            return fail(format!("{title} has no column '{source}'{near}"));
        };
        let is_text = match self.layout.columns[index].1 {
            Holds::Integers => false,
            Holds::Strings => true,
            Holds::Weights => {
                return fail(format!(
                    "column '{source}' of {title} holds weights of the survey, which say nothing of a person; \
                     leave the feature out"
                ));
            }
        };
        if is_text != (feature.value_type == ValueType::Text) {
            let holds = if is_text { "strings" } else { "integers" };
            let wanted = columns::wanted_type(feature);
            return fail(format!(
                "column '{source}' of {title} holds {holds}, but the feature needs {wanted}"
            ));
        }
        let texts = order.iter().map(|row| self.columns[index][*row]);
        let name = PlSmallStr::from_str(&feature.name);
        Ok(if is_text {
            Column::new(name, texts.collect::<Vec<Option<&str>>>())
        } else {
            let number = |text: &str| text.parse::<i64>().ok();
            Column::new(name, texts.map(|text| text.and_then(number)).collect::<Vec<Option<i64>>>())
        })
    }
}

/// The rows below `rows` as train, valid and test, by the recipe's shares: `hash` decides, so that
/// rows of one hash stay together.
///
/// # Errors
/// Where a split that should have rows has none.
pub(crate) fn divide(
    path: &Path,
    rows: usize,
    [valid, test]: [f64; 2],
    hash: impl Fn(usize) -> u32,
) -> Result<[Vec<usize>; 3], SamplesError> {
    let parts = |share: f64| (share * f64::from(PARTS)).round() as u32;
    let mut splits = [Vec::new(), Vec::new(), Vec::new()];
    for row in 0..rows {
        let part = hash(row) % PARTS;
        let split = if part < parts(valid) {
            1
        } else if part < parts(valid + test) {
            2
        } else {
            0
        };
        splits[split].push(row);
    }
    let wanted = [1.0, valid, test];
    if splits.iter().zip(wanted).any(|(rows, share)| rows.is_empty() && share > 0.0) {
        return Err(SamplesError::source(
            path,
            format!("{rows} rows are too few to be divided into train, valid and test"),
        ));
    }
    Ok(splits)
}
