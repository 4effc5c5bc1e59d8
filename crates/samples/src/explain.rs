//! `samples build --explain`: one impression through every stage, by the pipeline itself. Everything is read and
//! fitted as for a build; nothing is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gatefold_features::Encoder;
use gatefold_schema::{EncoderSet, OnBadRow, Recipe, SampleSource};
use polars::prelude::*;
use serde::Serialize;

use crate::{
    Progress, SamplesError, decode,
    encode::{self, Encoded, Fitted},
    logs::{self, BadRows, trace::Trace},
    prepared::{Prepared, Written},
    validate::validate,
};

/// One impression through every stage. Times are written as `2024-03-13T06:00:00Z`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Explanation {
    /// Its request.
    pub request: String,
    /// Its item.
    pub item: String,
    /// Its user.
    pub user: String,
    /// When the request was made: what is known is strictly before.
    pub request_time: String,
    /// When the item was shown: clicks are counted from here.
    pub shown: String,
    /// Number of items of the request.
    pub items: usize,
    /// The split it is in, or why it is in none.
    pub split: String,
    /// Its labels.
    pub labels: Vec<(String, f32)>,
    /// Clicks on it.
    pub clicks: Vec<Event>,
    /// Conversions of its user and item.
    pub conversions: Vec<Event>,
    /// The profiles of its user and item.
    pub profiles: Vec<Profile>,
    /// Its aggregates.
    pub aggregates: Vec<Window>,
    /// Its sequences.
    pub sequences: Vec<Sequence>,
    /// Its features, as a model sees them.
    pub features: Vec<Value>,
}

/// A click or conversion, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// When it was.
    pub time: String,
    /// How long after what it may count for.
    pub after: String,
    /// Whether it counts.
    pub counts: bool,
    /// Why, or why not.
    pub why: String,
}

/// The versions of a profile around the request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// `users` or `items`.
    pub table: String,
    /// Whose.
    pub key: String,
    /// The versions in the order of time: the one that is used, and up to three before and after.
    pub versions: Vec<Version>,
}

/// A version of a profile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Version {
    /// From when it holds; none where it always does.
    pub from: Option<String>,
    /// When it was written, where the table says so.
    pub written: Option<String>,
    /// Whether it is used.
    pub used: bool,
    /// Why, or why not.
    pub why: String,
    /// Its values by column.
    pub values: BTreeMap<String, String>,
}

/// An aggregate over one window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Window {
    /// The column.
    pub column: String,
    /// What event and impression have in common.
    pub key: String,
    /// First instant of the window; its end is the request, which is not in it.
    pub from: String,
    /// The value.
    pub value: String,
    /// How many events went into it.
    pub events: usize,
    /// Impressions that a rate is taken over.
    pub shown: Option<usize>,
    /// The first and the last three of the events.
    pub listed: Vec<Listed>,
}

/// What a user's last events were about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sequence {
    /// The column.
    pub column: String,
    /// The events, the latest last.
    pub events: Vec<Listed>,
}

/// An event before the request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// When it was.
    pub time: String,
    /// How long before the request.
    pub before: String,
    /// Its item, or its value in the column that is summed up or listed.
    pub value: String,
}

/// A feature of the impression.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Value {
    /// Its name.
    pub feature: String,
    /// Where its column is.
    pub from: String,
    /// The raw value.
    pub raw: String,
    /// Name of the encoder.
    pub encoder: String,
    /// The code, the codes, or the number.
    pub encoded: String,
    /// What a code stands for; empty of a number.
    pub meaning: String,
}

/// Follows the impression of an item in a request through a build of `recipe` from the files in `logs`, with
/// `encoders` instead of fitted ones where they are given.
///
/// # Errors
/// As [`crate::build()`], and where there is no such impression.
pub fn explain(
    recipe: &Recipe,
    logs: &Path,
    encoders: Option<EncoderSet>,
    (request, item): (&str, &str),
    progress: &mut dyn Progress,
) -> Result<Explanation, SamplesError> {
    let SampleSource::Logs(config) = recipe.samples.source()? else {
        return Err(SamplesError::config("only samples from event logs can be explained"));
    };
    let reused = encoders.map(|encoders| encoders.reuse(&recipe.features)).transpose()?;
    let mut trace = Trace::new(request, item);
    // Rows are set aside by a build; here they are left out.
    let policy = if config.on_bad_row == OnBadRow::Fail { OnBadRow::Fail } else { OnBadRow::Drop };
    let bad_rows = BadRows { policy, quarantine: PathBuf::new() };
    let prepared = logs::prepare(recipe, config, logs, &bad_rows, Some(&mut trace), progress)?;
    progress.start("fitting encoders", Some(recipe.features.len() as u64));
    let fitted = match reused {
        Some(set) => Fitted { set, tables: BTreeMap::new() },
        None => encode::fit(recipe, &prepared, progress)?,
    };
    let encoder = Encoder::new(fitted.set)?;
    progress.start("encoding", Some(recipe.features.len() as u64));
    let encoded = Encoded::new(&encoder, &fitted.tables, recipe, &prepared, progress)?;

    let mut found = trace.found;
    // Splits by user put requests in another order, each with its rows as they were, and leave some out.
    let Some(place) = place(&prepared, &found.request) else {
        found.split = "none: its user is of another split, or it is in the gap before a split".to_owned();
        return Ok(found);
    };
    let row = prepared.starts[place] as usize + trace.row;
    found.split = split(&prepared, recipe.samples.late_label(), place, row);
    found.labels = prepared.labels.iter().map(|label| (label.name.clone(), label.values[row])).collect();
    // Every file has been opened before: there is no error to tell.
    let sources = validate(recipe, Some(logs)).unwrap_or_default();
    let columns = encoded.columns(row..row + 1, &[place as u32])?;
    let raw = prepared.raw_rows(recipe, row..row + 1).map_err(SamplesError::step("reading raw values"))?;
    for (index, column) in columns.iter().enumerate() {
        let fitted = &encoder.set().features[index];
        let text = || -> PolarsResult<(String, String)> {
            let coded = fitted.feature.is_coded();
            let meaning = if coded { decode::decoded(encoder.set(), column, 0)? } else { String::new() };
            Ok((decode::shown(&column.get(0)?), meaning))
        };
        let (encoded, meaning) = text().map_err(SamplesError::step("decoding"))?;
        let raw = raw.column(&fitted.feature.name).and_then(|column| Ok(decode::shown(&column.get(0)?)));
        let source = sources.iter().find(|source| source.feature == fitted.feature.name);
        found.features.push(Value {
            feature: fitted.feature.name.clone(),
            from: source.and_then(|source| source.from.clone()).unwrap_or_default(),
            // A crossed feature has no raw value of its own.
            raw: raw.unwrap_or_default(),
            encoder: fitted.feature.encoder.name().to_owned(),
            encoded,
            meaning,
        });
    }
    Ok(found)
}

/// Where a request is among the samples.
fn place(prepared: &Prepared, request: &str) -> Option<usize> {
    let ids = prepared.request_ids.as_ref()?.cast(&DataType::String).ok()?;
    ids.str().ok()?.iter().position(|id| id == Some(request))
}

/// The split of a row and its request, and how it is written, or why it is in none; `late` is the label that comes late.
fn split(prepared: &Prepared, late: Option<&str>, place: usize, row: usize) -> String {
    let written = prepared.written.as_ref().map_or(Written::AsItIs, |written| written[row]);
    match prepared.splits.iter().find(|(_, requests)| requests.contains(&place)) {
        Some((name, _)) => match (written, late.unwrap_or_default()) {
            (Written::AsItIs, _) => (*name).to_owned(),
            (Written::SampledAway, _) => format!("none: of {name}, and left out by [samples.logs.sampling]"),
            (Written::Negative, late) => format!("{name}, with {late} 0"),
            (Written::Twice, late) => format!("{name}, with {late} 0, and again with {late} 1"),
            (Written::Positive, late) => {
                format!(
                    "{name}, with {late} 1 alone, as it was shown before the windows of the first had ended"
                )
            }
            (Written::Never, _) => {
                format!("none: of {name}, but shown before the windows of the first impressions had ended")
            }
        },
        None if prepared.splits.last().is_some_and(|(_, requests)| place >= requests.end) => {
            "none: it is younger, at the end of the logs, than its windows are long".to_owned()
        }
        None => "none: it is in the gap before a split".to_owned(),
    }
}
