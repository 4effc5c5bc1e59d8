//! The encoders that a map declares.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, ensure};
use gatefold_schema::{
    Encoder, EncoderSet, EncoderState, FittedFeature, ImportMap, ValueType, Vocabulary, VocabularyValues,
    strict,
};

/// The encoders of the map, with vocabularies read from the files that it names.
pub(super) fn encoders(map: &ImportMap, folder: &Path) -> Result<EncoderSet> {
    let features = map.features();
    let mut vocabularies: BTreeMap<String, Vocabulary> = BTreeMap::new();
    for (feature, mapped) in features.iter().zip(&map.features) {
        let Some(file) = &mapped.vocabulary else { continue };
        let path = folder.join(file);
        let text = std::fs::read(&path)
            .with_context(|| format!("feature '{}': cannot read {}", feature.name, path.display()))?;
        let origin = path.display().to_string();
        let values = match feature.value_type {
            ValueType::Text => VocabularyValues::Text(strict::from_json(&text, &origin)?),
            _ => VocabularyValues::Int(strict::from_json(&text, &origin)?),
        };
        let table = feature.table_name().to_owned();
        let vocabulary = Vocabulary { table: table.clone(), values };
        if let Some(other) = vocabularies.insert(table.clone(), vocabulary.clone()) {
            ensure!(
                other == vocabulary,
                "feature '{}': table '{table}' has another vocabulary already; name one file, once",
                feature.name
            );
        }
    }
    let mut fitted = Vec::new();
    for (feature, mapped) in features.into_iter().zip(&map.features) {
        let state = match (&feature.encoder, &mapped.state) {
            (Encoder::Vocab { .. }, _) => {
                let vocabulary = vocabularies.get(feature.table_name()).with_context(|| {
                    format!(
                        "feature '{}': add vocabulary = \"<file>\", a JSON list of its values",
                        feature.name
                    )
                })?;
                EncoderState::Vocab { size: vocabulary.values.len() }
            }
            (_, Some(state)) => state.clone(),
            (_, None) => EncoderState::Stateless,
        };
        fitted.push(FittedFeature { feature, state });
    }
    Ok(EncoderSet { features: fitted, vocabularies, ..EncoderSet::default() })
}
