//! Profiles of users and items: several versions of each, of which a request sees the last one before it.

use gatefold_history::{
    HistoryError, NONE, Timeline,
    latest::{Versions, latest},
};
use gatefold_schema::{Profiles, Side};
use polars::prelude::*;

use super::{
    bad::{BadRows, Dropped},
    impressions::ImpressionLog,
    keys::{Ids, KeyError},
    open::{key_error, matching_key},
    source::Source,
    times::TimeColumn,
};
use crate::{SamplesError, columns::missing_column};

pub(super) const KEY: &str = "#key";
const TIME: &str = "#time";
const CREATED: &str = "#created";

/// A table of profiles, opened.
pub(crate) struct ProfileFile {
    pub(crate) source: Source,
    key_name: String,
    key: Expr,
    /// `None` where the rows hold at any time.
    time: Option<TimeColumn>,
    created: Option<TimeColumn>,
    ttl: Option<i64>,
}

/// A table of profiles: the versions of the keys that there are.
#[derive(Debug)]
pub(crate) struct Table {
    /// Key of each version.
    key: Vec<u32>,
    /// Time from which each version holds; empty where they hold at any time.
    time: Vec<i64>,
    created: Option<Vec<i64>>,
    ttl: Option<i64>,
    columns: Vec<Column>,
}

impl ProfileFile {
    pub(crate) fn new(
        mut source: Source,
        config: &Profiles,
        side: Side,
        impressions: &ImpressionLog,
    ) -> Result<Self, SamplesError> {
        let shown = impressions.config();
        let (default, other) = match side {
            Side::Item => ("item_id", &shown.item),
            _ => ("user_id", &shown.user),
        };
        let key_name = config.key.clone().unwrap_or_else(|| default.to_owned());
        let key = matching_key(&mut source, &key_name, KEY, (impressions, other))?;
        source.require(&key_name);
        let has_time = source.schema.contains(&config.time);
        let mut column = |name: &str| TimeColumn::new(&mut source, name, config.time_unit);
        let time = if config.is_static {
            None
        } else if has_time {
            Some(column(&config.time)?)
        } else {
            let what = "the time from which a row holds (or say static = true of what never changes)";
            return Err(missing_column(&source.name, &source.schema, &config.time, what));
        };
        let created = config.created.as_deref().map(column).transpose()?;
        let ttl = config.ttl.map(gatefold_schema::Span::micros);
        Ok(Self { key_name, key, time, created, ttl, source })
    }

    /// Whether the table has a column called `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.source.schema.contains(name)
    }

    /// Its columns of times.
    pub(crate) fn times(&self) -> impl Iterator<Item = &TimeColumn> {
        [&self.time, &self.created].into_iter().flatten()
    }

    /// The columns of the files that [`ProfileFile::read`] reads.
    pub(crate) fn columns(&self, wanted: &[String]) -> Vec<String> {
        [&self.key_name]
            .into_iter()
            .chain(self.times().map(TimeColumn::name))
            .chain(wanted)
            .cloned()
            .collect()
    }

    /// The key of each row, under a name of its own.
    pub(crate) fn key(&self) -> Expr {
        self.key.clone()
    }

    /// Reads the versions of the keys in `ids` with the `wanted` columns.
    pub(crate) fn read(
        self,
        ids: &Ids,
        wanted: &[String],
        bad_rows: &BadRows,
        dropped: &mut Dropped,
    ) -> Result<Table, SamplesError> {
        let log = &self.source;
        let mut selected = vec![self.key.clone()];
        selected.extend(self.time.as_ref().map(|time| time.micros(TIME)));
        selected.extend(self.created.as_ref().map(|time| time.micros(CREATED)));
        selected.extend(wanted.iter().map(|name| col(name.as_str())));
        let mut table =
            Table { key: Vec::new(), time: Vec::new(), created: None, ttl: self.ttl, columns: Vec::new() };
        let mut created = Vec::new();
        let mut frames: Option<DataFrame> = None;
        dropped.extend(log.read(selected, bad_rows, |batch| {
            let mut run = || -> Result<(), KeyError> {
                let mut codes = Vec::with_capacity(batch.height());
                ids.find(batch.column(KEY)?, &mut codes)?;
                let kept = BooleanChunked::from_iter_values(
                    PlSmallStr::EMPTY,
                    codes.iter().map(|code| *code != NONE),
                );
                let batch = batch.filter(&kept)?;
                ids.find(batch.column(KEY)?, &mut table.key)?;
                if self.time.is_some() {
                    table.time.extend(batch.column(TIME)?.i64()?.iter().flatten());
                }
                if self.created.is_some() {
                    created.extend(batch.column(CREATED)?.i64()?.iter().flatten());
                }
                let values = batch.select(wanted.iter().map(String::as_str))?;
                match &mut frames {
                    Some(all) => drop(all.vstack_mut_owned(values)?),
                    None => frames = Some(values),
                }
                Ok(())
            };
            run().map_err(|error| key_error(&log.name, error))
        })?);
        if self.created.is_some() {
            table.created = Some(created);
        }
        // A table without rows has its columns all the same.
        let empty = || {
            let columns = wanted
                .iter()
                .filter_map(|name| Some(Column::new_empty(name.as_str().into(), log.schema.get(name)?)));
            columns.collect::<Vec<_>>()
        };
        table.columns = match frames {
            Some(mut all) => {
                all.rechunk_mut_par();
                all.columns().to_vec()
            }
            None => empty(),
        };
        self.check_versions(&table, ids)?;
        Ok(table)
    }

    /// Two versions of a profile that hold from one time on leave open which one counts.
    fn check_versions(&self, table: &Table, ids: &Ids) -> Result<(), SamplesError> {
        let version = |row: u32| {
            let row = row as usize;
            let created = table.created.as_ref().map(|created| created[row]);
            (table.key[row], table.time.get(row).copied(), created)
        };
        let mut rows: Vec<u32> = (0..table.key.len() as u32).collect();
        rows.sort_unstable_by_key(|row| version(*row));
        let mut twice: Vec<u32> = rows
            .windows(2)
            .filter(|pair| version(pair[0]) == version(pair[1]))
            .map(|pair| table.key[pair[0] as usize])
            .collect();
        twice.dedup();
        if twice.is_empty() {
            return Ok(());
        }
        let examples: Vec<String> = twice.iter().take(3).map(|key| ids.shown(*key)).collect();
        let (key, count) = (&self.key_name, twice.len());
        let same = match &self.time {
            Some(_) => format!("the same '{key}' and time"),
            None => format!("the same '{key}'"),
        };
        Err(SamplesError::source(
            &self.source.name,
            format!(
                "several rows have {same} ({count} keys, such as {}), so it is open which one counts; keep one of them",
                examples.join(", ")
            ),
        ))
    }
}

impl Table {
    /// The column of this name, which was asked for when the table was read.
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name() == name)
    }

    /// The versions of one key: row, time from which it holds, and when it was written, in this order of time.
    pub(super) fn history(&self, key: u32) -> Vec<(u32, Option<i64>, Option<i64>)> {
        let of = |times: &[i64], row: u32| times.get(row as usize).copied();
        let rows = (0..self.key.len() as u32).filter(|row| self.key[*row as usize] == key);
        let versions = rows.map(|row| {
            let created = self.created.as_ref().and_then(|created| of(created, row));
            (row, of(&self.time, row), created)
        });
        let mut versions: Vec<_> = versions.collect();
        versions.sort_by_key(|(_, time, created)| (*time, *created));
        versions
    }

    /// How many keys the versions are numbered by, at least.
    pub(super) fn keys(&self) -> usize {
        self.key.iter().max().map_or(0, |key| *key as usize + 1)
    }

    /// How long a version holds, microseconds.
    pub(super) fn ttl(&self) -> Option<i64> {
        self.ttl
    }

    /// The columns that were read.
    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// For each query, a key below `keys` at a time, the version that was known before it; [`NONE`] where there was
    /// none, and of the key [`NONE`].
    pub(crate) fn versions(&self, key: &[u32], time: &[i64], keys: usize) -> Result<Vec<u32>, HistoryError> {
        if self.time.is_empty() {
            return Ok(self.at_any_time(key, keys));
        }
        let queries = Timeline::new(key, time, keys)?;
        let versions = Versions::new(&self.key, &self.time, self.created.as_deref(), keys)?;
        Ok(latest(queries.view(), &versions, self.ttl))
    }

    fn at_any_time(&self, key: &[u32], keys: usize) -> Vec<u32> {
        let mut row_of = vec![NONE; keys];
        for (row, key) in self.key.iter().enumerate() {
            row_of[*key as usize] = row as u32;
        }
        key.iter().map(|key| row_of.get(*key as usize).copied().unwrap_or(NONE)).collect()
    }
}
