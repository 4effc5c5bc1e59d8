//! The data report, what explains one impression, and what is told before a build, on logs of which every fact was
//! planted.

use std::path::Path;

use gatefold_experiment::data::DataReport;
use gatefold_samples::{
    BuildOptions, REPORT, Silent, build, decoded_rows,
    explain::{Event, Explanation, explain},
    init, outlook,
    synth::{self, SynthConfig},
    validate,
};
use gatefold_schema::{Encoder, EncoderSet, Recipe, Vocabulary};

use crate::{
    logs::{Click, Conversion, Impression, Logs, START, UserProfile},
    plain_logs,
};

/// The recipe of the other tests, with a vocabulary of countries.
fn recipe() -> Recipe {
    let mut recipe = crate::logs::recipe();
    let country = recipe.features.iter_mut().find(|feature| feature.name == "country").unwrap();
    country.encoder = Encoder::Vocab { min_count: 1, oov_buckets: 1 };
    recipe
}

const HOUR: i64 = 3_600_000;

fn report_of(recipe: &Recipe, logs: &Logs) -> (tempfile::TempDir, DataReport) {
    let home = tempfile::tempdir().unwrap();
    logs.write(&home.path().join("logs"));
    let out = home.path().join("samples");
    build(recipe, &home.path().join("logs"), &out, &BuildOptions::default(), &mut Silent).unwrap();
    let report = serde_json::from_slice(&std::fs::read(out.join(REPORT)).unwrap()).unwrap();
    (home, report)
}

/// Four hundred requests, one a minute; every third is clicked, after one minute or after eight.
fn many_logs() -> Logs {
    let mut logs = Logs::default();
    for minute in 0..400i64 {
        let time = START + minute * 60_000;
        let (request, item) = (1000 + minute, 50 + minute % 4);
        let hour = i64::from(minute % 3 == 0) * 10 + minute % 2;
        logs.impressions.push(Impression { id: minute, request, user: 1 + minute % 5, item, time, hour });
        if minute % 3 == 0 {
            let delay = if minute % 2 == 0 { 60_000 } else { 480_000 };
            logs.clicks.push(Click { request, item, time: time + delay });
            if minute % 2 == 0 {
                // Half of the clicks on item 50 and 52 are conversions, an hour later.
                logs.conversions.push(Conversion { user: 1 + minute % 5, item, time: time + 60_000 + HOUR });
            }
        }
    }
    // User 5 has no profile, and user 4 no country; in the test a new one.
    for user in 1..5 {
        let country = (user < 4).then(|| ["de", "fr", "jp"][user as usize - 1].to_owned());
        logs.users.push(UserProfile {
            user,
            time: START - 1,
            country,
            likes: Some(vec!["a".into(), "b".into()]),
        });
    }
    let time = START + 300 * 60_000;
    logs.users.push(UserProfile { user: 1, time, country: Some("xx".into()), likes: None });
    logs
}

#[test]
fn the_report_tells_what_was_planted() {
    let (home, report) = report_of(&recipe(), &many_logs());
    // Shares of 0.2 and 0.2 of 400 rows.
    let rows: Vec<(u64, u64)> = report.splits.iter().map(|split| (split.rows, split.requests)).collect();
    assert_eq!(rows, [(240, 240), (80, 80), (80, 80)]);
    let ctr = &report.splits[0].tasks[0];
    assert_eq!((ctr.task.as_str(), ctr.rows, ctr.positives), ("ctr", 240, 80));
    let cvr = &report.splits[0].tasks[1];
    assert_eq!((cvr.task.as_str(), cvr.rows), ("cvr", 80));
    let feature = |name: &str| report.features.iter().find(|feature| feature.name == name).unwrap();

    // Two of five users have no country; user 1 has an unknown one in the last hundred minutes.
    let country = feature("country");
    let missing: Vec<u64> = country.splits.iter().map(|split| split.missing).collect();
    assert_eq!(missing, [96, 32, 32]);
    let unknown: Vec<Option<u64>> = country.splits.iter().map(|split| split.out_of_vocabulary).collect();
    assert_eq!(unknown, [Some(0), Some(3), Some(16)]);
    let top: Vec<(&str, u64)> = country.top.iter().map(|top| (top.value.as_str(), top.count)).collect();
    assert_eq!(top, [("missing", 96), ("de", 48), ("fr", 48), ("jp", 48)]);
    // Test against train: missing 0.4 each, unknown 0.2 for 0, "de" 0 for 0.2, the others the same.
    let expected = 2.0 * (0.2 - 1e-4) * (0.2f64 / 1e-4).ln();
    let psi = country.splits[2].psi.unwrap();
    assert!((psi - expected).abs() < 1e-9, "{psi} {expected}");
    assert_eq!(country.splits[0].psi, None);
    assert!(
        report.warnings.iter().any(|warning| warning.contains("'country' has shifted from train to test"))
    );

    // The hour is 10 or 11 where there is a click, else 0 or 1.
    let hour = feature("hour");
    let ctr = hour.separation.iter().find(|separation| separation.task == "ctr").unwrap();
    assert!(ctr.auc > 0.999, "{ctr:?}");
    let leak =
        report.warnings.iter().find(|warning| warning.starts_with("feature 'hour' alone has an AUC of"));
    assert!(leak.unwrap().contains("for 'ctr' on"), "{:?}", report.warnings);
    assert!(
        !report.warnings.iter().any(|warning| warning.contains("'country' alone")),
        "{:?}",
        report.warnings
    );

    // 134 clicks, half of them after a minute and the others after eight.
    let clicks = &report.delays[0];
    assert_eq!((clicks.event.as_str(), clicks.since.as_str(), clicks.events), ("click", "impression", 134));
    let within: Vec<(&str, u64)> =
        clicks.within.iter().map(|within| (within.time.as_str(), within.events)).collect();
    assert_eq!(within, [("1m", 67), ("5m", 67), ("15m", 134)]);
    let conversions = &report.delays[1];
    assert_eq!(conversions.within.iter().map(|within| within.events).collect::<Vec<_>>(), [0, 0, 0, 0, 67]);

    let page = std::fs::read_to_string(home.path().join("samples/report.html")).unwrap();
    assert!(page.contains("<h2>Delay: conversion after click</h2>") && page.contains("Look at this first"));
    assert!(!page.contains("http://") && !page.contains("https://"), "the page asks for other files");
}

fn explained(logs: &Logs, request: &str, item: &str) -> Result<Explanation, String> {
    let home = tempfile::tempdir().unwrap();
    logs.write(home.path());
    explain(&with_history(), home.path(), None, (request, item), &mut Silent)
        .map_err(|error| error.to_string())
}

/// The recipe of the other tests, with an aggregate and a sequence.
fn with_history() -> Recipe {
    let mut recipe = recipe();
    let more: Recipe = Recipe::parse(
        r#"
name = "history"
[samples.logs]
impressions = "i.parquet"
clicks = "c.parquet"
[[samples.logs.aggregate]]
name = "item_rate"
of = "clicks"
by = ["item"]
what = "rate"
windows = ["4h"]
weight = 2
prior = 0.5
[[samples.logs.sequence]]
name = "last"
of = "clicks"
last = 3
[[feature]]
name = "item_rate_4h"
side = "item"
kind = "numeric"
type = "float"
encoder = { kind = "none" }
[[feature]]
name = "last"
side = "user"
kind = "sequence"
type = "int"
max_len = 3
embedding = 4
encoder = { kind = "vocab" }
[[task]]
name = "ctr"
label = "click"
"#,
        "history.toml",
    )
    .unwrap();
    recipe.features.extend(more.features);
    let logs = recipe.samples.logs.as_mut().unwrap();
    let own = more.samples.logs.unwrap();
    (logs.aggregates, logs.sequences) = (own.aggregates, own.sequences);
    recipe
}

#[test]
fn one_impression_is_followed_through_every_stage() {
    let mut logs = plain_logs();
    // Request 106 is of user 1 and item 52 at hour 6, clicked after a minute and bought a minute after that.
    let at = START + 6 * HOUR;
    logs.clicks.push(Click { request: 106, item: 52, time: at + 90_000 });
    logs.clicks.push(Click { request: 106, item: 52, time: at - 5 });
    logs.clicks.push(Click { request: 106, item: 52, time: at + HOUR + 1 });
    logs.conversions.push(Conversion { user: 1, item: 52, time: at + 30_000 });
    logs.conversions.push(Conversion { user: 1, item: 52, time: at + 3 * HOUR });
    logs.conversions.push(Conversion { user: 1, item: 52, time: at + 60_000 + 25 * HOUR });
    let profile =
        |time: i64, country: &str| UserProfile { user: 1, time, country: Some(country.into()), likes: None };
    logs.users.push(profile(at - HOUR, "it"));
    logs.users.push(profile(at, "es"));
    let found = explained(&logs, "106", "52").unwrap();

    assert_eq!((found.user.as_str(), found.items, found.split.as_str()), ("1", 1, "valid"));
    assert_eq!(found.labels, [("click".to_owned(), 1.0), ("conversion".to_owned(), 1.0)]);
    let facts = |events: &[Event]| -> Vec<(String, bool, String)> {
        events.iter().map(|event| (event.after.clone(), event.counts, event.why.clone())).collect()
    };
    let fact = |after: &str, counts: bool, why: &str| (after.to_owned(), counts, why.to_owned());
    assert_eq!(
        facts(&found.clicks),
        [
            fact("−5ms", false, "before the item was shown"),
            fact("1m", true, "the first in the window"),
            fact("1m 30s", false, "an earlier one counts, or it counts for a later impression of the item"),
            fact("1h 1ms", false, "later than 1h after the impression"),
        ]
    );
    assert_eq!(
        facts(&found.conversions),
        [
            fact("−30s", false, "not after the click"),
            fact("1m", true, "the click has the credit for it"),
            fact("2h 59m", false, "an earlier conversion counts"),
            fact("1d 1h", false, "later than 1d after the click"),
        ]
    );

    let users = found.profiles.iter().find(|profile| profile.table == "users").unwrap();
    let versions: Vec<(bool, &str, &str)> = users
        .versions
        .iter()
        .map(|version| (version.used, version.values["country"].as_str(), version.why.as_str()))
        .collect();
    assert_eq!(
        versions,
        [
            (false, "de", "a later one is known"),
            (true, "it", "the last one known before the request"),
            (false, "es", "not before the request"),
        ]
    );

    // In the four hours before hour 6 item 52 was shown at hour 2 and clicked a minute later; the click that is
    // logged just before hour 6 is in them, too. (2 + 0.5 · 2) / (1 + 2).
    let [window] = found.aggregates.as_slice() else { panic!("{:?}", found.aggregates) };
    assert_eq!((window.column.as_str(), window.key.as_str()), ("item_rate_4h", "item 52"));
    assert_eq!((window.events, window.shown, window.value.as_str()), (2, Some(1), "1.0"));
    assert_eq!((window.listed[0].before.as_str(), window.listed[0].value.as_str()), ("3h 59m", "52"));

    // User 1 clicked item 50 at hour 0.
    let [sequence] = found.sequences.as_slice() else { panic!("{:?}", found.sequences) };
    let events: Vec<(&str, &str)> =
        sequence.events.iter().map(|event| (event.before.as_str(), event.value.as_str())).collect();
    assert_eq!(events, [("5h 59m", "50"), ("5ms", "52")]);

    let value = |name: &str| found.features.iter().find(|value| value.feature == name).unwrap();
    let country = value("country");
    assert_eq!((country.from.as_str(), country.raw.as_str()), ("users", "it"));
    assert_eq!(country.meaning, "out of vocabulary");
    let item = value("item_id");
    assert_eq!((item.from.as_str(), item.raw.as_str(), item.meaning.as_str()), ("impressions", "52", "52"));
    assert_eq!(value("item_rate_4h").from, "derived");
}

#[test]
fn an_impression_that_is_not_there_is_refused() {
    let error = explained(&plain_logs(), "999", "52").unwrap_err();
    assert!(error.contains("--request 999: no impression is left"), "{error}");
    let error = explained(&plain_logs(), "106", "51").unwrap_err();
    assert!(error.contains("--item 51: request 106 has no such item; it has 52"), "{error}");
}

#[test]
fn a_dry_run_tells_files_rows_and_steps() {
    let home = tempfile::tempdir().unwrap();
    plain_logs().write(home.path());
    let found = outlook(&with_history(), home.path()).unwrap();
    let files: Vec<(&str, Option<u64>)> =
        found.files.iter().map(|file| (file.log.as_str(), file.rows)).collect();
    assert_eq!(
        files,
        [
            ("impressions", Some(10)),
            ("clicks", Some(5)),
            ("conversions", Some(2)),
            ("users", Some(3)),
            ("items", Some(4))
        ]
    );
    let size = std::fs::metadata(home.path().join("clicks.parquet")).unwrap().len();
    assert_eq!(found.files[1].bytes, Some(size));
    assert_eq!(found.rows, Some(10));
    assert!(
        found.steps.iter().any(|step| step == "aggregate item_rate: clicks by item over 4h"),
        "{:?}",
        found.steps
    );
    let source =
        |name: &str| found.features.iter().find(|source| source.feature == name).unwrap().from.clone();
    assert_eq!(source("country").as_deref(), Some("users"));
    assert_eq!(source("last").as_deref(), Some("derived"));
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let home = tempfile::tempdir().unwrap();
    plain_logs().write(home.path());
    let mut recipe = recipe();
    let rename = |recipe: &mut Recipe, name: &str, column: &str| {
        let feature = recipe.features.iter_mut().find(|feature| feature.name == name).unwrap();
        feature.column = Some(column.to_owned());
    };
    rename(&mut recipe, "country", "cuontry");
    rename(&mut recipe, "price", "prize");
    recipe.tasks[0].label = "clik".into();
    let errors: Vec<String> =
        validate(&recipe, Some(home.path())).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors[0].contains("there is no label column 'clik'"), "{errors:?}");
    assert!(errors[1].contains("no column 'cuontry' (did you mean 'country'?)"), "{errors:?}");
    assert!(errors[2].contains("no column 'prize' (did you mean 'price'?)"), "{errors:?}");
}

#[test]
fn codes_are_turned_back_into_values() {
    let (home, _) = report_of(&recipe(), &plain_logs());
    let folder = home.path().join("samples");
    let manifest: gatefold_schema::SampleManifest =
        serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    let mut encoders = EncoderSet { features: manifest.features.clone(), ..EncoderSet::default() };
    for table in &manifest.vocabularies {
        let text = std::fs::read(folder.join(format!("vocab/{table}.json"))).unwrap();
        encoders.vocabularies.insert(table.clone(), serde_json::from_slice::<Vocabulary>(&text).unwrap());
    }
    let found = decoded_rows(&folder, &manifest, &encoders, "train", 2).unwrap();
    assert_eq!(found.rows.len(), 2);
    let of = |row: usize, name: &str| {
        found.rows[row][found.columns.iter().position(|column| column == name).unwrap()].as_str()
    };
    assert_eq!(
        (of(0, "request_id"), of(0, "country"), of(0, "item_id"), of(0, "likes")),
        ("100", "de", "50", "[a]")
    );
    assert_eq!((of(1, "country"), of(1, "item_id")), ("fr", "51"));
    let error = decoded_rows(&folder, &manifest, &encoders, "trian", 2).unwrap_err().to_string();
    assert!(error.contains("there is no split 'trian'; there are test, train, valid"), "{error}");
}

/// A recipe that was begun from synthetic logs is built as it is.
#[test]
fn a_recipe_begun_from_logs_is_built_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let logs = home.path().join("logs");
    synth::write(&logs, &SynthConfig::new(20_000, 3), false, &|_, _| None, &mut Silent).unwrap();
    let text = init(Some(&logs)).unwrap();
    let recipe = Recipe::parse(&text, "samples.toml").unwrap_or_else(|error| panic!("{error}\n{text}"));
    let sources = validate(&recipe, Some(&logs)).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    let from = |name: &str| {
        let source = sources.iter().find(|source| source.feature == name);
        source.unwrap_or_else(|| panic!("{name} is no feature:\n{text}")).from.as_deref()
    };
    assert_eq!(
        (from("country"), from("hour"), from("price")),
        (Some("users"), Some("impressions"), Some("items"))
    );
    assert!(text.contains("# Not used: truth.parquet"), "{text}");
    assert!(
        text.contains("# 'impression_id' of impressions.parquet is not read: every row has its own."),
        "{text}"
    );
    let sides: Vec<&str> = ["device", "item_id", "age"]
        .map(|name| sources.iter().find(|source| source.feature == name).unwrap().side.as_str())
        .into();
    assert_eq!(sides, ["context", "item", "user"]);
    build(&recipe, &logs, &home.path().join("samples"), &BuildOptions::default(), &mut Silent).unwrap();
}

#[test]
fn a_recipe_to_start_from_is_a_recipe_and_unknown_logs_are_refused() {
    Recipe::parse(&init(None).unwrap(), "samples.toml").unwrap();
    let home = tempfile::tempdir().unwrap();
    let refused = |folder: &Path| init(Some(folder)).unwrap_err().to_string();
    assert!(refused(home.path()).contains("among: no .parquet, .csv or .arrow file"));
    let mut logs = plain_logs();
    logs.clicks.clear();
    logs.write(home.path());
    std::fs::remove_file(home.path().join("clicks.parquet")).unwrap();
    let error = refused(home.path());
    assert!(error.contains("users.parquet (user_id, time, country, likes)"), "{error}");
}
