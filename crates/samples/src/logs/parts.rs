//! Logs of which not all rows are in memory at one time: divided by a hash of the user, each part prepared by itself.
//!
//! A request is of one user, and so are its outcomes, profiles and sequences: a part needs no other. What does ask for
//! all users is found once, before parts are prepared: where the splits are in time ([`Whole`]), and the aggregates
//! by keys that users share ([`shared`]).

mod scatter;
mod shared;

use std::path::{Path, PathBuf};

use gatefold_schema::{EventLogs, Files, Recipe};
use polars::prelude::*;
use serde::{Deserialize, Serialize};

use self::{scatter::scatter, shared::Shared};
use super::{BadRows, bad::Dropped, features, no_impressions, open::Logs, read::Read, whole::Whole};
use crate::{
    Progress, SamplesError, Silent,
    files::{Form, ParquetFile},
    parallel::for_each_index,
    prepared::Prepared,
    shards::most_rows,
};

/// Logs that are divided into parts, in a folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Parts {
    /// How many there are.
    pub(crate) count: usize,
    /// What is known of all users together.
    whole: Whole,
    /// Times that divide the requests into stretches of about as many rows each: the first of each but the first.
    pub(crate) bounds: Vec<i64>,
    /// Rows of impressions.
    pub(crate) rows: u64,
    /// Rows that could not be used, by log and reason.
    pub(crate) dropped: Dropped,
    /// What messages call the logs, by their keys in `[samples.logs]`.
    names: Vec<(String, PathBuf)>,
}

/// Divides the logs of `recipe` below `logs` into `count` parts in the folder `to`.
pub(crate) fn divide(
    (recipe, config): (&Recipe, &EventLogs),
    logs: &Path,
    to: &Path,
    count: usize,
    bad_rows: &BadRows,
    progress: &mut dyn Progress,
) -> Result<Parts, SamplesError> {
    if config.served.is_some() {
        return Err(SamplesError::config(
            "[samples.logs]: features as they were served (served) are compared in memory alone; build without parts \
             and without a memory limit",
        ));
    }
    let mut opened = Logs::open(recipe, config, logs)?;
    let plan = features::plan(recipe, config, &mut opened)?;
    let names = opened.names();
    let dropped = scatter(opened, &plan, to, count, bad_rows, progress)?;

    // Of all parts: the times, and the events of keys that users share.
    let shared = Shared::new(config, &plan.derived, count, to);
    progress.start("reading the parts for what users share", Some(count as u64));
    let read = for_each_index(count, progress, |part| -> Result<_, SamplesError> {
        let own = part_config(config, part);
        let mut opened = Logs::open(recipe, &own, to)?;
        opened.rename(&names);
        let mut needed = features::plan(recipe, &own, &mut opened)?;
        (needed.impressions, needed.users) = (Vec::new(), Vec::new());
        (opened.users, opened.audit) = (None, None);
        let read = Read::new(opened, needed, bad_rows, &mut Silent)?;
        let found = (read.requests(), read.span());
        shared.add(part, read)?;
        Ok(found)
    });
    shared.finish()?;
    let (mut requests, mut span) = (Vec::new(), None);
    for part in read {
        let (own, between) = part?;
        requests.extend(own);
        let known = span.get_or_insert_with(|| between.clone());
        *known = known.start.min(between.start)..known.end.max(between.end);
    }
    let Some(span) = span.filter(|_| !requests.is_empty()) else {
        let impressions = names.iter().find(|(log, _)| log == "impressions");
        return Err(no_impressions(impressions.map_or(Path::new(""), |(_, name)| name), &dropped));
    };
    requests.sort_unstable();
    let whole = Whole::new(recipe, config, &requests, span)?;
    whole.check_windows(config, &plan)?;
    // A few shards, which are written at a time.
    let bounds = bounds(&requests, 2 * most_rows(recipe) as u64);
    let rows = requests.iter().map(|(_, rows)| u64::from(*rows)).sum();
    drop(requests);
    progress.start("aggregating what users share", Some(shared.buckets() as u64));
    let own = part_config(config, 0);
    shared.aggregate(recipe, &own, progress)?;
    Ok(Parts { count, whole, bounds, rows, dropped, names })
}

impl Parts {
    /// The labelled samples of one part of the logs in `folder`.
    pub(crate) fn prepare(
        &self,
        (recipe, config): (&Recipe, &EventLogs),
        folder: &Path,
        part: usize,
    ) -> Result<Prepared, SamplesError> {
        let own = part_config(config, part);
        let mut opened = Logs::open(recipe, &own, folder)?;
        opened.rename(&self.names);
        let plan = features::plan(recipe, &own, &mut opened)?;
        let made = shared::made(config, &plan.derived, folder, part)?;
        // They were looked at when the logs were divided.
        let bad_rows = BadRows { policy: gatefold_schema::OnBadRow::Fail, quarantine: PathBuf::new() };
        let read = Read::new(opened, plan, &bad_rows, &mut Silent)?;
        read.prepare(recipe, &own, &self.whole, Some(made), None, &mut Silent)
    }
}

/// The times at which stretches of at least `rows` rows begin; requests of one time are of one stretch.
fn bounds(requests: &[(i64, u32)], rows: u64) -> Vec<i64> {
    let (mut bounds, mut sum) = (Vec::new(), 0);
    for pair in requests.windows(2) {
        sum += u64::from(pair[0].1);
        if sum >= rows && pair[1].0 > pair[0].0 {
            bounds.push(pair[1].0);
            sum = 0;
        }
    }
    bounds
}

/// File of a part of a log in the folder of parts.
fn part_file(log: &str, part: usize) -> String {
    format!("logs/{log}-{part:04}.parquet")
}

/// Files of the items and of the audit columns, which all parts read.
const ITEMS: &str = "logs/items.parquet";
const AUDIT: &str = "logs/audit.parquet";

/// The recipe's logs, as the files of a part in the folder of parts.
fn part_config(config: &EventLogs, part: usize) -> EventLogs {
    let file = Files::One;
    let mut own = config.clone();
    let log = |log: &mut gatefold_schema::Log, name: &str| {
        (log.files, log.condition) = (file(part_file(name, part)), None);
    };
    log(&mut own.impressions, "impressions");
    log(&mut own.clicks, "clicks");
    if let Some(conversions) = &mut own.conversions {
        log(conversions, "conversions");
    }
    if let Some(users) = &mut own.users {
        (users.files, users.condition) = (file(part_file("users", part)), None);
    }
    if let Some(items) = &mut own.items {
        (items.files, items.condition) = (file(ITEMS.to_owned()), None);
    }
    own.audit = own.audit.map(|_| file(AUDIT.to_owned()));
    own
}

/// Rows of one schema, each written to one of several files.
struct Spill {
    files: Vec<ParquetFile>,
}

impl Spill {
    /// Begins `count` files.
    fn create(count: usize, path: impl Fn(usize) -> PathBuf, schema: &Schema) -> Result<Self, SamplesError> {
        if let Some(parent) = path(0).parent() {
            std::fs::create_dir_all(parent).map_err(SamplesError::io("create", parent))?;
        }
        let files = (0..count).map(|file| ParquetFile::create(&path(file), schema, Form::spill(count)));
        Ok(Self { files: files.collect::<Result<_, _>>()? })
    }

    /// Appends each of `rows` to the file that `file_of` says, in their order.
    fn add(&mut self, rows: &DataFrame, file_of: &[u32]) -> Result<(), SamplesError> {
        let mut places: Vec<Vec<IdxSize>> = vec![Vec::new(); self.files.len()];
        for (row, file) in file_of.iter().enumerate() {
            places[*file as usize].push(row as IdxSize);
        }
        for (file, places) in self.files.iter_mut().zip(places).filter(|(_, places)| !places.is_empty()) {
            let places = IdxCa::from_vec(PlSmallStr::EMPTY, places);
            file.add(rows.take(&places).map_err(SamplesError::step("dividing rows"))?)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), SamplesError> {
        self.files.iter_mut().try_for_each(ParquetFile::finish)
    }
}

/// The part, of `count`, that a hash falls into.
fn part_of(hash: u32, count: usize) -> u32 {
    ((u64::from(hash) * count as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_have_enough_rows_and_end_between_times() {
        let requests = [(1, 4), (2, 4), (2, 4), (3, 1), (5, 9), (6, 1)];
        assert_eq!(bounds(&requests, 8), [3, 6]);
        assert_eq!(bounds(&requests, 1), [2, 3, 5, 6]);
        assert_eq!(bounds(&requests, 100), [0; 0]);
    }

    #[test]
    fn parts_cover_all_hashes() {
        assert_eq!([0, 1 << 30, 1 << 31, u32::MAX].map(|hash| part_of(hash, 4)), [0, 1, 2, 3]);
    }
}
