//! Which rows of a request are its users and which its candidates.
//!
//! A client of a general server repeats the user's values for every candidate. Here neighbouring
//! candidates whose user and context values are all equal become one request of the batch, so that
//! what depends on these alone is computed once all the same.

use std::borrow::Cow;

use gatefold_features::{RawBatch, RawColumn};
use gatefold_schema::{Feature, Level};

use super::request::place;
use crate::convert::FieldError;

/// The column of a feature as it was sent.
pub(super) struct Rows<'a, 'f> {
    pub(super) feature: &'f Feature,
    pub(super) column: RawColumn<'a>,
}

impl Rows<'_, '_> {
    fn count(&self) -> usize {
        self.column.values.rows()
    }

    fn is_request(&self) -> bool {
        self.feature.side.level() == Level::Request
    }
}

/// The batch of these columns, which are of all features of a model.
///
/// # Errors
/// No candidate, item features of unequal rows, and user or context features that have neither one
/// row nor one a candidate.
pub(super) fn batch<'a>(columns: Vec<Rows<'a, '_>>) -> Result<RawBatch<'a>, FieldError> {
    let leader = columns.iter().find(|rows| !rows.is_request());
    // A model without item features has as many candidates as its longest input.
    let leader = leader.or_else(|| columns.iter().max_by_key(|rows| rows.count()));
    let Some(leader) = leader else { return Err(FieldError::new("inputs", "the model has none")) };
    let (candidates, leader) = (leader.count(), leader.feature.name.clone());
    if candidates == 0 {
        return Err(FieldError::new(place(&leader), "has no rows: give at least one candidate"));
    }
    for rows in &columns {
        let count = rows.count();
        if count == candidates || (count == 1 && rows.is_request()) {
            continue;
        }
        let or_one = if rows.is_request() { ", or 1" } else { "" };
        let problem = format!("has {count} rows, expected {candidates}, as input '{leader}' has{or_one}");
        return Err(FieldError::new(place(&rows.feature.name), problem));
    }
    let firsts = firsts(&columns, candidates);
    let mut request_of = Vec::with_capacity(candidates);
    for request in 0..firsts.len() {
        let end = firsts.get(request + 1).map_or(candidates, |&next| next as usize);
        request_of.resize(end, request as u32);
    }
    let columns = columns.into_iter().map(|rows| {
        let column = match (rows.is_request(), rows.count()) {
            (false, _) => rows.column,
            (true, count) if count == firsts.len() => rows.column,
            (true, 1) => rows.column.take(&vec![0; firsts.len()]),
            (true, _) => rows.column.take(&firsts),
        };
        (Cow::Owned(rows.feature.name.clone()), column)
    });
    Ok(RawBatch { requests: firsts.len(), candidates, columns: columns.collect(), request_of })
}

/// The first candidate of each request.
fn firsts(columns: &[Rows<'_, '_>], candidates: usize) -> Vec<u32> {
    let mut is_first = vec![false; candidates];
    is_first[0] = true;
    let repeated = columns.iter().filter(|rows| rows.is_request() && rows.count() == candidates);
    for rows in repeated {
        for (row, is_first) in is_first.iter_mut().enumerate().skip(1) {
            *is_first = *is_first || !rows.column.same(row - 1, row);
        }
    }
    (0..candidates as u32).filter(|&row| is_first[row as usize]).collect()
}

#[cfg(test)]
mod tests {
    use gatefold_features::RawValues;
    use serde_json::json;

    use super::*;

    fn ints(values: &[i64]) -> RawColumn<'static> {
        RawColumn { values: RawValues::Ints(Cow::Owned(values.to_vec())), missing: None }
    }

    /// The requests of a batch of these columns, and what they hold, or why not.
    #[track_caller]
    fn check(columns: &[(&str, &[i64])], expected: Result<(&[u32], &[&[i64]]), &str>) {
        let feature = |name: &str| -> Feature {
            let side = name.split_once('-').map_or(name, |(side, _)| side);
            serde_json::from_value(json!({
                "name": name, "side": side, "kind": "categorical", "type": "int", "embedding": 2,
                "encoder": {"kind": "hash", "buckets": 9},
            }))
            .unwrap()
        };
        let features: Vec<Feature> = columns.iter().map(|(name, _)| feature(name)).collect();
        let rows = features.iter().zip(columns);
        let rows = rows.map(|(feature, (_, values))| Rows { feature, column: ints(values) }).collect();
        match (batch(rows), expected) {
            (Ok(batch), Ok((request_of, values))) => {
                assert_eq!(batch.request_of, request_of);
                assert_eq!(batch.requests, request_of.last().map_or(0, |last| *last as usize + 1));
                assert_eq!(batch.candidates, request_of.len());
                for ((_, column), values) in batch.columns.iter().zip(values) {
                    let RawValues::Ints(found) = &column.values else { panic!("ints") };
                    assert_eq!(found.as_ref(), *values);
                }
            }
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn neighbours_of_equal_user_and_context_are_one_request() {
        check(&[("user", &[7]), ("item", &[1, 2, 3])], Ok((&[0, 0, 0], &[&[7], &[1, 2, 3]])));
        check(&[("user", &[7, 7, 7]), ("item", &[1, 2, 3])], Ok((&[0, 0, 0], &[&[7], &[1, 2, 3]])));
        check(
            &[("user", &[7, 7, 8, 7]), ("context", &[5]), ("item", &[1, 2, 3, 4])],
            Ok((&[0, 0, 1, 2], &[&[7, 8, 7], &[5, 5, 5], &[1, 2, 3, 4]])),
        );
        check(
            &[("user", &[7, 7, 8]), ("context", &[1, 2, 2]), ("item", &[1, 2, 3])],
            Ok((&[0, 1, 2], &[&[7, 7, 8], &[1, 2, 2], &[1, 2, 3]])),
        );
        check(&[("item", &[1, 2])], Ok((&[0, 0], &[&[1, 2]])));
        check(&[("user", &[3, 4]), ("context", &[5])], Ok((&[0, 1], &[&[3, 4], &[5, 5]])));
        check(&[("user", &[3])], Ok((&[0], &[&[3]])));
    }

    #[test]
    fn rows_that_fit_nothing_are_refused() {
        check(&[("user", &[7, 8]), ("item", &[1, 2, 3])], Err("input 'user': has 2 rows, expected 3, as"));
        check(
            &[("item", &[1, 2]), ("item-2", &[1])],
            Err("input 'item-2': has 1 rows, expected 2, as input"),
        );
        check(&[("user", &[7]), ("item", &[])], Err("input 'item': has no rows"));
    }
}
