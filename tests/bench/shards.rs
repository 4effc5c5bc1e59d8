//! Sample sets of random rows, written as the shards that `gatefold samples build` would write:
//! categorical fields with Zipf-distributed ids over tables of a given size, two 0/1 labels.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use gatefold_schema::{
    FIRST_VALUE_CODE, Recipe, SampleManifest, ShardInfo, SplitInfo,
    manifest::{SAMPLES_FORMAT, SHARD_FINGERPRINT},
};
use polars::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zeta};

use crate::world::{encoders, esmm_recipe, mmoe_recipe};

const LABELS: [&str; 2] = ["label_a", "label_b"];
/// Rows of the validation split, which a training cannot do without.
const VALIDATION_ROWS: usize = 1000;

/// A sample set to be made.
#[derive(Args, Clone, Debug)]
pub(crate) struct Shape {
    /// Folder that gets the sample set; replaced if it exists.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Training rows.
    #[arg(long, default_value_t = 500_000)]
    rows: usize,
    /// Rows of a request.
    #[arg(long, default_value_t = 1)]
    candidates: usize,
    /// Fields of the user, whose ids a request's rows share.
    #[arg(long, default_value_t = 0)]
    user_fields: usize,
    /// Fields of the item.
    #[arg(long, default_value_t = 26)]
    item_fields: usize,
    /// Embedding rows over all fields.
    #[arg(long, default_value_t = 1_000_000)]
    table_rows: usize,
    /// Rows of a shard.
    #[arg(long, default_value_t = 100_000)]
    rows_per_shard: usize,
    /// Train an ESMM (workload T2), whose steps are short, in place of an MMoE (T1).
    #[arg(long)]
    esmm: bool,
}

impl Shape {
    /// The recipe of the model on these fields.
    pub(crate) fn recipe(&self) -> Result<Recipe> {
        let user = (0..self.user_fields).map(|field| (format!("user_{field}"), "user"));
        let item = (0..self.item_fields).map(|field| (format!("item_{field}"), "item"));
        let fields: Vec<(String, &str)> = user.chain(item).collect();
        ensure!(!fields.is_empty(), "at least one field is needed");
        let buckets = (self.table_rows / fields.len()) as u32;
        let mut recipe = match self.esmm {
            true => esmm_recipe(&fields, buckets, 2048)?,
            false => mmoe_recipe(&fields, buckets, 4096)?,
        };
        recipe.train.shuffle = true;
        Ok(recipe)
    }

    /// Writes the sample set, one shard in memory at a time.
    pub(crate) fn write(&self) -> Result<()> {
        ensure!(self.candidates > 0 && self.rows_per_shard >= self.candidates, "a request must fit a shard");
        if self.out.join("manifest.json").exists() {
            fs::remove_dir_all(&self.out).with_context(|| format!("cannot remove {}", self.out.display()))?;
        }
        fs::create_dir_all(&self.out).with_context(|| format!("cannot create {}", self.out.display()))?;
        let set = encoders(&self.recipe()?);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let fingerprint = set.fingerprint();
        let mut split = |name: &str, requests: usize| -> Result<SplitInfo> {
            let mut info = SplitInfo { requests: requests as u64, ..SplitInfo::default() };
            let most = self.rows_per_shard / self.candidates;
            for first in (0..requests).step_by(most) {
                let rows = first..(first + most).min(requests);
                let path = self.out.join(format!("{name}-{:05}.parquet", info.shards.len()));
                let mut frame = self.shard(rows, &mut random)?;
                info.rows += frame.height() as u64;
                info.shards.push(save(&path, &mut frame, &fingerprint)?);
            }
            Ok(info)
        };
        let splits = BTreeMap::from([
            ("train".to_owned(), split("train", self.rows / self.candidates)?),
            ("valid".to_owned(), split("valid", VALIDATION_ROWS.div_ceil(self.candidates))?),
        ]);
        let recipe = self.recipe()?;
        let manifest = SampleManifest {
            format: SAMPLES_FORMAT,
            name: recipe.name,
            fingerprint,
            features: set.features,
            vocabularies: Vec::new(),
            tasks: recipe.tasks,
            derived: recipe.derived,
            labels: LABELS.map(str::to_owned).into(),
            negative_sampling_rate: 1.0,
            sample_weight: None,
            late_label: None,
            events: BTreeMap::new(),
            splits,
            dropped: BTreeMap::new(),
        };
        fs::write(self.out.join("manifest.json"), serde_json::to_vec(&manifest)?)?;
        Ok(())
    }

    /// The rows of these requests.
    fn shard(&self, requests: std::ops::Range<usize>, random: &mut ChaCha8Rng) -> Result<DataFrame> {
        let rows = requests.len() * self.candidates;
        let recipe = self.recipe()?;
        let ids = (self.table_rows / recipe.features.len()) as f64;
        let zipf = Zeta::new(1.2).context("the exponent is above 1")?;
        let repeated = |values: Vec<i32>| -> Vec<i32> {
            values.into_iter().flat_map(|value| std::iter::repeat_n(value, self.candidates)).collect()
        };
        let numbers: Vec<u32> = requests.clone().flat_map(|n| vec![n as u32; self.candidates]).collect();
        let mut columns = vec![Column::new("request".into(), numbers)];
        for (index, feature) in recipe.features.iter().enumerate() {
            let mut draw = |count: usize| -> Vec<i32> {
                let id = |value: f64| (value % ids) as i32 + FIRST_VALUE_CODE;
                (0..count).map(|_| id(zipf.sample(random))).collect()
            };
            let codes = if index < self.user_fields { repeated(draw(requests.len())) } else { draw(rows) };
            columns.push(Column::new(feature.name.as_str().into(), codes));
        }
        // The second label is 0 wherever the first is, as a conversion needs a click.
        let clicks: Vec<bool> = (0..rows).map(|_| random.random_bool(0.1)).collect();
        let conversions: Vec<bool> = clicks.iter().map(|click| *click && random.random_bool(0.3)).collect();
        for (label, values) in LABELS.iter().zip([clicks, conversions]) {
            let values: Vec<f32> = values.into_iter().map(|value| f32::from(u8::from(value))).collect();
            columns.push(Column::new((*label).into(), values));
        }
        Ok(DataFrame::new(rows, columns)?)
    }
}

fn save(path: &Path, frame: &mut DataFrame, fingerprint: &str) -> Result<ShardInfo> {
    let notes = vec![(SHARD_FINGERPRINT.to_owned(), fingerprint.to_owned())];
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    ParquetWriter::new(file)
        .with_compression(ParquetCompression::Zstd(None))
        .with_key_value_metadata(Some(KeyValueMetadata::from_static(notes)))
        .finish(frame)?;
    Ok(ShardInfo {
        file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        rows: frame.height() as u64,
        bytes: fs::metadata(path)?.len(),
    })
}
