//! What came of each impression. The only step that looks at what happened after a request.

use gatefold_history::{
    NONE, Timeline,
    attribution::{Attribution, Credit, Rule, attribute},
    intern::{Interner, pair},
};
use gatefold_schema::{ClickKey, ConversionPolicy, LabelConfig};

use super::{events::Events, impressions::Impressions};
use crate::SamplesError;

/// The labels of every row, 0 or 1.
#[derive(Debug)]
pub(crate) struct Outcomes {
    pub(crate) click: Vec<f32>,
    /// Set only where `click` is; `None` where there is no log of conversions.
    pub(crate) conversion: Option<Vec<f32>>,
}

/// Labels the impressions by the clicks and conversions that count for them.
pub(crate) fn label(
    config: &LabelConfig,
    impressions: &Impressions,
    clicks: &Events,
    conversions: Option<&Events>,
) -> Result<Outcomes, SamplesError> {
    let click_of = match config.click_by {
        ClickKey::Request => clicks_by_request(config, impressions, clicks),
        ClickKey::User => clicks_by_user(config, impressions, clicks)?,
    };
    let conversion = match conversions {
        Some(conversions) => Some(converted(config, impressions, clicks, &click_of, conversions)?),
        None => None,
    };
    let click = click_of.iter().map(|click| f32::from(u8::from(*click != NONE))).collect();
    Ok(Outcomes { click, conversion })
}

/// The first click on each row's item in its request, not before the row and within the window after it.
fn clicks_by_request(config: &LabelConfig, impressions: &Impressions, clicks: &Events) -> Vec<u32> {
    let window = config.click_window.micros();
    let mut click_of = vec![NONE; impressions.rows()];
    for (click, (&request, &item)) in clicks.request.iter().zip(&clicks.item).enumerate() {
        let Some(row) = impressions.row(request, item) else { continue };
        let delay = clicks.time[click] - impressions.time[row];
        let earlier = |other: u32| other == NONE || clicks.time[click] < clicks.time[other as usize];
        if (0..=window).contains(&delay) && earlier(click_of[row]) {
            click_of[row] = click as u32;
        }
    }
    click_of
}

/// The first click that each row has the credit for, by user and item.
fn clicks_by_user(
    config: &LabelConfig,
    impressions: &Impressions,
    clicks: &Events,
) -> Result<Vec<u32>, SamplesError> {
    let rule = Rule { window: Some(config.click_window.micros()), same_time: true, credit: Credit::Last };
    let mut pairs = Interner::default();
    let clicked = number(&mut pairs, clicks.user.iter().copied().zip(clicks.item.iter().copied()))?;
    let users = impressions.row_users();
    let shown: Vec<u32> =
        users.iter().zip(&impressions.item).map(|(user, item)| known(&pairs, *user, *item)).collect();
    let touches = Timeline::new(&shown, &impressions.time, pairs.values().len()).map_err(many)?;
    let events = Timeline::new(&clicked, &clicks.time, pairs.values().len()).map_err(many)?;
    Ok(attribute(touches.view(), events.view(), rule).event_of)
}

/// Which rows led to a conversion: those whose click has the credit for one.
fn converted(
    config: &LabelConfig,
    impressions: &Impressions,
    clicks: &Events,
    click_of: &[u32],
    conversions: &Events,
) -> Result<Vec<f32>, SamplesError> {
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
    let Attribution { event_of, .. } = attribute(touches.view(), events.view(), rule);
    let mut converted = vec![0.0; impressions.rows()];
    for (row, event) in rows.iter().zip(event_of) {
        if event != NONE {
            converted[*row as usize] = 1.0;
        }
    }
    Ok(converted)
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
