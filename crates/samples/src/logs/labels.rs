//! What came of each impression. The only step that looks at what happened after a request.

use std::collections::BTreeMap;

use gatefold_history::{
    NONE, Timeline,
    attribution::{Attribution, Credit, Outcome, Rule, attribute, attribute_rest},
    intern::{Interner, pair},
};
use gatefold_schema::{
    CLICK_LABEL, CONVERSION_LABEL, ClickKey, ConversionPolicy, EventKind, EventLogs, LabelConfig, VIEW_LABEL,
    ValueLabel,
};
use polars::prelude::*;

use super::{events::Events, impressions::Impressions};
use crate::{SamplesError, prepared::Label, report::Delays};

/// What came of the impressions.
#[derive(Debug)]
pub(crate) struct Outcomes {
    /// One value a row each: click; conversion, set only where click is, and conversion after a view, where they are
    /// known; then those of `[[samples.logs.label]]`.
    pub(crate) labels: Vec<Label>,
    /// Events by what became of them.
    pub(crate) events: BTreeMap<String, u64>,
    /// The click that each row has, [`NONE`] where it has none.
    pub(crate) click_of: Vec<u32>,
    /// The conversion that each row's click has the credit for; empty where there is no log of them.
    pub(crate) conversion_of: Vec<u32>,
}

impl Outcomes {
    /// How long clicks came after their impressions, and conversions after their clicks.
    pub(crate) fn delays(
        &self,
        impressions: &Impressions,
        clicks: &Events,
        conversions: Option<&Events>,
    ) -> Vec<Delays> {
        let clicked = |row: usize| Some(self.click_of[row]).filter(|click| *click != NONE);
        let click_time = |row: usize| clicked(row).map(|click| clicks.time[click as usize]);
        let after_shown =
            (0..impressions.rows()).filter_map(|row| Some(click_time(row)? - impressions.time[row]));
        let mut delays = vec![Delays::new("click", "impression", after_shown)];
        if let Some(conversions) = conversions {
            let after_click = self.conversion_of.iter().enumerate().filter(|(_, event)| **event != NONE);
            let after_click = after_click
                .filter_map(|(row, event)| Some(conversions.time[*event as usize] - click_time(row)?));
            delays.push(Delays::new("conversion", "click", after_click));
        }
        delays
    }
}

/// Labels the impressions by the clicks and conversions that count for them.
pub(crate) fn label(
    config: &EventLogs,
    impressions: &Impressions,
    clicks: &Events,
    conversions: Option<&Events>,
) -> Result<Outcomes, SamplesError> {
    let mut events = BTreeMap::new();
    let click_of = match config.labels.click_by {
        ClickKey::Request => clicks_by_request(&config.labels, impressions, clicks, &mut events),
        ClickKey::User => clicks_by_user(&config.labels, impressions, clicks, &mut events)?,
    };
    let mut labels = vec![happened(CLICK_LABEL, &click_of)];
    let mut conversion_of = Vec::new();
    if let Some(conversions) = conversions {
        let of_click = conversions_of_clicks(&config.labels, impressions, (clicks, &click_of), conversions)?;
        count(&mut events, "conversions", "click", &of_click);
        labels.push(happened(CONVERSION_LABEL, &of_click.event_of));
        if let Some(window) = config.labels.view_window {
            let of_view = conversions_of_views(window.micros(), impressions, conversions, &of_click)?;
            let credited = of_view.count(Outcome::Credited) as u64;
            events.insert("conversions credited to a view".to_owned(), credited);
            labels.push(happened(VIEW_LABEL, &of_view.event_of));
        }
        conversion_of = of_click.event_of;
    }
    for own in &config.value_labels {
        let (log, event_of) = match (own.of, conversions) {
            (EventKind::Conversions, Some(conversions)) => (conversions, &conversion_of),
            _ => (clicks, &click_of),
        };
        labels.push(valued(own, log, event_of, &mut events)?);
    }
    Ok(Outcomes { labels, events, click_of, conversion_of })
}

/// 1 for the rows that have an event.
fn happened(name: &str, event_of: &[u32]) -> Label {
    Label::new(name, event_of.iter().map(|event| f32::from(u8::from(*event != NONE))).collect())
}

/// The values of the rows' events, or whether they are large enough.
fn valued(
    config: &ValueLabel,
    log: &Events,
    event_of: &[u32],
    events: &mut BTreeMap<String, u64>,
) -> Result<Label, SamplesError> {
    let missing =
        || SamplesError::config(format!("label '{}': column '{}' was not read", config.name, config.column));
    let column = log.column(&config.column).ok_or_else(missing)?;
    let numbers = column.cast(&DataType::Float64).map_err(SamplesError::step("reading labels"))?;
    let numbers = numbers.f64().map_err(SamplesError::step("reading labels"))?;
    let (mut values, mut absent) = (Vec::with_capacity(event_of.len()), 0);
    for event in event_of {
        let value = match event {
            &NONE => 0.0,
            event => numbers.get(*event as usize).filter(|value| value.is_finite()).unwrap_or_else(|| {
                absent += 1;
                0.0
            }),
        };
        let is_credited = *event != NONE;
        values.push(match config.at_least {
            Some(least) => f32::from(u8::from(is_credited && value >= least)),
            None => value as f32,
        });
    }
    if absent > 0 {
        events.insert(format!("{} without a value in '{}'", config.of.name(), config.column), absent);
    }
    Ok(Label::new(&config.name, values))
}

/// Counts events by what became of them; `touch` says what they are credited to.
fn count(events: &mut BTreeMap<String, u64>, what: &str, touch: &str, found: &Attribution) {
    for (outcome, words) in [
        (Outcome::Credited, "credited".to_owned()),
        (Outcome::NoTouch, format!("without {}", with_article(touch))),
        (Outcome::BeforeTouch, format!("before their {touch}")),
        (Outcome::TooLate, "after their window".to_owned()),
    ] {
        events.insert(format!("{what} {words}"), found.count(outcome) as u64);
    }
}

fn with_article(touch: &str) -> String {
    let article = if touch.starts_with('i') { "an" } else { "a" };
    format!("{article} {touch}")
}

/// The first click on each row's item in its request, not before the row and within the window after it.
fn clicks_by_request(
    config: &LabelConfig,
    impressions: &Impressions,
    clicks: &Events,
    events: &mut BTreeMap<String, u64>,
) -> Vec<u32> {
    let window = config.click_window.micros();
    let mut found = Attribution {
        event_of: vec![NONE; impressions.rows()],
        touch_of: Vec::new(),
        outcomes: vec![Outcome::NoTouch; clicks.item.len()],
    };
    for (click, (&request, &item)) in clicks.request.iter().zip(&clicks.item).enumerate() {
        let Some(row) = impressions.row(request, item) else { continue };
        let delay = clicks.time[click] - impressions.time[row];
        found.outcomes[click] = match delay {
            ..0 => Outcome::BeforeTouch,
            delay if delay <= window => Outcome::Credited,
            _ => Outcome::TooLate,
        };
        let own = &mut found.event_of[row];
        let is_earlier = *own == NONE || clicks.time[click] < clicks.time[*own as usize];
        if found.outcomes[click] == Outcome::Credited && is_earlier {
            *own = click as u32;
        }
    }
    count(events, "clicks", "impression", &found);
    found.event_of
}

/// The first click that each row has the credit for, by user and item.
fn clicks_by_user(
    config: &LabelConfig,
    impressions: &Impressions,
    clicks: &Events,
    events: &mut BTreeMap<String, u64>,
) -> Result<Vec<u32>, SamplesError> {
    let rule = Rule { window: Some(config.click_window.micros()), same_time: true, credit: Credit::Last };
    let (touches, clicked) = of_impressions(impressions, clicks)?;
    let found = attribute(touches.view(), clicked.view(), rule);
    count(events, "clicks", "impression", &found);
    Ok(found.event_of)
}

/// Impressions and events by pairs of user and item.
fn of_impressions(impressions: &Impressions, events: &Events) -> Result<(Timeline, Timeline), SamplesError> {
    let mut pairs = Interner::default();
    let happened = number(&mut pairs, events.user.iter().copied().zip(events.item.iter().copied()))?;
    let users = impressions.row_users();
    let shown: Vec<u32> =
        users.iter().zip(&impressions.item).map(|(user, item)| known(&pairs, *user, *item)).collect();
    let touches = Timeline::new(&shown, &impressions.time, pairs.values().len()).map_err(many)?;
    let events = Timeline::new(&happened, &events.time, pairs.values().len()).map_err(many)?;
    Ok((touches, events))
}

/// The first conversion that each row's click has the credit for.
fn conversions_of_clicks(
    config: &LabelConfig,
    impressions: &Impressions,
    (clicks, click_of): (&Events, &[u32]),
    conversions: &Events,
) -> Result<Attribution, SamplesError> {
    let credit = match config.conversion {
        ConversionPolicy::LastClick => Credit::Last,
        ConversionPolicy::FirstClick => Credit::First,
        ConversionPolicy::EveryClick => Credit::Every,
    };
    let rule = Rule { window: Some(config.conversion_window.micros()), same_time: false, credit };
    let rows: Vec<u32> =
        (0..impressions.rows() as u32).filter(|row| click_of[*row as usize] != NONE).collect();
    let times: Vec<i64> = rows.iter().map(|row| clicks.time[click_of[*row as usize] as usize]).collect();
    let mut pairs = Interner::default();
    let clicked = number(
        &mut pairs,
        rows.iter().map(|row| (impressions.user_of_row(*row as usize), impressions.item[*row as usize])),
    )?;
    let bought: Vec<u32> = conversions
        .user
        .iter()
        .zip(&conversions.item)
        .map(|(user, item)| known(&pairs, *user, *item))
        .collect();
    let touches = Timeline::new(&clicked, &times, pairs.values().len()).map_err(many)?;
    let events = Timeline::new(&bought, &conversions.time, pairs.values().len()).map_err(many)?;
    let mut found = attribute(touches.view(), events.view(), rule);
    let mut event_of = vec![NONE; impressions.rows()];
    for (row, event) in rows.iter().zip(&found.event_of) {
        event_of[*row as usize] = *event;
    }
    found.event_of = event_of;
    for touch in found.touch_of.iter_mut().filter(|touch| **touch != NONE) {
        *touch = rows[*touch as usize];
    }
    Ok(found)
}

/// The first conversion that each row has the credit for, of those that no click has.
fn conversions_of_views(
    window: i64,
    impressions: &Impressions,
    conversions: &Events,
    of_click: &Attribution,
) -> Result<Attribution, SamplesError> {
    let rule = Rule { window: Some(window), same_time: false, credit: Credit::Last };
    let (touches, bought) = of_impressions(impressions, conversions)?;
    Ok(attribute_rest(touches.view(), bought.view(), rule, of_click))
}

/// Numbers pairs of keys; a pair without one of its keys has no number.
fn number(pairs: &mut Interner, keys: impl Iterator<Item = (u32, u32)>) -> Result<Vec<u32>, SamplesError> {
    keys.map(|(user, item)| match (user, item) {
        (NONE, _) | (_, NONE) => Ok(NONE),
        (user, item) => pairs.intern(pair(user, item)).map_err(many),
    })
    .collect()
}

fn known(pairs: &Interner, user: u32, item: u32) -> u32 {
    if user == NONE || item == NONE { NONE } else { pairs.find(pair(user, item)) }
}

pub(super) fn many(error: gatefold_history::HistoryError) -> SamplesError {
    SamplesError::config(error.to_string())
}
