//! Logs of what users did: clicks and conversions.

use gatefold_history::NONE;
use gatefold_schema::{ClickKey, Log};
use polars::prelude::*;

use super::{
    bad::{BadRows, Dropped},
    impressions::{ImpressionLog, Impressions, Keys},
    keys::KeyError,
    open::{key_error, matching_key},
    source::Source,
    times::TimeColumn,
};
use crate::{SamplesError, columns::missing_column};

pub(super) const REQUEST: &str = "#request";
pub(super) const USER: &str = "#user";
const ITEM: &str = "#item";
const TIME: &str = "#time";

/// A log of events, opened.
pub(crate) struct EventLog {
    pub(crate) source: Source,
    pub(crate) time: TimeColumn,
    request: Option<Expr>,
    user: Option<Expr>,
    item: Expr,
    /// Names of these columns in the files.
    keys: Vec<String>,
}

/// Events in the order of the log, none of them twice. A key that an event does not have is [`NONE`].
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Request of each event; empty where the log has none.
    pub(crate) request: Vec<u32>,
    /// User of each event.
    pub(crate) user: Vec<u32>,
    /// Item of each event.
    pub(crate) item: Vec<u32>,
    /// Time of each event, microseconds.
    pub(crate) time: Vec<i64>,
    /// Columns that are summed up, by name.
    pub(crate) columns: Vec<Column>,
}

impl Events {
    /// The column of this name, which was asked for when the log was read.
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name() == name)
    }
}

impl EventLog {
    pub(crate) fn clicks(
        mut source: Source,
        config: &Log,
        by: ClickKey,
        impressions: &ImpressionLog,
    ) -> Result<Self, SamplesError> {
        let has_user = source.schema.contains(&config.user);
        let shown = impressions.config();
        let mut keys = Vec::new();
        let mut key = |name: &str, alias: &str, other: &str, required: bool| {
            keys.push(name.to_owned());
            let key = matching_key(&mut source, name, alias, (impressions, other))?;
            if required {
                source.require(name);
            }
            Ok::<_, SamplesError>(key)
        };
        let (request, user) = match by {
            ClickKey::Request => {
                let request = key(&config.request, REQUEST, &shown.request, true)?;
                let user = has_user.then(|| key(&config.user, USER, &shown.user, false)).transpose()?;
                (Some(request), user)
            }
            ClickKey::User => (None, Some(key(&config.user, USER, &shown.user, true)?)),
        };
        let item = key(&config.item, ITEM, &shown.item, true)?;
        let time = TimeColumn::new(&mut source, &config.time, config.time_unit)?;
        Ok(Self { request, user, item, keys, time, source })
    }

    pub(crate) fn conversions(
        mut source: Source,
        config: &Log,
        impressions: &ImpressionLog,
    ) -> Result<Self, SamplesError> {
        let shown = impressions.config();
        let user = matching_key(&mut source, &config.user, USER, (impressions, &shown.user))?;
        let item = matching_key(&mut source, &config.item, ITEM, (impressions, &shown.item))?;
        source.require(&config.user);
        source.require(&config.item);
        let time = TimeColumn::new(&mut source, &config.time, config.time_unit)?;
        let keys = vec![config.user.clone(), config.item.clone()];
        Ok(Self { request: None, user: Some(user), item, keys, time, source })
    }

    /// What identifies an event and its time, under names of their own.
    pub(crate) fn selected(&self) -> Vec<Expr> {
        let whose = [&self.request, &self.user].into_iter().flatten().cloned();
        [self.item.clone(), self.time.micros(TIME)].into_iter().chain(whose).collect()
    }

    /// The columns of the files that [`EventLog::read`] reads.
    pub(crate) fn columns(&self, wanted: &[String]) -> Vec<String> {
        self.keys.iter().chain([self.time.name()]).chain(wanted).cloned().collect()
    }

    /// Reads the log with the `wanted` columns. Events that are there twice are kept once.
    pub(crate) fn read(
        mut self,
        keys: &mut Keys,
        impressions: &Impressions,
        wanted: &[String],
        bad_rows: &BadRows,
        dropped: &mut Dropped,
    ) -> Result<Events, SamplesError> {
        for name in wanted {
            self.source.use_column(name);
        }
        let log = &self.source;
        let mut selected = self.selected();
        for name in wanted {
            if !log.schema.contains(name) {
                return Err(missing_column(&log.name, &log.schema, name, "an aggregate"));
            }
            selected.push(col(name.as_str()));
        }
        let mut raw = Events::default();
        let mut frames: Vec<DataFrame> = Vec::new();
        dropped.extend(log.read(selected, bad_rows, |batch| {
            let mut run = || -> Result<(), KeyError> {
                if self.request.is_some() {
                    keys.requests.intern(batch.column(REQUEST)?, &mut raw.request)?;
                }
                if self.user.is_some() {
                    // Those of unknown users are events of the item, and tell users apart all the same.
                    keys.users.intern(batch.column(USER)?, &mut raw.user)?;
                }
                keys.items.intern(batch.column(ITEM)?, &mut raw.item)?;
                raw.time.extend(batch.column(TIME)?.i64()?.iter().flatten());
                if !wanted.is_empty() {
                    frames.push(batch.select(wanted.iter().map(String::as_str))?);
                }
                Ok(())
            };
            run().map_err(|error| key_error(&log.name, error))
        })?);
        // The impressions know whose request it is; the log's own word is for requests that they do not have.
        raw.user.resize(raw.item.len(), NONE);
        for (user, request) in raw.user.iter_mut().zip(&raw.request) {
            *user = Some(impressions.user_of(*request)).filter(|known| *known != NONE).unwrap_or(*user);
        }
        // A log without events has its columns all the same.
        let empty =
            wanted.iter().filter_map(|name| Some(Field::new(name.into(), log.schema.get(name)?.clone())));
        let empty = DataFrame::empty_with_schema(&Schema::from_iter(empty));
        raw.columns = stacked(empty, frames)
            .map_err(|source| SamplesError::Reading { path: log.name.clone(), source })?;
        let kept = raw.distinct();
        raw.take(&kept).map_err(|source| SamplesError::Reading { path: log.name.clone(), source })
    }
}

fn stacked(mut all: DataFrame, frames: Vec<DataFrame>) -> PolarsResult<Vec<Column>> {
    for frame in frames {
        all.vstack_mut_owned(frame)?;
    }
    all.rechunk_mut_par();
    Ok(all.columns().to_vec())
}

impl Events {
    /// Of the events of one request, user and item the first: a second click on the same impression is no other event.
    /// Events of logs without requests are left as they are.
    pub(crate) fn first_of_each(self) -> PolarsResult<Self> {
        if self.request.is_empty() {
            return Ok(self);
        }
        // The user tells those apart whose request is not in the impressions.
        let whose = |row: &u32| {
            let row = *row as usize;
            (self.request[row], self.user[row], self.item[row])
        };
        let mut rows: Vec<u32> = (0..self.item.len() as u32).collect();
        // Stable: of equals the first of the log is kept.
        rows.sort_by_key(|row| (whose(row), self.time[*row as usize]));
        rows.dedup_by_key(|row| whose(row));
        rows.sort_unstable();
        self.take(&rows)
    }

    /// Repeated rows once, in the order of the log.
    fn distinct(&self) -> Vec<u32> {
        let request = |row: usize| self.request.get(row).copied();
        let event = |row: &u32| {
            let row = *row as usize;
            (request(row), self.user[row], self.item[row], self.time[row])
        };
        let mut rows: Vec<u32> = (0..self.item.len() as u32).collect();
        rows.sort_by_key(event);
        rows.dedup_by_key(|row| event(row));
        rows.sort_unstable();
        rows
    }

    fn take(self, rows: &[u32]) -> PolarsResult<Self> {
        if rows.len() == self.item.len() {
            return Ok(self);
        }
        let pick = |values: &[u32]| -> Vec<u32> {
            if values.is_empty() {
                Vec::new()
            } else {
                rows.iter().map(|row| values[*row as usize]).collect()
            }
        };
        let place = IdxCa::from_slice(PlSmallStr::EMPTY, rows);
        let columns = self.columns.iter().map(|column| column.take(&place)).collect::<PolarsResult<_>>()?;
        Ok(Self {
            request: pick(&self.request),
            user: pick(&self.user),
            item: pick(&self.item),
            time: rows.iter().map(|row| self.time[*row as usize]).collect(),
            columns,
        })
    }
}
