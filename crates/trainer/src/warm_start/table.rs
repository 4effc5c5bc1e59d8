//! The rows of an embedding table, taken by the values they stand for.

use std::collections::HashMap;
use std::hash::Hash;

use gatefold_graph::Parameter;
use gatefold_onnx::Weight;
use gatefold_schema::{Encoder, EncoderSet, FIRST_VALUE_CODE, FittedFeature, VocabularyValues};

use super::Outcome;

/// Takes what `weight` has for the table `declared` into `values`.
pub(super) fn take(
    weight: &Weight,
    declared: &Parameter,
    old: &EncoderSet,
    new: &EncoderSet,
    values: &mut [f32],
) -> Outcome {
    let [rows, width] = declared.dims[..] else { return Outcome::Left("it is no table here".into()) };
    let [old_rows, old_width] = weight.dims[..] else { return Outcome::Left("it is no table there".into()) };
    if width != old_width {
        return Outcome::Left(format!("its rows have {old_width} numbers in the bundle, {width} here"));
    }
    let (Some((before, old_table)), Some((now, table))) =
        (feature_of(old, &declared.name), feature_of(new, &declared.name))
    else {
        return Outcome::Left("no feature of the bundle reads it".into());
    };
    let vocabularies = (old.vocabularies.get(old_table), new.vocabularies.get(table));
    let same_codes = before.feature.encoder == now.feature.encoder && before.state == now.state;
    match vocabularies {
        (Some(there), Some(here)) if !(same_codes && there.values == here.values) => {
            let buckets = [before, now].map(|fitted| match fitted.feature.encoder {
                Encoder::Vocab { oov_buckets, .. } => oov_buckets as usize,
                _ => 0,
            });
            let places = places(&there.values, &here.values, buckets);
            for (from, to) in &places {
                let row = &weight.values[from * width..(from + 1) * width];
                values[to * width..(to + 1) * width].copy_from_slice(row);
            }
            Outcome::ByValue(format!("{} of {rows} rows, of {old_rows} in the bundle", places.len()))
        }
        _ if same_codes && old_rows == rows => {
            values.copy_from_slice(&weight.values);
            Outcome::Taken
        }
        _ => Outcome::Left("its codes mean something else: the features are encoded differently".into()),
    }
}

/// A feature that reads a table parameter (`embedding.<table>`, or `embedding.<task>.<table>`), and
/// the table's name.
fn feature_of<'a>(encoders: &'a EncoderSet, parameter: &str) -> Option<(&'a FittedFeature, &'a str)> {
    let features = encoders.features.iter().map(|fitted| (fitted, fitted.feature.table_name()));
    let reads = |table: &str| parameter.strip_suffix(table).is_some_and(|start| start.ends_with('.'));
    features
        .filter(|(fitted, table)| fitted.feature.is_coded() && reads(table))
        .max_by_key(|(_, table)| table.len())
}

/// Rows of the old table and where they belong in the new one: padding and missing, the buckets of
/// values outside the vocabulary where there are as many, and the values that both know.
fn places(there: &VocabularyValues, here: &VocabularyValues, buckets: [usize; 2]) -> Vec<(usize, usize)> {
    fn matches<T: Eq + Hash>(there: &[T], here: &[T]) -> Vec<(usize, usize)> {
        let known: HashMap<&T, usize> = there.iter().zip(0..).collect();
        here.iter().zip(0..).filter_map(|(value, to)| Some((*known.get(value)?, to))).collect()
    }
    let first = FIRST_VALUE_CODE as usize;
    let same_buckets = if buckets[0] == buckets[1] { buckets[0] } else { 0 };
    let values = match (there, here) {
        (VocabularyValues::Int(there), VocabularyValues::Int(here)) => matches(there, here),
        (VocabularyValues::Text(there), VocabularyValues::Text(here)) => matches(there, here),
        _ => Vec::new(),
    };
    let of_values = values.into_iter().map(|(from, to)| (first + buckets[0] + from, first + buckets[1] + to));
    (0..first + same_buckets).map(|row| (row, row)).chain(of_values).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(values: &[&str]) -> VocabularyValues {
        VocabularyValues::Text(values.iter().map(|value| (*value).to_owned()).collect())
    }

    #[test]
    fn rows_go_where_their_values_are() {
        let found = places(&text(&["a", "b", "c"]), &text(&["c", "x", "a"]), [1, 1]);
        // Padding, missing, one bucket; then c (code 5 before, 3 now) and a (3 before, 5 now).
        assert_eq!(found, [(0, 0), (1, 1), (2, 2), (5, 3), (3, 5)]);
        let found = places(&text(&["a", "b"]), &text(&["b"]), [2, 1]);
        assert_eq!(found, [(0, 0), (1, 1), (5, 3)], "buckets of another number mean other values");
        assert_eq!(places(&VocabularyValues::Int(vec![1]), &text(&["1"]), [1, 1]).len(), 3);
    }
}
