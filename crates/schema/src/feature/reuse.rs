//! Encoders of one sample set or bundle, used for other data.

use std::collections::BTreeMap;

use super::{EncoderSet, Feature};
use crate::strict::ConfigError;

impl EncoderSet {
    /// These encoders for the features of a recipe, which must declare the same encodings in the same
    /// order; what only a model reads of them, such as the width of embeddings, is the recipe's.
    ///
    /// # Errors
    /// The first feature that differs, and in what.
    pub fn reuse(mut self, features: &[Feature]) -> Result<Self, ConfigError> {
        let fail = |text: String| Err(ConfigError::new(text));
        for wanted in features {
            let name = &wanted.name;
            match self.features.iter().find(|fitted| fitted.feature.name == *name) {
                None => return fail(format!("feature '{name}': the encoders do not have it")),
                Some(fitted) => {
                    if let Some(text) = difference(&fitted.feature, wanted) {
                        return fail(format!("feature '{name}': {text}"));
                    }
                }
            }
        }
        if let Some(extra) = self
            .features
            .iter()
            .find(|fitted| features.iter().all(|wanted| wanted.name != fitted.feature.name))
        {
            let name = &extra.feature.name;
            return fail(format!(
                "feature '{name}': the encoders have it, but the recipe does not declare it"
            ));
        }
        for (place, (fitted, wanted)) in self.features.iter_mut().zip(features).enumerate() {
            if fitted.feature.name != wanted.name {
                return fail(format!(
                    "feature '{}' is number {} of the recipe, where the encoders have '{}'; keep their order",
                    wanted.name,
                    place + 1,
                    fitted.feature.name
                ));
            }
            fitted.feature = wanted.clone();
        }
        Ok(self)
    }
}

/// The first key of the encoding in which two features of one name differ, in words.
fn difference(fitted: &Feature, wanted: &Feature) -> Option<String> {
    let keys = |feature: &Feature| -> BTreeMap<String, serde_json::Value> {
        let value = serde_json::to_value(feature.encoding()).unwrap_or_default();
        value.as_object().map(|keys| keys.clone().into_iter().collect()).unwrap_or_default()
    };
    let (fitted, wanted) = (keys(fitted), keys(wanted));
    let differs = |key: &&String| fitted.get(*key) != wanted.get(*key);
    let key = fitted.keys().chain(wanted.keys()).find(differs)?;
    let word = |side: &BTreeMap<String, serde_json::Value>| {
        side.get(key).map_or_else(|| "not set".to_owned(), serde_json::Value::to_string)
    };
    Some(format!("{key} is {} in the recipe and {} in the encoders", word(&wanted), word(&fitted)))
}
