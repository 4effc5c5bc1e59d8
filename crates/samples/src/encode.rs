//! Fitting encoders to the training split alone, and encoding all rows.

use std::collections::BTreeMap;
use std::ops::Range;

use gatefold_features::{
    Cross, CrossPart, CrossValues, Encoder, FeatureColumn, RawColumn, Strictness,
    fit::{Fitter, TargetTable, TrainingRows},
};
use gatefold_schema::{EncoderSet, Recipe};
use polars::prelude::*;

use crate::{
    Progress, SamplesError, columns,
    parallel::for_each_index,
    prepared::{REQUEST_ID, TIME_COLUMN},
};

/// The raw rows to encode.
pub(crate) struct Rows<'a> {
    recipe: &'a Recipe,
    /// Features, labels, `request_id`, and `time` where the source has one.
    frame: &'a DataFrame,
    /// One chunk a feature; `None` for a crossed one.
    raw: Vec<Option<Series>>,
    /// The rows that encoders learn from.
    train: Range<usize>,
}

impl<'a> Rows<'a> {
    /// The rows of `frame`, which has a column for each feature that is not crossed.
    pub(crate) fn new(
        recipe: &'a Recipe,
        frame: &'a DataFrame,
        train: Range<usize>,
    ) -> Result<Self, SamplesError> {
        let one = |feature: &gatefold_schema::Feature| {
            let own = || columns::normalise(frame.column(&feature.name)?, feature);
            if feature.is_crossed() { Ok(None) } else { own().map(Some) }
        };
        let raw = recipe.features.iter().map(one).collect::<PolarsResult<_>>();
        Ok(Self { recipe, frame, raw: raw.map_err(SamplesError::step("reading raw columns"))?, train })
    }

    /// Encoders fitted to the training rows, and the tables of target encodings, by feature.
    pub(crate) fn fit(
        &self,
        progress: &mut dyn Progress,
    ) -> Result<(EncoderSet, BTreeMap<usize, TargetTable>), SamplesError> {
        let features = &self.recipe.features;
        progress.start("fitting encoders", Some(features.len() as u64));
        let empty = Fitter::new(features)?;
        let parts = for_each_index(features.len(), progress, |index| -> Result<Fitter, SamplesError> {
            let mut part = empty.clone();
            let learns = part.needs(index) || part.target_task(index).is_some();
            let cross = if learns { Cross::declared(features, index)? } else { None };
            if let Some(task) = part.target_task(index).map(str::to_owned) {
                self.with_training(&task, |rows| {
                    self.with_column(index, cross.as_ref(), self.train.clone(), |column| {
                        Ok(part.add_target(index, column, rows)?)
                    })
                })?;
            } else if learns {
                self.with_column(index, cross.as_ref(), self.train.clone(), |column| {
                    Ok(part.add(index, column)?)
                })?;
            }
            Ok(part)
        });
        let mut fitter = empty.clone();
        for part in parts {
            fitter.merge(part?);
        }
        Ok(fitter.finish_with_targets())
    }

    /// The features of all rows, in schema order; the training rows of target encodings by `tables`.
    pub(crate) fn encode(
        &self,
        encoder: &Encoder,
        tables: &BTreeMap<usize, TargetTable>,
        progress: &mut dyn Progress,
    ) -> Result<Vec<FeatureColumn>, SamplesError> {
        let (features, rows) = (&self.recipe.features, self.frame.height());
        progress.start("encoding", Some(features.len() as u64));
        let columns = for_each_index(features.len(), progress, |index| {
            let cross = encoder.cross(index);
            let mut encoded = self.with_column(index, cross, 0..rows, |column| {
                encoder.encode_column(index, column, rows, Strictness::Lenient).map_err(encode_error)
            })?;
            if let (Some(table), Some(task), FeatureColumn::Numbers(numbers)) =
                (tables.get(&index), task_of(self.recipe, index), &mut encoded)
            {
                let own = self.with_training(task, |rows| {
                    self.with_column(index, cross, self.train.clone(), |column| {
                        Ok(table.training_values(column, rows)?)
                    })
                })?;
                numbers[self.train.clone()].copy_from_slice(&own);
            }
            Ok(encoded)
        });
        columns.into_iter().collect()
    }

    /// Calls `work` with rows `rows` of the feature at `index`, which `cross` combines where it is crossed.
    fn with_column<T>(
        &self,
        index: usize,
        cross: Option<&Cross>,
        rows: Range<usize>,
        work: impl FnOnce(&RawColumn<'_>) -> Result<T, SamplesError>,
    ) -> Result<T, SamplesError> {
        let raw = |index: usize| -> Result<RawColumn<'_>, SamplesError> {
            let series = self.raw[index].as_ref();
            let series = series.ok_or_else(|| SamplesError::config("a crossed feature has no raw column"))?;
            columns::raw_column(series).map_err(SamplesError::step("reading raw columns"))
        };
        let Some(cross) = cross else { return work(&raw(index)?.slice(rows)) };
        let parts = cross.parts().map(raw).collect::<Result<Vec<_>, _>>()?;
        let parts: Vec<RawColumn<'_>> = parts.iter().map(|part| part.slice(rows.clone())).collect();
        let parts: Vec<CrossPart<'_>> = parts.iter().map(|column| CrossPart { column, rows: None }).collect();
        let values: CrossValues = cross.values(&parts, rows.len()).map_err(encode_error)?;
        work(&values.column())
    }

    /// Calls `work` with what target encodings of `task` need of the training rows.
    fn with_training<T>(
        &self,
        task: &str,
        work: impl FnOnce(&TrainingRows<'_>) -> Result<T, SamplesError>,
    ) -> Result<T, SamplesError> {
        let train = self.frame.slice(self.train.start as i64, self.train.len());
        let labels = labels_in_space(self.recipe, &train, task)?;
        let step = SamplesError::step("reading requests");
        let requests =
            train.column(REQUEST_ID).map(|ids| ids.as_materialized_series().rechunk()).map_err(step)?;
        let requests = columns::raw_column(&requests).map_err(SamplesError::step("reading requests"))?;
        let times = match train.column(TIME_COLUMN) {
            Ok(column) => {
                let times = column.i64().map_err(SamplesError::step("reading times"))?;
                Some(times.iter().map(|time| time.unwrap_or(i64::MIN)).collect::<Vec<i64>>())
            }
            Err(_) => None,
        };
        work(&TrainingRows { labels: &labels, requests: &requests, times: times.as_deref() })
    }
}

fn encode_error(source: gatefold_features::EncodeError) -> SamplesError {
    SamplesError::Encode { origin: "encoding the samples".to_owned(), source }
}

/// The task that the target encoding of a feature is made of.
fn task_of(recipe: &Recipe, index: usize) -> Option<&str> {
    match &recipe.features[index].encoder {
        gatefold_schema::Encoder::Target { task, .. } => Some(task),
        _ => None,
    }
}

/// The task's label of each row, NaN outside its sample space: where a task that it is given is not positive.
fn labels_in_space(recipe: &Recipe, frame: &DataFrame, task: &str) -> Result<Vec<f32>, SamplesError> {
    let find = |name: &str| recipe.tasks.iter().find(|task| task.name == name);
    let Some(task) = find(task) else {
        return Err(SamplesError::config(format!("there is no task '{task}'")));
    };
    let mut labels = labels_of(frame, &task.label)?;
    let mut given = task.given.as_deref().and_then(find);
    while let Some(condition) = given {
        for (label, condition) in labels.iter_mut().zip(labels_of(frame, &condition.label)?) {
            if condition != 1.0 {
                *label = f32::NAN;
            }
        }
        given = condition.given.as_deref().and_then(find);
    }
    Ok(labels)
}

/// The values of a label column, NaN where there is none.
pub(crate) fn labels_of(frame: &DataFrame, name: &str) -> Result<Vec<f32>, SamplesError> {
    let values = frame
        .column(name)
        .and_then(|column| Ok(column.f32()?.iter().map(|value| value.unwrap_or(f32::NAN)).collect()));
    values.map_err(SamplesError::step("reading labels"))
}
