//! The request log: what callers sent and got is what its files hold.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use gatefold_proto::ranking::v1 as wire;
use gatefold_server::Settings;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use tempfile::TempDir;
use wire::column::Values;

use crate::support::{Running, column, eventually, formula, request};

pub(crate) fn logging(folder: &Path) -> impl FnOnce(&mut Settings) + use<> {
    let folder = folder.to_owned();
    move |settings| {
        settings.request_log.folder = Some(folder);
        settings.request_log.share = 1.0;
    }
}

/// The files in a folder, hidden ones included.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// The rows of a file, columns by name; text for text.
pub(crate) fn rows(file: &Path) -> Vec<BTreeMap<String, Field>> {
    let reader = SerializedFileReader::new(File::open(file).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    rows.map(|row| row.get_column_iter().map(|(name, field)| (name.clone(), field.clone())).collect())
        .collect()
}

pub(crate) fn text(text: &str) -> Field {
    Field::Str(text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_hold_what_was_sent_and_what_was_answered() {
    let folder = TempDir::new().unwrap();
    let mut running = Running::start(logging(folder.path())).await;
    let mut client = running.client().await;
    let before = std::time::SystemTime::now();
    // A missing item, an empty list, integers for floats, some of the outputs.
    let mut first = request(&[10.0, 20.0]);
    first.items[0].missing = vec![1];
    first.user[0].values = Some(Values::Ints(wire::Ints { values: vec![31] }));
    first.user[1].values = Some(Values::IntLists(wire::IntLists { values: vec![], offsets: vec![0, 0] }));
    first.outputs = vec!["cvr".into()];
    client.score(first).await.unwrap();
    // A missing list, no id.
    let mut second = request(&[30.0]);
    second.request_id = String::new();
    second.user[1].missing = vec![0];
    client.score(second).await.unwrap();
    // What is refused is not logged.
    let mut refused = request(&[1.0]);
    refused.items.push(column("nothing", Values::Ints(wire::Ints { values: vec![1] })));
    client.score(refused).await.unwrap_err();
    let mut fused = request(&[40.0]);
    fused.formula = "ctr * 2 + price".into();
    // Long ids are cut between characters.
    fused.request_id = format!("r{}", "é".repeat(200));
    client.score(fused).await.unwrap();
    running.stop();
    running.ended().await.unwrap();

    let files = files(&folder.path().join("demo"));
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("20") && name.ends_with("-0.parquet"), "{name}");
    let rows = rows(file);
    assert_eq!(rows.len(), 4);
    let scores = |price: f32| formula(31.0, price, 0.0);
    let cut = format!("r{}", "é".repeat(127));
    let expected = [("r1", 0, 10.0_f64), ("r1", 1, 20.0), ("", 0, 30.0), (&*cut, 0, 40.0)];
    for (row, (id, candidate, price)) in rows.iter().zip(expected) {
        if id.is_empty() {
            assert!(matches!(&row["request_id"], Field::Str(id) if id.starts_with("gatefold-")), "{row:?}");
        } else {
            assert_eq!(row["request_id"], text(id));
        }
        assert_eq!((&row["model"], &row["version"]), (&text("demo"), &Field::Long(1)));
        assert_eq!((&row["candidate"], &row["price"]), (&Field::Long(candidate), &Field::Double(price)));
        assert_eq!((&row["age"], &row["country"]), (&Field::Double(31.0), &text("de")));
        assert_eq!(row["score_cvr"], Field::Float(scores(price as f32)[1]));
        let fused = (price == 40.0).then_some(f64::from(scores(40.0)[0]) * 2.0 + 40.0);
        assert_eq!(row["fused"], fused.map_or(Field::Null, Field::Double));
        let Field::TimestampMillis(time) = row["time"] else { panic!("{row:?}") };
        let since = |time: std::time::SystemTime| {
            time.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
        };
        assert!((since(before)..=since(std::time::SystemTime::now())).contains(&time), "{time}");
        let Field::ListInternal(labels) = &row["labels"] else { panic!("{row:?}") };
        assert_eq!(labels.elements(), [text("stable")]);
    }
    let ids: Vec<&Field> = rows.iter().map(|row| &row["item_id"]).collect();
    assert_eq!(ids, [&Field::Long(0), &Field::Null, &Field::Long(0), &Field::Long(0)]);
    // Only what was asked for has a score.
    assert_eq!((&rows[0]["score_ctr"], &rows[1]["score_ctr"]), (&Field::Null, &Field::Null));
    assert_eq!(rows[2]["score_ctr"], Field::Float(scores(30.0)[0]));
    let list = |row: usize| match &rows[row]["recent"] {
        Field::ListInternal(list) => Some(list.elements().to_vec()),
        _ => None,
    };
    assert_eq!(list(0), Some(vec![]));
    assert_eq!(list(2), None);
    assert_eq!(list(3), Some(vec![Field::Long(7), Field::Long(8)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_put_in_place_when_it_is_large_or_old_enough() {
    let folder = TempDir::new().unwrap();
    let running = Running::start(|settings| {
        logging(folder.path())(settings);
        settings.request_log.file_bytes = 1;
    })
    .await;
    let mut client = running.client().await;
    for price in [10.0, 20.0, 30.0] {
        client.score(request(&[price])).await.unwrap();
    }
    eventually(async || running.get("/metrics").await.contains("gatefold_request_log_files_total 3\n")).await;
    let files = files(&folder.path().join("demo"));
    assert_eq!(files.len(), 3, "{files:?}");
    let prices: Vec<Field> = files.iter().map(|file| rows(file)[0]["price"].clone()).collect();
    assert!([10.0, 20.0, 30.0].iter().all(|price| prices.contains(&Field::Double(*price))), "{prices:?}");
    let metrics = running.get("/metrics").await;
    assert!(metrics.contains("gatefold_request_log_rows_total 3\n"), "{metrics}");

    let other = TempDir::new().unwrap();
    let running = Running::start(|settings| {
        logging(other.path())(settings);
        settings.request_log.file_seconds = 0.05;
    })
    .await;
    running.client().await.score(request(&[10.0])).await.unwrap();
    eventually(async || running.get("/metrics").await.contains("gatefold_request_log_files_total 1\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_counted_and_scoring_goes_on() {
    let folder = TempDir::new().unwrap();
    // Where the folder of the model should be stands a file.
    std::fs::write(folder.path().join("demo"), "").unwrap();
    let mut running = Running::start(logging(folder.path())).await;
    let mut client = running.client().await;
    for _ in 0..3 {
        client.score(request(&[10.0])).await.unwrap();
    }
    let failed = "gatefold_request_log_dropped_total{reason=\"write_failed\"} 3\n";
    eventually(async || running.get("/metrics").await.contains(failed)).await;
    running.stop();
    running.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_gives_requests_up() {
    let folder = TempDir::new().unwrap();
    let running = Running::start(|settings| {
        logging(folder.path())(settings);
        settings.request_log.queue_bytes = 1;
    })
    .await;
    running.client().await.score(request(&[10.0])).await.unwrap();
    let full = "gatefold_request_log_dropped_total{reason=\"queue_full\"} 1\n";
    assert!(running.get("/metrics").await.contains(full));
}
