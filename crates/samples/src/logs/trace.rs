//! What happens to one impression on its way through [`super::prepare`]. What the pipeline decided is taken from
//! its own columns; the reasons why not are found by looking at the events and versions one by one.

use std::collections::BTreeMap;

use gatefold_history::NONE;
use gatefold_schema::{Aggregate, BY_ITEM, BY_USER, ClickKey, EventKind, Instant, LabelConfig, Statistic};
use polars::prelude::*;

use super::{
    derived::{Derived, Made},
    events::Events,
    features::Plan,
    impressions::{Impressions, Keys},
    labels::{Outcomes, many},
    profiles::Table,
};
use crate::{
    SamplesError,
    decode::shown,
    explain::{Event, Explanation, Listed, Profile, Sequence, Version, Window},
    values::{self, Values},
};

/// Events and versions shown at each end of a long list.
const AROUND: usize = 3;

/// Follows the impression of an item in a request.
pub(crate) struct Trace {
    request: String,
    item: String,
    codes: Codes,
    /// Its row among those of its request.
    pub(crate) row: usize,
    /// Its row among all, and the place of its request.
    at: (usize, usize),
    /// What was found so far.
    pub(crate) found: Explanation,
}

/// The keys of the impression.
#[derive(Clone, Copy, Default)]
struct Codes {
    request: u32,
    user: u32,
    item: u32,
    /// Time of the request.
    now: i64,
}

impl Trace {
    pub(crate) fn new(request: &str, item: &str) -> Self {
        let found =
            Explanation { request: request.to_owned(), item: item.to_owned(), ..Explanation::default() };
        let (request, item) = (request.to_owned(), item.to_owned());
        Self { request, item, codes: Codes::default(), row: 0, at: (0, 0), found }
    }

    /// Finds the impression, and takes down what came of it.
    pub(crate) fn outcomes(
        &mut self,
        config: &LabelConfig,
        keys: &Keys,
        impressions: &Impressions,
        (clicks, conversions): (&Events, Option<&Events>),
        outcomes: &Outcomes,
    ) -> Result<(), SamplesError> {
        let (request, item) = (keys.requests.code(&self.request), keys.items.code(&self.item));
        let place = impressions.place.get(request as usize).copied().filter(|place| *place != NONE);
        let Some(place) = place.map(|place| place as usize) else {
            return Err(SamplesError::config(format!(
                "--request {}: no impression is left of such a request; take one that the log has and that `where` keeps",
                self.request
            )));
        };
        let Some(row) = impressions.row(request, item) else {
            let items = impressions.item[impressions.rows_of(place)].iter().take(10);
            let items: Vec<String> = items.map(|item| keys.items.shown(*item)).collect();
            return Err(SamplesError::config(format!(
                "--item {}: request {} has no such item; it has {}",
                self.item,
                self.request,
                items.join(", ")
            )));
        };
        let user = impressions.user[place];
        self.codes = Codes { request, user, item, now: impressions.request_time[place] };
        (self.row, self.at) = (row - impressions.rows_of(place).start, (row, place));
        self.found.user = keys.users.shown(user);
        self.found.request_time = moment(self.codes.now);
        self.found.shown = moment(impressions.time[row]);
        self.found.items = impressions.rows_of(place).len();

        let own = outcomes.click_of[row];
        self.found.clicks = self.clicks(config, impressions.time[row], clicks, own);
        if let Some(conversions) = conversions {
            let click = (own != NONE).then(|| clicks.time[own as usize]);
            self.found.conversions = self.conversions(config, click, conversions, &outcomes.conversion_of);
        }
        Ok(())
    }

    /// Clicks by request and item, or by user and item, of which `own` counts.
    fn clicks(&self, config: &LabelConfig, shown: i64, clicks: &Events, own: u32) -> Vec<Event> {
        let Codes { request, user, item, .. } = self.codes;
        let is_ours = |click: &usize| {
            clicks.item[*click] == item
                && match config.click_by {
                    ClickKey::Request => clicks.request[*click] == request,
                    ClickKey::User => clicks.user[*click] == user,
                }
        };
        let mut ours: Vec<usize> = (0..clicks.item.len()).filter(is_ours).collect();
        ours.sort_by_key(|click| clicks.time[*click]);
        let events = ours.into_iter().map(|click| {
            let delay = clicks.time[click] - shown;
            let counts = click as u32 == own;
            let why = if counts {
                "the first in the window".to_owned()
            } else if delay < 0 {
                "before the item was shown".to_owned()
            } else if delay > config.click_window.micros() {
                format!("later than {} after the impression", config.click_window)
            } else if own == NONE {
                "counts for another impression of the item".to_owned()
            } else {
                "an earlier one counts, or it counts for a later impression of the item".to_owned()
            };
            Event { time: moment(clicks.time[click]), after: length(delay), counts, why }
        });
        events.collect()
    }

    /// Conversions of the user and item; `click` is the time of the click that counts.
    fn conversions(
        &self,
        config: &LabelConfig,
        click: Option<i64>,
        conversions: &Events,
        conversion_of: &[u32],
    ) -> Vec<Event> {
        let Codes { user, item, .. } = self.codes;
        let own = conversion_of[self.at.0];
        let is_ours = |event: &usize| conversions.user[*event] == user && conversions.item[*event] == item;
        let mut ours: Vec<usize> = (0..conversions.item.len()).filter(is_ours).collect();
        ours.sort_by_key(|event| conversions.time[*event]);
        let events = ours.into_iter().map(|event| {
            let time = conversions.time[event];
            let counts = event as u32 == own;
            let delay = click.map(|click| time - click);
            let why = match delay {
                _ if counts => "the click has the credit for it".to_owned(),
                None => "the impression was not clicked".to_owned(),
                Some(..=0) => "not after the click".to_owned(),
                Some(delay) if delay > config.conversion_window.micros() => {
                    format!("later than {} after the click", config.conversion_window)
                }
                Some(_) if conversion_of.contains(&(event as u32)) => {
                    "another click has the credit for it".to_owned()
                }
                Some(_) => "an earlier conversion counts".to_owned(),
            };
            let after = delay.map_or_else(|| "no click".to_owned(), length);
            Event { time: moment(time), after, counts, why }
        });
        events.collect()
    }

    /// Takes down what was known: profiles, aggregates and sequences.
    pub(crate) fn known(
        &mut self,
        derived: &Derived<'_>,
        users: Option<&Table>,
        plan: &Plan,
        made: &[Made],
    ) -> Result<(), SamplesError> {
        let Codes { user, item, .. } = self.codes;
        for (name, table, key, ids) in
            [("users", users, user, &derived.keys.users), ("items", derived.items, item, &derived.keys.items)]
        {
            let Some(table) = table else { continue };
            let versions = self.versions(table, key)?;
            self.found.profiles.push(Profile { table: name.to_owned(), key: ids.shown(key), versions });
        }
        for config in &derived.config.aggregates {
            for (place, window) in config.windows.iter().enumerate() {
                let column = config.column_name(*window);
                let Some(made) = made.iter().find(|made| made.name == column) else { continue };
                let window = self.window(derived, config, place, made)?;
                self.found.aggregates.push(window);
            }
        }
        for config in &derived.config.sequences {
            let wanted = [Some(&config.name), config.gaps.as_ref()].into_iter().flatten();
            for column in wanted.filter(|column| plan.derived.contains(*column)) {
                let Some(made) = made.iter().find(|made| made.name == *column) else { continue };
                self.found.sequences.extend(self.sequence(made)?);
            }
        }
        Ok(())
    }

    /// The version of a profile that the request sees, and those around it.
    fn versions(&self, table: &Table, key: u32) -> Result<Vec<Version>, SamplesError> {
        let now = self.codes.now;
        let used = self.version(table, key)?;
        let versions = table.history(key);
        let middle = versions.iter().position(|(row, ..)| *row == used);
        let middle =
            middle.unwrap_or_else(|| versions.iter().filter(|(_, time, _)| *time < Some(now)).count());
        let around = middle.saturating_sub(AROUND)..(middle + AROUND + 1).min(versions.len());
        let described = versions[around].iter().map(|(row, time, created)| {
            let why = if *row == used {
                "the last one known before the request"
            } else if time.is_some_and(|time| time >= now) {
                "not before the request"
            } else if created.is_some_and(|created| created >= now) {
                "written after the request"
            } else if time.is_some_and(|time| table.ttl().is_some_and(|ttl| now - time > ttl)) {
                "older than its time to live"
            } else {
                "a later one is known"
            };
            let value = |column: &Column| Ok((column.name().to_string(), shown(&column.get(*row as usize)?)));
            let values: PolarsResult<BTreeMap<_, _>> = table.columns().iter().map(value).collect();
            Ok(Version {
                from: time.map(moment),
                written: created.map(moment),
                used: *row == used,
                why: why.to_owned(),
                values: values?,
            })
        });
        described.collect::<PolarsResult<_>>().map_err(SamplesError::step("reading profiles"))
    }

    /// The version of a key that the request sees, by the pipeline's own rule.
    fn version(&self, table: &Table, key: u32) -> Result<u32, SamplesError> {
        // Queries must number as many keys as the versions do.
        let keys = table.keys().max(key as usize + 1);
        Ok(table.versions(&[key], &[self.codes.now], keys).map_err(many)?[0])
    }

    /// An aggregate over the window at `place`, and the events that went into it.
    fn window(
        &self,
        derived: &Derived<'_>,
        config: &Aggregate,
        place: usize,
        made: &Made,
    ) -> Result<Window, SamplesError> {
        let Codes { user, item, now, .. } = self.codes;
        let from = now - config.windows[place].micros();
        let (users, items, times) = ([user], [item], [now]);
        let own = derived.parts(&config.by, &users, &items, &times)?;
        let events = |of: EventKind| -> Result<Vec<usize>, SamplesError> {
            let log = derived.log(of);
            let parts = derived.parts(&config.by, &log.user, log.item, log.time)?;
            let is_in = |event: &usize| {
                (from..now).contains(&log.time[*event])
                    && own.iter().zip(&parts).all(|(own, part)| own[0] != NONE && part[*event] == own[0])
            };
            let mut found: Vec<usize> = (0..log.time.len()).filter(is_in).collect();
            found.sort_by_key(|event| log.time[*event]);
            Ok(found)
        };
        let found = events(config.of)?;
        let shown_events = match config.what {
            Statistic::Rate => Some(events(EventKind::Impressions)?.len()),
            _ => None,
        };
        let log = derived.log(config.of);
        let column = match config.column.as_deref() {
            None | Some(BY_ITEM) => None,
            Some(_) => Some(log.column(config)?),
        };
        let ends = found.iter().enumerate().filter(|(at, _)| *at < AROUND || *at + AROUND >= found.len());
        let listed = ends.map(|(_, event)| {
            let value = match column {
                Some(column) => shown(&column.get(*event)?),
                None => derived.keys.items.shown(log.item[*event]),
            };
            Ok(self.listed(log.time[*event], value))
        });
        let listed = listed.collect::<PolarsResult<_>>().map_err(SamplesError::step("reading events"))?;
        Ok(Window {
            column: made.name.clone(),
            key: self.key(derived, config)?,
            from: moment(from),
            value: self.value(&made.values)?,
            events: found.len(),
            shown: shown_events,
            listed,
        })
    }

    /// What event and impression have in common, in words.
    fn key(&self, derived: &Derived<'_>, config: &Aggregate) -> Result<String, SamplesError> {
        let part = |name: &String| -> Result<String, SamplesError> {
            let value = match (name.as_str(), derived.items) {
                (BY_USER, _) => derived.keys.users.shown(self.codes.user),
                (BY_ITEM, _) => derived.keys.items.shown(self.codes.item),
                (column, Some(items)) => {
                    let version = self.version(items, self.codes.item)?;
                    let column = items.column(column).filter(|_| version != NONE);
                    let value = column.map(|column| column.get(version as usize).map(|value| shown(&value)));
                    let value = value.transpose().map_err(SamplesError::step("reading profiles"))?;
                    value.unwrap_or_else(|| "missing".to_owned())
                }
                (_, None) => "missing".to_owned(),
            };
            Ok(format!("{name} {value}"))
        };
        let parts = config.by.iter().map(part).collect::<Result<Vec<_>, _>>()?;
        Ok(parts.join(", "))
    }

    /// The events of a sequence, with what is listed of them.
    fn sequence(&self, made: &Made) -> Result<Option<Sequence>, SamplesError> {
        let Values::Events(values::Events { order, tails, listed }) = &made.values else { return Ok(None) };
        let order = order.view();
        let tail = &tails[self.at.1];
        let events = tail.rows(order).iter().zip(tail.times(order)).map(|(event, time)| {
            let value = match listed {
                values::Listed::Value { dictionary, place } => match place[*event as usize] {
                    NONE => "missing".to_owned(),
                    place => shown(&dictionary.get(place as usize)?),
                },
                values::Listed::Gap(_) => ((self.codes.now - time) / 1_000_000).to_string(),
            };
            Ok(self.listed(*time, value))
        });
        let events = events.collect::<PolarsResult<_>>().map_err(SamplesError::step("reading sequences"))?;
        Ok(Some(Sequence { column: made.name.clone(), events }))
    }

    /// The impression's own value of a column.
    fn value(&self, values: &Values) -> Result<String, SamplesError> {
        let own = values.rows(self.at.0..self.at.0 + 1, &[self.at.1 as u32]);
        let own = own.and_then(|own| Ok(shown(&own.get(0)?)));
        own.map_err(SamplesError::step("reading aggregates"))
    }

    fn listed(&self, time: i64, value: String) -> Listed {
        Listed { time: moment(time), before: length(self.codes.now - time), value }
    }
}

fn moment(micros: i64) -> String {
    Instant::from_micros(micros).to_string()
}

/// A length of time in its two largest units, such as `2d 3h`.
fn length(micros: i64) -> String {
    let sign = if micros < 0 { "−" } else { "" };
    let mut rest = micros.unsigned_abs();
    let mut parts = Vec::new();
    for (unit, size) in [
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("m", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1000),
        ("us", 1),
    ] {
        if rest >= size && parts.len() < 2 {
            parts.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { format!("{sign}{}", parts.join(" ")) }
}
