//! `samples validate`: whether a recipe can be built from its logs, before anything is read.

use std::path::Path;

use gatefold_schema::{EventLogs, Feature, Recipe, SampleSource};
use serde::Serialize;

use crate::{SamplesError, build::check_label_names, columns, logs};

/// Where a feature comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeatureSource {
    /// Name of the feature.
    pub feature: String,
    /// User, context or item.
    pub side: String,
    /// `derived`, `crossed`, or the log or file that has its column; `None` where the logs were not looked at.
    pub from: Option<String>,
    /// The column.
    pub column: String,
    /// Type of the column, or what the feature needs where that is not known.
    pub value_type: String,
    /// Name of the encoder.
    pub encoder: String,
}

/// Checks what [`Recipe::parse`] cannot: that labels are there, and, where the folder of the logs is given, that
/// every file can be opened and has the columns that features and aggregates read, in types that fit. No row is
/// read.
///
/// # Errors
/// Everything that is wrong, as [`crate::build()`] would say it; of files that cannot be opened the first.
pub fn validate(recipe: &Recipe, logs: Option<&Path>) -> Result<Vec<FeatureSource>, Vec<SamplesError>> {
    let source = recipe.samples.source().map_err(|error| vec![error.into()])?;
    let SampleSource::Logs(config) = source else {
        return Ok(recipe
            .features
            .iter()
            .map(|feature| described(feature, Some("file".to_owned())))
            .collect());
    };
    let mut errors: Vec<SamplesError> =
        check_label_names(recipe, &logs::label_names(config)).err().into_iter().collect();
    let found = match logs {
        None => recipe.features.iter().map(|feature| unopened(feature, config)).collect(),
        Some(folder) => match logs::sources(recipe, config, folder) {
            Ok(found) => found,
            Err(more) => {
                errors.extend(more);
                Vec::new()
            }
        },
    };
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

/// A feature of which the logs were not looked at.
fn unopened(feature: &Feature, config: &EventLogs) -> FeatureSource {
    let is_made = logs::made_names(config).iter().any(|name| name == feature.source_column());
    described(feature, is_made.then(|| "derived".to_owned()))
}

pub(crate) fn described(feature: &Feature, from: Option<String>) -> FeatureSource {
    let (from, column, value_type) = if feature.is_crossed() {
        (Some("crossed".to_owned()), feature.cross.join(" × "), "text".to_owned())
    } else {
        (from, feature.source_column().to_owned(), columns::wanted_type(feature).to_owned())
    };
    FeatureSource {
        feature: feature.name.clone(),
        side: feature.side.name().to_owned(),
        from,
        column,
        value_type,
        encoder: feature.encoder.name().to_owned(),
    }
}
