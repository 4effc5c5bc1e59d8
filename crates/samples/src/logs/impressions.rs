//! The impressions: read, put in order, each item once a request.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use gatefold_history::{NONE, Timeline, View};
use gatefold_schema::Log;
use polars::prelude::*;

use super::{
    bad::{BadRows, Dropped},
    keys::{Ids, KeyError},
    open::{Key, key_error},
    source::Source,
    times::TimeColumn,
};
use crate::{
    SamplesError, Silent,
    columns::missing_column,
    parallel::{Task, all_of, for_each_index},
    values::{Builder, Values},
};

/// Shares that requests are put in order by.
const PARTS: usize = 64;

/// Names of the pipeline's own columns begin with `#`, so that no column of a log can be called alike.
pub(super) const REQUEST: &str = "#request";
pub(super) const USER: &str = "#user";
const ITEM: &str = "#item";
const TIME: &str = "#time";
const IMPRESSION: &str = "#impression";

/// The column of impressions that an audit file refers to.
pub(crate) const IMPRESSION_ID: &str = "impression_id";

/// Identifiers that all logs share.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) requests: Ids,
    pub(crate) users: Ids,
    pub(crate) items: Ids,
}

/// Impressions in the order of samples: requests by their time, the items of a request together.
///
/// A request's time is that of its first impression: all its rows count by that instant.
#[derive(Debug)]
pub(crate) struct Impressions {
    /// First row of each request, and the number of rows.
    pub(crate) starts: Vec<u32>,
    /// Code of each request in [`Keys::requests`].
    pub(crate) request: Vec<u32>,
    /// User of each request.
    pub(crate) user: Vec<u32>,
    /// Time of each request, microseconds.
    pub(crate) request_time: Vec<i64>,
    /// Item of each row.
    pub(crate) item: Vec<u32>,
    /// When each row was shown, microseconds.
    pub(crate) time: Vec<i64>,
    /// The request's place in `request` by its code; [`NONE`] where no row is left.
    pub(crate) place: Vec<u32>,
    /// Columns of the log that features read, by name, and each row's place in them.
    pub(crate) columns: Vec<(String, Values)>,
    /// Code in [`AuditIds`] of each row, where an audit file is given.
    pub(crate) audit: Option<(Ids, Vec<u32>)>,
    /// Rows for an item that the request has already.
    pub(crate) again: u64,
}

impl Impressions {
    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.item.len()
    }

    /// Rows of the request at `place`.
    pub(crate) fn rows_of(&self, place: usize) -> Range<usize> {
        self.starts[place] as usize..self.starts[place + 1] as usize
    }

    /// User of the request with this code; [`NONE`] where the impressions do not have it.
    pub(crate) fn user_of(&self, request: u32) -> u32 {
        let place = self.place.get(request as usize).copied().unwrap_or(NONE);
        self.user.get(place as usize).copied().unwrap_or(NONE)
    }

    /// Place of the request of a row.
    pub(crate) fn request_of_row(&self, row: usize) -> usize {
        self.starts.partition_point(|start| *start as usize <= row) - 1
    }

    /// User of a row.
    pub(crate) fn user_of_row(&self, row: usize) -> u32 {
        self.user[self.request_of_row(row)]
    }

    /// User of every row.
    pub(crate) fn row_users(&self) -> Vec<u32> {
        self.spread(&self.user)
    }

    /// Time of every row's request: the rows' own times where they are the same.
    pub(crate) fn row_request_times(&self) -> Cow<'_, [i64]> {
        let mut requests = self.request_time.iter().zip(self.starts.windows(2));
        let one = |(time, bounds): (&i64, &[u32])| {
            self.time[bounds[0] as usize..bounds[1] as usize].iter().all(|other| other == time)
        };
        if requests.all(one) {
            Cow::Borrowed(&self.time)
        } else {
            Cow::Owned(self.spread(&self.request_time))
        }
    }

    /// A value of each request for each of its rows.
    fn spread<T: Copy>(&self, of_request: &[T]) -> Vec<T> {
        let mut values = Vec::with_capacity(self.rows());
        for (value, bounds) in of_request.iter().zip(self.starts.windows(2)) {
            values.extend(std::iter::repeat_n(*value, (bounds[1] - bounds[0]) as usize));
        }
        values
    }

    /// The row of an item in the request with this code.
    pub(crate) fn row(&self, request: u32, item: u32) -> Option<usize> {
        let place = *self.place.get(request as usize)?;
        if place == NONE {
            return None;
        }
        let rows = self.rows_of(place as usize);
        self.item[rows.clone()].iter().position(|other| *other == item).map(|at| rows.start + at)
    }
}

/// A log of impressions, opened.
pub(crate) struct ImpressionLog {
    pub(crate) source: Source,
    pub(crate) time: TimeColumn,
    request: Key,
    user: Key,
    item: Key,
    /// What an audit file refers to, where there is one.
    impression: Option<Key>,
    config: Log,
}

impl ImpressionLog {
    /// The log in `source`; `audited` where its impressions need identifiers.
    pub(crate) fn new(mut source: Source, config: &Log, audited: bool) -> Result<Self, SamplesError> {
        for key in [&config.request, &config.user, &config.item] {
            source.settle(key, &[DataType::Int64])?;
        }
        let request = Key::new(&mut source, &config.request, REQUEST, "the request of a row")?;
        let user = Key::new(&mut source, &config.user, USER, "the user of a row")?;
        let item = Key::new(&mut source, &config.item, ITEM, "the item of a row")?;
        let id = || Key::new(&mut source, IMPRESSION_ID, IMPRESSION, "the key of the audit file");
        let impression = audited.then(id).transpose()?;
        let time = TimeColumn::new(&mut source, &config.time, config.time_unit)?;
        Ok(Self { source, time, request, user, item, impression, config: config.clone() })
    }

    /// Nothing yet of the identifiers that the log has.
    pub(crate) fn keys(&self) -> Keys {
        let ids = |key: &Key| Ids::new(key.key_type);
        Keys { requests: ids(&self.request), users: ids(&self.user), items: ids(&self.item) }
    }

    /// What the recipe says of the log.
    pub(crate) fn config(&self) -> &Log {
        &self.config
    }

    /// Whether the log has a column called `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.source.schema.contains(name)
    }

    /// What identifies a row and its time, under names of their own.
    pub(crate) fn selected(&self) -> Vec<Expr> {
        let keys = [Some(&self.request), Some(&self.user), Some(&self.item), self.impression.as_ref()];
        let keys = keys.into_iter().flatten().map(|key| key.column.clone());
        keys.chain([self.time.micros(TIME)]).collect()
    }

    /// The columns of the file that [`ImpressionLog::read`] reads.
    pub(crate) fn columns(&self, wanted: &[String]) -> Vec<String> {
        let Log { request, user, item, time, .. } = &self.config;
        let own = [request, user, item, time].into_iter().chain(wanted).cloned();
        own.chain(self.impression.as_ref().map(|_| IMPRESSION_ID.to_owned())).collect()
    }

    /// Reads the log with the `wanted` columns.
    pub(crate) fn read(
        self,
        wanted: &[String],
        bad_rows: &BadRows,
        dropped: &mut Dropped,
    ) -> Result<(Impressions, Keys), SamplesError> {
        let mut keys = self.keys();
        let mut selected = self.selected();
        let mut audit_ids = self.impression.as_ref().map(|key| Ids::new(key.key_type));
        let log = &self.source;
        let mut builders = Vec::new();
        for name in wanted {
            let Some(found) = log.schema.get(name) else {
                return Err(missing_column(&log.name, &log.schema, name, "a feature"));
            };
            selected.push(col(name.as_str()));
            builders.push(Builder::new(name, found));
        }

        let mut raw = RawRows::default();
        let bad = log.read(selected, bad_rows, |batch| {
            let RawRows { request, user, item, time, audit } = &mut raw;
            let mut columns: Vec<Task<'_, KeyError>> = vec![
                Box::new(|| keys.requests.intern(batch.column(REQUEST)?, request)),
                Box::new(|| keys.items.intern(batch.column(ITEM)?, item)),
                Box::new(|| keys.users.intern(batch.column(USER)?, user)),
                Box::new(|| {
                    time.extend(batch.column(TIME)?.i64()?.iter().flatten());
                    Ok(())
                }),
            ];
            if let Some(ids) = &mut audit_ids {
                columns.push(Box::new(|| ids.intern(batch.column(IMPRESSION)?, audit)));
            }
            for builder in &mut builders {
                columns.push(Box::new(|| builder.add(batch.column(builder.name())?)));
            }
            all_of(columns).map_err(|error| key_error(&log.name, error))
        })?;
        dropped.extend(bad);
        let (mut impressions, order) = raw.in_order(&keys, &log.name)?;
        let audit_codes = std::mem::take(&mut raw.audit);
        drop(raw);
        let place = std::sync::Arc::new(order);
        for builder in builders {
            let name = builder.name().to_owned();
            impressions.columns.push((name, builder.finish(&place)));
        }
        if let Some(ids) = audit_ids {
            let codes = place.iter().map(|&row| audit_codes[row as usize]).collect();
            impressions.audit = Some((ids, codes));
        }
        Ok((impressions, keys))
    }
}

/// A request that cannot be.
struct TwoUsers {
    request: u32,
    users: [u32; 2],
}

fn two_users(keys: &Keys, log: &Path, TwoUsers { request, users }: &TwoUsers) -> SamplesError {
    let [user, other] = users.map(|user| keys.users.shown(user));
    let request = keys.requests.shown(*request);
    SamplesError::source(
        log,
        format!(
            "request {request} has rows of two users, {user} and {other}; a request is of one user: make its id unique, \
             or leave such rows out by where = \"…\""
        ),
    )
}

/// Rows as the log has them.
#[derive(Default)]
struct RawRows {
    request: Vec<u32>,
    user: Vec<u32>,
    item: Vec<u32>,
    time: Vec<i64>,
    audit: Vec<u32>,
}

impl RawRows {
    /// The rows of some requests, and where each request ends among them. A request has each item once: the earliest,
    /// and of equals the first of the log; by `rank` of the items.
    fn each_item_once(
        &self,
        ordered: View<'_>,
        requests: Range<usize>,
        rank: &[u32],
    ) -> Result<(Vec<u32>, Vec<u32>), TwoUsers> {
        let (mut rows, mut ends) = (Vec::new(), Vec::with_capacity(requests.len()));
        let mut items: Vec<(u32, usize)> = Vec::new();
        for request in requests {
            let own = &ordered.rows()[ordered.positions(request)];
            let user = |row: &u32| self.user[*row as usize];
            if let Some(other) = own.iter().map(user).find(|other| *other != user(&own[0])) {
                return Err(TwoUsers { request: request as u32, users: [user(&own[0]), other] });
            }
            items.clear();
            items.extend(own.iter().map(|row| rank[self.item[*row as usize] as usize]).zip(0..));
            items.sort_unstable();
            items.dedup_by_key(|(rank, _)| *rank);
            rows.extend(items.iter().map(|(_, place)| own[*place]));
            ends.push(rows.len() as u32);
        }
        Ok((rows, ends))
    }

    /// Puts the rows in the order of samples, and returns for each its row in the log.
    fn in_order(&self, keys: &Keys, log: &Path) -> Result<(Impressions, Vec<u32>), SamplesError> {
        let count = keys.requests.len();
        let by_request = Timeline::new(&self.request, &self.time, count)
            .map_err(|error| SamplesError::source(log, error.to_string()))?;
        let ordered = by_request.view();

        let rank = keys.items.ranks();
        let bound = |part: usize| part * count / PARTS;
        let parts = for_each_index(PARTS, &mut Silent, |part| {
            self.each_item_once(ordered, bound(part)..bound(part + 1), &rank)
        });
        let mut rows: Vec<u32> = Vec::with_capacity(self.request.len());
        let mut bounds: Vec<u32> = Vec::with_capacity(count + 1);
        bounds.push(0);
        for part in parts {
            let (own, ends) = part.map_err(|users| two_users(keys, log, &users))?;
            let first = rows.len() as u32;
            bounds.extend(ends.into_iter().map(|end| first + end));
            rows.extend(own);
        }
        let first_time = |request| ordered.times().get(ordered.positions(request).start).copied();
        let request_time: Vec<i64> =
            (0..count).map(|request| first_time(request).unwrap_or(i64::MIN)).collect();
        drop(by_request);
        let again = (self.request.len() - rows.len()) as u64;

        let mut requests: Vec<u32> =
            (0..count as u32).filter(|code| bounds[*code as usize] < bounds[*code as usize + 1]).collect();
        requests.sort_by(|a, b| {
            let times = request_time[*a as usize].cmp(&request_time[*b as usize]);
            times.then_with(|| keys.requests.order(*a, *b))
        });
        let mut order = Vec::with_capacity(rows.len());
        let mut starts = Vec::with_capacity(requests.len() + 1);
        let mut place = vec![NONE; count];
        starts.push(0);
        for (at, &request) in requests.iter().enumerate() {
            place[request as usize] = at as u32;
            let own = bounds[request as usize] as usize..bounds[request as usize + 1] as usize;
            order.extend_from_slice(&rows[own]);
            starts.push(order.len() as u32);
        }
        let first_row = |at: usize| order[starts[at] as usize] as usize;
        let impressions = Impressions {
            user: (0..requests.len()).map(|at| self.user[first_row(at)]).collect(),
            request_time: requests.iter().map(|request| request_time[*request as usize]).collect(),
            item: order.iter().map(|row| self.item[*row as usize]).collect(),
            time: order.iter().map(|row| self.time[*row as usize]).collect(),
            request: requests,
            starts,
            place,
            columns: Vec::new(),
            audit: None,
            again,
        };
        Ok((impressions, order))
    }
}
