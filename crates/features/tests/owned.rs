//! A copy of raw values is encoded as they are.

use gatefold_features::{Encoder, OwnedBatch, RawBatch, RawColumn, RawValues, Strictness};
use gatefold_schema::{EncoderSet, EncoderState, Feature, FittedFeature, strict::from_toml};
use proptest::prelude::*;

/// A feature of every kind of raw values, none of which needs to be fitted.
const FEATURES: &str = r#"
    [[feature]]
    name = "age"
    side = "user"
    kind = "numeric"
    type = "float"
    encoder = { kind = "none" }
    [[feature]]
    name = "likes"
    side = "user"
    kind = "sequence"
    type = "text"
    max_len = 4
    encoder = { kind = "hash", buckets = 1000 }
    embedding = 4
    [[feature]]
    name = "hour"
    side = "context"
    kind = "categorical"
    type = "int"
    encoder = { kind = "bucketize", edges = [6, 12, 18] }
    embedding = 2
    [[feature]]
    name = "related"
    side = "item"
    kind = "sequence"
    type = "int"
    max_len = 4
    encoder = { kind = "hash", buckets = 1000 }
    embedding = 2
    [[feature]]
    name = "title"
    side = "item"
    kind = "categorical"
    type = "text"
    encoder = { kind = "hash", buckets = 1000 }
    embedding = 4
"#;

fn encoder() -> Encoder {
    #[derive(serde::Deserialize)]
    struct Features {
        feature: Vec<Feature>,
    }
    let features = from_toml::<Features>(FEATURES, "test").unwrap().feature;
    let fitted = |feature| FittedFeature { feature, state: EncoderState::Stateless };
    let features = features.into_iter().map(fitted).collect();
    Encoder::new(EncoderSet { features, ..EncoderSet::default() }).unwrap()
}

/// Values of one row, and whether they are missing.
type Row<T> = Vec<(T, bool)>;

fn rows<T: Strategy>(value: T, count: usize) -> impl Strategy<Value = Row<T::Value>> {
    prop::collection::vec((value, any::<bool>()), count)
}

fn lists<T: Strategy>(value: T, count: usize) -> impl Strategy<Value = Row<Vec<T::Value>>> {
    rows(prop::collection::vec(value, 0..=4), count)
}

/// A column, with a mask only where a value is missing.
fn column<'a, T>(rows: &Row<T>, values: RawValues<'a>) -> RawColumn<'a> {
    let mask: Vec<bool> = rows.iter().map(|(_, missing)| *missing).collect();
    RawColumn { values, missing: mask.contains(&true).then_some(mask.into()) }
}

/// The elements of lists, and where each list begins and ends.
fn joined<T: Clone>(rows: &Row<Vec<T>>) -> (Vec<T>, Vec<u32>) {
    let ends = (0..=rows.len()).map(|end| rows[..end].iter().map(|(list, _)| list.len() as u32).sum());
    (rows.iter().flat_map(|(list, _)| list.clone()).collect(), ends.collect())
}

proptest! {
    #[test]
    fn a_copy_is_what_was_copied(
        (sizes, age, likes, hour, related, title) in prop::collection::vec(0_usize..4, 1..4).prop_flat_map(|sizes| {
            let (requests, candidates) = (sizes.len(), sizes.iter().sum());
            (
                Just(sizes),
                rows(-1e3_f64..1e3, requests),
                lists("\\PC{0,6}", requests),
                rows(0_i64..24, requests),
                lists(any::<i64>(), candidates),
                rows("\\PC{0,6}", candidates),
            )
        })
    ) {
        let (likes_values, likes_offsets) = joined(&likes);
        let (related_values, related_offsets) = joined(&related);
        let values = [
            ("age", column(&age, RawValues::Floats(age.iter().map(|row| row.0).collect()))),
            ("likes", column(&likes, RawValues::TextLists {
                values: likes_values.iter().map(String::as_str).collect(), offsets: likes_offsets.into(),
            })),
            ("hour", column(&hour, RawValues::Ints(hour.iter().map(|row| row.0).collect()))),
            ("related", column(&related, RawValues::IntLists {
                values: related_values.into(), offsets: related_offsets.into(),
            })),
            ("title", column(&title, RawValues::Texts(title.iter().map(|row| row.0.as_str()).collect()))),
        ];
        let request_of = sizes.iter().enumerate().flat_map(|(row, size)| vec![row as u32; *size]);
        let raw = RawBatch {
            requests: sizes.len(),
            candidates: sizes.iter().sum(),
            request_of: request_of.collect(),
            columns: values.into_iter().map(|(name, column)| (name.into(), column)).collect(),
        };
        let owned = OwnedBatch::from(&raw);
        prop_assert_eq!(format!("{:?}", owned.raw()), format!("{raw:?}"));
        prop_assert_eq!(owned.raw().bytes(), raw.bytes());
        let encode = |raw: &RawBatch<'_>| encoder().encode(raw, Strictness::Refuse);
        prop_assert_eq!(encode(&owned.raw()).unwrap(), encode(&raw).unwrap());
    }
}

#[test]
fn the_bytes_of_a_copy_are_those_of_its_values() {
    let column = |values, missing| RawColumn { values, missing };
    let raw = RawBatch {
        requests: 1,
        candidates: 2,
        request_of: vec![0, 0],
        columns: vec![
            ("id".into(), column(RawValues::Ints(vec![1, 2].into()), Some(vec![false, true].into()))),
            ("text".into(), column(RawValues::Texts(vec!["abc", ""]), None)),
            (
                "lists".into(),
                column(RawValues::TextLists { values: vec!["de"], offsets: vec![0, 1].into() }, None),
            ),
        ],
    };
    let (request_of, id, text, lists) = (8, 2 + 2 + 16, 4 + 8 + 3 + 8, 5 + 8 + 2 + 8);
    assert_eq!(raw.bytes(), request_of + id + text + lists);
}
