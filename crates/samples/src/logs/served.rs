//! The server's request log: features taken as they were served, and compared with those that the logs give.
//!
//! What a model is asked with is what it should learn from: a feature that was late, cut or rounded on the way to
//! the server was so for the users, too. Where computed values differ from served ones, one of the two ways of
//! making them is wrong; the report says for which features, how often and how much.

use gatefold_history::NONE;
use gatefold_schema::{Level, Recipe, Served};
use polars::prelude::*;

use super::{
    impressions::{ImpressionLog, Impressions, Keys},
    keys::KeyError,
    open::{key_error, key_type},
    scan::for_each_batch,
    source::Source,
};
use crate::{
    SamplesError,
    columns::{check_column, missing_column, normalise},
    skew::{FeatureSkew, Skew, SkewExample},
    values::{Place, Values, pick, requests_of},
};

const REQUEST: &str = "#request";
const ITEM: &str = "#item";
/// Differences that the report shows of a feature.
const EXAMPLES: usize = 5;

/// A request log, opened.
pub(crate) struct ServedLog {
    source: Source,
    request: Expr,
    item: Expr,
    /// Features that the log has: their places in the recipe, and their columns.
    features: Vec<(usize, String)>,
}

/// What was served of the requests in the impressions.
pub(crate) struct ServedRows {
    features: Vec<(usize, String)>,
    /// The rows of the log that are of such requests.
    frame: DataFrame,
    /// The first row of each request, [`NONE`] where it was not logged.
    of_request: Vec<u32>,
    /// The first row of each impression.
    of_row: Vec<u32>,
}

impl ServedLog {
    pub(crate) fn new(
        source: Source,
        config: &Served,
        recipe: &Recipe,
        impressions: &ImpressionLog,
    ) -> Result<Self, SamplesError> {
        // Servers log every id as text; what is no id of the impressions matches none.
        let key = |name: &str, other: &str, alias: &str| {
            if !source.schema.contains(name) {
                let what = "the key that it is matched with the impressions by";
                return Err(missing_column(&source.name, &source.schema, name, what));
            }
            let wanted = key_type(&impressions.source, other, "a key")?.frame_type();
            Ok(col(name).cast(wanted).alias(alias))
        };
        let request = key(&config.request, &impressions.config().request, REQUEST)?;
        let item = key(&config.item, &impressions.config().item, ITEM)?;
        let mut features = Vec::new();
        for (place, feature) in
            recipe.features.iter().enumerate().filter(|(_, feature)| !feature.is_crossed())
        {
            // The server renames features whose names its own columns have.
            let renamed = format!("feature_{}", feature.name);
            let is_renamed = source.schema.contains(&renamed)
                && !recipe.features.iter().any(|other| other.name == renamed);
            let column = if is_renamed { renamed } else { feature.name.clone() };
            if source.schema.contains(&column) {
                check_column(&source.name, &source.schema, &column, feature)?;
                features.push((place, column));
            }
        }
        if features.is_empty() {
            let text = "it has no column of any feature; give the request log of a model with these features";
            return Err(SamplesError::source(&source.name, text));
        }
        Ok(Self { request, item, features, source })
    }

    /// Reads what was served of the requests in `impressions`. Of a request that was logged several times the
    /// first counts.
    pub(crate) fn read(self, keys: &Keys, impressions: &Impressions) -> Result<ServedRows, SamplesError> {
        let log = &self.source;
        let own = self.features.iter().map(|(_, column)| col(column.as_str()));
        let selected: Vec<Expr> = [self.request.clone(), self.item.clone()].into_iter().chain(own).collect();
        let mut of_request = vec![NONE; impressions.request.len()];
        let mut of_row = vec![NONE; impressions.rows()];
        let mut frames: Option<DataFrame> = None;
        let mut rows = 0_u32;
        for_each_batch(
            log.frame().select(selected),
            |error| log.unreadable(error),
            |batch| {
                let mut run = || -> Result<(), KeyError> {
                    let (mut requests, mut items) = (Vec::new(), Vec::new());
                    keys.requests.find(batch.column(REQUEST)?, &mut requests)?;
                    keys.items.find(batch.column(ITEM)?, &mut items)?;
                    let place =
                        |request: u32| impressions.place.get(request as usize).copied().unwrap_or(NONE);
                    let kept = requests.iter().map(|request| place(*request) != NONE);
                    let kept = BooleanChunked::from_iter_values(PlSmallStr::EMPTY, kept);
                    for (request, item) in
                        requests.into_iter().zip(items).filter(|(request, _)| place(*request) != NONE)
                    {
                        let first = &mut of_request[place(request) as usize];
                        *first = (*first).min(rows);
                        if let Some(row) = impressions.row(request, item) {
                            of_row[row] = of_row[row].min(rows);
                        }
                        rows += 1;
                    }
                    let batch = batch.filter(&kept)?;
                    match &mut frames {
                        Some(all) => drop(all.vstack_mut_owned(batch)?),
                        None => frames = Some(batch),
                    }
                    Ok(())
                };
                run().map_err(|error| key_error(&log.name, error))
            },
        )?;
        let mut frame = frames.unwrap_or_default();
        frame.rechunk_mut_par();
        Ok(ServedRows { features: self.features, frame, of_request, of_row })
    }
}

impl ServedRows {
    /// Puts what was served in the place of the computed `values` of the recipe's features, and reports where
    /// they differ.
    pub(crate) fn apply(
        &self,
        recipe: &Recipe,
        values: &mut [Option<Values>],
        impressions: &Impressions,
        keys: &Keys,
    ) -> Result<Skew, SamplesError> {
        let found = |places: &[u32]| places.iter().filter(|row| **row != NONE).count() as u64;
        let mut skew =
            Skew { impressions: impressions.rows() as u64, served: found(&self.of_row), ..Skew::default() };
        if self.frame.height() == 0 {
            return Ok(skew);
        }
        for (place, column) in &self.features {
            let feature = &recipe.features[*place];
            let Some(computed) = &values[*place] else { continue };
            let failed = SamplesError::step("comparing what was served");
            let by_request = feature.side.level() == Level::Request;
            let (rows, requests) = if by_request {
                (&self.of_request, (0..impressions.request.len() as u32).collect())
            } else {
                (&self.of_row, requests_of(&impressions.starts, 0..impressions.rows()))
            };
            let compare = || -> PolarsResult<(Series, FeatureSkew)> {
                let computed = computed.rows(0..rows.len(), &requests)?;
                let computed = normalise(&computed.into_column(), feature)?;
                let served = pick(&normalise(self.frame.column(column)?, feature)?, rows.iter().copied())?;
                let is_served = rows.iter().map(|row| *row != NONE);
                let is_served = BooleanChunked::from_iter_values(PlSmallStr::EMPTY, is_served);
                let differs = served.not_equal_missing(&computed)? & is_served.clone();
                let largest = if differs.any() && served.dtype().is_primitive_numeric() {
                    let numbers = |series: &Series| series.filter(&differs)?.cast(&DataType::Float64);
                    let difference = (numbers(&served)? - numbers(&computed)?)?;
                    difference.f64()?.iter().flatten().map(f64::abs).reduce(f64::max)
                } else {
                    None
                };
                let shown =
                    differs.iter().enumerate().filter(|(_, differs)| *differs == Some(true)).take(EXAMPLES);
                let examples = shown
                    .map(|(row, _)| {
                        let request = if by_request { row } else { impressions.request_of_row(row) };
                        let item = (!by_request).then(|| keys.items.shown(impressions.item[row]));
                        Ok(SkewExample {
                            request: keys.requests.shown(impressions.request[request]),
                            item,
                            computed: computed.get(row)?.to_string(),
                            served: served.get(row)?.to_string(),
                        })
                    })
                    .collect::<PolarsResult<_>>()?;
                let report = FeatureSkew {
                    compared: found(rows),
                    differing: u64::from(differs.sum().unwrap_or(0)),
                    largest_difference: largest,
                    examples,
                };
                Ok((served.zip_with(&is_served, &computed)?.rechunk(), report))
            };
            let (dictionary, report) = compare().map_err(failed)?;
            let place_of = if by_request { Place::Request } else { Place::Row };
            values[*place] = Some(Values::Scalars { dictionary, place: place_of });
            skew.features.insert(feature.name.clone(), report);
        }
        Ok(skew)
    }
}
