//! What declared features must be to be encoded and read by a model.

use super::{Clip, Encoder, Feature, Kind, Pooling, Side, TargetBy, ValueType, cross::check_cross};
use crate::{Task, strict::ConfigError};

/// Most buckets that a quantile encoder can have.
const MOST_QUANTILES: u32 = 65_536;

/// Checks declared features: unique names, an encoder that fits the kind, embedding widths.
///
/// # Errors
/// A sentence that names the feature, what was found and what to do.
pub fn check_features(features: &[Feature]) -> Result<(), ConfigError> {
    let mut seen = std::collections::BTreeSet::new();
    for feature in features {
        let name = &feature.name;
        let fail = |text: String| Err(ConfigError::new(format!("feature '{name}': {text}")));
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return fail("a name is made of ASCII letters, digits and '_'".into());
        }
        if [crate::REQUEST_OF, "request", "request_id", "time", "weight"].contains(&name.as_str()) {
            return fail("this name is reserved; choose another".into());
        }
        if !seen.insert(name.as_str()) {
            return fail("declared twice; names must be unique".into());
        }
        if feature.is_coded() != feature.encoder.is_coded() {
            return fail(if feature.is_coded() {
                "a categorical or sequence feature needs the encoder vocab, hash, bucketize or quantile, or \
                 given where an imported model takes the codes themselves"
                    .into()
            } else {
                "a numeric feature needs the encoder standardize, min-max, log1p, target or none; to embed \
                 a number use kind = \"categorical\" with bucketize or quantile"
                    .into()
            });
        }
        if !feature.is_coded() && feature.embedding.is_some() {
            return fail("a numeric feature has no embedding; remove it".into());
        }
        match (feature.kind, feature.max_len) {
            (Kind::Sequence, None | Some(0)) => return fail("add max_len = <length>".into()),
            (Kind::Categorical | Kind::Numeric, Some(_)) => {
                return fail("only a sequence has max_len; remove it".into());
            }
            _ => {}
        }
        let needs_number = feature.encoder.reads_numbers();
        if needs_number && feature.value_type == ValueType::Text {
            return fail("this encoder needs type = \"int\" or \"float\", found text".into());
        }
        if !needs_number && feature.value_type == ValueType::Float {
            return fail(format!(
                "a float has no encoder {}; use bucketize or quantile, or type int or text",
                feature.encoder.name()
            ));
        }
        if let Some(clip) = feature.clip {
            check_clip(clip, needs_number).or_else(fail)?;
        }
        match &feature.encoder {
            Encoder::Bucketize { edges }
                if edges.is_empty()
                    || edges.iter().any(|edge| !edge.is_finite())
                    || edges.windows(2).any(|pair| pair[0] >= pair[1]) =>
            {
                return fail("edges must be finite and strictly ascending, at least one".into());
            }
            Encoder::Given { codes, missing, padding } => {
                if feature.value_type != ValueType::Int {
                    return fail("given codes are of type = \"int\"".into());
                }
                if let Some((word, code)) =
                    [("missing", missing), ("padding", padding)].into_iter().find(|(_, code)| *code >= codes)
                {
                    return fail(format!("{word} = {code} must be below codes = {codes}"));
                }
            }
            Encoder::Quantile { buckets } if !(2..=MOST_QUANTILES).contains(buckets) => {
                return fail(format!("buckets = {buckets} must be between 2 and {MOST_QUANTILES}"));
            }
            Encoder::Target { .. } => check_target(&feature.encoder).or_else(fail)?,
            Encoder::Hash { buckets: 0, .. } => return fail("buckets must be at least 1".into()),
            Encoder::Vocab { oov_buckets: 0, .. } => {
                return fail("oov_buckets must be at least 1".into());
            }
            _ => {}
        }
        if feature.kind == Kind::Sequence && needs_number {
            return fail("a sequence takes the encoder vocab, hash or given".into());
        }
        if let Some(table) = &feature.table
            && (table.is_empty() || !table.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        {
            return fail(format!("table '{table}': a name is made of ASCII letters, digits and '_'"));
        }
        if !feature.fit {
            check_unfitted(feature, features).or_else(fail)?;
        }
        if feature.is_crossed() {
            check_cross(feature, features).or_else(fail)?;
        }
        check_pooling(feature, features).or_else(fail)?;
    }
    Ok(())
}

/// Checks that the tasks that target encodings name exist.
///
/// # Errors
/// As [`check_features`].
pub(crate) fn check_targets(features: &[Feature], tasks: &[Task]) -> Result<(), ConfigError> {
    for feature in features {
        let Encoder::Target { task, .. } = &feature.encoder else { continue };
        if !tasks.iter().any(|other| other.name == *task) {
            let known: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
            return Err(ConfigError::new(format!(
                "feature '{}': its encoder names the task '{task}', but the tasks are: {}",
                feature.name,
                known.join(", ")
            )));
        }
    }
    Ok(())
}

/// Checks what a model that Gatefold trains needs of its features beyond their encoding: codes have an
/// embedding, and come from an encoder.
///
/// # Errors
/// As [`check_features`].
pub(crate) fn check_embeddings(features: &[Feature]) -> Result<(), ConfigError> {
    for feature in features.iter().filter(|feature| feature.is_coded()) {
        let fail = |text: &str| Err(ConfigError::new(format!("feature '{}': {text}", feature.name)));
        if matches!(feature.embedding, None | Some(0)) {
            return fail("add embedding = <width>, such as 16");
        }
        if matches!(feature.encoder, Encoder::Given { .. }) {
            return fail("given codes belong to an imported model; use vocab or hash");
        }
    }
    Ok(())
}

fn check_clip(clip: Clip, needs_number: bool) -> Result<(), String> {
    if !needs_number {
        return Err("only numbers have a clip; remove it".into());
    }
    let bounds = [clip.min, clip.max];
    if bounds == [None, None] || bounds.into_iter().flatten().any(|bound| !bound.is_finite()) {
        return Err("clip needs a finite min, max or both".into());
    }
    match (clip.min, clip.max) {
        (Some(min), Some(max)) if min > max => Err(format!("clip: min = {min} is above max = {max}")),
        _ => Ok(()),
    }
}

fn check_target(encoder: &Encoder) -> Result<(), String> {
    let Encoder::Target { smoothing, by, folds, delay, .. } = encoder else { return Ok(()) };
    if !(smoothing.is_finite() && *smoothing > 0.0) {
        return Err(format!("smoothing = {smoothing} must be above 0, such as 20"));
    }
    match (by, folds, delay) {
        (TargetBy::Folds, Some(0 | 1), _) => Err("folds must be at least 2".into()),
        (TargetBy::Folds, _, Some(_)) => Err("delay belongs to by = \"time\"; remove it, or add that".into()),
        (TargetBy::Time, Some(_), _) => Err("folds belong to by = \"folds\"; remove them".into()),
        _ => Ok(()),
    }
}

/// Checks a feature with `fit = false`: another one must teach its table.
fn check_unfitted(feature: &Feature, features: &[Feature]) -> Result<(), String> {
    if !matches!(feature.encoder, Encoder::Vocab { .. }) {
        return Err("fit = false is for the encoder vocab; remove it".into());
    }
    let table = feature.table_name();
    let teaches = |other: &Feature| {
        other.fit && other.table_name() == table && matches!(other.encoder, Encoder::Vocab { .. })
    };
    if features.iter().any(teaches) {
        return Ok(());
    }
    Err(format!("fit = false, but no other feature fits the table '{table}'; name one that does"))
}

/// Checks how a feature is pooled, and the feature that attention compares it with.
fn check_pooling(feature: &Feature, features: &[Feature]) -> Result<(), String> {
    if feature.kind != Kind::Sequence && feature.pooling != Pooling::default() {
        return Err("only a sequence is pooled; remove pooling".into());
    }
    let query = match (&feature.query, feature.pooling) {
        (None, Pooling::Attention) => {
            return Err(
                "attention compares with a feature of the candidate; add query = \"<feature>\"".into()
            );
        }
        (Some(_), pooling) if pooling != Pooling::Attention => {
            return Err("only pooling = \"attention\" has a query; remove it".into());
        }
        (None, _) => return Ok(()),
        (Some(query), _) => query,
    };
    let is_candidate = |other: &&Feature| other.side == Side::Item && other.kind == Kind::Categorical;
    let Some(asked) = features.iter().find(|other| other.name == *query).filter(is_candidate) else {
        let known = features.iter().filter(is_candidate).map(|other| other.name.as_str());
        let known: Vec<&str> = known.collect();
        return Err(format!(
            "query = \"{query}\" is no categorical feature of side item (those are: {})",
            known.join(", ")
        ));
    };
    if asked.embedding != feature.embedding {
        let width = |feature: &Feature| feature.embedding.unwrap_or(0);
        return Err(format!(
            "attention needs one embedding width, found {} here and {} at query = \"{query}\"",
            width(feature),
            width(asked)
        ));
    }
    Ok(())
}
