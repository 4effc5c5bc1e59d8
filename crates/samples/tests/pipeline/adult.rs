//! UCI Adult: the quirks of its files, and the published files where they are at hand.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use gatefold_samples::{BuildOptions, Silent, build};
use gatefold_schema::{Recipe, SampleManifest};
use polars::prelude::*;

fn recipe() -> Recipe {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../training/recipes/adult.toml");
    Recipe::parse(&fs::read_to_string(path).unwrap(), path).unwrap()
}

fn build_into(out: &Path, files: &Path) -> Result<SampleManifest, String> {
    let options = BuildOptions { raw: vec!["train".into(), "test".into()], ..BuildOptions::default() };
    build(&recipe(), files, out, &options, &mut Silent).map_err(|error| error.to_string())
}

/// A train file of `rows` lines that repeat two people, gzipped.
fn train_file(rows: usize) -> Vec<u8> {
    let lines = [
        "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 2174, 0, 40, United-States, <=50K\n",
        "52, ?, 209642, HS-grad, 9, Married-civ-spouse, Exec-managerial, Husband, White, Male, 0, 0, 45, ?, >50K\n",
    ];
    let text: String = lines.into_iter().cycle().take(rows).collect();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

const TEST_FILE: &str = "|1x3 Cross validator\n\
    25, Private, 226802, 11th, 7, Never-married, Machine-op-inspct, Own-child, Black, Male, 0, 0, 40, United-States, <=50K.\n\
    \n\
    28, Local-gov, 336951, Assoc-acdm, 12, Married-civ-spouse, Protective-serv, Husband, White, Male, 0, 0, 40, United-States, >50K.\n\n";

fn write_files(folder: &Path, train: &[u8], test: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("adult.data.gz"), train).unwrap();
    // Not gzipped, whatever its name says: both forms are read.
    fs::write(folder.join("adult.test.gz"), test).unwrap();
}

fn load(path: &Path) -> DataFrame {
    ParquetReader::new(File::open(path).unwrap()).finish().unwrap()
}

#[test]
fn quirks_are_read() {
    let home = tempfile::tempdir().unwrap();
    write_files(&home.path().join("files"), &train_file(400), TEST_FILE);
    let out = home.path().join("samples");
    let manifest = build_into(&out, &home.path().join("files")).unwrap();
    assert_eq!(manifest.splits["test"].rows, 2);
    assert_eq!(manifest.splits["train"].rows + manifest.splits["valid"].rows, 400);
    assert!((20..60).contains(&manifest.splits["valid"].rows), "{:?}", manifest.splits["valid"]);
    assert_eq!(manifest.dropped["blank lines"], 2);
    assert_eq!(manifest.splits["train"].time_min, None);

    let test = load(&out.join("raw-test.parquet"));
    let texts = |name: &str| -> Vec<Option<String>> {
        test.column(name).unwrap().str().unwrap().iter().map(|text| text.map(str::to_owned)).collect()
    };
    let floats =
        |name: &str| -> Vec<f32> { test.column(name).unwrap().f32().unwrap().iter().flatten().collect() };
    assert_eq!(texts("workclass"), [Some("Private".to_owned()), Some("Local-gov".to_owned())]);
    assert_eq!(floats("income"), [0.0, 1.0]);
    assert_eq!(floats("marital"), [1.0, 0.0]);
    let train = load(&out.join("raw-train.parquet"));
    let missing = train.column("workclass").unwrap().null_count();
    assert_eq!(missing, train.column("native_country").unwrap().null_count());
    assert!(missing > 150 && missing < 250);
}

#[track_caller]
fn check_refused(train: &[u8], test: &str, expected: &str) {
    let home = tempfile::tempdir().unwrap();
    write_files(&home.path().join("files"), train, test);
    let error = build_into(&home.path().join("samples"), &home.path().join("files")).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn bad_files_are_named() {
    let train = train_file(400);
    check_refused(&train, "1, 2, 3\n", "adult.test.gz: line 1 has 3 values, expected 15");
    check_refused(&train, &TEST_FILE.replace(">50K.", "rich"), "line 4: income is 'rich'");
    check_refused(
        &train,
        &TEST_FILE.replace("336951", "many"),
        "line 4: fnlwgt is 'many', expected an integer",
    );
    check_refused(&train, "\n", "adult.test.gz: there are no rows");
    check_refused(&train[..train.len() / 2], TEST_FILE, "cannot unpack");
}

#[test]
fn the_published_files() {
    let files = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/adult"));
    if !files.join("adult.data.gz").exists() {
        eprintln!("skipped: {} is not there", files.display());
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let manifest = build_into(&home.path().join("samples"), files).unwrap();
    let rows = |split: &str| manifest.splits[split].rows;
    let positives = |split: &str, label: &str| manifest.splits[split].positives[label];
    // Rows and shares as the data set's description gives them.
    assert_eq!((rows("train") + rows("valid"), rows("test")), (32_561, 16_281));
    assert_eq!(positives("train", "income") + positives("valid", "income"), 7841);
    assert_eq!(positives("test", "income"), 3846);
    assert_eq!(positives("train", "marital") + positives("valid", "marital"), 10_683);
    assert_eq!(positives("test", "marital"), 5434);
}
