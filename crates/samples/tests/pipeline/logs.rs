//! Event logs in memory, written as the files that the pipeline reads, and its output read back.

use std::fs::File;
use std::path::Path;

use gatefold_schema::Recipe;
use polars::prelude::*;
use rand::{Rng, seq::SliceRandom};

/// Monday, 5 January 2026.
pub(crate) const START: i64 = 1_767_571_200_000;

pub(crate) const RECIPE: &str = r#"
    name = "small"
    [samples]
    split = { valid = 0.2, test = 0.2 }
    examples = 3
    [samples.logs]
    impressions = "impressions.parquet"
    clicks = "clicks.parquet"
    conversions = "conversions.parquet"
    users = "users.parquet"
    items = "items.parquet"
    labels = { click_window = "1h", conversion_window = "1d" }
    [[feature]]
    name = "user_id"
    side = "user"
    kind = "categorical"
    type = "int"
    encoder = { kind = "vocab", oov_buckets = 2 }
    embedding = 4
    [[feature]]
    name = "country"
    side = "user"
    kind = "categorical"
    type = "text"
    encoder = { kind = "hash", buckets = 20 }
    embedding = 4
    [[feature]]
    name = "likes"
    side = "user"
    kind = "sequence"
    type = "text"
    max_len = 3
    encoder = { kind = "vocab" }
    embedding = 4
    [[feature]]
    name = "hour"
    side = "context"
    kind = "categorical"
    type = "int"
    encoder = { kind = "bucketize", edges = [6, 12, 18] }
    embedding = 4
    [[feature]]
    name = "item_id"
    side = "item"
    kind = "categorical"
    type = "int"
    encoder = { kind = "vocab" }
    embedding = 4
    [[feature]]
    name = "price"
    side = "item"
    kind = "numeric"
    type = "float"
    encoder = { kind = "standardize" }
    [[task]]
    name = "ctr"
    label = "click"
    [[task]]
    name = "cvr"
    label = "conversion"
    given = "ctr"
    [[derived]]
    name = "ctcvr"
    product = ["ctr", "cvr"]
    label = "conversion"
    [model]
    kind = "shared-bottom"
    [train]
"#;

pub(crate) fn recipe() -> Recipe {
    Recipe::parse(RECIPE, "small.toml").unwrap()
}

#[derive(Clone, Debug)]
pub(crate) struct Impression {
    pub(crate) id: i64,
    pub(crate) request: i64,
    pub(crate) user: i64,
    pub(crate) item: i64,
    pub(crate) time: i64,
    pub(crate) hour: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct Click {
    pub(crate) request: i64,
    pub(crate) item: i64,
    pub(crate) time: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct Conversion {
    pub(crate) user: i64,
    pub(crate) item: i64,
    pub(crate) time: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct UserProfile {
    pub(crate) user: i64,
    pub(crate) time: i64,
    pub(crate) country: Option<String>,
    pub(crate) likes: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
pub(crate) struct ItemProfile {
    pub(crate) item: i64,
    pub(crate) time: i64,
    pub(crate) price: Option<f64>,
}

/// A row of the raw output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) request: i64,
    pub(crate) time: i64,
    pub(crate) user: i64,
    pub(crate) item: i64,
    pub(crate) hour: Option<i64>,
    pub(crate) country: Option<String>,
    pub(crate) likes: Option<Vec<String>>,
    pub(crate) price: Option<f64>,
    pub(crate) click: f32,
    pub(crate) conversion: f32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Logs {
    pub(crate) impressions: Vec<Impression>,
    pub(crate) clicks: Vec<Click>,
    pub(crate) conversions: Vec<Conversion>,
    pub(crate) users: Vec<UserProfile>,
    pub(crate) items: Vec<ItemProfile>,
}

fn ints<T>(name: &str, rows: &[T], value: impl Fn(&T) -> i64) -> Column {
    Column::new(name.into(), rows.iter().map(value).collect::<Vec<i64>>())
}

pub(crate) fn save(path: &Path, columns: Vec<Column>) {
    let mut frame = DataFrame::new_infer_height(columns).unwrap();
    ParquetWriter::new(File::create(path).unwrap()).finish(&mut frame).unwrap();
}

pub(crate) fn load(path: &Path) -> DataFrame {
    let mut frame = ParquetReader::new(File::open(path).unwrap()).finish().unwrap();
    frame.rechunk_mut();
    frame
}

impl Logs {
    pub(crate) fn shuffle(&mut self, rng: &mut impl Rng) {
        self.impressions.shuffle(rng);
        self.clicks.shuffle(rng);
        self.conversions.shuffle(rng);
        self.users.shuffle(rng);
        self.items.shuffle(rng);
    }

    pub(crate) fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        save(
            &folder.join("impressions.parquet"),
            vec![
                ints("impression_id", &self.impressions, |row| row.id),
                ints("request_id", &self.impressions, |row| row.request),
                ints("user_id", &self.impressions, |row| row.user),
                ints("item_id", &self.impressions, |row| row.item),
                ints("time", &self.impressions, |row| row.time),
                ints("hour", &self.impressions, |row| row.hour),
            ],
        );
        save(
            &folder.join("clicks.parquet"),
            vec![
                ints("request_id", &self.clicks, |row| row.request),
                ints("item_id", &self.clicks, |row| row.item),
                ints("time", &self.clicks, |row| row.time),
            ],
        );
        save(
            &folder.join("conversions.parquet"),
            vec![
                ints("user_id", &self.conversions, |row| row.user),
                ints("item_id", &self.conversions, |row| row.item),
                ints("time", &self.conversions, |row| row.time),
            ],
        );
        let mut likes = ListStringChunkedBuilder::new("likes".into(), self.users.len(), 10);
        for user in &self.users {
            match &user.likes {
                Some(list) => likes.append_values_iter(list.iter().map(String::as_str)),
                None => likes.append_null(),
            }
        }
        let countries: Vec<Option<&str>> = self.users.iter().map(|row| row.country.as_deref()).collect();
        save(
            &folder.join("users.parquet"),
            vec![
                ints("user_id", &self.users, |row| row.user),
                ints("time", &self.users, |row| row.time),
                Column::new("country".into(), countries),
                likes.finish().into_series().into_column(),
            ],
        );
        let prices: Vec<Option<f64>> = self.items.iter().map(|row| row.price).collect();
        save(
            &folder.join("items.parquet"),
            vec![
                ints("item_id", &self.items, |row| row.item),
                ints("time", &self.items, |row| row.time),
                Column::new("price".into(), prices),
            ],
        );
    }
}

/// Rows of a `raw-<split>.parquet`.
pub(crate) fn read_samples(path: &Path) -> Vec<Sample> {
    let frame = load(path);
    let int = |name: &str, row: usize| frame.column(name).unwrap().i64().unwrap().get(row);
    let label = |name: &str, row: usize| frame.column(name).unwrap().f32().unwrap().get(row).unwrap();
    let likes = frame.column("likes").unwrap().list().unwrap();
    let texts = |series: Series| series.str().unwrap().iter().map(|text| text.unwrap().to_owned()).collect();
    (0..frame.height())
        .map(|row| Sample {
            request: int("request_id", row).unwrap(),
            // Samples have microseconds, the logs milliseconds.
            time: int("time", row).unwrap() / 1000,
            user: int("user_id", row).unwrap(),
            item: int("item_id", row).unwrap(),
            hour: int("hour", row),
            country: frame.column("country").unwrap().str().unwrap().get(row).map(str::to_owned),
            likes: likes.get_as_series(row).map(texts),
            price: frame.column("price").unwrap().f64().unwrap().get(row),
            click: label("click", row),
            conversion: label("conversion", row),
        })
        .collect()
}

/// Codes of `item_id` and `likes` in a shard.
pub(crate) fn read_codes(path: &Path) -> (Vec<i32>, Vec<Vec<i32>>) {
    let frame = load(path);
    let items = frame.column("item_id").unwrap().i32().unwrap().iter().flatten().collect();
    let likes = frame.column("likes").unwrap().list().unwrap();
    let list = |row| likes.get_as_series(row).unwrap().i32().unwrap().iter().flatten().collect();
    (items, (0..frame.height()).map(list).collect())
}

/// Renames a column of a file.
pub(crate) fn rename_column(path: &Path, from: &str, to: &str) {
    let mut frame = load(path);
    frame.rename(from, to.into()).unwrap();
    save(path, frame.columns().to_vec());
}

/// Turns a column of a file into text.
pub(crate) fn make_text(path: &Path, column: &str) {
    let frame = load(path);
    let change = |own: &Column| match own.name() == column {
        true => own.cast(&DataType::String).unwrap(),
        false => own.clone(),
    };
    save(path, frame.columns().iter().map(change).collect());
}
