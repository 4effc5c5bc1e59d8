//! UCI census-income: the division of its one file, and the published file where it is at hand.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use gatefold_samples::{BuildOptions, Silent, build};
use gatefold_schema::{CensusFile, Recipe, SampleManifest, SampleSource};
use polars::prelude::*;

const SPLITS: [&str; 3] = ["train", "valid", "test"];

fn recipe() -> Recipe {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../training/recipes/census.toml");
    Recipe::parse(&fs::read_to_string(path).unwrap(), path).unwrap()
}

fn build_into(out: &Path, files: &Path, recipe: &Recipe) -> Result<SampleManifest, String> {
    let options = BuildOptions { raw: SPLITS.map(str::to_owned).to_vec(), ..BuildOptions::default() };
    build(recipe, files, out, &options, &mut Silent).map_err(|error| error.to_string())
}

/// A line of the file: a person of this age and weight.
fn line(age: usize, weight: usize) -> String {
    let marital = if age.is_multiple_of(3) { "Never married" } else { "Divorced" };
    let income = if age.is_multiple_of(5) { "50000+." } else { "- 50000." };
    format!(
        "{age}, Private, 6, 36, Children, 0, Not in universe, {marital}, Education, Sales, White, All other, \
         Female, No, Re-entrant, Not in labor force, 0, 0, 0, Single, South, Utah, Householder, Householder, \
         {weight}.5, ?, ?, ?, No, ?, 4, Not in universe, Mexico, ?, Mexico, Native, 0, No, 2, 12, 95, {income}\n"
    )
}

fn write_file(folder: &Path, text: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("census-income.test.gz"), text).unwrap();
}

fn load(folder: &Path, split: &str) -> DataFrame {
    let file = File::open(folder.join(format!("raw-{split}.parquet"))).unwrap();
    ParquetReader::new(file).finish().unwrap()
}

#[test]
fn copies_of_a_row_stand_in_one_split() {
    let home = tempfile::tempdir().unwrap();
    // A thousand people by age, each line twice.
    let text: String = (0..1000).map(|age| line(age, age)).collect();
    write_file(&home.path().join("files"), &text.repeat(2));
    let out = home.path().join("samples");
    let manifest = build_into(&out, &home.path().join("files"), &recipe()).unwrap();

    let mut seen: BTreeMap<i64, (usize, &str)> = BTreeMap::new();
    for split in SPLITS {
        let rows = load(&out, split);
        let (ages, income, marital) = (
            rows.column("age").unwrap().i64().unwrap(),
            rows.column("income").unwrap().f32().unwrap(),
            rows.column("marital").unwrap().f32().unwrap(),
        );
        for ((age, income), marital) in ages.iter().zip(income.iter()).zip(marital.iter()) {
            let age = age.unwrap();
            assert_eq!(income, Some(f32::from(age % 5 == 0)), "income of {age}");
            assert_eq!(marital, Some(f32::from(age % 3 == 0)), "marital of {age}");
            let (count, first) = seen.entry(age).or_insert((0, split));
            *count += 1;
            assert_eq!(*first, split, "both rows of age {age} in one split");
        }
    }
    assert_eq!(seen.len(), 1000);
    assert!(seen.values().all(|(count, _)| *count == 2));
    let shares = SPLITS.map(|split| manifest.splits[split].rows as f64 / 2000.0);
    assert!((0.55..0.65).contains(&shares[0]), "{shares:?}");
    assert!((0.15..0.25).contains(&shares[1]) && (0.15..0.25).contains(&shares[2]), "{shares:?}");
}

/// The survey's weight cannot be made a feature, nor another data set's file be read.
#[test]
fn what_cannot_be_used_is_named() {
    let home = tempfile::tempdir().unwrap();
    let (files, out) = (home.path().join("files"), home.path().join("samples"));
    let text: String = (0..100).map(|age| line(age, 1)).collect();
    write_file(&files, &text);
    let mut weighted = recipe();
    weighted.features[0].column = Some("instance_weight".into());
    let error = build_into(&out, &files, &weighted).unwrap_err();
    assert!(
        error.contains("feature 'age': column 'instance_weight' of UCI census-income holds weights"),
        "{error}"
    );
    let mut misspelt = recipe();
    misspelt.features[0].column = Some("agee".into());
    let error = build_into(&out, &files, &misspelt).unwrap_err();
    assert!(error.contains("did you mean 'age'?"), "{error}");

    write_file(&files, "39, State-gov, 77516\n");
    let error = build_into(&out, &files, &recipe()).unwrap_err();
    assert!(
        error.contains("line 1 has 3 values, expected 42: it is not a file of UCI census-income"),
        "{error}"
    );
    write_file(&files, &text[..text.find('\n').unwrap()]);
    let error = build_into(&out, &files, &recipe()).unwrap_err();
    assert!(error.contains("1 rows are too few to be divided"), "{error}");
}

#[test]
fn the_published_file() {
    let files = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/census"));
    if !files.join("census-income.test.gz").exists() {
        eprintln!("skipped: {} is not there", files.display());
        return;
    }
    let recipe = recipe();
    let Ok(SampleSource::Census(CensusFile { file })) = recipe.samples.source() else { panic!("not census") };
    assert_eq!(file, "census-income.test.gz");
    let home = tempfile::tempdir().unwrap();
    let manifest = build_into(&home.path().join("samples"), files, &recipe).unwrap();
    let splits = SPLITS.map(|split| &manifest.splits[split]);
    // Rows as the data set's description gives them; positives counted with `zcat | grep -c`.
    assert_eq!(splits.iter().map(|split| split.rows).sum::<u64>(), 99_762);
    assert_eq!(splits.iter().map(|split| split.positives["income"]).sum::<u64>(), 6_186);
    assert_eq!(splits.iter().map(|split| split.positives["marital"]).sum::<u64>(), 43_143);
    // 3:1:1 within half a per cent of all rows.
    for (split, share) in splits.iter().zip([0.6, 0.2, 0.2]) {
        let found = split.rows as f64 / 99_762.0;
        assert!((found - share).abs() < 0.005, "{found} for {share}");
    }
}
