//! What a training reads: the encoded splits, and the examples that golden rows are made of.
//!
//! A split may be larger than memory: what does not fit [`KEPT_BYTES`] stays on disk and is decoded
//! shard by shard each time it is read. Labels of the validation split are the exception: an exact
//! AUC needs those of all rows at once.

use gatefold_dataset::{Columns, SampleSet, Shards};
use gatefold_schema::{ConfigError, EncoderSet, JsonRequest, Recipe, task::check_fake_negatives};

use crate::{
    error::TrainError,
    evaluation::Observed,
    space::{LabelCheck, conditions, label_columns, satisfied},
};

/// Splits of at most so many decoded bytes are decoded once and kept.
pub const KEPT_BYTES: usize = 256 << 20;

/// The parts of a sample set that training and publishing use.
#[derive(Clone, Debug)]
pub struct TrainingData {
    /// Fitted features and vocabularies.
    pub encoders: EncoderSet,
    /// The rows that parameters are learned from.
    pub train: Shards,
    /// The rows that the best parameters are chosen by.
    pub valid: Shards,
    /// Requests with raw values.
    pub examples: Vec<JsonRequest>,
    /// Share of its negatives (rows without a positive label) that the training split holds; 1 means
    /// all. Validation holds all of its own.
    pub negative_sampling_rate: f64,
    /// The label of which the training split has fake negatives, if one has.
    pub late_label: Option<String>,
}

impl TrainingData {
    /// Opens the splits `train` and `valid`, and keeps those in memory that are small.
    ///
    /// # Errors
    /// When the sample set was built for other features than the recipe's, holds weights that the recipe
    /// does not count rows by, or cannot be read.
    pub fn load(recipe: &Recipe, samples: &SampleSet) -> Result<Self, TrainError> {
        let encoders = encoders_for(recipe, samples.encoders.clone());
        check_features_match(recipe, &encoders)?;
        check_weights(recipe, samples.manifest.sample_weight.as_deref())?;
        Ok(Self {
            encoders,
            train: keep_if_small(samples.shards("train")?)?,
            valid: keep_if_small(samples.shards("valid")?)?,
            examples: samples.examples()?,
            negative_sampling_rate: samples.manifest.negative_sampling_rate,
            late_label: samples.manifest.late_label.clone(),
        })
    }

    /// Checks the labels of both splits for the tasks of `recipe`; how many rows of each are left
    /// out.
    ///
    /// # Errors
    /// As [`LabelCheck::finish`], fake negatives that tasks do not know of, or tasks that learn from such
    /// where there are none, or shards that cannot be read.
    pub fn check(&self, recipe: &Recipe) -> Result<[(&'static str, usize); 2], TrainError> {
        check_features_match(recipe, &self.encoders)?;
        check_fake_negatives(&recipe.tasks, self.late_label.as_deref()).map_err(TrainError::Recipe)?;
        let labels = label_columns(recipe);
        let check = |name: &'static str, shards: &Shards| -> Result<_, TrainError> {
            let mut check =
                LabelCheck::new(name, &recipe.tasks, &recipe.derived, &recipe.train, shards.label_names())?;
            shards.scan(Columns { features: false, labels: &labels, time: false }, |part| {
                check.add(part.rows, &part.labels);
                Ok::<(), TrainError>(())
            })?;
            Ok((name, check.finish()?))
        };
        Ok([check("train", &self.train)?, check("valid", &self.valid)?])
    }

    /// What was observed on the validation rows that are not left out: the labels of the recipe's
    /// outputs, and requests as groups.
    ///
    /// # Errors
    /// Shards that cannot be read.
    pub fn valid_observed(&self, recipe: &Recipe) -> Result<Observed, TrainError> {
        let mut labels = self.valid.labels(&label_columns(recipe))?;
        let mut groups = Vec::with_capacity(self.valid.rows());
        self.valid.scan(Columns { features: false, labels: &[], time: false }, |part| {
            groups.extend_from_slice(&part.request);
            Ok::<(), TrainError>(())
        })?;
        let kept = satisfied(&conditions(&recipe.tasks, recipe.train.outside_space), groups.len(), &labels);
        labels.values_mut().for_each(|values| retain(values, &kept));
        retain(&mut groups, &kept);
        Ok(Observed { labels, groups, weights: None })
    }
}

/// Leaves only the values of rows that are kept.
fn retain<T>(values: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    values.retain(|_| kept.next() == Some(&true));
}

fn keep_if_small(shards: Shards) -> Result<Shards, TrainError> {
    let bytes = shards.rows() * shards.row_bytes(shards.label_names().len());
    Ok(if bytes <= KEPT_BYTES { shards.keep()? } else { shards })
}

/// The encoders of a sample set with what the recipe says of a feature beyond its encoding: models
/// with other embeddings or pooling learn from the same samples.
fn encoders_for(recipe: &Recipe, mut encoders: EncoderSet) -> EncoderSet {
    for fitted in &mut encoders.features {
        let encoding = fitted.feature.encoding();
        if let Some(wanted) = recipe.features.iter().find(|wanted| wanted.encoding() == encoding) {
            fitted.feature = wanted.clone();
        }
    }
    encoders
}

/// Weights that samples were made with must come into the losses.
fn check_weights(recipe: &Recipe, column: Option<&str>) -> Result<(), TrainError> {
    match column {
        Some(column) if recipe.train.sample_weight.as_deref() != Some(column) => {
            Err(TrainError::Recipe(ConfigError::new(format!(
                "[train]: the rows of the samples count by their column '{column}', which the losses would not see; \
                 add sample_weight = \"{column}\""
            ))))
        }
        _ => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_samples_must_come_into_the_losses() {
        let text = r#"
            name = "a"
            [samples.census]
            file = "c"
            [[feature]]
            name = "x"
            side = "item"
            kind = "numeric"
            type = "float"
            encoder = { kind = "none" }
            [[task]]
            name = "t"
            label = "y"
            [model]
            kind = "shared-bottom"
            [train]
        "#;
        let recipe = |more: &str| Recipe::parse(&format!("{text}\n{more}"), "a.toml").unwrap();
        let weighted = recipe("sample_weight = \"weight\"");
        assert!(check_weights(&weighted, Some("weight")).is_ok() && check_weights(&weighted, None).is_ok());
        let error = check_weights(&recipe(""), Some("weight")).unwrap_err();
        let TrainError::Recipe(reason) = error else { panic!("{error}") };
        assert!(reason.to_string().ends_with("add sample_weight = \"weight\""), "{reason}");
    }
}
