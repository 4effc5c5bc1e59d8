//! Fitting encoders to the training split.
//!
//! A [`Fitter`] counts; counts of parts of the rows, or of parts of the columns, are merged, and the
//! result is an [`EncoderSet`]. Nothing depends on the order in which values are seen or parts are merged:
//! the same rows give the same bytes, for any number of threads and shards.

mod exact;
mod hasher;
mod moments;
mod present;
mod quantiles;
mod target;
mod vocabulary;

use std::collections::BTreeMap;

use gatefold_schema::{
    ConfigError, Encoder as Encoding, EncoderSet, EncoderState, Feature, FittedFeature, Kind, Vocabulary,
};

use crate::RawColumn;
pub use hasher::{FastHasher, FastState};
pub use moments::MomentCounter;
use present::{present, present_elements};
pub use quantiles::{EXACT_VALUES, QuantileCounter};
pub use target::{TargetCounter, TargetTable, TrainingRows};
pub use vocabulary::VocabularyCounter;

/// Counts everything that the encoders of some features learn from data.
#[derive(Clone, Debug, Default)]
pub struct Fitter {
    features: Vec<Feature>,
    /// By table.
    vocabularies: BTreeMap<String, VocabularyCounter>,
    /// By position of the feature, as the others.
    moments: BTreeMap<usize, MomentCounter>,
    quantiles: BTreeMap<usize, QuantileCounter>,
    targets: BTreeMap<usize, TargetCounter>,
}

impl Fitter {
    /// A fitter that has seen nothing.
    ///
    /// # Errors
    /// When features that share a table differ in type or encoder.
    pub fn new(features: &[Feature]) -> Result<Self, ConfigError> {
        let mut fitter = Self { features: features.to_vec(), ..Self::default() };
        let mut first_of: BTreeMap<&str, &Feature> = BTreeMap::new();
        for (index, feature) in features.iter().enumerate() {
            match feature.encoder {
                Encoding::Vocab { .. } => {
                    let table = feature.table_name();
                    let first = first_of.entry(table).or_insert(feature);
                    if first.value_type != feature.value_type || first.encoder != feature.encoder {
                        return Err(ConfigError::new(format!(
                            "features '{}' and '{}' share the table '{table}' and differ in type or encoder: \
                             make them alike, or give one a table of its own",
                            first.name, feature.name
                        )));
                    }
                    let counter = VocabularyCounter::new(feature.value_type);
                    fitter.vocabularies.entry(table.to_owned()).or_insert(counter);
                }
                Encoding::Standardize | Encoding::MinMax => {
                    fitter.moments.insert(index, MomentCounter::default());
                }
                Encoding::Quantile { .. } => {
                    fitter.quantiles.insert(index, QuantileCounter::default());
                }
                Encoding::Target { .. } => {
                    fitter.targets.extend(TargetCounter::new(feature).map(|new| (index, new)))
                }
                Encoding::Hash { .. }
                | Encoding::Bucketize { .. }
                | Encoding::Given { .. }
                | Encoding::Log1p
                | Encoding::None => {}
            }
        }
        Ok(fitter)
    }

    /// Whether the feature at `index` learns from its values alone, by [`Fitter::add`].
    pub fn needs(&self, index: usize) -> bool {
        let feature = &self.features[index];
        match feature.encoder {
            Encoding::Vocab { .. } => feature.fit,
            Encoding::Standardize | Encoding::MinMax | Encoding::Quantile { .. } => true,
            _ => false,
        }
    }

    /// The task whose labels the feature at `index` learns from, by [`Fitter::add_target`].
    pub fn target_task(&self, index: usize) -> Option<&str> {
        match &self.features[index].encoder {
            Encoding::Target { task, .. } => Some(task),
            _ => None,
        }
    }

    /// Counts values of the feature at `index`; those of a crossed one come from
    /// [`Cross::values`](crate::Cross::values). Nothing is counted where [`Fitter::needs`] is false.
    ///
    /// # Errors
    /// When the values are of another type than the feature.
    pub fn add(&mut self, index: usize, column: &RawColumn<'_>) -> Result<(), ConfigError> {
        if !self.needs(index) {
            return Ok(());
        }
        let feature = &self.features[index];
        let fits = if let Some(moments) = self.moments.get_mut(&index) {
            moments.add(column, feature.clip)
        } else if let Some(quantiles) = self.quantiles.get_mut(&index) {
            quantiles.add(column, feature.clip)
        } else if let Some(counter) = self.vocabularies.get_mut(feature.table_name()) {
            counter.add(column)
        } else {
            true
        };
        if fits {
            return Ok(());
        }
        Err(wrong_type(feature, column))
    }

    /// Whether the feature at `index` learns a vocabulary of single values, which [`Fitter::add_counted`] takes.
    pub fn counts_values(&self, index: usize) -> bool {
        let feature = &self.features[index];
        matches!(feature.encoder, Encoding::Vocab { .. }) && feature.kind == Kind::Categorical
    }

    /// As [`Fitter::add`] of a column that has the value of each row of `column` as often as `counts` says, for a
    /// feature of which [`Fitter::counts_values`] is true.
    ///
    /// # Errors
    /// As [`Fitter::add`].
    pub fn add_counted(
        &mut self,
        index: usize,
        column: &RawColumn<'_>,
        counts: &[u64],
    ) -> Result<(), ConfigError> {
        if !self.needs(index) {
            return Ok(());
        }
        let feature = &self.features[index];
        let counter = self.vocabularies.get_mut(feature.table_name());
        if counter.is_some_and(|counter| counter.add_counted(column, counts)) {
            return Ok(());
        }
        Err(wrong_type(feature, column))
    }

    /// Counts values of the feature at `index` with the labels of their rows; nothing where
    /// [`Fitter::target_task`] is `None`.
    ///
    /// # Errors
    /// When the values are of another type than the feature or another number than the rows, or a time
    /// that is needed is not there.
    pub fn add_target(
        &mut self,
        index: usize,
        column: &RawColumn<'_>,
        rows: &TrainingRows<'_>,
    ) -> Result<(), ConfigError> {
        self.targets.get_mut(&index).map_or(Ok(()), |counter| counter.add(column, rows))
    }

    /// Adds the counts of `other`, a fitter of the same features.
    pub fn merge(&mut self, other: Fitter) {
        for (table, counter) in other.vocabularies {
            match self.vocabularies.get_mut(&table) {
                Some(own) => own.merge(counter),
                None => drop(self.vocabularies.insert(table, counter)),
            }
        }
        for (index, counter) in other.moments {
            self.moments.entry(index).or_default().merge(&counter);
        }
        for (index, counter) in other.quantiles {
            self.quantiles.entry(index).or_default().merge(counter);
        }
        for (index, counter) in other.targets {
            match self.targets.get_mut(&index) {
                Some(own) => own.merge(counter),
                None => drop(self.targets.insert(index, counter)),
            }
        }
    }

    /// The fitted encoders.
    pub fn finish(self) -> EncoderSet {
        self.finish_with_targets().0
    }

    /// The fitted encoders, and by position of the feature the tables that give training rows their target
    /// encodings ([`TargetTable::training_values`]): those of the encoders know the rows' own labels.
    pub fn finish_with_targets(self) -> (EncoderSet, BTreeMap<usize, TargetTable>) {
        let mut set = EncoderSet::default();
        for feature in &self.features {
            let Encoding::Vocab { min_count, .. } = feature.encoder else { continue };
            let table = feature.table_name();
            if let Some(counter) = self.vocabularies.get(table) {
                set.vocabularies.entry(table.to_owned()).or_insert_with(|| Vocabulary {
                    table: table.to_owned(),
                    values: counter.values(min_count),
                });
            }
        }
        let tables: BTreeMap<usize, TargetTable> =
            self.targets.into_iter().map(|(index, counter)| (index, counter.finish())).collect();
        for (index, feature) in self.features.into_iter().enumerate() {
            let state = match feature.encoder {
                Encoding::Vocab { .. } => {
                    let vocabulary = set.vocabularies.get(feature.table_name());
                    EncoderState::Vocab { size: vocabulary.map_or(0, |vocabulary| vocabulary.values.len()) }
                }
                Encoding::Standardize => self.moments[&index].standardize(),
                Encoding::MinMax => self.moments[&index].min_max(),
                Encoding::Quantile { buckets } => self.quantiles[&index].edges(buckets),
                Encoding::Target { .. } => {
                    let (state, means) = tables[&index].means();
                    set.targets.insert(feature.name.clone(), means);
                    state
                }
                Encoding::Hash { .. }
                | Encoding::Bucketize { .. }
                | Encoding::Given { .. }
                | Encoding::Log1p
                | Encoding::None => EncoderState::Stateless,
            };
            set.features.push(FittedFeature { feature, state });
        }
        (set, tables)
    }
}

fn wrong_type(feature: &Feature, column: &RawColumn<'_>) -> ConfigError {
    ConfigError::new(format!(
        "feature '{}': values of type {}, expected {}",
        feature.name,
        column.values.type_name(),
        crate::encoder::type_name(feature)
    ))
}
