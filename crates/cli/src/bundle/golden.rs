//! The requests that an imported bundle is checked with: from a file, or from random valid values.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use gatefold_schema::{
    Encoder, EncoderSet, Feature, FittedFeature, GoldenConfig, JsonRequest, Kind, Side, ValueType,
    VocabularyValues, strict,
};
use rand::{RngExt as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::{Value, json};

/// A golden request as a person may give it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    /// Raw values.
    pub(super) request: JsonRequest,
    /// Scores that the model must give; none where they are not known.
    #[serde(default)]
    pub(super) scores: BTreeMap<String, Vec<f32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    requests: Vec<Given>,
}

/// The requests that `config` asks for; a file is looked for in `folder`.
pub(super) fn requests(config: &GoldenConfig, folder: &Path, set: &EncoderSet) -> Result<Vec<Given>> {
    let Some(file) = &config.file else {
        let mut random = Random::new(config.seed);
        let counts = 1..=config.candidates;
        let requests = (0..config.requests).map(|index| {
            let candidates = random.rng.random_range(counts.clone());
            Given {
                request: random.request(set, &format!("golden-{index}"), candidates),
                scores: BTreeMap::new(),
            }
        });
        return Ok(requests.collect());
    };
    let path = folder.join(file);
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let file: File = strict::from_json(&text, &path.display().to_string())?;
    anyhow::ensure!(!file.requests.is_empty(), "{} holds no request; give at least one", path.display());
    Ok(file.requests)
}

/// Random valid values.
pub(super) struct Random {
    rng: ChaCha8Rng,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// A request with a value for every feature.
    pub(super) fn request(&mut self, set: &EncoderSet, request_id: &str, candidates: usize) -> JsonRequest {
        let mut request = JsonRequest { request_id: request_id.to_owned(), ..JsonRequest::default() };
        for fitted in &set.features {
            let name = fitted.feature.name.clone();
            match fitted.feature.side {
                Side::User => drop(request.user.insert(name, self.value(fitted, set))),
                Side::Context => drop(request.context.insert(name, self.value(fitted, set))),
                Side::Item => {
                    let values = (0..candidates).map(|_| self.value(fitted, set)).collect();
                    request.items.insert(name, values);
                }
            }
        }
        request
    }

    fn value(&mut self, fitted: &FittedFeature, set: &EncoderSet) -> Value {
        let feature = &fitted.feature;
        match feature.kind {
            Kind::Sequence => {
                // A model may divide by the length.
                let length = self.rng.random_range(1..=feature.width());
                (0..length).map(|_| self.element(feature, set)).collect()
            }
            Kind::Categorical | Kind::Numeric => self.element(feature, set),
        }
    }

    fn element(&mut self, feature: &Feature, set: &EncoderSet) -> Value {
        match &feature.encoder {
            Encoder::Given { codes, padding, .. } => {
                // The last code now and then, so that a table that is too short is found out.
                let code = match self.rng.random_bool(0.2) {
                    true => codes - 1,
                    false => self.rng.random_range(0..*codes),
                };
                let padded = feature.kind == Kind::Sequence && code == *padding;
                json!(if padded && *codes > 1 { (code + 1) % codes } else { code })
            }
            Encoder::Vocab { .. } => {
                match set.vocabularies.get(feature.table_name()).map(|found| &found.values) {
                    Some(VocabularyValues::Int(values)) => json!(values.choose(&mut self.rng)),
                    Some(VocabularyValues::Text(values)) => json!(values.choose(&mut self.rng)),
                    None => Value::Null,
                }
            }
            Encoder::Bucketize { edges } => {
                let edge = edges.choose(&mut self.rng).copied().unwrap_or(0.0);
                self.number(feature, edge, 1.0)
            }
            Encoder::Hash { .. } if feature.value_type == ValueType::Text => {
                json!(format!("value-{}", self.rng.random_range(0..1_000_000)))
            }
            Encoder::Hash { .. } => json!(self.rng.random_range(0..1_000_000)),
            // An import has no edges or means of its own fitting.
            Encoder::Quantile { .. } | Encoder::Target { .. } => Value::Null,
            Encoder::Standardize | Encoder::MinMax | Encoder::Log1p | Encoder::None => {
                let half = if feature.value_type == ValueType::Int { 5.0 } else { 0.5 };
                self.number(feature, half, half)
            }
        }
    }

    /// A number near `middle`.
    fn number(&mut self, feature: &Feature, middle: f64, spread: f64) -> Value {
        let value = middle + self.rng.random_range(-spread..spread);
        if feature.value_type == ValueType::Int { json!(value.round() as i64) } else { json!(value as f32) }
    }
}
