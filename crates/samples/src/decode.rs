//! From codes back to what they stand for, for people to read.

use std::path::Path;

use gatefold_schema::{
    Encoder, EncoderSet, EncoderState, FIRST_VALUE_CODE, FittedFeature, MISSING_CODE, PADDING_CODE,
    SampleManifest, VocabularyValues,
};
use polars::prelude::*;

use crate::{SamplesError, files};

/// Rows of a sample set as text.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedRows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// One text a column for each row.
    pub rows: Vec<Vec<String>>,
}

/// The first `count` rows of a split of the sample set in `folder`, codes turned back into values.
///
/// # Errors
/// A split that is not there, shards that cannot be read.
pub fn decoded_rows(
    folder: &Path,
    manifest: &SampleManifest,
    encoders: &EncoderSet,
    split: &str,
    count: usize,
) -> Result<DecodedRows, SamplesError> {
    let Some(info) = manifest.splits.get(split) else {
        let known: Vec<&str> = manifest.splits.keys().map(String::as_str).collect();
        return Err(SamplesError::config(format!(
            "there is no split '{split}'; there are {}",
            known.join(", ")
        )));
    };
    let mut found = DecodedRows { columns: Vec::new(), rows: Vec::new() };
    for shard in &info.shards {
        if found.rows.len() >= count && !found.columns.is_empty() {
            break;
        }
        let path = folder.join(&shard.file);
        let (frame, _) = files::scan(&path)?;
        let frame = frame.limit((count - found.rows.len()) as IdxSize).collect();
        let frame = frame.map_err(|source| SamplesError::Parquet { path: path.clone(), source })?;
        found.columns = frame.columns().iter().map(|column| column.name().to_string()).collect();
        for row in 0..frame.height() {
            let texts = frame.columns().iter().map(|column| decoded(encoders, column, row));
            let texts = texts.collect::<PolarsResult<_>>();
            found.rows.push(texts.map_err(SamplesError::step("decoding rows"))?);
        }
    }
    Ok(found)
}

/// The value of a column of a shard at a row, in words.
pub(crate) fn decoded(encoders: &EncoderSet, column: &Column, row: usize) -> PolarsResult<String> {
    let of_column = |fitted: &&FittedFeature| fitted.feature.name == column.name().as_str();
    let value = column.get(row)?;
    match (encoders.features.iter().find(of_column), &value) {
        (Some(fitted), AnyValue::Int32(code)) => Ok(meaning(encoders, fitted, *code)),
        (Some(fitted), AnyValue::List(codes)) => {
            let codes = codes.i32()?.iter().flatten().map(|code| meaning(encoders, fitted, code));
            Ok(format!("[{}]", codes.collect::<Vec<_>>().join(", ")))
        }
        _ => Ok(shown(&value)),
    }
}

/// A value as people write it.
pub(crate) fn shown(value: &AnyValue<'_>) -> String {
    match value {
        AnyValue::Null => "missing".to_owned(),
        AnyValue::String(text) => (*text).to_owned(),
        AnyValue::StringOwned(text) => text.to_string(),
        AnyValue::List(values) => {
            let values: Vec<String> = values.iter().map(|value| shown(&value)).collect();
            format!("[{}]", values.join(", "))
        }
        other => other.to_string(),
    }
}

/// What a code of a feature stands for.
pub(crate) fn meaning(encoders: &EncoderSet, fitted: &FittedFeature, code: i32) -> String {
    match code {
        PADDING_CODE => return "padding".to_owned(),
        MISSING_CODE => return "missing".to_owned(),
        _ => {}
    }
    let place = usize::try_from(code - FIRST_VALUE_CODE).unwrap_or(usize::MAX);
    match (&fitted.feature.encoder, &fitted.state) {
        (Encoder::Vocab { oov_buckets, .. }, _) => {
            let buckets = *oov_buckets as usize;
            let Some(place) = place.checked_sub(buckets) else {
                let bucket = if buckets > 1 { format!(", bucket {place}") } else { String::new() };
                return format!("out of vocabulary{bucket}");
            };
            let vocabulary = encoders.vocabularies.get(fitted.feature.table_name());
            let value = vocabulary.and_then(|vocabulary| match &vocabulary.values {
                VocabularyValues::Int(values) => values.get(place).map(i64::to_string),
                VocabularyValues::Text(values) => values.get(place).cloned(),
            });
            value.unwrap_or_else(|| format!("code {code}"))
        }
        (Encoder::Hash { .. }, _) => format!("bucket {place}"),
        (Encoder::Bucketize { edges }, _) | (_, EncoderState::Edges { edges }) => {
            match (place.checked_sub(1).and_then(|before| edges.get(before)), edges.get(place)) {
                (None, None) => "any number".to_owned(),
                (None, Some(high)) => format!("below {high}"),
                (Some(low), Some(high)) => format!("{low} to below {high}"),
                (Some(low), None) => format!("{low} and above"),
            }
        }
        _ => format!("code {code}"),
    }
}
