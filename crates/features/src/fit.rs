//! Fitting encoders to the training split.
//!
//! A [`Fitter`] counts; counts of parts of the data, or of parts of the columns, are merged in a
//! fixed order, and the result is an [`EncoderSet`]. Vocabularies do not depend on the order in
//! which values are seen; moments do in their last bits, so a feature's values should be added by
//! one thread in the order of the rows.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use gatefold_schema::{
    ConfigError, Encoder as Encoding, EncoderSet, EncoderState, Feature, FittedFeature, ValueType,
    Vocabulary, VocabularyValues,
};

use crate::{RawColumn, RawValues};

/// Counts everything that the encoders of some features learn from data.
#[derive(Clone, Debug, Default)]
pub struct Fitter {
    features: Vec<Feature>,
    vocabularies: BTreeMap<String, VocabularyCounter>,
    moments: BTreeMap<usize, MomentCounter>,
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
                _ => {}
            }
        }
        Ok(fitter)
    }

    /// Whether the feature at `index` learns from data.
    pub fn needs(&self, index: usize) -> bool {
        matches!(
            self.features[index].encoder,
            Encoding::Vocab { .. } | Encoding::Standardize | Encoding::MinMax
        )
    }

    /// Counts values of the feature at `index`.
    ///
    /// # Errors
    /// When the values are of another type than the feature.
    pub fn add(&mut self, index: usize, column: &RawColumn<'_>) -> Result<(), ConfigError> {
        let feature = &self.features[index];
        let fits = if let Some(moments) = self.moments.get_mut(&index) {
            moments.add(column)
        } else if let (Encoding::Vocab { .. }, Some(counter)) =
            (&feature.encoder, self.vocabularies.get_mut(feature.table_name()))
        {
            counter.add(column)
        } else {
            true
        };
        if fits {
            return Ok(());
        }
        Err(ConfigError::new(format!(
            "feature '{}': values of type {}, expected {}",
            feature.name,
            column.values.type_name(),
            crate::encoder::type_name(feature)
        )))
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
    }

    /// The fitted encoders.
    pub fn finish(self) -> EncoderSet {
        let mut vocabularies = BTreeMap::new();
        for feature in &self.features {
            let Encoding::Vocab { min_count, .. } = feature.encoder else { continue };
            let table = feature.table_name();
            if let Some(counter) = self.vocabularies.get(table) {
                vocabularies.entry(table.to_owned()).or_insert_with(|| Vocabulary {
                    table: table.to_owned(),
                    values: counter.values(min_count),
                });
            }
        }
        let state_of = |index: usize, feature: &Feature| match feature.encoder {
            Encoding::Vocab { .. } => EncoderState::Vocab {
                size: vocabularies.get(feature.table_name()).map_or(0, |vocabulary| vocabulary.values.len()),
            },
            Encoding::Standardize => self.moments[&index].standardize(),
            Encoding::MinMax => self.moments[&index].min_max(),
            _ => EncoderState::Stateless,
        };
        let features = self
            .features
            .iter()
            .enumerate()
            .map(|(index, feature)| FittedFeature {
                state: state_of(index, feature),
                feature: feature.clone(),
            })
            .collect();
        EncoderSet { features, vocabularies }
    }
}

/// How often each value was seen.
#[derive(Clone, Debug)]
pub enum VocabularyCounter {
    /// Integers.
    Int(HashMap<i64, u64, FastState>),
    /// Texts.
    Text(HashMap<Box<str>, u64, FastState>),
}

impl VocabularyCounter {
    /// A counter that has seen nothing.
    pub fn new(value_type: ValueType) -> Self {
        match value_type {
            ValueType::Text => VocabularyCounter::Text(HashMap::default()),
            _ => VocabularyCounter::Int(HashMap::default()),
        }
    }

    /// Counts the present values (every element of a present list); `false` if they are of
    /// another type.
    #[must_use]
    pub fn add(&mut self, column: &RawColumn<'_>) -> bool {
        match (self, &column.values) {
            (VocabularyCounter::Int(counts), RawValues::Ints(values)) => {
                present(values, column).for_each(|value| *counts.entry(*value).or_default() += 1);
            }
            (VocabularyCounter::Int(counts), RawValues::IntLists { values, offsets }) => {
                present_elements(values, offsets, column)
                    .for_each(|value| *counts.entry(*value).or_default() += 1);
            }
            (VocabularyCounter::Text(counts), RawValues::Texts(values)) => {
                present(values, column).for_each(|value| count_text(counts, value));
            }
            (VocabularyCounter::Text(counts), RawValues::TextLists { values, offsets }) => {
                present_elements(values, offsets, column).for_each(|value| count_text(counts, value));
            }
            _ => return false,
        }
        true
    }

    /// Adds the counts of `other`; counts of another type are dropped.
    pub fn merge(&mut self, other: VocabularyCounter) {
        match (self, other) {
            (VocabularyCounter::Int(counts), VocabularyCounter::Int(others)) => {
                others.into_iter().for_each(|(value, count)| *counts.entry(value).or_default() += count);
            }
            (VocabularyCounter::Text(counts), VocabularyCounter::Text(others)) => {
                others.into_iter().for_each(|(value, count)| *counts.entry(value).or_default() += count);
            }
            _ => {}
        }
    }

    /// The values seen at least `min_count` times, most frequent first, equal counts by value.
    pub fn values(&self, min_count: u64) -> VocabularyValues {
        fn ordered<V: Ord>(counts: impl Iterator<Item = (V, u64)>, min_count: u64) -> Vec<V> {
            let mut kept: Vec<(V, u64)> = counts.filter(|(_, count)| *count >= min_count).collect();
            kept.sort_unstable_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.cmp(b)));
            kept.into_iter().map(|(value, _)| value).collect()
        }
        match self {
            VocabularyCounter::Int(counts) => VocabularyValues::Int(ordered(
                counts.iter().map(|(value, count)| (*value, *count)),
                min_count,
            )),
            VocabularyCounter::Text(counts) => {
                let texts = ordered(counts.iter().map(|(value, count)| (&**value, *count)), min_count);
                VocabularyValues::Text(texts.into_iter().map(str::to_owned).collect())
            }
        }
    }
}

fn count_text(counts: &mut HashMap<Box<str>, u64, FastState>, value: &str) {
    match counts.get_mut(value) {
        Some(count) => *count += 1,
        None => drop(counts.insert(value.into(), 1)),
    }
}

fn present<'c, V>(values: &'c [V], column: &'c RawColumn<'_>) -> impl Iterator<Item = &'c V> {
    let missing = column.missing.as_deref();
    values
        .iter()
        .enumerate()
        .filter(move |(row, _)| !missing.is_some_and(|mask| mask[*row]))
        .map(|(_, value)| value)
}

fn present_elements<'c, V>(
    values: &'c [V],
    offsets: &'c [u32],
    column: &'c RawColumn<'_>,
) -> impl Iterator<Item = &'c V> {
    let missing = column.missing.as_deref();
    let rows = offsets.windows(2).enumerate().filter(move |(row, _)| !missing.is_some_and(|mask| mask[*row]));
    rows.flat_map(|(_, bounds)| values.get(bounds[0] as usize..bounds[1] as usize).unwrap_or_default())
}

/// Count, mean, spread and range of numbers.
///
/// Welford's update (Technometrics 4, 1962), merged by the formula of Chan, Golub and LeVeque
/// (1979).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MomentCounter {
    count: u64,
    mean: f64,
    /// Sum of squared distances from the mean.
    squares: f64,
    min: f64,
    max: f64,
}

impl MomentCounter {
    /// Counts the present finite numbers; `false` if the values are not numbers.
    #[must_use]
    pub fn add(&mut self, column: &RawColumn<'_>) -> bool {
        match &column.values {
            RawValues::Ints(values) => present(values, column).for_each(|value| self.push(*value as f64)),
            RawValues::Floats(values) => present(values, column).for_each(|value| self.push(*value)),
            _ => return false,
        }
        true
    }

    /// Counts one number; numbers that are not finite are passed over.
    pub fn push(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if self.count == 0 {
            (self.min, self.max) = (value, value);
        }
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds what `other` has counted.
    pub fn merge(&mut self, other: &MomentCounter) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        let (own, more) = (self.count as f64, other.count as f64);
        let distance = other.mean - self.mean;
        self.mean += distance * more / (own + more);
        self.squares += other.squares + distance * distance * own * more / (own + more);
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Mean and population standard deviation; 1 stands for a deviation of 0.
    pub fn standardize(&self) -> EncoderState {
        let std = if self.count == 0 { 0.0 } else { (self.squares / self.count as f64).sqrt() };
        EncoderState::Standardize { mean: self.mean, std: if std > 0.0 { std } else { 1.0 } }
    }

    /// The range.
    pub fn min_max(&self) -> EncoderState {
        EncoderState::MinMax { min: self.min, max: self.max }
    }
}

/// A hash map state without random keys: counting is fast and needs no defence against chosen
/// keys, as the values come from one's own logs.
pub type FastState = BuildHasherDefault<FastHasher>;

/// A small multiplicative hasher.
#[derive(Clone, Copy, Debug, Default)]
pub struct FastHasher(u64);

impl Hasher for FastHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.write_u64(u64::from_le_bytes(*word)));
        if !tail.is_empty() {
            let last = tail.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
            self.write_u64(last);
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        // 64×64→128 bit product, both halves folded together, as in wyhash.
        let product = u128::from(self.0 ^ value ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn write_i64(&mut self, value: i64) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
