//! Features as they were served, from a log as the server writes it.

use std::path::Path;

use gatefold_samples::{BuildOptions, Silent, Skew, build};
use polars::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::logs::{self, Sample, load, save};

const SPLITS: [&str; 3] = ["train", "valid", "test"];

fn built(folder: &Path, out: &Path, served: bool) {
    let text = match served {
        true => logs::RECIPE.replace("labels = {", "served = \"served/*/*.parquet\"\n    labels = {"),
        false => logs::RECIPE.to_owned(),
    };
    let recipe = gatefold_schema::Recipe::parse(&text, "served.toml").unwrap();
    let options = BuildOptions { raw: SPLITS.map(str::to_owned).into(), ..BuildOptions::default() };
    build(&recipe, folder, out, &options, &mut Silent).unwrap();
}

fn samples(folder: &Path) -> Vec<Sample> {
    SPLITS.iter().flat_map(|split| logs::read_samples(&folder.join(format!("raw-{split}.parquet")))).collect()
}

#[test]
fn features_are_taken_as_they_were_served_and_compared() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("logs");
    crate::random_logs(&mut ChaCha8Rng::seed_from_u64(5)).write(&folder);
    let out = |name: &str| home.path().join(name);
    built(&folder, &out("plain"), false);
    assert_eq!(Skew::read(&out("plain")).unwrap(), None);
    let plain = samples(&out("plain"));

    // A server has logged every second request, under ids that are text, and one of another world.
    let rows = SPLITS.map(|split| load(&out("plain").join(format!("raw-{split}.parquet"))).lazy());
    let rows = concat(rows, UnionArgs::default()).unwrap();
    let logged = rows.filter((col("request_id") % lit(2)).eq(lit(0)));
    let logged =
        logged.with_columns([col("request_id").cast(DataType::String)]).drop(cols(["click", "conversion"]));
    let logged = logged.collect().unwrap();
    let mut foreign = logged.head(Some(1));
    foreign.with_column(Column::new("request_id".into(), ["gatefold-17f"])).unwrap();
    let serve = |logged: &DataFrame| {
        std::fs::create_dir_all(folder.join("served/ranker")).unwrap();
        save(&folder.join("served/ranker/1.parquet"), logged.vstack(&foreign).unwrap().columns().to_vec());
    };
    serve(&logged);
    built(&folder, &out("same"), true);
    let skew = Skew::read(&out("same")).unwrap().unwrap();
    let requests = logged.column("request_id").unwrap().n_unique().unwrap() as u64;
    assert_eq!((skew.impressions, skew.served), (plain.len() as u64, logged.height() as u64));
    for (name, feature) in &skew.features {
        let compared = if ["item_id", "price"].contains(&name.as_str()) { skew.served } else { requests };
        assert_eq!((feature.compared, feature.differing), (compared, 0), "{name}: {feature:?}");
    }
    assert_eq!(skew.features.len(), 6);
    let (plain_files, mut same_files) = (crate::contents(&out("plain")), crate::contents(&out("same")));
    assert!(same_files.remove("skew.json").is_some());
    assert!(plain_files == same_files, "what was served alike changes nothing");

    // Another price of one item, another country and no hour of one request.
    let sample = plain.iter().find(|row| row.request % 2 == 0 && row.price.is_some()).unwrap();
    let in_request = || col("request_id").eq(lit(sample.request.to_string()));
    let in_row = in_request().and(col("item_id").eq(lit(sample.item)));
    let planted = logged.lazy().with_columns([
        when(in_row).then(col("price") - lit(0.5)).otherwise(col("price")).alias("price"),
        when(in_request()).then(lit("zz")).otherwise(col("country")).alias("country"),
        when(in_request()).then(lit(NULL)).otherwise(col("hour")).alias("hour"),
    ]);
    serve(&planted.collect().unwrap());
    built(&folder, &out("skewed"), true);
    let expected: Vec<Sample> = plain
        .iter()
        .cloned()
        .map(|mut row| {
            if row.request == sample.request {
                row.country = Some("zz".into());
                row.hour = None;
                if row.item == sample.item {
                    row.price = row.price.map(|price| price - 0.5);
                }
            }
            row
        })
        .collect();
    assert_eq!(samples(&out("skewed")), expected);
    let skew = Skew::read(&out("skewed")).unwrap().unwrap();
    let differing: Vec<(&str, u64)> = skew
        .features
        .iter()
        .filter(|(_, own)| own.differing > 0)
        .map(|(name, own)| (name.as_str(), own.differing))
        .collect();
    assert_eq!(differing, [("country", 1), ("hour", 1), ("price", 1)]);
    assert_eq!(skew.features["price"].largest_difference, Some(0.5));
    assert_eq!(skew.features["hour"].largest_difference, None);
    let example = &skew.features["price"].examples[0];
    assert_eq!(
        (example.request.as_str(), example.item.as_deref()),
        (sample.request.to_string().as_str(), Some(sample.item.to_string().as_str()))
    );
    assert_eq!(skew.features["country"].examples[0].served, "\"zz\"");
    assert_eq!(skew.features["country"].examples[0].item, None);
}
