//! The order of an epoch, from memory and from disk.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use gatefold_dataset::{Condition, ReadOptions, Reader, SampleBatch, SampleSet, Shards, Split, Unit};
use gatefold_features::FeatureColumn;

use crate::tiny::{Row, frame, shard_path, write};

/// Requests of each shard, and so the shards.
const REQUESTS: [usize; 7] = [6, 9, 4, 12, 7, 5, 10];
/// Decoded bytes of a row: request, country, three places, item, price, click, and its place in
/// the order.
const ROW_BYTES: usize = 4 + 4 + 12 + 4 + 4 + 4 + 8;

/// A sample set of several shards. A row's price is its number; country and history depend on the
/// request; a request has one to five rows.
fn write_set(folder: &Path) -> Shards {
    const HISTORIES: [&[i32]; 3] = [&[2, 5, 7], &[], &[3]];
    let (mut request, mut row) = (0, 0);
    let mut shards = Vec::new();
    for requests in REQUESTS {
        let mut rows: Vec<Row> = Vec::new();
        for _ in 0..requests {
            for _ in 0..1 + (request * 7 + 3) % 5 {
                let click = u8::from((row * 13 + 5) % 4 == 0);
                let history = HISTORIES[request % 3];
                let (country, item) = (2 + (request % 3) as i32, 2 + row % 10);
                rows.push((request as u32, country, history, item, row as f32, f32::from(click), 0.5));
                row += 1;
            }
            request += 1;
        }
        shards.push(frame(&rows));
    }
    write(folder, shards);
    SampleSet::open(folder).unwrap().shards("train").unwrap()
}

fn options(batch_size: usize, unit: Unit) -> ReadOptions {
    ReadOptions { shuffle: Some(5), unit, labels: vec!["click".into()], ..ReadOptions::new(batch_size) }
}

fn read(reader: &Reader, epochs: std::ops::Range<usize>, first_step: usize) -> Vec<SampleBatch> {
    reader.batches(epochs, first_step).unwrap().collect::<Result<_, _>>().unwrap()
}

/// The numbers of the rows of a batch.
fn rows(batch: &SampleBatch) -> Vec<usize> {
    let FeatureColumn::Numbers(prices) = &batch.features.columns[3] else { panic!("a number") };
    prices.iter().map(|price| *price as usize).collect()
}

fn all_rows(shards: &Shards) -> Split {
    let labels = shards.label_names().to_vec();
    let columns = gatefold_dataset::Columns { features: true, labels: &labels, time: false };
    let mut parts = Vec::new();
    shards
        .scan(columns, |part| {
            parts.push(part.as_ref().clone());
            Ok::<(), gatefold_dataset::DatasetError>(())
        })
        .unwrap();
    assert_eq!(parts.len(), REQUESTS.len());
    let mut all = parts.remove(0);
    for part in parts {
        all.rows += part.rows;
        all.request.extend(part.request);
        all.columns.iter_mut().zip(&part.columns).for_each(|(all, more)| all.append(more));
        all.labels.iter_mut().for_each(|(name, all)| all.extend_from_slice(&part.labels[name]));
    }
    all
}

#[test]
fn memory_and_disk_give_the_same_batches() {
    let home = tempfile::tempdir().unwrap();
    let on_disk = write_set(home.path());
    let kept = on_disk.clone().keep().unwrap();
    assert_eq!(on_disk.row_bytes(1) + 8, ROW_BYTES);
    assert_eq!(on_disk.row_bytes(1), kept.row_bytes(1));
    let clicked = vec![Condition::Positive("click".into())];
    for unit in [Unit::Row, Unit::Request] {
        for shuffle in [None, Some(5)] {
            for conditions in [vec![], clicked.clone()] {
                for window_bytes in [1, 50 * ROW_BYTES, 1 << 20] {
                    let conditions = conditions.clone();
                    let options = ReadOptions { shuffle, conditions, window_bytes, ..options(16, unit) };
                    let disk = Reader::new(&on_disk, options.clone()).unwrap();
                    let memory = Reader::new(&kept, options).unwrap();
                    let batches = read(&disk, 0..2, 0);
                    assert_eq!(batches.len(), 2 * disk.steps());
                    assert_eq!(batches, read(&memory, 0..2, 0));
                }
            }
        }
    }
}

#[test]
fn every_row_once_an_epoch_and_another_order_each_time() {
    let home = tempfile::tempdir().unwrap();
    let shards = write_set(home.path());
    for window_bytes in [50 * ROW_BYTES, 1 << 20] {
        let reader = Reader::new(&shards, ReadOptions { window_bytes, ..options(16, Unit::Row) }).unwrap();
        assert_eq!((reader.rows(), reader.steps()), (shards.rows(), shards.rows().div_ceil(16)));
        let epochs: Vec<Vec<usize>> =
            (0..3).map(|epoch| read(&reader, epoch..epoch + 1, 0).iter().flat_map(rows).collect()).collect();
        for (epoch, order) in epochs.iter().enumerate() {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..shards.rows()).collect::<Vec<_>>(), "epoch {epoch}");
        }
        assert_ne!(epochs[0], epochs[1]);
        assert_ne!(epochs[1], epochs[2]);
        let other = ReadOptions { shuffle: Some(6), window_bytes, ..options(16, Unit::Row) };
        let other = read(&Reader::new(&shards, other).unwrap(), 0..1, 0);
        assert_ne!(other.iter().flat_map(rows).collect::<Vec<_>>(), epochs[0]);
        let sizes: BTreeSet<usize> = read(&reader, 0..1, 0).iter().map(|batch| rows(batch).len()).collect();
        assert_eq!(sizes, [shards.rows() % 16, 16].into());
    }
}

#[test]
fn a_small_set_is_shuffled_whole_and_a_large_one_window_by_window() {
    let home = tempfile::tempdir().unwrap();
    let shards = write_set(home.path());
    let shard_of = |row: usize| {
        let ends = (0..shards.count()).scan(0, |end, shard| {
            *end += shards.rows_of(shard);
            Some(*end)
        });
        ends.take_while(|end| *end <= row).count()
    };
    let shards_in_batches = |window_bytes: usize| -> Vec<usize> {
        let reader = Reader::new(&shards, ReadOptions { window_bytes, ..options(32, Unit::Row) }).unwrap();
        let of = |batch: &SampleBatch| rows(batch).into_iter().map(shard_of).collect::<BTreeSet<_>>().len();
        read(&reader, 0..1, 0).iter().map(of).collect()
    };
    let whole = shards_in_batches(1 << 20);
    assert!(whole[0] >= 6, "a batch of a small set has rows from all over: {whole:?}");
    // One shard a window: a batch of 32 rows meets the rest of one window, the whole of a smaller
    // one and the beginning of the next, never all seven.
    let windowed = shards_in_batches(1);
    assert!(windowed.iter().all(|count| *count <= 4), "{windowed:?}");
}

#[test]
fn reading_begins_anywhere_without_what_lies_before() {
    let home = tempfile::tempdir().unwrap();
    let shards = write_set(home.path());
    for unit in [Unit::Row, Unit::Request] {
        let options = ReadOptions { window_bytes: 50 * ROW_BYTES, ..options(16, unit) };
        let reader = Reader::new(&shards, options).unwrap();
        let all = read(&reader, 0..3, 0);
        for (epoch, step) in [(0, 0), (0, 3), (1, 0), (1, 5), (2, reader.steps() - 1)] {
            let expected = &all[epoch * reader.steps() + step..];
            assert_eq!((expected[0].epoch, expected[0].step), (epoch, step));
            assert!(read(&reader, epoch..3, step) == expected, "{unit:?}, epoch {epoch}, step {step}");
        }
    }

    let in_place = ReadOptions { window_bytes: 1, ..ReadOptions::new(16) };
    let reader = Reader::new(&shards, in_place).unwrap();
    let before: usize = (0..3).map(|shard| shards.rows_of(shard)).sum();
    let step = before.div_ceil(16);
    let expected = read(&reader, 0..1, step);
    (0..3).for_each(|shard| fs::remove_file(shard_path(home.path(), shard)).unwrap());
    assert_eq!(read(&reader, 0..1, step), expected);
    let mut batches = reader.batches(0..1, 0).unwrap();
    let error = batches.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("train-00000.parquet: No such file"), "{error}");
    assert!(batches.next().is_none(), "nothing comes after an error");
}

#[test]
fn requests_stay_whole_and_have_one_row_at_their_level() {
    let home = tempfile::tempdir().unwrap();
    let shards = write_set(home.path());
    let all = all_rows(&shards);
    let options = ReadOptions { window_bytes: 50 * ROW_BYTES, ..options(16, Unit::Request) };
    let reader = Reader::new(&shards, options).unwrap();
    let mut seen = BTreeSet::new();
    for batch in read(&reader, 0..1, 0) {
        let rows = rows(&batch);
        let features = &batch.features;
        assert!((12..=36).contains(&rows.len()), "{}", rows.len());
        assert_eq!(features.candidates, rows.len());
        assert_eq!(features.request_of.len(), rows.len());
        for row in 1..rows.len() {
            let same = all.request[rows[row]] == all.request[rows[row - 1]];
            let step = features.request_of[row] - features.request_of[row - 1];
            assert_eq!(step, u32::from(!same), "the index grows with each request");
        }
        assert_eq!(features.request_of.last().copied(), Some(features.requests as u32 - 1));
        for request in rows.iter().map(|row| all.request[*row]).collect::<BTreeSet<_>>() {
            assert!(seen.insert(request), "request {request} is in two batches");
            let inside = rows.iter().filter(|row| all.request[**row] == request).count();
            assert_eq!(inside, all.request.iter().filter(|other| **other == request).count());
        }
        // Repeated for each candidate, the request level is what the rows hold; the candidate
        // level is there already.
        let taken: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        for (index, column) in features.columns.iter().enumerate() {
            let repeated = if index < 2 { column.take(&features.request_of) } else { column.clone() };
            assert_eq!(repeated, all.columns[index].take(&taken), "column {index}");
        }
        let clicks: Vec<f32> = rows.iter().map(|row| all.labels["click"][*row]).collect();
        assert_eq!(batch.labels["click"], clicks);
    }
    assert_eq!(seen.len(), REQUESTS.iter().sum::<usize>());
}

#[test]
fn conditions_choose_rows() {
    let home = tempfile::tempdir().unwrap();
    let shards = write_set(home.path());
    let all = all_rows(&shards);
    for unit in [Unit::Row, Unit::Request] {
        let conditions = vec![Condition::Positive("click".into())];
        let reader = Reader::new(&shards, ReadOptions { conditions, ..options(8, unit) }).unwrap();
        let mut found: Vec<usize> = read(&reader, 0..1, 0).iter().flat_map(rows).collect();
        found.sort_unstable();
        let expected: Vec<usize> = (0..all.rows).filter(|row| all.labels["click"][*row] == 1.0).collect();
        assert_eq!((reader.rows(), found), (expected.len(), expected));
    }
    // Every third row has an outcome; where it has no click, it goes.
    let mut split = all.clone();
    let outcome: Vec<f32> = (0..all.rows).map(|row| f32::from(u8::from(row % 3 == 0))).collect();
    split.labels.insert("buy".into(), outcome.clone());
    let conditions = vec![Condition::Implies { outcome: "buy".into(), given: "click".into() }];
    let reader = Reader::new(&split.into(), ReadOptions { conditions, ..ReadOptions::new(64) }).unwrap();
    let found: Vec<usize> = read(&reader, 0..1, 0).iter().flat_map(rows).collect();
    let is_kept = |row: &usize| outcome[*row] == 0.0 || all.labels["click"][*row] == 1.0;
    assert_eq!(found, (0..all.rows).filter(is_kept).collect::<Vec<_>>());
    assert!(found.len() < all.rows);
}

#[test]
fn what_cannot_be_read_is_said_at_the_beginning() {
    let home = tempfile::tempdir().unwrap();
    let shards = write_set(home.path());
    let refused = |change: &dyn Fn(&mut ReadOptions)| {
        let mut options = options(16, Unit::Row);
        change(&mut options);
        Reader::new(&shards, options).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&|options| options.labels = vec!["weight".into()]),
        "the samples have no column 'weight' beside the features; they have: click, p_click"
    );
    assert_eq!(
        refused(&|options| options.conditions = vec![Condition::Positive("p_click".into())]),
        "no row is left to read (p_click = 1)"
    );
    let long = refused(&|options| (options.unit, options.batch_size) = (Unit::Request, 4));
    assert!(long.contains("train-00000.parquet: a request of 5 rows does not fit a batch of 4"), "{long}");
}

#[test]
fn reading_may_end_early() {
    let home = tempfile::tempdir().unwrap();
    let shards = write_set(home.path());
    let reader = Reader::new(&shards, ReadOptions { window_bytes: 1, ..options(4, Unit::Row) }).unwrap();
    let mut endless = reader.batches(0..usize::MAX, 0).unwrap();
    let steps = 2 * reader.steps() + 1;
    let last = endless.by_ref().take(steps).last().unwrap().unwrap();
    assert_eq!((last.epoch, last.step), (2, 0));
    // The threads are waiting with windows and batches; dropping must not wait for them to be used.
    drop(endless);
}
