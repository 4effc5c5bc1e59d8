//! How many values of each feature are missing or out of its vocabulary: counted over the masks and
//! codes of an encoded batch, which costs next to nothing beside encoding it.

use gatefold_schema::{Encoder as Encoding, FIRST_VALUE_CODE, MISSING_CODE};

use crate::{Encoder, FeatureBatch, FeatureColumn, RawBatch, RawColumn, RawValues};

/// Counts of one feature's values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Values, missing ones included; each element of a sequence is one.
    pub values: u64,
    /// Values that were missing. A missing sequence is one missing value.
    pub missing: u64,
    /// Values that are not in the feature's vocabulary; 0 for a feature that has none.
    pub unknown: u64,
}

impl Encoder {
    /// Counts the values of `raw`, which was encoded to `batch`: one tally a feature, in the order
    /// of the schema.
    pub fn tally(&self, raw: &RawBatch<'_>, batch: &FeatureBatch) -> Vec<Tally> {
        let mut tallies = vec![Tally::default(); self.set().features.len()];
        for (position, (name, column)) in raw.columns.iter().enumerate() {
            let Ok(index) = self.index_of(name, position) else { continue };
            let tally = &mut tallies[index];
            tally.missing = missing_rows(column);
            tally.values = present_values(column, tally.missing) + tally.missing;
        }
        for (index, tally) in tallies.iter_mut().enumerate() {
            let feature = &self.set().features[index].feature;
            let column = &batch.columns[index];
            let FeatureColumn::Codes { data, .. } = column else {
                if feature.is_crossed() {
                    tally.values = column.rows() as u64;
                }
                continue;
            };
            if feature.is_crossed() {
                tally.values = data.len() as u64;
                tally.missing = codes_in(data, MISSING_CODE, FIRST_VALUE_CODE);
            }
            if let Encoding::Vocab { oov_buckets, .. } = feature.encoder {
                tally.unknown = codes_in(data, FIRST_VALUE_CODE, FIRST_VALUE_CODE + oov_buckets as i32);
            }
        }
        tallies
    }
}

fn missing_rows(column: &RawColumn<'_>) -> u64 {
    column.missing.as_deref().map_or(0, |mask| mask.iter().filter(|missing| **missing).count() as u64)
}

fn present_values(column: &RawColumn<'_>, missing: u64) -> u64 {
    match (&column.values, column.missing.as_deref()) {
        (RawValues::IntLists { offsets, .. } | RawValues::TextLists { offsets, .. }, Some(mask)) => {
            let lengths = offsets.windows(2).map(|bounds| u64::from(bounds[1].saturating_sub(bounds[0])));
            lengths.zip(mask).filter(|(_, missing)| !**missing).map(|(length, _)| length).sum()
        }
        (RawValues::IntLists { values, .. }, None) => values.len() as u64,
        (RawValues::TextLists { values, .. }, None) => values.len() as u64,
        (scalars, _) => scalars.rows() as u64 - missing,
    }
}

/// Number of codes from `first` to below `end`. Without branches: many codes an instruction.
fn codes_in(codes: &[i32], first: i32, end: i32) -> u64 {
    // In parts, so that the sums fit 32 bits, which are added faster.
    let part = |codes: &[i32]| codes.iter().map(|code| u32::from((first..end).contains(code))).sum::<u32>();
    codes.chunks(1 << 20).map(|codes| u64::from(part(codes))).sum()
}
