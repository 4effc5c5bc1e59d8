//! Which column a feature reads, and the values of it.
//!
//! A column is looked for among those made of events, then in the impressions, which hold it as it was served,
//! then in the profiles of the feature's side.

use std::collections::BTreeSet;
use std::sync::Arc;

use gatefold_schema::{
    Aggregate, BY_ITEM, BY_USER, EventKind, EventLogs, Feature, Level, Maturity, OBSERVED, Recipe,
    SequenceConfig, Side,
};
use polars::prelude::DataType;

use super::{
    derived::{self, Made},
    events::EventLog,
    impressions::{Impressions, Keys},
    open::Logs,
    profiles::Table,
};
use crate::{
    SamplesError, columns,
    columns::missing_column,
    values::{Place, Values},
};

/// Columns to read from each log, and those to make.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) impressions: Vec<String>,
    pub(crate) clicks: Vec<String>,
    pub(crate) conversions: Vec<String>,
    pub(crate) users: Vec<String>,
    pub(crate) items: Vec<String>,
    pub(crate) derived: BTreeSet<String>,
}

/// Where a feature's column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Made of events.
    Derived,
    /// The identifier of the user or the item.
    Key,
    Impressions,
    Users,
    Items,
}

impl Origin {
    /// The word for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Origin::Derived => "derived",
            Origin::Key | Origin::Impressions => "impressions",
            Origin::Users => "users",
            Origin::Items => "items",
        }
    }
}

fn origin(feature: &Feature, config: &EventLogs, in_impressions: impl Fn(&str) -> bool) -> Origin {
    let column = feature.source_column();
    if derived::names(config).iter().any(|name| name == column) {
        return Origin::Derived;
    }
    let key = match feature.side {
        Side::User => Some(&config.impressions.user),
        Side::Item => Some(&config.impressions.item),
        Side::Context => None,
    };
    if key.is_some_and(|key| key == column) {
        Origin::Key
    } else if in_impressions(column) || feature.side == Side::Context {
        Origin::Impressions
    } else if feature.side == Side::Item {
        Origin::Items
    } else {
        Origin::Users
    }
}

/// Where the column of a feature is, and its type, which fits the feature; `None` of one that is made.
pub(super) fn resolve(
    feature: &Feature,
    config: &EventLogs,
    logs: &mut Logs,
) -> Result<(Origin, Option<DataType>), SamplesError> {
    let column = feature.source_column();
    let origin = origin(feature, config, |name| logs.impressions.has(name));
    let source = match origin {
        Origin::Derived => return check_length(feature, config).map(|()| (origin, None)),
        Origin::Key | Origin::Impressions => Some(&mut logs.impressions.source),
        Origin::Users => logs.users.as_mut().map(|file| &mut file.source),
        Origin::Items => logs.items.as_mut().map(|file| &mut file.source),
    };
    let Some(source) = source else {
        return Err(SamplesError::config(format!(
            "feature '{}': the impressions have no column '{column}', and [samples.logs] has no {} to look in; add the \
             file, or make the column by an aggregate or a sequence",
            feature.name,
            origin.name()
        )));
    };
    if origin == Origin::Key {
        columns::check_column(&source.name, &source.schema, column, feature)?;
    } else {
        source.use_feature(column, feature)?;
    }
    Ok((origin, source.schema.get(column).cloned()))
}

/// A feature must have room for all that its sequence lists: which of the values would be left out is nobody's wish.
fn check_length(feature: &Feature, config: &EventLogs) -> Result<(), SamplesError> {
    let column = feature.source_column();
    let lists = |one: &&SequenceConfig| one.name == column || one.gaps.as_deref() == Some(column);
    match (config.sequences.iter().find(lists), feature.max_len) {
        (Some(sequence), Some(most)) if most < sequence.last => Err(SamplesError::config(format!(
            "feature '{}': max_len is {most}, but sequence '{}' lists the last {}; make max_len {} at least, or last at \
             most {most}",
            feature.name, sequence.name, sequence.last, sequence.last
        ))),
        _ => Ok(()),
    }
}

/// Finds the columns of all features and of what is made of events, and checks their types.
pub(super) fn plan(recipe: &Recipe, config: &EventLogs, logs: &mut Logs) -> Result<Plan, SamplesError> {
    let mut plan = Plan::default();
    let add = |columns: &mut Vec<String>, name: &str| {
        if !columns.iter().any(|other| other == name) {
            columns.push(name.to_owned());
        }
    };
    for feature in recipe.sent_features() {
        let column = feature.source_column();
        match resolve(feature, config, logs)?.0 {
            Origin::Derived => drop(plan.derived.insert(column.to_owned())),
            Origin::Key => {}
            Origin::Impressions => add(&mut plan.impressions, column),
            Origin::Users => add(&mut plan.users, column),
            Origin::Items => add(&mut plan.items, column),
        }
    }
    let mut item_column = |place: String, column: &str| {
        let Some(file) = &logs.items else {
            return Err(SamplesError::config(format!(
                "{place}: '{column}' is neither user nor item, and [samples.logs] has no items to look in"
            )));
        };
        if !file.has(column) {
            let (name, schema) = (&file.source.name, &file.source.schema);
            return Err(missing_column(name, schema, column, &place));
        }
        add(&mut plan.items, column);
        Ok(())
    };
    let used = |aggregate: &&Aggregate| {
        aggregate.windows.iter().any(|window| plan.derived.contains(&aggregate.column_name(*window)))
    };
    for aggregate in config.aggregates.iter().filter(used) {
        let place = || format!("[[samples.logs.aggregate]] '{}'", aggregate.name);
        for part in aggregate.by.iter().filter(|part| *part != BY_USER && *part != BY_ITEM) {
            item_column(place(), part)?;
        }
        let Some(column) = aggregate.column.as_ref().filter(|column| *column != BY_ITEM) else { continue };
        let (file, wanted) = match aggregate.of {
            EventKind::Clicks => (Some(&logs.clicks), &mut plan.clicks),
            EventKind::Conversions => (logs.conversions.as_ref(), &mut plan.conversions),
            EventKind::Impressions => (None, &mut plan.clicks),
        };
        let Some(file) = file else { continue };
        if !file.source.schema.contains(column) {
            return Err(missing_column(&file.source.name, &file.source.schema, column, &place()));
        }
        if !wanted.contains(column) {
            wanted.push(column.clone());
        }
    }
    if config.labels.maturity == Maturity::Elapsed && !plan.derived.contains(OBSERVED) {
        return Err(SamplesError::config(format!(
            "[samples.logs]: labels.maturity = \"elapsed\" makes the column '{OBSERVED}', which no feature reads; add one \
             with side = \"context\", or choose keep or hold-back"
        )));
    }
    for label in &config.value_labels {
        let (file, wanted) = match label.of {
            EventKind::Conversions => (logs.conversions.as_ref(), &mut plan.conversions),
            _ => (Some(&logs.clicks), &mut plan.clicks),
        };
        let Some(EventLog { source, .. }) = file else { continue };
        let place = format!("[[samples.logs.label]] '{}'", label.name);
        match source.schema.get(&label.column) {
            None => return Err(missing_column(&source.name, &source.schema, &label.column, &place)),
            Some(found) if found.is_primitive_numeric() || found.is_bool() => add(wanted, &label.column),
            Some(found) => {
                return Err(SamplesError::source(
                    &source.name,
                    format!(
                        "{place}: column '{}' has type {found}; it must hold numbers or truth values",
                        label.column
                    ),
                ));
            }
        }
    }
    for sequence in config.sequences.iter().filter(|sequence| sequence.column != BY_ITEM) {
        item_column(format!("[[samples.logs.sequence]] '{}'", sequence.name), &sequence.column)?;
    }
    Ok(plan)
}

/// All columns that features read.
pub(super) struct Columns<'a> {
    pub(super) keys: &'a Keys,
    pub(super) impressions: &'a Impressions,
    pub(super) users: Option<&'a Table>,
    pub(super) items: Option<&'a Table>,
    pub(super) made: Vec<Made>,
}

impl Columns<'_> {
    /// The values of every feature, in the order of the recipe; `None` of a crossed one.
    pub(super) fn of_features(
        &self,
        recipe: &Recipe,
        config: &EventLogs,
    ) -> Result<Vec<Option<Values>>, SamplesError> {
        // The version that each request sees of its user, and each row of its item, found once.
        let (mut user_versions, mut item_versions) = (None, None);
        let mut values = Vec::with_capacity(recipe.features.len());
        for feature in &recipe.features {
            if feature.is_crossed() {
                values.push(None);
                continue;
            }
            let column = feature.source_column();
            let in_impressions = |name: &str| self.impressions.columns.iter().any(|(other, _)| other == name);
            let found = match origin(feature, config, in_impressions) {
                Origin::Derived => self.derived(feature)?,
                Origin::Key => self.key(feature.side),
                Origin::Impressions => self.shown(feature, column)?,
                Origin::Items => {
                    let place = item_versions.get_or_insert_with(|| self.item_versions());
                    profile(self.items, column, place, Place::OfRow)?
                }
                Origin::Users => {
                    let place = user_versions.get_or_insert_with(|| self.user_versions());
                    profile(self.users, column, place, Place::OfRequest)?
                }
            };
            values.push(Some(found));
        }
        Ok(values)
    }

    fn user_versions(&self) -> Result<Arc<Vec<u32>>, gatefold_history::HistoryError> {
        let Some(table) = self.users else { return Ok(Arc::default()) };
        let impressions = self.impressions;
        let users = self.keys.users.len();
        table.versions(&impressions.user, &impressions.request_time, users).map(Arc::new)
    }

    fn item_versions(&self) -> Result<Arc<Vec<u32>>, gatefold_history::HistoryError> {
        let Some(table) = self.items else { return Ok(Arc::default()) };
        let times = self.impressions.row_request_times();
        table.versions(&self.impressions.item, &times, self.keys.items.len()).map(Arc::new)
    }

    fn derived(&self, feature: &Feature) -> Result<Values, SamplesError> {
        let column = feature.source_column();
        let fail = |text: String| SamplesError::config(format!("feature '{}': {text}", feature.name));
        let made = self.made.iter().find(|made| made.name == column);
        let made = made.ok_or_else(|| fail(format!("column '{column}' was not made")))?;
        if made.level != feature.side.level() {
            let (rows, sides) = match made.level {
                Level::Request => ("a request", "user or context"),
                Level::Candidate => ("an item of a request", "item"),
            };
            return Err(fail(format!(
                "column '{column}' has one value for {rows}, so its side is {sides}, found {}",
                feature.side.name()
            )));
        }
        let found = made.values.frame_type();
        if columns::fits(feature, &found) {
            return Ok(made.values.clone());
        }
        Err(fail(format!(
            "column '{column}' has type {found}, but the feature needs {}",
            columns::wanted_type(feature)
        )))
    }

    fn key(&self, side: Side) -> Values {
        let (ids, place) = match side {
            Side::Item => (&self.keys.items, Place::OfRow(Arc::new(self.impressions.item.clone()))),
            _ => (&self.keys.users, Place::OfRequest(Arc::new(self.impressions.user.clone()))),
        };
        Values::Scalars { dictionary: ids.values(""), place }
    }

    /// A column of the impressions. What belongs to a request is the same in all its rows.
    fn shown(&self, feature: &Feature, column: &str) -> Result<Values, SamplesError> {
        let found = self.impressions.columns.iter().find(|(name, _)| name == column);
        let Some((_, values)) = found else {
            return Err(SamplesError::config(format!(
                "feature '{}': column '{column}' was not read",
                feature.name
            )));
        };
        if feature.side.level() == Level::Candidate {
            return Ok(values.clone());
        }
        let failed = SamplesError::step("checking context features");
        match values.of_requests(&self.impressions.starts).map_err(failed)? {
            Ok(values) => Ok(values),
            Err(request) => Err(SamplesError::config(format!(
                "feature '{}': column '{column}' has different values in the rows of request {}, but side = \"{}\" says \
                 that it has one value a request; make it side = \"item\"",
                feature.name,
                self.keys.requests.shown(self.impressions.request[request]),
                feature.side.name()
            ))),
        }
    }
}

fn profile(
    table: Option<&Table>,
    column: &str,
    place: &Result<Arc<Vec<u32>>, gatefold_history::HistoryError>,
    of: fn(Arc<Vec<u32>>) -> Place,
) -> Result<Values, SamplesError> {
    let place = place.clone().map_err(super::labels::many)?;
    match table.and_then(|table| table.column(column)) {
        Some(values) => {
            Ok(Values::Scalars { dictionary: values.as_materialized_series().clone(), place: of(place) })
        }
        None => Err(SamplesError::config(format!("column '{column}' was not read"))),
    }
}
