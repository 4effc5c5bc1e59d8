//! What a log may be: formats, several files, folders with partitions, units and zones of times, rows that cannot
//! be used.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::parts::build;
use gatefold_samples::{BuildOptions, SamplesError, Silent};
use gatefold_schema::{OnBadRow, Recipe, SampleManifest};
use polars::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::logs::{self, load, save};

const NAMES: [&str; 5] = ["impressions", "clicks", "conversions", "users", "items"];

/// The recipe of [`logs`] without its lists, which CSV cannot hold, after `edit`.
fn recipe(edit: impl Fn(String) -> String) -> Recipe {
    let text = logs::RECIPE.replace("\r", "");
    let start = text.find("    [[feature]]\n    name = \"likes\"").unwrap();
    let end = start + 1 + text[start + 1..].find("    [[feature]]").unwrap();
    Recipe::parse(&edit(format!("{}{}", &text[..start], &text[end..])), "small.toml").unwrap()
}

/// The files of a sample set, and its manifest.
type Built = (BTreeMap<String, Vec<u8>>, SampleManifest);

fn built(recipe: &Recipe, folder: &Path, on_bad_row: Option<OnBadRow>) -> Result<Built, SamplesError> {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("samples");
    let options = BuildOptions { raw: vec!["train".into()], on_bad_row, ..BuildOptions::default() };
    let manifest = build(recipe, folder, &out, &options, &mut Silent)?;
    Ok((crate::contents(&out), manifest))
}

/// Random logs as Parquet files, without the lists.
fn written() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    crate::random_logs(&mut ChaCha8Rng::seed_from_u64(3)).write(home.path());
    let users = home.path().join("users.parquet");
    save(&users, load(&users).drop("likes").unwrap().columns().to_vec());
    home
}

fn write(frame: &DataFrame, path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let (mut frame, file) = (frame.clone(), File::create(path).unwrap());
    match path.extension().unwrap().to_str().unwrap() {
        "csv" => CsvWriter::new(file).finish(&mut frame).unwrap(),
        "arrow" => IpcWriter::new(file).finish(&mut frame).unwrap(),
        _ => ParquetWriter::new(file).finish(&mut frame).map(drop).unwrap(),
    }
}

/// Writes every log as `put` says, which returns what stands in the recipe for the log.
fn rewritten(put: impl Fn(&Path, &str, &DataFrame) -> String) -> (tempfile::TempDir, Recipe) {
    let home = written();
    let mut files = Vec::new();
    for name in NAMES {
        let path = home.path().join(format!("{name}.parquet"));
        let frame = load(&path);
        fs::remove_file(path).unwrap();
        files.push((name, put(home.path(), name, &frame)));
    }
    let recipe = recipe(|text| {
        files.iter().fold(text, |text, (name, files)| {
            text.replace(&format!("{name} = \"{name}.parquet\""), &format!("{name} = {files}"))
        })
    });
    (home, recipe)
}

/// Cuts a frame into three.
fn parts(frame: &DataFrame) -> [DataFrame; 3] {
    let third = frame.height() / 3;
    [frame.slice(0, third), frame.slice(third as i64, third), frame.slice(2 * third as i64, usize::MAX)]
}

#[test]
fn every_format_and_layout_gives_the_same_samples() {
    let expected = built(&recipe(|text| text), written().path(), None).unwrap();
    let check = |what: &str, put: &dyn Fn(&Path, &str, &DataFrame) -> String| {
        let (home, recipe) = rewritten(put);
        let found = built(&recipe, home.path(), None).unwrap_or_else(|error| panic!("{what}: {error}"));
        let differing: Vec<&String> =
            expected.0.keys().filter(|key| found.0.get(*key) != expected.0.get(*key)).collect();
        assert!(differing.is_empty() && found.0.len() == expected.0.len(), "{what}: {differing:?}");
    };
    for ending in ["parquet", "csv", "arrow"] {
        check(ending, &|folder, name, frame| {
            write(frame, &folder.join(format!("a.{name}.{ending}")));
            format!("\"a.{name}.{ending}\"")
        });
        check(&format!("{ending} by a pattern"), &|folder, name, frame| {
            for (number, part) in parts(frame).iter().enumerate() {
                write(part, &folder.join(format!("{name}/part-{number}.{ending}")));
            }
            format!("\"{name}/part-*.{ending}\"")
        });
        check(&format!("{ending} in a list"), &|folder, name, frame| {
            let names = [0, 1, 2].map(|number| format!("{name}-{number}.{ending}"));
            parts(frame).iter().zip(&names).for_each(|(part, name)| write(part, &folder.join(name)));
            format!("{{ files = {names:?} }}")
        });
        check(&format!("{ending} in a folder"), &|folder, name, frame| {
            for (part, below) in parts(frame).iter().zip(["x", "y/z", "y"]) {
                write(part, &folder.join(format!("{name}/{below}/part-0.{ending}")));
            }
            fs::write(folder.join(name).join("_SUCCESS"), "").unwrap();
            format!("\"{name}\"")
        });
        // The hour of an impression is in the names of the folders alone.
        check(&format!("{ending} in partitions"), &|folder, name, frame| {
            if name != "impressions" {
                write(frame, &folder.join(format!("{name}.{ending}")));
                return format!("\"{name}.{ending}\"");
            }
            for hour in 0..24 {
                let own = frame.column("hour").unwrap().i64().unwrap().equal(hour);
                let part = frame.filter(&own).unwrap().drop("hour").unwrap();
                if part.height() > 0 {
                    write(&part, &folder.join(format!("{name}/hour={hour}/part-0.{ending}")));
                }
            }
            format!("\"{name}\"")
        });
    }
}

#[test]
fn an_instant_may_be_written_in_any_unit_and_zone() {
    let expected = built(&recipe(|text| text), written().path(), None).unwrap();
    let zone = |name: &str| Some(TimeZone::opt_try_new(Some(name)).unwrap().unwrap());
    let ways: Vec<(&str, DataType, i64, i64)> = vec![
        ("s", DataType::Int64, 1, 1000),
        ("us", DataType::Int64, 1000, 1),
        ("ns", DataType::Int64, 1_000_000, 1),
        ("ms", DataType::Datetime(TimeUnit::Milliseconds, None), 1, 1),
        ("ms", DataType::Datetime(TimeUnit::Nanoseconds, zone("UTC")), 1_000_000, 1),
        ("ms", DataType::Datetime(TimeUnit::Microseconds, zone("Europe/Berlin")), 1000, 1),
        ("ms", DataType::Datetime(TimeUnit::Milliseconds, zone("America/New_York")), 1, 1),
    ];
    for ending in ["parquet", "csv"] {
        for (unit, wanted, times, over) in &ways {
            let (home, recipe) = rewritten(|folder, name, frame| {
                let time = frame.column("time").unwrap().i64().unwrap();
                let time: Int64Chunked = time.apply_values(|time| time * times / over);
                let time = time.into_series().cast(wanted).unwrap();
                let mut frame = frame.clone();
                frame.with_column(time.with_name("time".into()).into_column()).unwrap();
                write(&frame, &folder.join(format!("{name}.{ending}")));
                format!("{{ files = \"{name}.{ending}\", time_unit = \"{unit}\" }}")
            });
            let found = built(&recipe, home.path(), None)
                .unwrap_or_else(|error| panic!("{ending} {wanted}: {error}"));
            assert!(found.0 == expected.0, "{ending} {wanted}");
        }
    }
}

/// Adds the first row of a log to it once more, with another value in a column.
fn plant<'a>(folder: &Path, log: &str, column: &str, value: impl Into<AnyValue<'a>>) {
    let path = folder.join(format!("{log}.parquet"));
    let mut frame = load(&path);
    let mut row = frame.head(Some(1));
    let found = row.column(column).unwrap().dtype().clone();
    let value = Series::from_any_values_and_dtype(column.into(), &[value.into()], &found, true).unwrap();
    row.with_column(value.into_column()).unwrap();
    frame.vstack_mut(&row).unwrap();
    save(&path, frame.columns().to_vec());
}

#[test]
fn bad_rows_are_counted_kept_aside_or_refused() {
    let home = written();
    let recipe = recipe(|text| text);
    let before = built(&recipe, home.path(), None).unwrap();
    plant(home.path(), "impressions", "user_id", AnyValue::Null);
    plant(home.path(), "impressions", "time", AnyValue::Null);
    plant(home.path(), "impressions", "time", 5_i64);
    plant(home.path(), "clicks", "item_id", AnyValue::Null);
    plant(home.path(), "clicks", "time", i64::MAX);
    plant(home.path(), "users", "user_id", AnyValue::Null);
    let reasons = [
        ("impressions: no 'user_id'", 1),
        ("impressions: no 'time'", 1),
        ("impressions: 'time' is before 1973 or after 2200", 1),
        ("clicks: no 'item_id'", 1),
        ("clicks: 'time' is before 1973 or after 2200", 1),
        ("users: no 'user_id'", 1),
    ];
    let is_samples = |name: &String| name.ends_with(".parquet") && !name.starts_with("quarantine/");
    for policy in [OnBadRow::Drop, OnBadRow::Quarantine] {
        let (files, manifest) = built(&recipe, home.path(), Some(policy)).unwrap();
        for name in before.0.keys().filter(|name| is_samples(name)) {
            assert!(files[name] == before.0[name], "{name}");
        }
        let mut expected = before.1.dropped.clone();
        expected.extend(reasons.map(|(reason, count)| (reason.to_owned(), count)));
        assert_eq!(manifest.dropped, expected);
        let aside: Vec<&str> = files.keys().filter_map(|name| name.strip_prefix("quarantine/")).collect();
        if policy == OnBadRow::Drop {
            assert!(aside.is_empty(), "{aside:?}");
            continue;
        }
        assert_eq!(aside, ["clicks.parquet", "impressions.parquet", "users.parquet"]);
        let frame =
            ParquetReader::new(std::io::Cursor::new(&files["quarantine/clicks.parquet"])).finish().unwrap();
        let found: Vec<&str> = frame.column("reason").unwrap().str().unwrap().iter().flatten().collect();
        assert_eq!(found, ["no 'item_id'", "'time' is before 1973 or after 2200"]);
        assert_eq!(frame.column("time").unwrap().i64().unwrap().get(1), Some(i64::MAX));
    }
    let rows = load(&home.path().join("impressions.parquet")).height();
    let error = built(&recipe, home.path(), Some(OnBadRow::Fail)).unwrap_err().to_string();
    assert!(error.contains("impressions.parquet: rows cannot be used ("), "{error}");
    assert!(
        error.contains(&format!("such as row {} (", rows - 2)) && error.contains("user_id null"),
        "{error}"
    );
}

#[test]
fn values_of_csv_that_cannot_be_read_are_bad_rows() {
    let (home, recipe) = rewritten(|folder, name, frame| {
        write(frame, &folder.join(format!("{name}.csv")));
        format!("\"{name}.csv\"")
    });
    let before = built(&recipe, home.path(), None).unwrap();
    let add = |log: &str, line: &str| {
        let mut file =
            fs::OpenOptions::new().append(true).open(home.path().join(format!("{log}.csv"))).unwrap();
        writeln!(file, "{line}").unwrap();
    };
    add("impressions", "7,8,9,noon,1767571200000,3");
    add("impressions", "7,8,9,1,yesterday,3");
    add("impressions", "7,8,9,1,1767571200000,late");
    add("items", "1,1767571200000,cheap");
    let (files, manifest) = built(&recipe, home.path(), Some(OnBadRow::Quarantine)).unwrap();
    let shards = before.0.keys().filter(|name| name.starts_with("train"));
    shards.for_each(|name| assert!(files[name] == before.0[name], "{name}"));
    let bad: Vec<(&str, u64)> = manifest
        .dropped
        .iter()
        .filter(|(name, _)| name.contains(" is no "))
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    let expected = [
        ("impressions: 'hour' is no integer", 1),
        ("impressions: 'item_id' is no integer", 1),
        ("impressions: 'time' is no integer", 1),
        ("items: 'price' is no number", 1),
    ];
    assert_eq!(bad, expected);
    let frame =
        ParquetReader::new(std::io::Cursor::new(&files["quarantine/items.parquet"])).finish().unwrap();
    assert_eq!(frame.column("price").unwrap().str().unwrap().get(0), Some("cheap"));
}

/// Spoils logs as Parquet files, or the recipe, and looks for all of `expected` in the message.
#[track_caller]
fn check(spoil: impl Fn(&Path), edit: impl Fn(String) -> String, expected: &[&str]) {
    let home = written();
    spoil(home.path());
    let text = match Recipe::parse(&edit(logs::RECIPE.to_owned()), "small.toml") {
        Err(error) => error.to_string(),
        Ok(_) => built(&recipe(edit), home.path(), Some(OnBadRow::Fail)).unwrap_err().to_string(),
    };
    for expected in expected {
        assert!(text.contains(expected), "{expected:?} is not in: {text}");
    }
}

/// As [`check`], of the recipe alone.
#[track_caller]
fn check_recipe(from: &str, to: &str, expected: &[&str]) {
    assert!(logs::RECIPE.contains(from));
    check(|_| {}, |text| text.replacen(from, to, 1), expected);
}

fn change(folder: &Path, log: &str, column: &str, change: impl Fn(Expr) -> Expr) {
    let path = folder.join(format!("{log}.parquet"));
    let frame = load(&path).lazy().with_columns([change(col(column)).alias(column)]).collect().unwrap();
    save(&path, frame.columns().to_vec());
}

#[test]
fn bad_input_is_named_with_file_column_rows_and_remedy() {
    let same = |text: String| text;
    check(
        |folder| logs::rename_column(&folder.join("clicks.parquet"), "item_id", "items"),
        same,
        &[
            "clicks.parquet: there is no column 'item_id' (did you mean 'items'?)",
            "its columns are: request_id, items, time",
        ],
    );
    check(
        |folder| change(folder, "clicks", "item_id", |own| own.cast(DataType::Float64)),
        same,
        &["clicks.parquet: column 'item_id' has type f64; a key must hold integers or strings"],
    );
    check(
        |folder| change(folder, "clicks", "item_id", |own| own.cast(DataType::String)),
        same,
        &[
            "clicks.parquet: column 'item_id' holds strings, but 'item_id' in the impressions integers; use one type",
        ],
    );
    check(
        |folder| change(folder, "impressions", "time", |own| own.cast(DataType::Float64)),
        same,
        &["impressions.parquet: column 'time' has type f64; a time must be a timestamp, or an integer"],
    );
    check(
        |folder| plant(folder, "conversions", "item_id", AnyValue::Null),
        same,
        &[
            "conversions.parquet: rows cannot be used (no 'item_id': 1), such as row ",
            "item_id null",
            "set on_bad_row to",
        ],
    );
    check(
        |folder| {
            let frame = load(&folder.join("clicks.parquet"));
            write(&frame.head(Some(7)), &folder.join("clicks-2.parquet"));
            plant(folder, "clicks-2", "item_id", AnyValue::Null);
        },
        |text| text.replace("\"clicks.parquet\"", "\"clicks*.parquet\""),
        &[
            "clicks*.parquet: rows cannot be used (no 'item_id': 1), such as row 8 of ",
            "clicks-2.parquet (",
            "item_id null",
        ],
    );
    check(
        |folder| plant(folder, "items", "price", 1.5),
        same,
        &[
            "items.parquet: several rows have the same 'item_id' and time (1 keys, such as ",
            "keep one of them",
        ],
    );
    for (unit, factor, expected) in
        [("s", 1, "ms"), ("us", 1, "ms"), ("ns", 1, "ms"), ("ms", 1000, "us"), ("ms", 1_000_000, "ns")]
    {
        check(
            |folder| change(folder, "clicks", "time", |own| own * lit(factor as i64)),
            |text| {
                text.replace(
                    "clicks = \"clicks.parquet\"",
                    &format!("clicks = {{ files = \"clicks.parquet\", time_unit = \"{unit}\" }}"),
                )
            },
            &[
                "clicks.parquet: column 'time': ",
                &format!("set time_unit = \"{expected}\" if that is what the column holds"),
            ],
        );
    }
    let at = |zone: Option<&str>| {
        let zone = zone.map(|zone| TimeZone::opt_try_new(Some(zone)).unwrap().unwrap());
        move |own: Expr| own.cast(DataType::Datetime(TimeUnit::Milliseconds, zone.clone()))
    };
    check(
        |folder| {
            change(folder, "impressions", "time", at(Some("UTC")));
            change(folder, "clicks", "time", at(None));
        },
        same,
        &[
            "clicks.parquet: column 'time' has timestamps without a time zone, and column 'time' of ",
            "write both with a zone",
        ],
    );
    check_recipe(
        "valid = 0.2",
        "valid_from = \"2020-01-01\", test_from = \"2020-01-02\", valid = 0.2",
        &["[samples.split]: no row is left for train"],
    );
    check(
        |folder| change(folder, "conversions", "time", |own| own - lit(400_000_000_000_i64)),
        same,
        &["task 'cvr': 0 of the ", "check the label 'conversion' and its window"],
    );
    check_recipe("[train]", "[train]\n    epoch = 3", &["unknown field `epoch`", "did you mean `epochs`?"]);
    check_recipe("name = \"country\"", "name = \"user_id\"", &["'user_id'", "twice"]);
    let aggregate = |window: &str| {
        format!(
            "[[samples.logs.aggregate]]\nname = \"n\"\nof = \"clicks\"\nby = [\"user\"]\nwindows = [\"{window}\"]\n[[feature]]\nname = \"n_{window}\"\nside = \"user\"\nkind = \"numeric\"\ntype = \"int\"\nencoder = {{ kind = \"log1p\" }}\n[[feature]]"
        )
    };
    check_recipe(
        "[[feature]]",
        &aggregate("900d"),
        &["[[samples.logs.aggregate]] 'n': the window of 900d is longer than the logs", "2026-01-0"],
    );
    let condition = |text: &str| format!("clicks = {{ files = \"clicks.parquet\", where = \"{text}\" }}");
    let clicks = "clicks = \"clicks.parquet\"";
    check_recipe(
        clicks,
        &condition("item_id >"),
        &["clicks.parquet: where = \"item_id >\" cannot be used: "],
    );
    check_recipe(
        clicks,
        &condition("price > 3"),
        &[
            "clicks.parquet: where = \"price > 3\" cannot be used: ",
            "price",
            "its columns are: request_id, item_id, time",
        ],
    );
    check_recipe(
        clicks,
        &condition("item_id + 3"),
        &["clicks.parquet: where = \"item_id + 3\" cannot be used: ", "it is no condition"],
    );
    check(
        |folder| plant(folder, "impressions", "user_id", 4711_i64),
        same,
        &["impressions.parquet: request ", " has rows of two users, ", "4711", "make its id unique"],
    );
    check(
        |folder| change(folder, "impressions", "hour", |_| col("impression_id")),
        same,
        &[
            "feature 'hour': column 'hour' has different values in the rows of request ",
            "make it side = \"item\"",
        ],
    );
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let many = |text: String| text.replace("\"clicks.parquet\"", "\"clicks*.parquet\"");
    let clicks = |folder: &Path| load(&folder.join("clicks.parquet"));
    check(
        |folder| fs::write(folder.join("clicks-2.parquet"), "").unwrap(),
        many,
        &["clicks-2.parquet: the file is empty"],
    );
    check(
        |folder| fs::write(folder.join("clicks-2.parquet"), "request_id,item_id,time\n1,2,3\n").unwrap(),
        many,
        &["clicks-2.parquet as Parquet", "it is cut off, damaged or of another format"],
    );
    check(
        |folder| {
            // A whole footer, and pages of zeros.
            let path = folder.join("clicks-2.parquet");
            write(&clicks(folder), &path);
            let mut bytes = fs::read(&path).unwrap();
            let pages = bytes.len() / 3;
            bytes[4..pages].fill(0);
            fs::write(path, bytes).unwrap();
        },
        many,
        &["cannot read the rows of ", "clicks-2.parquet: "],
    );
    check(
        |folder| write(&clicks(folder), &folder.join("clicks-2.csv")),
        |text| text.replace("clicks = \"clicks.parquet\"", "clicks = [\"clicks.parquet\", \"clicks-2.csv\"]"),
        &["clicks-2.csv: is CSV, but ", "clicks.parquet of the same log is Parquet; a log has one format"],
    );
    check(
        |folder| {
            let mut frame = clicks(folder);
            frame.rename("time", "at".into()).unwrap();
            write(&frame, &folder.join("clicks-2.parquet"));
        },
        many,
        &[
            "clicks.parquet: there is no column 'at', which is in ",
            "clicks-2.parquet; the files of a log have the same columns",
        ],
    );
    check(
        |_| {},
        |text| text.replace("\"clicks.parquet\"", "\"click-*.parquet\""),
        &["click-*.parquet: no file has such a name"],
    );
    check(
        |folder| fs::write(folder.join("clicks.parquet.gz"), "x").unwrap(),
        |text| text.replace("\"clicks.parquet\"", "\"clicks.parquet.gz\""),
        &["clicks.parquet.gz: has none of the endings", "unpack it where it is packed"],
    );
    check(
        |folder| fs::create_dir(folder.join("none")).unwrap(),
        |text| text.replace("\"clicks.parquet\"", "\"none\""),
        &["none: the folder and those inside hold no .parquet, .csv or .arrow file"],
    );
}

#[test]
fn lists_cannot_be_in_csv() {
    let home = tempfile::tempdir().unwrap();
    crate::plain_logs().write(home.path());
    let users = load(&home.path().join("users.parquet")).drop("likes").unwrap();
    let likes = Column::new("likes".into(), vec!["a"; users.height()]);
    write(&users.hstack(&[likes]).unwrap(), &home.path().join("users.csv"));
    let text = logs::RECIPE.replace("\"users.parquet\"", "\"users.csv\"");
    let error = built(&Recipe::parse(&text, "csv.toml").unwrap(), home.path(), None).unwrap_err().to_string();
    assert!(
        error.contains("users.csv: feature 'likes' is a sequence, and CSV has no lists; write the log as"),
        "{error}"
    );
}

#[test]
fn conversions_before_their_clicks_are_counted() {
    let home = tempfile::tempdir().unwrap();
    let mut logs = crate::plain_logs();
    // User 1 clicked on item 50 in request 100, a minute after the start.
    logs.conversions.push(logs::Conversion { user: 1, item: 50, time: logs::START + 30_000 });
    logs.write(home.path());
    let manifest = built(&logs::recipe(), home.path(), None).unwrap().1;
    assert_eq!(manifest.events["conversions before their click"], 1);
}
