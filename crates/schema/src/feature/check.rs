//! What declared features must be to be encoded and read by a model.

use super::{Encoder, Feature, Kind, Pooling, Side, ValueType};
use crate::strict::ConfigError;

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
        let coded_encoder = matches!(
            feature.encoder,
            Encoder::Vocab { .. } | Encoder::Hash { .. } | Encoder::Bucketize { .. } | Encoder::Given { .. }
        );
        if feature.is_coded() != coded_encoder {
            return fail(if feature.is_coded() {
                "a categorical or sequence feature needs the encoder vocab, hash or bucketize, or given where \
                 an imported model takes the codes themselves"
                    .into()
            } else {
                "a numeric feature needs the encoder standardize, min-max, log1p or none; to embed \
                 a number use kind = \"categorical\" with bucketize"
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
        let needs_number = matches!(feature.encoder, Encoder::Bucketize { .. }) || !feature.is_coded();
        if needs_number && feature.value_type == ValueType::Text {
            return fail("this encoder needs type = \"int\" or \"float\", found text".into());
        }
        if !needs_number && feature.value_type == ValueType::Float {
            return fail("a float has no vocabulary or hash; use bucketize, or type int or text".into());
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
            Encoder::Hash { buckets: 0, .. } => return fail("buckets must be at least 1".into()),
            Encoder::Vocab { oov_buckets: 0, .. } => {
                return fail("oov_buckets must be at least 1".into());
            }
            _ => {}
        }
        if feature.kind == Kind::Sequence && matches!(feature.encoder, Encoder::Bucketize { .. }) {
            return fail("a sequence takes the encoder vocab, hash or given".into());
        }
        if let Some(table) = &feature.table
            && (table.is_empty() || !table.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        {
            return fail(format!("table '{table}': a name is made of ASCII letters, digits and '_'"));
        }
        check_pooling(feature, features).or_else(fail)?;
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
