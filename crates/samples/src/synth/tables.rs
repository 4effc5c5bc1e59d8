//! The synthetic logs as tables.

use polars::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    SynthConfig,
    events::{DAY_MS, DAYS, Event, FIRST_DAY_MS, HOUR_MS, History},
    world::{CATEGORIES, COUNTRIES, DEVICES, GENDERS, PAGES, SEGMENTS, World},
};

/// Makes one table.
pub(crate) type Table = fn(&SynthConfig, &World, &History) -> PolarsResult<DataFrame>;

/// Identifiers do not begin at 0, so that they are not taken for positions.
const FIRST_USER_ID: i64 = 100_000;
const FIRST_ITEM_ID: i64 = 5_000_000;
const FIRST_REQUEST_ID: i64 = 10_000_000;

fn user_id(index: u32) -> i64 {
    FIRST_USER_ID + i64::from(index)
}

fn item_id(index: u32) -> i64 {
    FIRST_ITEM_ID + i64::from(index)
}

/// Impressions in the order in which they were logged: of a hundred, one is logged twice, and of
/// two hundred one a second time some seconds later.
pub(crate) fn impressions(
    config: &SynthConfig,
    _world: &World,
    history: &History,
) -> PolarsResult<DataFrame> {
    let source = &history.impressions;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    rng.set_stream(0);
    // Row and time of each log line.
    let mut lines: Vec<(i64, u32)> = Vec::with_capacity(source.time.len() + source.time.len() / 50);
    for (row, &time) in source.time.iter().enumerate() {
        lines.push((time, row as u32));
        let chance = rng.random::<f64>();
        if chance < 0.01 {
            lines.push((time, row as u32));
        } else if chance < 0.015 {
            lines.push((time + rng.random_range(1000..30_000), row as u32));
        }
    }
    lines.sort();
    let rows = || lines.iter().map(|(_, row)| *row as usize);
    let ints = |name: &str, values: Vec<i64>| Column::new(name.into(), values);
    let context = |row: usize| source.context[row];
    DataFrame::new(
        lines.len(),
        vec![
            ints("impression_id", rows().map(|row| row as i64).collect()),
            ints("request_id", rows().map(|row| FIRST_REQUEST_ID + i64::from(source.request[row])).collect()),
            ints("user_id", rows().map(|row| user_id(source.user[row])).collect()),
            ints("item_id", rows().map(|row| item_id(source.item[row])).collect()),
            ints("time", lines.iter().map(|(time, _)| *time).collect()),
            Column::new("position".into(), rows().map(|row| source.position[row]).collect::<Vec<i32>>()),
            Column::new("hour".into(), rows().map(|row| context(row).hour as i32).collect::<Vec<i32>>()),
            texts("page", rows().map(|row| Some(PAGES[context(row).page]))),
            texts("device", rows().map(|row| context(row).device.map(|device| DEVICES[device]))),
        ],
    )
}

/// Clicks in the order of their arrival.
pub(crate) fn clicks(_config: &SynthConfig, _world: &World, history: &History) -> PolarsResult<DataFrame> {
    let source = &history.impressions;
    let of = |value: &dyn Fn(&Event) -> i64| history.clicks.iter().map(value).collect::<Vec<i64>>();
    DataFrame::new(
        history.clicks.len(),
        vec![
            Column::new(
                "request_id".into(),
                of(&|event| FIRST_REQUEST_ID + i64::from(source.request[event.impression as usize])),
            ),
            Column::new("item_id".into(), of(&|event| item_id(source.item[event.impression as usize]))),
            Column::new("time".into(), of(&|event| event.time)),
        ],
    )
}

/// Conversions in the order of their arrival.
pub(crate) fn conversions(
    _config: &SynthConfig,
    world: &World,
    history: &History,
) -> PolarsResult<DataFrame> {
    let source = &history.impressions;
    let of = |value: &dyn Fn(&Event) -> i64| history.conversions.iter().map(value).collect::<Vec<i64>>();
    let item_of = |event: &Event| source.item[event.impression as usize];
    let prices = history.conversions.iter().map(|event| world.items[item_of(event) as usize].price);
    DataFrame::new(
        history.conversions.len(),
        vec![
            Column::new("user_id".into(), of(&|event| user_id(source.user[event.impression as usize]))),
            Column::new("item_id".into(), of(&|event| item_id(item_of(event)))),
            Column::new("time".into(), of(&|event| event.time)),
            Column::new("value".into(), prices.collect::<Vec<Option<f64>>>()),
        ],
    )
}

/// When a profile was written: in the month before the logs, for new ones on the eve of the last
/// day.
fn written(index: usize, old: usize) -> i64 {
    if index < old {
        FIRST_DAY_MS - DAY_MS - (index as i64 * 7919 % 720) * HOUR_MS
    } else {
        FIRST_DAY_MS + (DAYS - 1) * DAY_MS - HOUR_MS
    }
}

/// User profiles.
pub(crate) fn users(_config: &SynthConfig, world: &World, _history: &History) -> PolarsResult<DataFrame> {
    let rows: Vec<usize> = (0..world.users.len()).filter(|row| world.users[*row].has_profile).collect();
    let users = || rows.iter().map(|row| &world.users[*row]);
    let mut favourites = ListStringChunkedBuilder::new("favourites".into(), rows.len(), rows.len() * 3);
    for user in users() {
        match &user.favourites {
            Some(list) => favourites.append_values_iter(list.iter().map(|category| CATEGORIES[*category])),
            None => favourites.append_null(),
        }
    }
    DataFrame::new(
        rows.len(),
        vec![
            Column::new("user_id".into(), rows.iter().map(|row| user_id(*row as u32)).collect::<Vec<i64>>()),
            Column::new(
                "time".into(),
                rows.iter().map(|row| written(*row, world.old_users)).collect::<Vec<i64>>(),
            ),
            Column::new("age".into(), users().map(|user| user.age).collect::<Vec<Option<i64>>>()),
            texts("gender", users().map(|user| user.gender.map(|index| GENDERS[index]))),
            texts("country", users().map(|user| user.country.map(|index| COUNTRIES[index]))),
            texts("segment", users().map(|user| user.segment.map(|index| SEGMENTS[index]))),
            Column::new("activity".into(), users().map(|user| user.activity).collect::<Vec<Option<i64>>>()),
            favourites.finish().into_series().into_column(),
        ],
    )
}

/// Item profiles.
pub(crate) fn items(_config: &SynthConfig, world: &World, _history: &History) -> PolarsResult<DataFrame> {
    let rows = 0..world.items.len();
    let items = || world.items.iter();
    let brands = items().map(|item| item.brand.map(|brand| format!("brand-{brand:02}")));
    DataFrame::new(
        world.items.len(),
        vec![
            Column::new("item_id".into(), rows.clone().map(|row| item_id(row as u32)).collect::<Vec<i64>>()),
            Column::new("time".into(), rows.map(|row| written(row, world.old_items)).collect::<Vec<i64>>()),
            texts("category", items().map(|item| Some(CATEGORIES[item.category]))),
            Column::new("brand".into(), brands.collect::<Vec<Option<String>>>()),
            Column::new("price".into(), items().map(|item| item.price).collect::<Vec<Option<f64>>>()),
            Column::new("rating".into(), items().map(|item| item.rating).collect::<Vec<Option<f64>>>()),
            Column::new("views".into(), items().map(|item| item.views).collect::<Vec<i64>>()),
        ],
    )
}

/// The truth about each impression: for evaluation only.
pub(crate) fn truth(_config: &SynthConfig, _world: &World, history: &History) -> PolarsResult<DataFrame> {
    let source = &history.impressions;
    let rows = source.time.len();
    DataFrame::new(
        rows,
        vec![
            Column::new("impression_id".into(), (0..rows as i64).collect::<Vec<i64>>()),
            Column::new("p_click".into(), &source.p_click),
            Column::new("p_conversion".into(), &source.p_conversion),
            Column::new("would_click".into(), &source.clicked),
            Column::new("would_convert".into(), &source.would_convert),
        ],
    )
}

fn texts(name: &str, values: impl Iterator<Item = Option<&'static str>>) -> Column {
    let column: StringChunked = values.collect_ca(name.into());
    column.into_series().into_column()
}
