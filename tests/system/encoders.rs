//! One encoding, wherever a row comes from: shards, raw Parquet and requests give the same codes, numbers
//! and scores, for every encoder and for values that are hard to get right.

use std::fs::{self, File};
use std::path::Path;

use gatefold_backend_ort::{OrtLoader, OrtSettings};
use gatefold_dataset::SampleSet;
use gatefold_engine::{BackendLoader, Bundle, GraphForm};
use gatefold_features::{Encoder, Strictness};
use gatefold_samples::RawTable;
use gatefold_schema::{EncoderSet, EncoderState};
use gatefold_tests::{run_failing, run_json, server::Server, tests_folder};
use polars::prelude::*;
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// Midnight of 2024-01-01 UTC.
const START: i64 = 1_704_067_200_000;
const REQUESTS: i64 = 300;
const CANDIDATES: i64 = 6;
const USERS: i64 = 40;
const ITEMS: i64 = 60;

/// Texts that are missing, empty, not ASCII, alike in parts, and as long as the server takes them.
fn texts(random: &mut ChaCha8Rng, rows: i64) -> Vec<Option<String>> {
    let long = "ß".repeat(2048);
    let known = ["", " ", "de", "größe", "東京", "a:b", "1:a", "\u{1f980}\u{200d}", "null", &long];
    let one = |_| match random.random_range(0..12) {
        0 => None,
        1 => Some(format!("{}-{}", random.random_range(0..1_000_000), "ß".repeat(2000))),
        _ => known.choose(random).map(|text| (*text).to_owned()),
    };
    (0..rows).map(one).collect()
}

/// Numbers that are missing, not finite, of any size.
fn floats(random: &mut ChaCha8Rng, rows: i64) -> Vec<Option<f64>> {
    let one = |_| match random.random_range(0..12) {
        0 => None,
        1 => [f64::NAN, f64::INFINITY, -0.0, 5e-324, 1e30, -1e30].choose(random).copied(),
        _ => Some(random.random_range(-20.0..20.0)),
    };
    (0..rows).map(one).collect()
}

fn ints(random: &mut ChaCha8Rng, rows: i64) -> Vec<Option<i64>> {
    let one = |_| match random.random_range(0..12) {
        0 => None,
        1 => [i64::MIN, i64::MAX, 0, -1, 1 << 40].choose(random).copied(),
        _ => Some(random.random_range(0..9)),
    };
    (0..rows).map(one).collect()
}

fn lists(random: &mut ChaCha8Rng, name: &str, rows: i64) -> Column {
    let one = |_| {
        let length = random.random_range(0..6);
        let texts: Vec<String> = texts(random, length).into_iter().flatten().collect();
        (!random.random_bool(0.1)).then(|| Series::new("".into(), texts))
    };
    let values: Vec<Option<Series>> = (0..rows).map(one).collect();
    Series::new(name.into(), values).cast(&DataType::List(Box::new(DataType::String))).expect("lists").into()
}

fn write(folder: &Path, name: &str, columns: Vec<Column>) {
    let mut frame = DataFrame::new(columns[0].len(), columns).expect("columns of one length");
    let file = File::create(folder.join(name)).expect("a new file");
    ParquetWriter::new(file).finish(&mut frame).expect("Parquet is written");
}

/// Logs of a few hundred requests with hard values in every feature.
fn write_logs(folder: &Path) {
    fs::create_dir_all(folder).expect("a new folder");
    let random = &mut ChaCha8Rng::seed_from_u64(11);
    let rows = REQUESTS * CANDIDATES;
    let column = |name: &str, values: Vec<i64>| Column::new(name.into(), values);
    let request: Vec<i64> = (0..rows).map(|row| row / CANDIDATES).collect();
    let item: Vec<i64> =
        request.iter().zip(0..).map(|(request, row)| (request * 7 + row % CANDIDATES) % ITEMS).collect();
    let user: Vec<i64> = request.iter().map(|request| request % USERS).collect();
    let time: Vec<i64> = request.iter().map(|request| START + request * 60_000).collect();
    // Context values are those of the request.
    let per_request = |values: Vec<Option<f64>>| -> Vec<Option<f64>> {
        request.iter().map(|request| values[*request as usize]).collect()
    };
    let hour = per_request(floats(random, REQUESTS));
    write(
        folder,
        "impressions.parquet",
        vec![
            column("impression_id", (0..rows).collect()),
            column("request_id", request.clone()),
            column("user_id", user.clone()),
            column("item_id", item.clone()),
            column("time", time.clone()),
            Column::new("hour".into(), hour),
        ],
    );
    let clicked: Vec<usize> = (0..rows as usize).filter(|_| random.random_bool(0.3)).collect();
    let pick =
        |values: &[i64], rows: &[usize], after: i64| rows.iter().map(|row| values[*row] + after).collect();
    write(
        folder,
        "clicks.parquet",
        vec![
            column("request_id", pick(&request, &clicked, 0)),
            column("item_id", pick(&item, &clicked, 0)),
            column("time", pick(&time, &clicked, 1000)),
        ],
    );
    let bought: Vec<usize> = clicked.iter().copied().step_by(2).collect();
    write(
        folder,
        "conversions.parquet",
        vec![
            column("user_id", pick(&user, &bought, 0)),
            column("item_id", pick(&item, &bought, 0)),
            column("time", pick(&time, &bought, 2000)),
        ],
    );
    write(
        folder,
        "users.parquet",
        vec![
            column("user_id", (0..USERS).collect()),
            column("time", vec![START - 1; USERS as usize]),
            Column::new("country".into(), texts(random, USERS)),
            Column::new("age".into(), ints(random, USERS)),
            lists(random, "likes", USERS),
        ],
    );
    write(
        folder,
        "items.parquet",
        vec![
            column("item_id", (0..ITEMS).collect()),
            column("time", vec![START - 1; ITEMS as usize]),
            Column::new("brand".into(), texts(random, ITEMS)),
            Column::new("size".into(), ints(random, ITEMS)),
            Column::new("price".into(), floats(random, ITEMS)),
        ],
    );
}

/// Values as they can be compared: the bits of numbers, codes as they are, without padding.
fn row_values(column: &Column, row: usize) -> Vec<i64> {
    match column.get(row).expect("a row") {
        AnyValue::Float32(number) => vec![i64::from(number.to_bits())],
        AnyValue::Int32(code) => vec![i64::from(code)],
        AnyValue::List(codes) => codes.i32().expect("codes").iter().flatten().map(i64::from).collect(),
        other => panic!("{other:?} in a shard"),
    }
}

fn read(path: &Path) -> DataFrame {
    ParquetReader::new(File::open(path).expect("the file is there")).finish().expect("a Parquet file")
}

/// Every raw row of the test split, encoded as a server does, is the row of the shard to the last bit.
fn check_shards(samples: &Path, set: &EncoderSet) {
    let encoder = Encoder::new(set.clone()).expect("good encoders");
    let mut table = RawTable::open(&samples.join("raw-test.parquet"), set).expect("raw rows");
    let rows = table.next_rows(usize::MAX / 2).expect("readable").expect("some rows");
    let raw = rows.batch().expect("a batch");
    let lenient = encoder.encode(&raw, Strictness::Lenient).expect("logs can be encoded");
    // The way of a request: as JSON, refused if anything is wrong with it.
    let json = raw.to_json(set, &rows.request_ids());
    let again = gatefold_features::RawBatch::from_json(&json, set).expect("good requests");
    let strict = encoder.encode(&again, Strictness::Refuse).expect("what logs hold can be asked");
    assert_eq!(strict, lenient);

    let shard = read(&samples.join("test-00000.parquet"));
    assert_eq!(shard.height(), lenient.candidates);
    let request_of = &lenient.request_of;
    for (fitted, column) in set.features.iter().zip(&lenient.columns) {
        let name = &fitted.feature.name;
        let per_candidate = match fitted.feature.side.level() {
            gatefold_schema::Level::Request => column.take(request_of),
            gatefold_schema::Level::Candidate => column.clone(),
        };
        let shard = shard.column(name).expect("a column a feature");
        for row in 0..lenient.candidates {
            let expected: Vec<i64> = match &per_candidate {
                gatefold_features::FeatureColumn::Numbers(numbers) => vec![i64::from(numbers[row].to_bits())],
                gatefold_features::FeatureColumn::Codes { width, data } => {
                    let codes = data[row * width..(row + 1) * width].iter();
                    codes.filter(|code| **code != 0).map(|code| i64::from(*code)).collect()
                }
            };
            assert_eq!(row_values(shard, row), expected, "{name}, row {row}");
        }
    }
}

#[track_caller]
fn check_near(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= 1e-6, "{what}, row {row}: {found}, expected {expected}");
    }
}

#[test]
fn a_row_is_encoded_and_scored_alike_in_shards_files_and_requests() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| home.path().join(name).to_str().expect("UTF-8").to_owned();
    let recipe = tests_folder().join("recipes/encoders.toml").to_str().expect("UTF-8").to_owned();
    write_logs(&home.path().join("logs"));
    let (logs, out) = (path("logs"), path("samples"));
    let build = ["samples", "build", "--recipe", &recipe, "--logs", &logs];
    run_json(&[&build[..], &["--out", &out, "--raw", "test"]].concat());
    let samples = SampleSet::open(Path::new(&out)).expect("samples open");
    let set = &samples.encoders;
    assert!(set.features.iter().any(|fitted| matches!(fitted.state, EncoderState::Target { size: 3.., .. })));
    check_shards(Path::new(&out), set);

    run_json(&[
        "train",
        "--recipe",
        &recipe,
        "--samples",
        &out,
        "--out",
        &path("models/every"),
        "--threads",
        "1",
    ]);
    let bundle = Bundle::open_latest(path("models/every")).expect("a bundle");
    assert_eq!(bundle.manifest().fingerprint, samples.manifest.fingerprint);
    let split = samples.load("test").expect("a test split");
    let batch = split.request_batch(0..split.rows);
    let loader = OrtLoader::new(OrtSettings::default()).expect("ONNX Runtime is set up");
    let mut backend = loader.open(&bundle, GraphForm::UserOnce).expect("the graph opens");
    let expected = backend.run(&batch, &[0, 1]).expect("the graph runs");

    let (raw, scores) = (path("samples/raw-test.parquet"), path("scores.parquet"));
    run_json(&["score", "--model", &path("models/every"), "--input", &raw, "--out", &scores]);
    let scores = read(Path::new(&scores));
    let server = Server::start(&path("models"), &[]);
    for (name, expected) in ["ctr", "cvr"].into_iter().zip(&expected) {
        let column = scores.column(name).expect("a column an output").f32().expect("of f32");
        check_near(name, &column.into_no_null_iter().collect::<Vec<f32>>(), expected);
    }
    let starts = split.request_starts();
    for bounds in starts.windows(2).step_by(5) {
        let (start, end, row) = (bounds[0], bounds[1], bounds[0].to_string());
        let asked =
            ["request", "--server", &server.url, "--model", "every", "--parquet", &raw, "--row", &row];
        let reply = run_json(&asked);
        for (name, expected) in ["ctr", "cvr"].into_iter().zip(&expected) {
            let list = reply["scores"][name].as_array().expect("one list an output");
            let found: Vec<f32> = list.iter().map(|score| score.as_f64().expect("a number") as f32).collect();
            check_near(&format!("{name} of row {start}"), &found, &expected[start..end]);
        }
    }

    // The same encoders for other samples: from the samples, and from the model.
    for from in [&out, &path("models/every")] {
        let again = path("again");
        run_json(&[&build[..], &["--out", &again, "--encoders-from", from, "--overwrite"]].concat());
        let reused = SampleSet::open(Path::new(&again)).expect("samples open");
        assert_eq!(reused.manifest.fingerprint, samples.manifest.fingerprint);
        let test = |folder: &str| read(&Path::new(folder).join("test-00000.parquet"));
        assert!(test(&again).equals_missing(&test(&out)));
    }
    let changed = fs::read_to_string(&recipe).expect("the recipe").replace("buckets = 500", "buckets = 501");
    fs::write(path("changed.toml"), changed).expect("a new file");
    let (other, changed) = (path("other"), path("changed.toml"));
    let said = run_failing(&[
        "samples",
        "build",
        "--recipe",
        &changed,
        "--logs",
        &logs,
        "--out",
        &other,
        "--encoders-from",
        &out,
    ]);
    assert!(said.contains("feature 'country_x_brand': encoder is {\"buckets\":501"), "{said}");

    // Values of a crossed feature are not wanted.
    let mut frame = read(Path::new(&raw));
    let crossed = Column::new("country_x_brand".into(), vec!["a"; frame.height()]);
    frame.with_column(crossed).expect("a new column");
    let file = File::create(path("crossed.parquet")).expect("a new file");
    ParquetWriter::new(file).finish(&mut frame).expect("Parquet is written");
    let (input, scores) = (path("crossed.parquet"), path("none.parquet"));
    let said = run_failing(&["score", "--model", &path("models/every"), "--input", &input, "--out", &scores]);
    assert!(said.contains("column 'country_x_brand': that feature is made of country and brand"), "{said}");
}
