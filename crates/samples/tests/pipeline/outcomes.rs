//! What comes of impressions beside click and conversion, what becomes of the events, and sessions.

use std::fs::File;
use std::path::Path;

use gatefold_samples::{BuildOptions, SamplesError, Silent};
use gatefold_schema::{
    ClickKey, EventKind, Feature, Loss, Maturity, Recipe, SampleManifest, Span, ValueLabel, strict::from_toml,
};
use polars::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    logs::{Conversion, Impression, Logs, START, recipe},
    parts::build,
    plain_logs,
    synthetic::{floats, ints, load},
};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// Gives a file a further column.
fn add(path: &Path, column: Column) {
    let mut frame = load(path);
    frame.with_column(column).unwrap();
    ParquetWriter::new(File::create(path).unwrap()).finish(&mut frame).unwrap();
}

/// The samples of all splits, in order, and the manifest; `change` may touch files and recipe.
fn samples(
    logs: &Logs,
    change: impl FnOnce(&Path, &mut Recipe),
) -> Result<(DataFrame, SampleManifest), SamplesError> {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("logs");
    logs.write(&folder);
    let mut recipe = recipe();
    change(&folder, &mut recipe);
    let raw = ["train", "valid", "test"].map(str::to_owned);
    let out = home.path().join("samples");
    let options = BuildOptions { raw: raw.clone().into(), ..BuildOptions::default() };
    let manifest = build(&recipe, &folder, &out, &options, &mut Silent)?;
    let mut all = DataFrame::empty();
    for split in raw {
        let part = load(&out.join(format!("raw-{split}.parquet")));
        all = if all.width() == 0 { part } else { all.vstack(&part).unwrap() };
    }
    all.rechunk_mut();
    Ok((all, manifest))
}

fn value(name: &str, of: EventKind, column: &str, at_least: Option<f64>) -> ValueLabel {
    ValueLabel { name: name.into(), of, column: column.into(), at_least }
}

#[test]
fn the_values_of_clicks_and_conversions_are_labels() {
    let logs = plain_logs();
    // Clicks of hours 0, 2, 4, 6, 8; conversions of hours 6 and 4.
    let (found, manifest) = samples(&logs, |folder, recipe| {
        let dwell = Column::new("dwell".into(), [Some(40i64), Some(29), Some(30), None, Some(3)]);
        add(&folder.join("clicks.parquet"), dwell);
        add(&folder.join("conversions.parquet"), Column::new("value".into(), [12.5, 99.0]));
        let config = recipe.samples.logs.as_mut().unwrap();
        config.value_labels = vec![
            value("long_click", EventKind::Clicks, "dwell", Some(30.0)),
            value("seconds", EventKind::Clicks, "dwell", None),
            value("spent", EventKind::Conversions, "value", None),
        ];
        let mut spent = recipe.tasks[0].clone();
        (spent.name, spent.label, spent.loss) = ("gmv".into(), "spent".into(), Loss::SquaredError);
        recipe.tasks.push(spent);
    })
    .unwrap();
    assert_eq!(floats(&found, "long_click"), [1., 0., 0., 0., 1., 0., 0., 0., 0., 0.]);
    assert_eq!(floats(&found, "seconds"), [40., 0., 29., 0., 30., 0., 0., 0., 3., 0.]);
    assert_eq!(floats(&found, "spent"), [0., 0., 0., 0., 99., 0., 12.5, 0., 0., 0.]);
    // Counted once, though two labels are made of it.
    assert_eq!(manifest.events["clicks without a value in 'dwell'"], 1);
    assert_eq!(manifest.labels, ["click", "conversion", "long_click", "seconds", "spent"]);
}

#[test]
fn a_label_needs_a_column_of_numbers() {
    let refused = |column: &str| {
        let change = |folder: &Path, recipe: &mut Recipe| {
            let names = Column::new("page".into(), ["a", "b", "c", "d", "e"]);
            add(&folder.join("clicks.parquet"), names);
            let config = recipe.samples.logs.as_mut().unwrap();
            config.value_labels = vec![value("long_click", EventKind::Clicks, column, Some(30.0))];
        };
        samples(&plain_logs(), change).unwrap_err().to_string()
    };
    let error = refused("page");
    assert!(error.contains("[[samples.logs.label]] 'long_click': column 'page' has type str"), "{error}");
    let error = refused("pages");
    assert!(error.contains("there is no column 'pages' (did you mean 'page'?)"), "{error}");
}

#[test]
fn every_event_is_accounted_for() {
    let mut logs = plain_logs();
    let click = START + 2 * HOUR + MINUTE;
    // Of user 3 and item 52, clicked in hour 2: before the click, and two days after it.
    for time in [click - 1, click + 48 * HOUR] {
        logs.conversions.push(Conversion { user: 3, item: 52, time });
    }
    // Of what was shown to user 2 in hour 1 and never clicked.
    logs.conversions.push(Conversion { user: 2, item: 51, time: START + HOUR + 5 });
    let (found, manifest) = samples(&logs, |_, recipe| {
        recipe.samples.logs.as_mut().unwrap().labels.view_window = Some(Span::days(1));
    })
    .unwrap();
    let count = |what: &str| manifest.events[what];
    assert_eq!(count("conversions credited"), 2);
    assert_eq!(count("conversions before their click"), 1);
    assert_eq!(count("conversions after their window"), 1);
    assert_eq!(count("conversions without a click"), 1);
    assert_eq!(count("clicks credited"), 5);
    // The one before the click followed its impression, and so did that without a click.
    assert_eq!(count("conversions credited to a view"), 2);
    assert_eq!(floats(&found, "view_conversion"), [0., 1., 1., 0., 0., 0., 0., 0., 0., 0.]);
    assert_eq!(floats(&found, "conversion").iter().sum::<f64>(), 2.0);
}

#[test]
fn clicks_are_accounted_for_by_either_key() {
    for by in [ClickKey::Request, ClickKey::User] {
        let mut logs = plain_logs();
        let click = |request, item, time| crate::logs::Click { request, item, time };
        logs.clicks.push(click(101, 51, START + HOUR - 1));
        logs.clicks.push(click(103, 53, START + 3 * HOUR + 2 * HOUR));
        logs.clicks.push(click(105, 53, START + 5 * HOUR + 1));
        let (_, manifest) = samples(&logs, |folder, recipe| {
            recipe.samples.logs.as_mut().unwrap().labels.click_by = by;
            let requests = ints(&load(&folder.join("clicks.parquet")), "request_id");
            let users: Vec<i64> = requests.iter().map(|request| 1 + (request - 100) % 3).collect();
            add(&folder.join("clicks.parquet"), Column::new("user_id".into(), users));
        })
        .unwrap();
        let counts = ["credited", "before their impression", "after their window", "without an impression"]
            .map(|what| manifest.events[&format!("clicks {what}")]);
        assert_eq!(counts, [5, 1, 1, 1], "{by:?}");
    }
}

fn context_feature(name: &str) -> Feature {
    let text = format!(
        "name = \"{name}\"\nside = \"context\"\nkind = \"numeric\"\ntype = \"int\"\nencoder = {{ kind = \"log1p\" }}"
    );
    from_toml(&text, "feature").unwrap()
}

#[test]
fn sessions_are_counted_by_what_came_before() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for _ in 0..20 {
        let mut logs = plain_logs();
        for request in 0..60 {
            // Whole tens of minutes, so that some requests of a user come at one time.
            let time = START + rng.random_range(0..60) * 10 * MINUTE;
            let (user, item) = (rng.random_range(1..4), 50 + request % 4);
            logs.impressions.push(Impression {
                id: 100 + request,
                request: 1000 + request,
                user,
                item,
                time,
                hour: 3,
            });
        }
        let (found, _) = samples(&logs, |_, recipe| {
            recipe.samples.logs.as_mut().unwrap().session_gap = Some(Span::parse("30m").unwrap());
            recipe.features.extend(["session", "session_position"].map(context_feature));
        })
        .unwrap();
        let [user, time, session, position] =
            ["user_id", "time", "session", "session_position"].map(|name| ints(&found, name));
        for row in 0..user.len() {
            let mut before: Vec<i64> = (0..user.len())
                .filter(|r| user[*r] == user[row] && time[*r] < time[row])
                .map(|r| time[r])
                .collect();
            before.push(time[row]);
            before.sort_unstable();
            let is_pause = |pair: &[i64]| pair[1] - pair[0] > 30 * MINUTE * 1000;
            let pauses: Vec<usize> = (1..before.len()).filter(|at| is_pause(&before[at - 1..=*at])).collect();
            let start = pauses.last().copied().unwrap_or(0);
            assert_eq!(session[row], pauses.len() as i64);
            assert_eq!(position[row], (before.len() - 1 - start) as i64, "row {row}");
        }
    }
}

#[test]
fn how_long_outcomes_could_be_observed() {
    let prepare = |recipe: &mut Recipe| {
        let labels = &mut recipe.samples.logs.as_mut().unwrap().labels;
        (labels.click_window, labels.conversion_window) =
            (Span::parse("1h").unwrap(), Span::parse("5h").unwrap());
        labels.maturity = Maturity::Elapsed;
    };
    let (found, _) = samples(&plain_logs(), |_, recipe| {
        prepare(recipe);
        recipe.features.push(context_feature("observed"));
    })
    .unwrap();
    // Six requests are for training. The last event is the impression of hour 9, the windows are six hours long.
    let hours = [6, 6, 6, 6, 5, 4, 6, 6, 6, 6];
    assert_eq!(ints(&found, "observed"), hours.map(|hours| hours * 3600));
    let error = samples(&plain_logs(), |_, recipe| prepare(recipe)).unwrap_err().to_string();
    assert!(error.contains("makes the column 'observed', which no feature reads"), "{error}");
}
