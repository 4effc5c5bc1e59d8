//! The raw files of UCI Adult as a source.
//!
//! The files are read as published (Becker and Kohavi, 1996), plain or gzipped: no header, a space
//! after each comma, `?` for a missing value, blank lines, in the test file a first line that
//! begins with `|` in some editions, and a full stop after each label. Every row is a request of
//! its own with one candidate.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use gatefold_features::murmur::hash_int;
use gatefold_schema::{Feature, Recipe, ValueType};
use polars::prelude::*;

use crate::{
    Progress, SamplesError, columns,
    prepared::{Prepared, REQUEST_ID},
};

/// The columns of the files, in order.
const COLUMNS: [&str; 15] = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education_num",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital_gain",
    "capital_loss",
    "hours_per_week",
    "native_country",
    "income",
];
/// Columns that hold integers.
const NUMBERS: [&str; 6] =
    ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"];
/// Label: more than 50,000 a year.
const INCOME: &str = "income";
/// Label: never married.
const MARITAL: &str = "marital";
/// Resolution of the shares by which rows are divided.
const SHARES: u32 = 10_000;

/// Reads both files; rows of the train file are put to train or validation by a hash of their
/// number.
pub(crate) fn prepare(
    recipe: &Recipe,
    train: &Path,
    test: &Path,
    progress: &mut dyn Progress,
) -> Result<Prepared, SamplesError> {
    progress.start("reading Adult", Some(2));
    let published = read(train)?;
    progress.advance(1);
    let tested = read(test)?;
    progress.advance(1);

    let valid_share = (recipe.samples.split.valid * f64::from(SHARES)).round() as u32;
    let is_valid = |row: &usize| hash_int(*row as i64, 0) % SHARES < valid_share;
    let (valid, kept): (Vec<usize>, Vec<usize>) = (0..published.rows()).partition(is_valid);
    let bounds = [kept.len(), kept.len() + valid.len(), kept.len() + valid.len() + tested.rows()];
    if kept.is_empty() || (valid.is_empty() && valid_share > 0) {
        return Err(SamplesError::source(
            train,
            format!("{} rows are too few to be divided into train and valid", published.rows()),
        ));
    }
    let order: Vec<(&Table, usize)> = kept
        .iter()
        .chain(&valid)
        .map(|row| (&published, *row))
        .chain((0..tested.rows()).map(|row| (&tested, row)))
        .collect();

    let mut all = vec![Column::new(REQUEST_ID.into(), (0..order.len() as i64).collect::<Vec<i64>>())];
    for feature in &recipe.features {
        all.push(feature_column(feature, &order)?);
    }
    let label = |name: &str, positive: &dyn Fn(&Table, usize) -> bool| {
        let values: Vec<f32> =
            order.iter().map(|(table, row)| f32::from(u8::from(positive(table, *row)))).collect();
        Column::new(name.into(), values)
    };
    all.push(label(INCOME, &|table, row| table.text(14, row) == Some(">50K")));
    all.push(label(MARITAL, &|table, row| table.text(5, row) == Some("Never-married")));
    let frame = DataFrame::new(order.len(), all).map_err(SamplesError::step("reading Adult"))?;
    Ok(Prepared {
        frame,
        labels: vec![INCOME.to_owned(), MARITAL.to_owned()],
        splits: vec![
            ("train", 0..bounds[0]),
            ("valid", bounds[0]..bounds[1]),
            ("test", bounds[1]..bounds[2]),
        ],
        dropped: BTreeMap::from([("blank lines".to_owned(), published.blank + tested.blank)]),
    })
}

/// A file's values, column by column.
struct Table {
    columns: Vec<Vec<Option<String>>>,
    /// Lines without values.
    blank: u64,
}

impl Table {
    fn rows(&self) -> usize {
        self.columns[0].len()
    }

    fn text(&self, column: usize, row: usize) -> Option<&str> {
        self.columns[column][row].as_deref()
    }
}

fn read(path: &Path) -> Result<Table, SamplesError> {
    let bytes = std::fs::read(path).map_err(SamplesError::io("read", path))?;
    let mut text = String::new();
    let unpacked = if bytes.starts_with(&[0x1f, 0x8b]) {
        MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text)
    } else {
        bytes.as_slice().read_to_string(&mut text)
    };
    unpacked.map_err(SamplesError::io("unpack", path))?;

    let mut table = Table { columns: vec![Vec::new(); COLUMNS.len()], blank: 0 };
    for (index, text) in text.lines().enumerate() {
        let line = index + 1;
        if text.trim().is_empty() {
            table.blank += 1;
            continue;
        }
        if text.starts_with('|') {
            continue;
        }
        let record: Vec<&str> = text.split(',').map(str::trim).collect();
        if record.len() != COLUMNS.len() {
            return Err(SamplesError::source(
                path,
                format!(
                    "line {line} has {} values, expected {}: it is not a file of UCI Adult",
                    record.len(),
                    COLUMNS.len()
                ),
            ));
        }
        for (index, (values, value)) in table.columns.iter_mut().zip(record).enumerate() {
            let value = if COLUMNS[index] == INCOME { value.trim_end_matches('.') } else { value };
            if COLUMNS[index] == INCOME && value != ">50K" && value != "<=50K" {
                return Err(SamplesError::source(
                    path,
                    format!("line {line}: income is '{value}', expected '>50K' or '<=50K'"),
                ));
            }
            if NUMBERS.contains(&COLUMNS[index]) && value.parse::<i64>().is_err() && value != "?" {
                return Err(SamplesError::source(
                    path,
                    format!("line {line}: {} is '{value}', expected an integer", COLUMNS[index]),
                ));
            }
            values.push((value != "?").then(|| value.to_owned()));
        }
    }
    if table.rows() == 0 {
        return Err(SamplesError::source(path, "there are no rows; give the published file"));
    }
    Ok(table)
}

/// The raw values of a feature in the given order of rows.
fn feature_column(feature: &Feature, order: &[(&Table, usize)]) -> Result<Column, SamplesError> {
    let source = feature.source_column();
    let Some(index) = COLUMNS.iter().position(|column| *column == source) else {
        return Err(SamplesError::config(format!(
            "feature '{}': Adult has no column '{source}'{}",
            feature.name,
            gatefold_schema::strict::nearest(source, COLUMNS.into_iter())
                .map_or_else(String::new, |near| format!("; did you mean '{near}'?"))
        )));
    };
    let is_number = NUMBERS.contains(&source);
    if is_number == (feature.value_type == ValueType::Text) {
        return Err(SamplesError::config(format!(
            "feature '{}': column '{source}' of Adult holds {}, but the feature needs {}",
            feature.name,
            if is_number { "integers" } else { "strings" },
            columns::wanted_type(feature)
        )));
    }
    let texts = order.iter().map(|(table, row)| table.text(index, *row));
    let name = PlSmallStr::from_str(&feature.name);
    Ok(if is_number {
        Column::new(
            name,
            texts.map(|text| text.and_then(|text| text.parse().ok())).collect::<Vec<Option<i64>>>(),
        )
    } else {
        Column::new(name, texts.collect::<Vec<Option<&str>>>())
    })
}
