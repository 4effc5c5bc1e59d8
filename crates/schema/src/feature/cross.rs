//! What a crossed feature must be.

use super::{Encoder, Feature, Kind, Level, Side, ValueType};

/// Checks a crossed feature: parts that are declared and can be combined, a side and a type that follow
/// from them.
pub(super) fn check_cross(feature: &Feature, features: &[Feature]) -> Result<(), String> {
    if feature.kind == Kind::Sequence {
        return Err("a sequence cannot be crossed; use kind = \"categorical\"".into());
    }
    if !matches!(feature.encoder, Encoder::Vocab { .. } | Encoder::Hash { .. } | Encoder::Target { .. }) {
        return Err(format!(
            "a crossed feature takes the encoder hash, vocab or target, found {}",
            feature.encoder.name()
        ));
    }
    if feature.value_type != ValueType::Text {
        return Err("the combined values of a crossed feature are text; add type = \"text\"".into());
    }
    if feature.column.is_some() {
        return Err("a crossed feature is made of others and is read from no column; remove column".into());
    }
    if feature.cross.len() < 2 {
        return Err("cross needs at least two features".into());
    }
    for (index, name) in feature.cross.iter().enumerate() {
        if feature.cross[..index].contains(name) {
            return Err(format!("cross names '{name}' twice"));
        }
        let Some(part) = features.iter().find(|other| other.name == *name) else {
            let known: Vec<&str> = features
                .iter()
                .filter(|other| !other.is_crossed())
                .map(|other| other.name.as_str())
                .collect();
            return Err(format!("cross names '{name}', but the features are: {}", known.join(", ")));
        };
        check_part(feature, part)?;
    }
    let item = features.iter().find(|part| feature.cross.contains(&part.name) && part.side == Side::Item);
    match (item, feature.side.level()) {
        (Some(part), Level::Request) => {
            Err(format!("its part '{}' has one value a candidate; set side = \"item\"", part.name))
        }
        (None, Level::Candidate) => {
            Err("all its parts have one value a request; set side = \"user\" or \"context\"".into())
        }
        _ => Ok(()),
    }
}

fn check_part(feature: &Feature, part: &Feature) -> Result<(), String> {
    let fail = |text: &str| Err(format!("cross names '{}', {text}", part.name));
    if part.is_crossed() {
        return fail("which is crossed itself; name its parts");
    }
    if part.kind == Kind::Sequence {
        return fail("which is a sequence; only single values can be crossed");
    }
    match part.encoder {
        Encoder::Given { .. } => fail("whose values are codes of another model"),
        Encoder::Bucketize { .. } => Ok(()),
        Encoder::Quantile { .. } if !matches!(feature.encoder, Encoder::Hash { .. }) => {
            fail("whose edges are fitted at the same time; use the encoder hash, or bucketize for the part")
        }
        Encoder::Quantile { .. } => Ok(()),
        _ if part.value_type == ValueType::Float => {
            fail("a float, which has too many values to be crossed; give it bucketize or quantile")
        }
        _ => Ok(()),
    }
}
