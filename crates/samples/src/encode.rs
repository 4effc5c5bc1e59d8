//! From raw values to codes and numbers: encoders are fitted to the training split alone, and every value of a
//! dictionary is encoded once, however many samples have it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use gatefold_features::{
    Cross, CrossPart, Encoder, FeatureColumn, RawColumn, RawValues, Strictness,
    fit::{Fitter, TargetTable, TrainingRows},
};
use gatefold_history::NONE;
use gatefold_schema::{Encoder as Encoding, EncoderSet, Feature, MISSING_CODE, PADDING_CODE, Recipe};
use polars::prelude::*;

use crate::{
    Progress, SamplesError, columns,
    parallel::for_each_index,
    prepared::Prepared,
    values::{self, Events, Listed, Place, Values, requests_of},
};

/// Rows whose raw values are in memory at one time.
const CHUNK: usize = 1 << 18;

/// Encoders, and the tables that give training rows their target encodings, by position of the feature.
pub(crate) struct Fitted {
    pub(crate) set: EncoderSet,
    pub(crate) tables: BTreeMap<usize, TargetTable>,
}

/// Fits every encoder to the training split.
pub(crate) fn fit(
    recipe: &Recipe,
    prepared: &Prepared,
    progress: &mut dyn Progress,
) -> Result<Fitted, SamplesError> {
    let mut fitting = Fitting::new(recipe)?;
    fitting.add(prepared, progress)?;
    Ok(fitting.finish())
}

/// Encoders that learn from training rows, which may come in any order and in any number of parts.
pub(crate) struct Fitting<'a> {
    recipe: &'a Recipe,
    empty: Fitter,
    /// By feature: each learns in one thread.
    features: Vec<Mutex<Fitter>>,
}

impl<'a> Fitting<'a> {
    pub(crate) fn new(recipe: &'a Recipe) -> Result<Self, SamplesError> {
        let empty = Fitter::new(&recipe.features)?;
        let features = recipe.features.iter().map(|_| Mutex::new(empty.clone())).collect();
        Ok(Self { recipe, empty, features })
    }

    /// Learns from the training rows of `prepared`.
    pub(crate) fn add(
        &mut self,
        prepared: &Prepared,
        progress: &mut dyn Progress,
    ) -> Result<(), SamplesError> {
        let (recipe, features) = (self.recipe, &self.features);
        let learned = for_each_index(features.len(), progress, |index| {
            let mut fitter = features[index].lock().unwrap_or_else(PoisonError::into_inner);
            Source { recipe, prepared }.fit(index, &mut fitter)
        });
        learned.into_iter().collect()
    }

    /// What was learned.
    pub(crate) fn finish(self) -> Fitted {
        let mut fitter = self.empty;
        for part in self.features {
            fitter.merge(part.into_inner().unwrap_or_else(PoisonError::into_inner));
        }
        let (set, tables) = fitter.finish_with_targets();
        Fitted { set, tables }
    }
}

/// Where raw values come from.
#[derive(Clone, Copy)]
struct Source<'a> {
    recipe: &'a Recipe,
    prepared: &'a Prepared,
}

impl Source<'_> {
    /// Has the feature at `index` learn from the training rows.
    fn fit(&self, index: usize, fitter: &mut Fitter) -> Result<(), SamplesError> {
        let task = fitter.target_task(index).map(str::to_owned);
        if !fitter.needs(index) && task.is_none() {
            return Ok(());
        }
        let train = self.prepared.rows(&self.prepared.splits[0].1);
        if fitter.counts_values(index)
            && let Some(Values::Scalars { dictionary, place }) = &self.prepared.values[index]
            && dictionary.len() <= train.len()
        {
            // How often a value occurs is how often its places do: no row's value is looked at.
            let raw = raw(dictionary, &self.recipe.features[index])?;
            let column = columns::raw_column(&raw).map_err(SamplesError::step("reading raw values"))?;
            let counts = place.counts(dictionary.len(), train, &self.prepared.starts);
            return Ok(fitter.add_counted(index, &column, &counts)?);
        }
        let cross = Cross::declared(&self.recipe.features, index)?;
        for start in train.clone().step_by(CHUNK) {
            let rows = start..(start + CHUNK).min(train.end);
            self.with_column(index, cross.as_ref(), rows.clone(), |column| match &task {
                Some(task) => {
                    self.with_training(task, rows, |rows| Ok(fitter.add_target(index, column, rows)?))
                }
                None => Ok(fitter.add(index, column)?),
            })?;
        }
        Ok(())
    }

    /// The raw values of a feature that is not crossed, in its type.
    fn raw(&self, index: usize, rows: Range<usize>) -> Result<Series, SamplesError> {
        let feature = &self.recipe.features[index];
        let Some(values) = &self.prepared.values[index] else {
            return Err(SamplesError::config(format!("feature '{}' has no column of its own", feature.name)));
        };
        let requests = requests_of(&self.prepared.starts, rows.clone());
        raw(&values.rows(rows, &requests).map_err(SamplesError::step("reading raw values"))?, feature)
    }

    /// Calls `work` with rows `rows` of the feature at `index`, which `cross` combines where it is crossed.
    fn with_column<T>(
        &self,
        index: usize,
        cross: Option<&Cross>,
        rows: Range<usize>,
        work: impl FnOnce(&RawColumn<'_>) -> Result<T, SamplesError>,
    ) -> Result<T, SamplesError> {
        let step = || SamplesError::step("reading raw values");
        let Some(cross) = cross else {
            let raw = self.raw(index, rows)?;
            return work(&columns::raw_column(&raw).map_err(step())?);
        };
        let parts = cross.parts().map(|part| self.raw(part, rows.clone())).collect::<Result<Vec<_>, _>>()?;
        let parts = parts.iter().map(columns::raw_column).collect::<PolarsResult<Vec<_>>>().map_err(step())?;
        let parts: Vec<CrossPart<'_>> = parts.iter().map(|column| CrossPart { column, rows: None }).collect();
        work(&cross.values(&parts, rows.len()).map_err(encode_error)?.column())
    }

    /// Calls `work` with what target encodings of `task` need of the training rows `rows`.
    fn with_training<T>(
        &self,
        task: &str,
        rows: Range<usize>,
        work: impl FnOnce(&TrainingRows<'_>) -> Result<T, SamplesError>,
    ) -> Result<T, SamplesError> {
        let labels = self.labels_in_space(task, rows.clone())?;
        let step = || SamplesError::step("reading requests");
        let keys = self.prepared.keys(rows.clone()).map_err(step())?;
        let ids = keys[0].as_materialized_series();
        let ids =
            if ids.dtype().is_integer() { ids.cast(&DataType::Int64).map_err(step())? } else { ids.clone() };
        let requests = columns::raw_column(&ids).map_err(step())?;
        let times: Option<Vec<i64>> = self.prepared.times.as_ref().map(|times| {
            let of_rows = requests_of(&self.prepared.starts, rows);
            of_rows.into_iter().map(|request| times[request as usize]).collect()
        });
        work(&TrainingRows { labels: &labels, requests: &requests, times: times.as_deref() })
    }

    /// The task's label of each row, NaN outside its sample space: where a task that it is given is not positive.
    fn labels_in_space(&self, task: &str, rows: Range<usize>) -> Result<Vec<f32>, SamplesError> {
        let find = |name: &str| self.recipe.tasks.iter().find(|task| task.name == name);
        let values = |label: &str| {
            let found = self.prepared.labels.iter().find(|other| other.name == label);
            let found =
                found.ok_or_else(|| SamplesError::config(format!("there is no label column '{label}'")))?;
            Ok::<_, SamplesError>(&found.values[rows.clone()])
        };
        let task = find(task).ok_or_else(|| SamplesError::config(format!("there is no task '{task}'")))?;
        let mut labels = values(&task.label)?.to_vec();
        let mut given = task.given.as_deref().and_then(find);
        while let Some(condition) = given {
            for (label, condition) in labels.iter_mut().zip(values(&condition.label)?) {
                if *condition != 1.0 {
                    *label = f32::NAN;
                }
            }
            given = condition.given.as_deref().and_then(find);
        }
        Ok(labels)
    }
}

/// Values as their source has them, in the type of a feature.
fn raw(values: &Series, feature: &Feature) -> Result<Series, SamplesError> {
    let values = columns::normalise(&values.clone().into_column(), feature);
    values.map_err(SamplesError::step("reading raw values"))
}

fn encode_error(source: gatefold_features::EncodeError) -> SamplesError {
    SamplesError::Encode { origin: "encoding the samples".to_owned(), source }
}

/// The encoded values of all features.
pub(crate) struct Encoded<'a> {
    encoder: &'a Encoder,
    source: Source<'a>,
    /// What training rows learn of their target encodings; empty where encoders were fitted elsewhere.
    tables: &'a BTreeMap<usize, TargetTable>,
    /// What was encoded ahead, by feature.
    ahead: Vec<Ahead>,
}

enum Ahead {
    /// Nothing: values are as many as samples, and encoded when they are written.
    Nothing,
    /// A dictionary.
    Dictionary(FeatureColumn),
    /// The whole numbers from 0 up to the largest of a dictionary of them, such as counts.
    Numbers(FeatureColumn),
    /// The codes of what events list; [`PADDING_CODE`] where nothing is listed.
    Elements(Vec<i32>),
}

impl<'a> Encoded<'a> {
    /// Encodes the dictionaries.
    pub(crate) fn new(
        encoder: &'a Encoder,
        tables: &'a BTreeMap<usize, TargetTable>,
        recipe: &'a Recipe,
        prepared: &'a Prepared,
        progress: &mut dyn Progress,
    ) -> Result<Self, SamplesError> {
        let rows = prepared.row_count();
        let ahead = for_each_index(prepared.values.len(), progress, |index| -> Result<Ahead, SamplesError> {
            let feature = &encoder.set().features[index].feature;
            match &prepared.values[index] {
                Some(Values::Scalars { .. }) if tables.contains_key(&index) => Ok(Ahead::Nothing),
                Some(Values::Scalars { dictionary, place: Place::Row | Place::Request })
                    if let Some(largest) = values::largest(dictionary)
                        && (largest as usize) < dictionary.len() / 2 =>
                {
                    let numbers = UInt32Chunked::from_iter_values(PlSmallStr::EMPTY, 0..=largest);
                    whole(encoder, index, &numbers.into_series()).map(Ahead::Numbers)
                }
                Some(Values::Scalars { dictionary, .. }) if dictionary.len() <= rows / 2 => {
                    whole(encoder, index, dictionary).map(Ahead::Dictionary)
                }
                Some(Values::Events(Events { listed: Listed::Value { dictionary, .. }, .. })) => {
                    elements(encoder, index, feature, dictionary).map(Ahead::Elements)
                }
                _ => Ok(Ahead::Nothing),
            }
        });
        let source = Source { recipe, prepared };
        Ok(Self { encoder, source, tables, ahead: ahead.into_iter().collect::<Result<_, _>>()? })
    }

    /// [`EncoderSet::fingerprint`] of the encoders.
    pub(crate) fn fingerprint(&self) -> &str {
        self.encoder.fingerprint()
    }

    /// The encoded features of the rows `rows`, whose requests are `requests`.
    pub(crate) fn columns(&self, rows: Range<usize>, requests: &[u32]) -> Result<Vec<Column>, SamplesError> {
        (0..self.ahead.len()).map(|index| self.column(index, rows.clone(), requests)).collect()
    }

    fn column(&self, index: usize, rows: Range<usize>, requests: &[u32]) -> Result<Column, SamplesError> {
        let feature = &self.encoder.set().features[index].feature;
        let name = feature.name.as_str();
        match (&self.ahead[index], &self.source.prepared.values[index]) {
            (Ahead::Dictionary(dictionary), Some(Values::Scalars { place, .. })) => {
                let picked = match place {
                    Place::Row => pick(dictionary, rows.map(|row| row as u32)),
                    Place::Request => pick(dictionary, requests.iter().copied()),
                    Place::OfRow(place) => pick(dictionary, place[rows].iter().copied()),
                    Place::OfRequest(place) => {
                        pick(dictionary, requests.iter().map(|request| place[*request as usize]))
                    }
                };
                Ok(columns::encoded_column(name, picked))
            }
            (Ahead::Numbers(encoded), Some(Values::Scalars { dictionary, place })) => {
                let numbers = match place {
                    Place::Row => values::whole_numbers(dictionary, rows),
                    _ => values::whole_numbers(dictionary, requests.iter().map(|request| *request as usize)),
                };
                let numbers = numbers.map_err(SamplesError::step("encoding"))?;
                Ok(columns::encoded_column(name, pick(encoded, numbers.into_iter())))
            }
            (
                Ahead::Elements(codes),
                Some(Values::Events(Events { order, tails, listed: Listed::Value { place, .. } })),
            ) => {
                let order = order.view();
                let total = requests.iter().map(|request| tails[*request as usize].length as usize).sum();
                let mut lists = ListPrimitiveChunkedBuilder::<Int32Type>::new(
                    name.into(),
                    requests.len(),
                    total,
                    DataType::Int32,
                );
                let mut list = Vec::new();
                for rows in requests.chunk_by(|one, next| one == next) {
                    let events = tails[rows[0] as usize].rows(order).iter();
                    let places = events.map(|event| place[*event as usize]).filter(|place| *place != NONE);
                    let codes = places.map(|place| codes[place as usize]);
                    list.clear();
                    list.extend(codes.filter(|code| *code != PADDING_CODE));
                    rows.iter().for_each(|_| lists.append_slice(&list));
                }
                Ok(lists.finish().into_series().into_column())
            }
            _ => Ok(columns::encoded_column(name, self.late(index, rows)?)),
        }
    }

    /// Encodes the values of some rows, which are all of the training split or all of another.
    fn late(&self, index: usize, rows: Range<usize>) -> Result<FeatureColumn, SamplesError> {
        let (source, train) = (self.source, self.source.prepared.rows(&self.source.prepared.splits[0].1));
        source.with_column(index, self.encoder.cross(index), rows.clone(), |column| {
            let encoder = &source.recipe.features[index].encoder;
            if let (Some(table), Encoding::Target { task, .. }) = (self.tables.get(&index), encoder)
                && train.contains(&rows.start)
            {
                return source.with_training(task, rows.clone(), |training| {
                    Ok(FeatureColumn::Numbers(table.training_values(column, training)?))
                });
            }
            let encoded = self.encoder.encode_column(index, column, rows.len(), Strictness::Lenient);
            encoded.map_err(encode_error)
        })
    }
}

/// Encodes all of a dictionary.
fn whole(encoder: &Encoder, index: usize, dictionary: &Series) -> Result<FeatureColumn, SamplesError> {
    let raw = raw(dictionary, &encoder.set().features[index].feature)?;
    let column = columns::raw_column(&raw).map_err(SamplesError::step("encoding"))?;
    encoder.encode_column(index, &column, raw.len(), Strictness::Lenient).map_err(encode_error)
}

/// The code of each value as an element of a sequence.
fn elements(
    encoder: &Encoder,
    index: usize,
    feature: &Feature,
    dictionary: &Series,
) -> Result<Vec<i32>, SamplesError> {
    let mut codes = Vec::with_capacity(dictionary.len());
    let scalar = columns::element(feature);
    for start in (0..dictionary.len()).step_by(CHUNK) {
        let part = dictionary.slice(start as i64, CHUNK);
        let part =
            columns::normalise(&part.into_column(), &scalar).map_err(SamplesError::step("encoding"))?;
        let column = columns::raw_column(&part).map_err(SamplesError::step("encoding"))?;
        // Each value as a list of its own; one that is absent is an empty list.
        let mut offsets: Vec<u32> = vec![0];
        for row in 0..part.len() {
            offsets.push(offsets[row] + u32::from(!column.is_missing(row)));
        }
        let present = |row: &usize| !column.is_missing(*row);
        let kept = (0..part.len()).filter(present);
        let values = match &column.values {
            RawValues::Ints(values) => RawValues::IntLists {
                values: kept.map(|row| values[row]).collect::<Vec<_>>().into(),
                offsets: offsets.into(),
            },
            RawValues::Texts(values) => RawValues::TextLists {
                values: kept.map(|row| values[row]).collect(),
                offsets: offsets.into(),
            },
            _ => return Err(SamplesError::config(format!("feature '{}' lists no codes", feature.name))),
        };
        let lists = RawColumn { values, missing: None };
        let encoded =
            encoder.encode_column(index, &lists, part.len(), Strictness::Lenient).map_err(encode_error)?;
        if let FeatureColumn::Codes { width, data } = encoded {
            codes.extend(data.iter().step_by(width));
        }
    }
    Ok(codes)
}

/// The encoded values at some places; at [`NONE`] that of a missing value.
fn pick(dictionary: &FeatureColumn, places: impl Iterator<Item = u32>) -> FeatureColumn {
    match dictionary {
        FeatureColumn::Numbers(data) => {
            let value = |place: u32| if place == NONE { 0.0 } else { data[place as usize] };
            FeatureColumn::Numbers(places.map(value).collect())
        }
        FeatureColumn::Codes { width: 1, data } => {
            let code = |place: u32| if place == NONE { MISSING_CODE } else { data[place as usize] };
            FeatureColumn::Codes { width: 1, data: places.map(code).collect() }
        }
        FeatureColumn::Codes { width, data } => {
            let mut missing = vec![PADDING_CODE; *width];
            missing[0] = MISSING_CODE;
            let mut picked = Vec::new();
            for place in places {
                let place = place as usize;
                picked.extend_from_slice(data.get(place * width..(place + 1) * width).unwrap_or(&missing));
            }
            FeatureColumn::Codes { width: *width, data: picked }
        }
    }
}
