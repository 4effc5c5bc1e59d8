//! The model of the serving bench: 18 user and 8 item fields of width 16, 8 experts 256-128, two
//! towers of 64; barely trained, because only its speed is of interest.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use anyhow::{Context, Result};
use gatefold_backend_ort::{OrtLoader, OrtSettings};
use gatefold_dataset::Split;
use gatefold_features::FeatureColumn;
use gatefold_schema::{EncoderSet, EncoderState, FittedFeature, JsonRequest, Level, Recipe};
use gatefold_trainer::{Silent, TrainOptions, TrainingData, publish as publish_bundle, train};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal};
use serde_json::{Value, json};

/// Width of every embedding.
pub(crate) const WIDTH: usize = 16;
const USER_FIELDS: usize = 18;
const ITEM_FIELDS: usize = 8;
/// Rows of the training and of the validation data.
const ROWS: usize = 256;
const MIXED_REQUESTS: usize = 64;
const MOST_CANDIDATES: f64 = 1000.0;

/// Publishes the model in `model` and writes `count` requests of `candidates` and the mix for it into
/// the folder `requests`.
pub(crate) fn publish(
    model: &Path,
    requests: &Path,
    buckets: u32,
    count: usize,
    candidates: usize,
) -> Result<Value> {
    let fields: Vec<(String, &str)> = (0..USER_FIELDS)
        .map(|field| (format!("user_{field}"), "user"))
        .chain((0..ITEM_FIELDS).map(|field| (format!("item_{field}"), "item")))
        .collect();
    let recipe = mmoe_recipe(&fields, buckets, ROWS)?;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let examples: Vec<JsonRequest> =
        (0..count).map(|index| request(index, candidates, &mut random)).collect();
    let data = TrainingData {
        encoders: encoders(&recipe),
        train: split(&recipe, ROWS, &mut random).into(),
        valid: split(&recipe, ROWS, &mut random).into(),
        examples: examples.iter().take(2).cloned().collect(),
        negative_sampling_rate: 1.0,
        late_label: None,
    };
    let trained = train(&recipe, &data, &TrainOptions::new(1), &mut Silent)?;
    let loader = OrtLoader::new(OrtSettings::default())?;
    let published = publish_bundle(&recipe, &data, &trained, model, &loader, &mut Silent)?;
    // Half of the requests have at most 80 candidates, one in a hundred has 800 and more.
    let sizes = LogNormal::new(80f64.ln(), 1.0)?;
    let mixed: Vec<JsonRequest> = (0..MIXED_REQUESTS)
        .map(|index| {
            let candidates = sizes.sample(&mut random).clamp(1.0, MOST_CANDIDATES) as usize;
            request(index, candidates, &mut random)
        })
        .collect();
    std::fs::create_dir_all(requests).with_context(|| format!("cannot create {}", requests.display()))?;
    for (name, requests_of_file) in [("requests.json", &examples), ("mix.json", &mixed)] {
        let file = requests.join(name);
        std::fs::write(&file, serde_json::to_vec(requests_of_file)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let candidates: usize = mixed.iter().map(JsonRequest::candidates).sum();
    Ok(json!({ "bundle": published.folder, "mixed_candidates": candidates as f64 / mixed.len() as f64 }))
}

/// A recipe of an MMoE over hashed integer fields `(name, side)`, with two tasks `a` and `b`.
pub(crate) fn mmoe_recipe(fields: &[(String, &str)], buckets: u32, batch_size: usize) -> Result<Recipe> {
    let model = "kind = \"mmoe\"\nexperts = 8\nexpert = [256, 128]\ntower = [64]\n";
    recipe(model, "", fields, buckets, batch_size)
}

/// A recipe of an ESMM, likewise; task `b` is conditional on `a`.
pub(crate) fn esmm_recipe(fields: &[(String, &str)], buckets: u32, batch_size: usize) -> Result<Recipe> {
    let model = "kind = \"esmm\"\nbottom = []\ntower = [256, 128, 64]\n";
    recipe(model, "given = \"a\"\n", fields, buckets, batch_size)
}

fn recipe(
    model: &str,
    condition_of_b: &str,
    fields: &[(String, &str)],
    buckets: u32,
    batch_size: usize,
) -> Result<Recipe> {
    let mut text = String::from("name = \"bench\"\n[samples]\nadult = { train = \"-\", test = \"-\" }\n");
    write!(text, "[model]\n{model}")?;
    write!(text, "[train]\nepochs = 1\nbatch_size = {batch_size}\nlearning_rate = 0.001\nshuffle = false\n")?;
    for (task, condition) in [("a", ""), ("b", condition_of_b)] {
        write!(text, "[[task]]\nname = \"{task}\"\nlabel = \"label_{task}\"\n{condition}")?;
    }
    for (name, side) in fields {
        write!(
            text,
            "[[feature]]\nname = \"{name}\"\nside = \"{side}\"\nkind = \"categorical\"\ntype = \"int\"\n\
             encoder = {{ kind = \"hash\", buckets = {buckets} }}\nembedding = {WIDTH}\n"
        )?;
    }
    Ok(Recipe::parse(&text, "bench.toml")?)
}

/// The recipe's features; hashed ones have nothing to fit.
pub(crate) fn encoders(recipe: &Recipe) -> EncoderSet {
    let fitted = |feature: &gatefold_schema::Feature| FittedFeature {
        feature: feature.clone(),
        state: EncoderState::Stateless,
    };
    EncoderSet { features: recipe.features.iter().map(fitted).collect(), ..EncoderSet::default() }
}

/// The level of each of the recipe's features.
pub(crate) fn levels(recipe: &Recipe) -> Vec<Level> {
    recipe.features.iter().map(|feature| feature.side.level()).collect()
}

/// Random codes of every value, missing left out.
pub(crate) fn random_codes(fitted: &FittedFeature, rows: usize, random: &mut impl Rng) -> FeatureColumn {
    let codes = fitted.code_count().unwrap_or(0).max(3) as i32;
    FeatureColumn::Codes {
        width: fitted.feature.width(),
        data: (0..rows * fitted.feature.width()).map(|_| random.random_range(2..codes)).collect(),
    }
}

fn split(recipe: &Recipe, rows: usize, random: &mut ChaCha8Rng) -> Split {
    let columns = encoders(recipe).features.iter().map(|fitted| random_codes(fitted, rows, random)).collect();
    let mut label = || (0..rows).map(|row| f32::from(u8::from(row % 2 == 0 || random.random()))).collect();
    let labels = BTreeMap::from([("label_a".to_owned(), label()), ("label_b".to_owned(), label())]);
    Split { rows, request: (0..rows as u32).collect(), columns, labels, time: None, levels: levels(recipe) }
}

fn request(index: usize, candidates: usize, random: &mut ChaCha8Rng) -> JsonRequest {
    let mut number = || json!(random.random_range(0..1_000_000_000));
    JsonRequest {
        request_id: format!("request-{index}"),
        user: (0..USER_FIELDS).map(|field| (format!("user_{field}"), number())).collect(),
        context: BTreeMap::new(),
        items: (0..ITEM_FIELDS)
            .map(|field| (format!("item_{field}"), (0..candidates).map(|_| number()).collect()))
            .collect(),
    }
}
