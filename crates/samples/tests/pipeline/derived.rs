//! Aggregates, sequences and profiles of several times, against nested loops over small random logs on a
//! coarse clock, where equal times are frequent.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use crate::parts::build;
use gatefold_samples::{BuildOptions, Silent};
use gatefold_schema::Recipe;
use polars::prelude::*;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

/// Microseconds of a tick, and of windows below in ticks.
const TICK: i64 = 1_800_000_000;
const START: i64 = 1_767_571_200_000_000;
const WINDOWS: [i64; 2] = [2, 8];
const LAST: usize = 3;

pub(crate) fn recipe() -> Recipe {
    let mut text = r#"
name = "derived"
[samples]
split = { valid = 0.2, test = 0.2 }
[samples.logs]
impressions = { files = "impressions.parquet", time_unit = "us" }
clicks = { files = "clicks.parquet", time_unit = "us" }
conversions = { files = "conversions.parquet", time_unit = "us" }
items = { files = "items.parquet", time_unit = "us", created = "created", ttl = "30h" }
labels = { click_window = "1d", conversion_window = "1d", conversion = "every-click" }
"#
    .to_owned();
    let mut features = String::new();
    let mut feature = |name: String, side: &str, kind: &str, value: &str, encoder: &str| {
        let more = match kind {
            "sequence" => "max_len = 3\nembedding = 4\n",
            "categorical" => "embedding = 4\n",
            _ => "",
        };
        features.push_str(&format!(
            "[[feature]]\nname = \"{name}\"\nside = \"{side}\"\nkind = \"{kind}\"\ntype = \"{value}\"\n\
             encoder = {{ kind = \"{encoder}\" }}\n{more}"
        ));
    };
    for (name, of, by, side, more) in AGGREGATES {
        text.push_str(&format!(
            "[[samples.logs.aggregate]]\nname = \"{name}\"\nof = \"{of}\"\nby = {by:?}\nwindows = [\"1h\", \"4h\"]\n{more}\n"
        ));
        for window in ["1h", "4h"] {
            feature(format!("{name}_{window}"), side, "numeric", "float", "none");
        }
    }
    text.push_str(
        "[[samples.logs.sequence]]\nname = \"clicked\"\nof = \"clicks\"\nlast = 3\ngaps = \"clicked_gaps\"\n\
         [[samples.logs.sequence]]\nname = \"clicked_categories\"\nof = \"clicks\"\ncolumn = \"category\"\nlast = 3\n\
         window = \"4h\"\n",
    );
    feature("clicked".into(), "user", "sequence", "int", "vocab");
    feature("clicked_gaps".into(), "user", "sequence", "int", "vocab");
    feature("clicked_categories".into(), "user", "sequence", "text", "vocab");
    feature("category".into(), "item", "categorical", "text", "vocab");
    feature("position".into(), "item", "numeric", "int", "none");
    text.push_str(&features);
    text.push_str("[[task]]\nname = \"ctr\"\nlabel = \"click\"\n");
    Recipe::parse(&text, "derived.toml").unwrap()
}

/// Name, events, key, side of the features, more settings.
const AGGREGATES: [(&str, &str, &[&str], &str, &str); 10] = [
    ("user_clicks", "clicks", &["user"], "user", ""),
    ("user_shown", "impressions", &["user"], "user", ""),
    ("item_shown", "impressions", &["item"], "item", ""),
    ("pair_shown", "impressions", &["user", "item"], "item", ""),
    ("item_rate", "clicks", &["item"], "item", "what = \"rate\"\nweight = 4\nprior = 0.25"),
    ("category_clicks", "clicks", &["category"], "item", ""),
    ("user_spent", "conversions", &["user"], "user", "what = \"sum\"\ncolumn = \"value\""),
    ("item_mean", "conversions", &["item"], "item", "what = \"mean\"\ncolumn = \"value\""),
    ("item_most", "conversions", &["user", "category"], "item", "what = \"max\"\ncolumn = \"value\""),
    ("user_variety", "clicks", &["user"], "user", "what = \"distinct\"\ncolumn = \"item\""),
];

#[derive(Clone, Debug)]
struct Shown {
    request: i64,
    user: i64,
    item: i64,
    time: i64,
    position: i8,
}

#[derive(Clone, Debug)]
struct Event {
    request: i64,
    user: i64,
    item: i64,
    time: i64,
    value: Option<f64>,
}

#[derive(Clone, Debug)]
struct Version {
    item: i64,
    time: i64,
    created: i64,
    category: Option<String>,
}

#[derive(Default)]
pub(crate) struct World {
    shown: Vec<Shown>,
    clicks: Vec<Event>,
    conversions: Vec<Event>,
    items: Vec<Version>,
}

pub(crate) fn random(seed: u64) -> World {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World::default();
    for request in 0..60 {
        let (user, time) = (rng.random_range(0..4), START + rng.random_range(0..40) * TICK);
        let mut items = BTreeSet::new();
        for position in 0..rng.random_range(1..5) {
            let item = rng.random_range(10..15);
            if !items.insert(item) {
                continue;
            }
            world.shown.push(Shown { request, user, item, time, position });
            for _ in 0..rng.random_range(0..3) {
                let time = time + rng.random_range(0..4) * TICK;
                world.clicks.push(Event { request, user, item, time, value: None });
            }
            if rng.random_range(0..3) == 0 {
                let value = (rng.random_range(0..4) > 0).then(|| f64::from(rng.random_range(1..1000)) / 10.0);
                let time = time + rng.random_range(-4..8) * TICK;
                world.conversions.push(Event { request, user, item, time, value });
            }
        }
    }
    let mut times = BTreeSet::new();
    for _ in 0..40 {
        let (item, time) = (rng.random_range(10..15), START + rng.random_range(-4..40) * TICK);
        if times.insert((item, time)) {
            let created = time + rng.random_range(0..3) * TICK;
            let category = (rng.random_range(0..5) > 0).then(|| format!("c{}", rng.random_range(0..3)));
            world.items.push(Version { item, time, created, category });
        }
    }
    world.shown.shuffle(&mut rng);
    world.clicks.shuffle(&mut rng);
    world.conversions.shuffle(&mut rng);
    world.items.shuffle(&mut rng);
    world
}

fn write(path: &Path, columns: Vec<Column>) {
    let mut frame = DataFrame::new(columns[0].len(), columns).unwrap();
    ParquetWriter::new(File::create(path).unwrap()).finish(&mut frame).unwrap();
}

impl World {
    pub(crate) fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        fn ints<T>(name: &str, rows: &[T], value: impl Fn(&T) -> i64) -> Column {
            Column::new(name.into(), rows.iter().map(value).collect::<Vec<i64>>())
        }
        let shown = &self.shown;
        write(
            &folder.join("impressions.parquet"),
            vec![
                ints("request_id", shown, |row| row.request),
                ints("user_id", shown, |row| row.user),
                ints("item_id", shown, |row| row.item),
                ints("time", shown, |row| row.time),
                Column::new("position".into(), shown.iter().map(|row| row.position).collect::<Vec<i8>>()),
            ],
        );
        for (name, rows) in [("clicks", &self.clicks), ("conversions", &self.conversions)] {
            let values: Vec<Option<f64>> = rows.iter().map(|row| row.value).collect();
            write(
                &folder.join(format!("{name}.parquet")),
                vec![
                    ints("request_id", rows, |row| row.request),
                    ints("user_id", rows, |row| row.user),
                    ints("item_id", rows, |row| row.item),
                    ints("time", rows, |row| row.time),
                    Column::new("value".into(), values),
                ],
            );
        }
        let items = &self.items;
        let categories: Vec<Option<&str>> = items.iter().map(|row| row.category.as_deref()).collect();
        write(
            &folder.join("items.parquet"),
            vec![
                ints("item_id", items, |row| row.item),
                ints("time", items, |row| row.time),
                ints("created", items, |row| row.created),
                Column::new("category".into(), categories),
            ],
        );
    }

    /// The category of an item as it was known strictly before a time, not older than 30 hours.
    fn category(&self, item: i64, time: i64) -> Option<&str> {
        let known = self.items.iter().filter(|row| row.item == item && row.time < time && row.created < time);
        let last = known.max_by_key(|row| row.time)?;
        if time - last.time > 60 * TICK { None } else { last.category.as_deref() }
    }

    /// One event for each request and item, the earliest.
    fn first_clicks(&self) -> Vec<&Event> {
        let mut keys: BTreeSet<(i64, i64)> = BTreeSet::new();
        for click in &self.clicks {
            keys.insert((click.request, click.item));
        }
        keys.iter()
            .filter_map(|key| {
                let same = self.clicks.iter().filter(|click| (click.request, click.item) == *key);
                same.min_by_key(|click| click.time)
            })
            .collect()
    }

    /// Values of the conversions, repeated ones once: the first of the log.
    fn distinct_conversions(&self) -> Vec<&Event> {
        let mut seen = BTreeSet::new();
        self.conversions.iter().filter(|row| seen.insert((row.user, row.item, row.time))).collect()
    }

    /// What each aggregate is for a row, by its name, for both windows.
    fn aggregates(&self, row: &Shown) -> Vec<(String, Option<f64>)> {
        let clicks: Vec<Event> = self.first_clicks().into_iter().cloned().collect();
        let conversions: Vec<Event> = self.distinct_conversions().into_iter().cloned().collect();
        let shown = |row: &Shown| Event {
            request: row.request,
            user: row.user,
            item: row.item,
            time: row.time,
            value: None,
        };
        let shown: Vec<Event> = self.shown.iter().map(shown).collect();
        let mut all = Vec::new();
        for (name, of, by, _, more) in AGGREGATES {
            for (window, ticks) in ["1h", "4h"].into_iter().zip(WINDOWS) {
                let same = |event: &&Event| {
                    by.iter().all(|part| match *part {
                        "user" => event.user == row.user,
                        "item" => event.item == row.item,
                        _ => {
                            let own = self.category(row.item, row.time);
                            own.is_some() && self.category(event.item, event.time) == own
                        }
                    })
                };
                let inside = |event: &&Event| (row.time - ticks * TICK..row.time).contains(&event.time);
                let log = match of {
                    "clicks" => &clicks,
                    "conversions" => &conversions,
                    _ => &shown,
                };
                let events: Vec<&Event> = log.iter().filter(same).filter(inside).collect();
                let values: Vec<f64> = events.iter().filter_map(|event| event.value).collect();
                let value = if more.contains("rate") {
                    let shown = shown.iter().filter(same).filter(inside).count() as f64;
                    Some((events.len() as f64 + 1.0) / (shown + 4.0))
                } else if more.contains("sum") {
                    // Tenths are added as whole numbers, so that the sum is right whatever its order.
                    Some(values.iter().map(|value| (value * 10.0).round()).sum::<f64>() / 10.0)
                } else if more.contains("mean") {
                    let tenths = values.iter().map(|value| (value * 10.0).round()).sum::<f64>();
                    (!values.is_empty()).then(|| tenths / 10.0 / values.len() as f64)
                } else if more.contains("max") {
                    values.into_iter().reduce(f64::max)
                } else if more.contains("distinct") {
                    Some(events.iter().map(|event| event.item).collect::<BTreeSet<_>>().len() as f64)
                } else {
                    Some(events.len() as f64)
                };
                all.push((format!("{name}_{window}"), value));
            }
        }
        all
    }

    /// The last clicks of a row's user before it: item, seconds before, category then.
    fn history(&self, row: &Shown) -> (Vec<i64>, Vec<i64>, Vec<String>) {
        let clicks = self.first_clicks();
        let mut own: Vec<&&Event> =
            clicks.iter().filter(|click| click.user == row.user && click.time < row.time).collect();
        own.sort_by_key(|click| (click.time, click.item));
        let last = &own[own.len().saturating_sub(LAST)..];
        let recent: Vec<&&Event> =
            own.iter().copied().filter(|click| row.time - click.time <= 8 * TICK).collect();
        let recent = &recent[recent.len().saturating_sub(LAST)..];
        (
            last.iter().map(|click| click.item).collect(),
            last.iter().map(|click| (row.time - click.time) / 1_000_000).collect(),
            recent
                .iter()
                .filter_map(|click| self.category(click.item, click.time))
                .map(str::to_owned)
                .collect(),
        )
    }
}

fn read(out: &Path) -> DataFrame {
    let mut all: Option<DataFrame> = None;
    for split in ["train", "valid", "test"] {
        let file = File::open(out.join(format!("raw-{split}.parquet"))).unwrap();
        let frame = ParquetReader::new(file).finish().unwrap();
        all = Some(match all {
            Some(all) => all.vstack(&frame).unwrap(),
            None => frame,
        });
    }
    all.unwrap()
}

#[test]
fn what_was_known_agrees_with_nested_loops() {
    for seed in 0..8 {
        let world = random(seed);
        let home = tempfile::tempdir().unwrap();
        world.write(&home.path().join("logs"));
        let out = home.path().join("samples");
        let splits = ["train", "valid", "test"].map(str::to_owned).to_vec();
        let options = BuildOptions { raw: splits, ..BuildOptions::default() };
        build(&recipe(), &home.path().join("logs"), &out, &options, &mut Silent).unwrap();
        let found = read(&out);

        let mut rows = world.shown.clone();
        rows.sort_by_key(|row| (row.time, row.request, row.item));
        assert_eq!(found.height(), rows.len());
        let number = |name: &str, row: usize| {
            let column = found.column(name).unwrap().cast(&DataType::Float64).unwrap();
            column.f64().unwrap().get(row)
        };
        for (at, row) in rows.iter().enumerate() {
            assert_eq!(number("request_id", at), Some(row.request as f64));
            assert_eq!(number("position", at), Some(f64::from(row.position)));
            for (name, value) in world.aggregates(row) {
                let found = number(&name, at);
                let equal = match (found, value) {
                    (Some(found), Some(value)) => (found - value).abs() < 1e-9,
                    (found, value) => found == value,
                };
                assert!(equal, "seed {seed}, {name} of {row:?}: {found:?}, expected {value:?}");
            }
            let category = found.column("category").unwrap().str().unwrap().get(at).map(str::to_owned);
            assert_eq!(category.as_deref(), world.category(row.item, row.time), "seed {seed}, {row:?}");
            let (items, gaps, categories) = world.history(row);
            assert_eq!(ints(&found, "clicked", at), items, "seed {seed}, {row:?}");
            assert_eq!(ints(&found, "clicked_gaps", at), gaps, "seed {seed}, {row:?}");
            let list = found.column("clicked_categories").unwrap().list().unwrap().get_as_series(at).unwrap();
            let texts: Vec<String> = list.str().unwrap().iter().flatten().map(str::to_owned).collect();
            assert_eq!(texts, categories, "seed {seed}, {row:?}");
        }
    }
}

fn ints(frame: &DataFrame, name: &str, row: usize) -> Vec<i64> {
    let list = frame.column(name).unwrap().list().unwrap().get_as_series(row).unwrap();
    list.i64().unwrap().iter().flatten().collect()
}
