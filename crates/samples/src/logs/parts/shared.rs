//! Aggregates by keys that users share, such as the clicks on an item: made of the events of all parts, key by key.
//!
//! Each part writes what it asks, one row an impression, and the events it has, both into buckets by the key. Then
//! every bucket is aggregated by itself, as all samples are where they are in memory, and the answers go back to the
//! parts that asked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use gatefold_history::NONE;
use gatefold_schema::{Aggregate, BY_ITEM, EventKind, EventLogs, Level, Recipe, Statistic};
use polars::prelude::*;

use super::{
    super::{
        bad::{BadRows, Dropped},
        derived::{self, Derived, Made},
        events::Events,
        impressions::{Impressions, Keys},
        keys::{Ids, KeyError, KeyType, hashes},
        labels::many,
        open::Logs,
        read::Read,
    },
    Spill, part_of,
};
use crate::{
    Progress, SamplesError,
    files::read_parquet,
    parallel::for_each_index,
    values::{Place, Values},
};

/// Seed of the hash by which keys are divided.
const SEED: u32 = u32::from_be_bytes(*b"keys");
const PART: &str = "#part";
const ROW: &str = "#row";
const ITEM: &str = "#item";
const TIME: &str = "#time";
/// What a part asks: its rows and the times of their requests.
const ASKED: &str = "asked";

/// What is written of the parts.
pub(super) struct Shared<'a> {
    config: &'a EventLogs,
    folder: PathBuf,
    buckets: usize,
    groups: Vec<Group<'a>>,
}

/// The aggregates by one key.
struct Group<'a> {
    number: usize,
    by: &'a [String],
    aggregates: Vec<&'a Aggregate>,
    /// By log, begun when the first part is written.
    spills: Mutex<Vec<(&'static str, Spill)>>,
}

impl<'a> Group<'a> {
    /// The groups of the aggregates of which columns are wanted.
    fn all(config: &'a EventLogs, wanted: &BTreeSet<String>) -> Vec<Self> {
        let needed = derived::needed(config, wanted);
        let shared = derived::keys(&needed).into_iter().filter(|by| derived::is_shared(by));
        let of = |by: &[String]| needed.iter().copied().filter(|one| one.by == by).collect();
        let group = |(number, by)| Group { number, by, aggregates: of(by), spills: Mutex::default() };
        shared.enumerate().map(group).collect()
    }
}

impl<'a> Shared<'a> {
    /// Of the columns `wanted`, in as many buckets as there are parts.
    pub(super) fn new(config: &'a EventLogs, wanted: &BTreeSet<String>, parts: usize, folder: &Path) -> Self {
        Self { config, folder: folder.to_owned(), buckets: parts, groups: Group::all(config, wanted) }
    }

    /// Writes what a part asks, and the events that it has.
    pub(super) fn add(&self, part: usize, read: Read) -> Result<(), SamplesError> {
        if self.groups.is_empty() {
            return Ok(());
        }
        let Read { impressions, keys, clicks, conversions, items, .. } = read;
        let clicks = clicks.first_of_each().map_err(SamplesError::step("reading clicks"))?;
        let derived = Derived {
            config: self.config,
            keys: &keys,
            impressions: &impressions,
            shown: None,
            clicks: &clicks,
            conversions: conversions.as_ref(),
            items: items.as_ref(),
        };
        let (ids, rows) = (keys.items.values(ITEM), impressions.rows() as u32);
        let asked_at = impressions.row_request_times();
        let of_part = [
            Column::new(PART.into(), vec![part as u32; rows as usize]),
            Column::new(ROW.into(), (0..rows).collect::<Vec<u32>>()),
        ];
        let asked = frame(&ids, &impressions.item, &asked_at, of_part.iter())?;
        for group in &self.groups {
            let buckets = group.buckets(&derived, &impressions.item, &asked_at, self.buckets)?;
            group.write(&self.folder, ASKED, &asked, &buckets, self.buckets)?;
            for kind in KINDS.into_iter().filter(|kind| group.uses(*kind)) {
                let log = derived.log(kind);
                let columns = match kind {
                    EventKind::Impressions => &[][..],
                    EventKind::Clicks => &clicks.columns,
                    EventKind::Conversions => conversions.as_ref().map_or(&[][..], |log| &log.columns),
                };
                let summed = columns.iter().filter(|column| group.sums(column.name()));
                let happened = frame(&ids, log.item, log.time, summed)?;
                let buckets = group.buckets(&derived, log.item, log.time, self.buckets)?;
                group.write(&self.folder, kind.name(), &happened, &buckets, self.buckets)?;
            }
        }
        Ok(())
    }

    /// Completes what was written.
    pub(super) fn finish(&self) -> Result<(), SamplesError> {
        for group in &self.groups {
            for (_, spill) in std::mem::take(&mut *lock(&group.spills)) {
                spill.finish()?;
            }
        }
        Ok(())
    }

    /// Aggregates bucket by bucket, and writes the answers for each part. `own` are the logs of a part.
    pub(super) fn aggregate(
        self,
        recipe: &Recipe,
        own: &EventLogs,
        progress: &mut dyn Progress,
    ) -> Result<(), SamplesError> {
        for group in &self.groups {
            let answers: Mutex<Option<Spill>> = Mutex::default();
            let answer = |bucket| -> Result<(), SamplesError> {
                let answered = group.aggregate(recipe, own, &self.folder, bucket)?;
                let parts =
                    answered.column(PART).and_then(|parts| Ok(parts.u32()?.iter().flatten().collect()));
                let parts: Vec<u32> = parts.map_err(SamplesError::step(AGGREGATING))?;
                let mut answers = lock(&answers);
                let spill = match &mut *answers {
                    Some(spill) => spill,
                    none => {
                        let path = |part| group.part_file(&self.folder, part);
                        none.insert(Spill::create(self.buckets, path, answered.schema())?)
                    }
                };
                spill.add(&answered, &parts)
            };
            for_each_index(self.buckets, progress, answer).into_iter().collect::<Result<(), _>>()?;
            let answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
            answers.map_or(Ok(()), Spill::finish)?;
        }
        Ok(())
    }

    /// Buckets of all keys.
    pub(super) fn buckets(&self) -> usize {
        self.groups.len() * self.buckets
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Group<'_> {
    /// Whether some of its aggregates are of the events of this kind.
    fn uses(&self, kind: EventKind) -> bool {
        let shown = |one: &Aggregate| kind == EventKind::Impressions && one.what == Statistic::Rate;
        self.aggregates.iter().any(|one| one.of == kind || shown(one))
    }

    /// Whether some of its aggregates are of the values of this column.
    fn sums(&self, column: &str) -> bool {
        self.aggregates.iter().any(|one| one.column.as_deref() == Some(column))
    }

    fn bucket_file(&self, folder: &Path, what: &str, bucket: usize) -> PathBuf {
        folder.join(format!("shared/{}-{what}-{bucket:04}.parquet", self.number))
    }

    fn part_file(&self, folder: &Path, part: usize) -> PathBuf {
        folder.join(format!("shared/{}-part-{part:04}.parquet", self.number))
    }

    /// The bucket of each row's key: by the item where it is of the key, else by the value that its first part has at
    /// the time.
    fn buckets(
        &self,
        derived: &Derived<'_>,
        items: &[u32],
        times: &[i64],
        count: usize,
    ) -> Result<Vec<u32>, SamplesError> {
        let column = match self.by {
            [column, ..] if !self.by.iter().any(|part| part == BY_ITEM) => column,
            _ => {
                let bucket = |code| part_of(derived.keys.items.hash(code, SEED), count);
                let of_item: Vec<u32> = (0..derived.keys.items.len() as u32).map(bucket).collect();
                return Ok(items.iter().map(|item| of_item[*item as usize]).collect());
            }
        };
        let (table, values) = derived.item_column(column)?;
        let key_type = KeyType::of(values.dtype()).ok_or_else(|| derived::no_key(column, values.dtype()))?;
        let hashes = values.cast(&key_type.frame_type()).and_then(|values| hashes(&values, SEED));
        let hashes = hashes.map_err(SamplesError::step(AGGREGATING))?;
        let versions = table.versions(items, times, derived.keys.items.len()).map_err(many)?;
        let bucket =
            |version: u32| if version == NONE { 0 } else { part_of(hashes[version as usize], count) };
        Ok(versions.into_iter().map(bucket).collect())
    }

    /// Appends rows to the buckets of what is written about them.
    fn write(
        &self,
        folder: &Path,
        what: &'static str,
        rows: &DataFrame,
        buckets: &[u32],
        count: usize,
    ) -> Result<(), SamplesError> {
        let mut spills = lock(&self.spills);
        if let Some((_, spill)) = spills.iter_mut().find(|(other, _)| *other == what) {
            return spill.add(rows, buckets);
        }
        let mut spill = Spill::create(count, |bucket| self.bucket_file(folder, what, bucket), rows.schema())?;
        spill.add(rows, buckets)?;
        spills.push((what, spill));
        Ok(())
    }

    /// The rows of a bucket with their part and place in it, and a column for each window of each aggregate.
    fn aggregate(
        &self,
        recipe: &Recipe,
        own: &EventLogs,
        folder: &Path,
        bucket: usize,
    ) -> Result<DataFrame, SamplesError> {
        let path = self.bucket_file(folder, ASKED, bucket);
        let asked = read_parquet(&path)?;
        std::fs::remove_file(&path).map_err(SamplesError::io("remove", &path))?;
        let of_items = |frame: &DataFrame| frame.column(ITEM).map(|ids| KeyType::of(ids.dtype()));
        let key_type = of_items(&asked).map_err(SamplesError::step(AGGREGATING))?.unwrap_or(KeyType::Signed);
        let ids = || Ids::new(key_type);
        let mut keys = Keys { requests: ids(), users: ids(), items: ids() };
        let impressions = rows_asked(&asked, &mut keys)?;
        let mut events = |kind: EventKind| -> Result<Events, SamplesError> {
            if !self.uses(kind) {
                return Ok(Events::default());
            }
            let path = self.bucket_file(folder, kind.name(), bucket);
            let events = happened(&read_parquet(&path)?, &mut keys)?;
            std::fs::remove_file(&path).map_err(SamplesError::io("remove", &path))?;
            Ok(events)
        };
        let shown = events(EventKind::Impressions)?;
        let (clicks, conversions) = (events(EventKind::Clicks)?, events(EventKind::Conversions)?);
        let columns: Vec<String> = self.by.iter().filter(|part| *part != BY_ITEM).cloned().collect();
        let items = match Logs::open(recipe, own, folder)?.items.filter(|_| !columns.is_empty()) {
            Some(file) => {
                let bad_rows = BadRows { policy: own.on_bad_row, quarantine: PathBuf::new() };
                Some(file.read(&keys.items, &columns, &bad_rows, &mut Dropped::new())?)
            }
            None => None,
        };
        let derived = Derived {
            config: own,
            keys: &keys,
            impressions: &impressions,
            shown: Some(&shown),
            clicks: &clicks,
            conversions: Some(&conversions),
            items: items.as_ref(),
        };
        let made = derived.aggregates(self.by, &self.aggregates)?;
        let answered = || -> PolarsResult<DataFrame> {
            let mut columns = vec![asked.column(PART)?.clone(), asked.column(ROW)?.clone()];
            for Made { name, values, .. } in made {
                let values = values.rows(0..asked.height(), &[])?;
                // As wide in every bucket.
                let wide =
                    if values.dtype().is_integer() { DataType::UInt32 } else { values.dtype().clone() };
                columns.push(values.cast(&wide)?.with_name(name.as_str().into()).into_column());
            }
            DataFrame::new(asked.height(), columns)
        };
        answered().map_err(SamplesError::step(AGGREGATING))
    }
}

/// The columns that were made for the rows of a part.
pub(super) fn made(
    config: &EventLogs,
    wanted: &BTreeSet<String>,
    folder: &Path,
    part: usize,
) -> Result<Vec<Made>, SamplesError> {
    let mut all = Vec::new();
    for group in Group::all(config, wanted) {
        let rows = read_parquet(&group.part_file(folder, part))?;
        let sorted = rows.sort([ROW], SortMultipleOptions::default());
        let sorted = sorted.map_err(SamplesError::step(AGGREGATING))?;
        for column in sorted.columns().iter().filter(|column| ![PART, ROW].contains(&column.name().as_str()))
        {
            let dictionary = column.as_materialized_series().rechunk();
            let values = Values::Scalars { dictionary, place: Place::Row };
            all.push(Made { name: column.name().to_string(), level: Level::Candidate, values });
        }
    }
    Ok(all)
}

const AGGREGATING: &str = "aggregating what users share";
const KINDS: [EventKind; 3] = [EventKind::Impressions, EventKind::Clicks, EventKind::Conversions];

/// Items with times, and what else there is of each.
fn frame<'a>(
    ids: &Series,
    items: &[u32],
    times: &[i64],
    more: impl Iterator<Item = &'a Column>,
) -> Result<DataFrame, SamplesError> {
    let items = ids.take(&IdxCa::from_slice(PlSmallStr::EMPTY, items));
    let items = items.map_err(SamplesError::step(AGGREGATING))?.into_column();
    let columns = [items, Column::new(TIME.into(), times)].into_iter().chain(more.cloned()).collect();
    DataFrame::new(times.len(), columns).map_err(SamplesError::step(AGGREGATING))
}

fn codes(frame: &DataFrame, ids: &mut Ids) -> Result<Vec<u32>, SamplesError> {
    let mut codes = Vec::with_capacity(frame.height());
    let column = frame.column(ITEM).map_err(SamplesError::step(AGGREGATING))?;
    match ids.intern(column, &mut codes) {
        Ok(()) => Ok(codes),
        Err(KeyError::Frame(error)) => Err(SamplesError::step(AGGREGATING)(error)),
        Err(KeyError::TooMany(error)) => Err(many(error)),
    }
}

fn times(frame: &DataFrame) -> Result<Vec<i64>, SamplesError> {
    let times = frame.column(TIME).and_then(|times| Ok(times.i64()?.iter().flatten().collect()));
    times.map_err(SamplesError::step(AGGREGATING))
}

/// Rows that are asked about as impressions, each a request of its own.
fn rows_asked(asked: &DataFrame, keys: &mut Keys) -> Result<Impressions, SamplesError> {
    let (item, time) = (codes(asked, &mut keys.items)?, times(asked)?);
    let rows = item.len() as u32;
    Ok(Impressions {
        starts: (0..=rows).collect(),
        request: (0..rows).collect(),
        user: vec![NONE; rows as usize],
        request_time: time.clone(),
        item,
        time,
        place: Vec::new(),
        columns: Vec::new(),
        audit: None,
        again: 0,
    })
}

/// Events of a bucket.
fn happened(rows: &DataFrame, keys: &mut Keys) -> Result<Events, SamplesError> {
    let columns = rows.columns().iter().filter(|column| ![ITEM, TIME].contains(&column.name().as_str()));
    Ok(Events {
        request: Vec::new(),
        user: vec![NONE; rows.height()],
        item: codes(rows, &mut keys.items)?,
        time: times(rows)?,
        columns: columns.cloned().collect(),
    })
}
