//! What a training reads: the encoded splits, and the examples that golden rows are made of.

use gatefold_dataset::{SampleSet, Split};
use gatefold_schema::{EncoderSet, JsonRequest, Recipe};

use crate::{error::TrainError, space::check_labels};

/// The parts of a sample set that training and publishing use, in memory.
#[derive(Clone, Debug)]
pub struct TrainingData {
    /// Fitted features and vocabularies.
    pub encoders: EncoderSet,
    /// The rows that parameters are learned from.
    pub train: Split,
    /// The rows that the best parameters are chosen by.
    pub valid: Split,
    /// Requests with raw values.
    pub examples: Vec<JsonRequest>,
}

impl TrainingData {
    /// Loads the splits `train` and `valid`.
    ///
    /// # Errors
    /// When the sample set was built for other features than the recipe's, or cannot be read.
    pub fn load(recipe: &Recipe, samples: &SampleSet) -> Result<Self, TrainError> {
        check_features_match(recipe, &samples.encoders)?;
        Ok(Self {
            encoders: samples.encoders.clone(),
            train: samples.load("train")?,
            valid: samples.load("valid")?,
            examples: samples.examples()?,
        })
    }

    /// Checks the labels of both splits for the tasks of `recipe`.
    ///
    /// # Errors
    /// As [`check_labels`].
    pub fn check(&self, recipe: &Recipe) -> Result<(), TrainError> {
        check_features_match(recipe, &self.encoders)?;
        for (name, split) in [("train", &self.train), ("valid", &self.valid)] {
            check_labels(name, split.rows, &split.labels, &recipe.tasks, &recipe.derived)?;
        }
        Ok(())
    }
}

/// Codes in the shards mean what the encoders of the sample set say, so the recipe must declare
/// the same features in the same order.
fn check_features_match(recipe: &Recipe, encoders: &EncoderSet) -> Result<(), TrainError> {
    let mismatch = |what: String| Err(TrainError::Mismatch { what });
    for wanted in &recipe.features {
        match encoders.features.iter().find(|fitted| fitted.feature.name == wanted.name) {
            None => {
                return mismatch(format!(
                    "the samples have no feature '{}', which the recipe uses",
                    wanted.name
                ));
            }
            Some(fitted) if fitted.feature != *wanted => {
                return mismatch(format!(
                    "the samples were built with another definition of feature '{}'",
                    wanted.name
                ));
            }
            Some(_) => {}
        }
    }
    let in_order = |(fitted, wanted): (&gatefold_schema::FittedFeature, &gatefold_schema::Feature)| {
        fitted.feature.name == wanted.name
    };
    if encoders.features.len() != recipe.features.len() {
        let extra = encoders
            .features
            .iter()
            .find(|fitted| recipe.features.iter().all(|wanted| wanted.name != fitted.feature.name));
        let name = extra.map_or("?", |fitted| &fitted.feature.name);
        return mismatch(format!("the samples have a feature '{name}' that the recipe does not declare"));
    }
    if !encoders.features.iter().zip(&recipe.features).all(in_order) {
        return mismatch("the samples have the recipe's features in another order".into());
    }
    Ok(())
}
