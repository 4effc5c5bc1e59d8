//! What encoders learn, against other implementations and naive ones, and that no order changes it.

use std::borrow::Cow;

use gatefold_features::{
    Cross, CrossPart, Encoder, FeatureColumn, RawBatch, RawColumn, RawValues, Strictness, Tally,
    fit::{Fitter, TrainingRows},
    murmur::hash_text,
};
use gatefold_schema::{
    EncoderSet, EncoderState, Feature, JsonRequest, VocabularyValues, feature::check_features,
    strict::from_toml,
};
use proptest::prelude::*;

fn parsed(text: &str) -> Vec<Feature> {
    #[derive(serde::Deserialize)]
    struct Features {
        feature: Vec<Feature>,
    }
    let features = from_toml::<Features>(text, "test").unwrap().feature;
    check_features(&features).unwrap();
    features
}

fn floats(values: &[f64]) -> RawColumn<'static> {
    RawColumn { values: RawValues::Floats(Cow::Owned(values.to_vec())), missing: None }
}

fn ints(values: &[i64]) -> RawColumn<'static> {
    RawColumn { values: RawValues::Ints(Cow::Owned(values.to_vec())), missing: None }
}

/// Text, missing where there is none.
fn texts<'a>(values: &[Option<&'a str>]) -> RawColumn<'a> {
    let missing = values.iter().map(Option::is_none).collect::<Vec<_>>();
    let values = values.iter().map(|value| value.unwrap_or_default()).collect();
    RawColumn { values: RawValues::Texts(values), missing: Some(Cow::Owned(missing)) }
}

fn codes(data: &[i32]) -> FeatureColumn {
    FeatureColumn::Codes { width: 1, data: data.to_vec() }
}

const NUMBERS: &str = r#"
    [[feature]]
    name = "price"
    side = "item"
    kind = "categorical"
    type = "float"
    encoder = { kind = "quantile", buckets = 4 }
    clip = { max = 10 }
    embedding = 2
    [[feature]]
    name = "age"
    side = "user"
    kind = "numeric"
    type = "int"
    encoder = { kind = "standardize" }
    clip = { min = 0, max = 4 }
    [[feature]]
    name = "rank"
    side = "item"
    kind = "categorical"
    type = "int"
    encoder = { kind = "bucketize", edges = [2, 5] }
    clip = { max = 4 }
    embedding = 2
"#;

#[test]
fn numbers_are_clipped_before_they_are_counted_and_encoded() {
    let features = parsed(NUMBERS);
    let mut fitter = Fitter::new(&features).unwrap();
    fitter.add(0, &floats(&[1.0, 3.0, 99.0, 5.0, 7.0, f64::NAN, f64::INFINITY])).unwrap();
    fitter.add(1, &ints(&[-100, 4, 100, 0])).unwrap();
    let set = fitter.finish();
    // Of 1, 3, 5, 7 and 10.
    assert_eq!(set.features[0].state, EncoderState::Edges { edges: vec![3.0, 5.0, 7.0] });
    // Of 0, 4, 4 and 0.
    assert_eq!(set.features[1].state, EncoderState::Standardize { mean: 2.0, std: 2.0 });
    assert_eq!(set.features[0].code_count(), Some(2 + 4));
    let encoder = Encoder::new(set).unwrap();
    let prices = floats(&[-1e9, 3.0, 6.9, 7.0, 1e9, f64::NAN]);
    let encoded = encoder.encode_column(0, &prices, 6, Strictness::Lenient).unwrap();
    assert_eq!(encoded, codes(&[2, 3, 4, 5, 5, 1]));
    let ages = encoder.encode_column(1, &ints(&[-7, 3, 1000]), 3, Strictness::Refuse).unwrap();
    assert_eq!(ages, FeatureColumn::Numbers(vec![-1.0, 0.5, 1.0]));
    let ranks = encoder.encode_column(2, &ints(&[1, 2, 5, 1000]), 4, Strictness::Refuse).unwrap();
    assert_eq!(ranks, codes(&[2, 3, 3, 3]));
}

#[test]
fn a_quantile_encoder_without_values_has_one_code() {
    let set = Fitter::new(&parsed(NUMBERS)).unwrap().finish();
    assert_eq!(set.features[0].code_count(), Some(3));
    let encoded = Encoder::new(set).unwrap().encode_column(0, &floats(&[1.0]), 1, Strictness::Refuse);
    assert_eq!(encoded.unwrap(), codes(&[2]));
}

#[test]
fn damaged_edges_are_refused() {
    let mut set = Fitter::new(&parsed(NUMBERS)).unwrap().finish();
    set.features[0].state = EncoderState::Edges { edges: vec![2.0, 1.0] };
    let error = Encoder::new(set).unwrap_err().to_string();
    assert_eq!(error, "feature 'price': its fitted edges are not finite and ascending; fit it again");
}

#[test]
fn counted_values_are_as_many_rows() {
    let text = r#"
        [[feature]]
        name = "city"
        side = "user"
        kind = "categorical"
        type = "text"
        encoder = { kind = "vocab", min_count = 2 }
        embedding = 2
        [[feature]]
        name = "age"
        side = "user"
        kind = "numeric"
        type = "int"
        encoder = { kind = "standardize" }
    "#;
    let features = parsed(text);
    let mut counted = Fitter::new(&features).unwrap();
    assert!(counted.counts_values(0) && !counted.counts_values(1));
    let values = texts(&[Some("a"), Some("b"), None, Some("a"), Some("never"), Some("c")]);
    counted.add_counted(0, &values, &[1, 3, 9, 1, 0, 1]).unwrap();
    let mut rows = Fitter::new(&features).unwrap();
    rows.add(0, &texts(&[Some("b"), Some("a"), Some("b"), Some("c"), Some("a"), Some("b")])).unwrap();
    let vocabulary = |fitter: Fitter| fitter.finish().vocabularies["city"].values.clone();
    assert_eq!(vocabulary(counted.clone()), VocabularyValues::Text(vec!["b".into(), "a".into()]));
    assert_eq!(vocabulary(counted.clone()), vocabulary(rows));
    let error = counted.add_counted(0, &ints(&[1]), &[1]).unwrap_err().to_string();
    assert!(error.starts_with("feature 'city': values of type int"), "{error}");
}

#[test]
fn a_feature_that_is_not_fitted_is_looked_up_in_its_table() {
    let text = r#"
        [[feature]]
        name = "item"
        side = "item"
        kind = "categorical"
        type = "text"
        encoder = { kind = "vocab" }
        embedding = 2
        [[feature]]
        name = "seen"
        side = "user"
        kind = "categorical"
        type = "text"
        encoder = { kind = "vocab" }
        table = "item"
        fit = false
        embedding = 2
    "#;
    let features = parsed(text);
    let mut fitter = Fitter::new(&features).unwrap();
    assert!(fitter.needs(0) && !fitter.needs(1));
    fitter.add(0, &texts(&[Some("a")])).unwrap();
    fitter.add(1, &texts(&[Some("b"), Some("b")])).unwrap();
    let encoder = Encoder::new(fitter.finish()).unwrap();
    assert_eq!(encoder.set().vocabularies["item"].values, VocabularyValues::Text(vec!["a".into()]));
    let seen = encoder.encode_column(1, &texts(&[Some("a"), Some("b")]), 2, Strictness::Refuse).unwrap();
    assert_eq!(seen, codes(&[3, 2]));
}

/// A target encoding of text with this in its encoder.
fn target(settings: &str) -> Vec<Feature> {
    parsed(&format!(
        r#"
        [[feature]]
        name = "brand"
        side = "item"
        kind = "numeric"
        type = "text"
        encoder = {{ kind = "target", task = "ctr", {settings} }}
        "#
    ))
}

#[test]
fn means_are_those_of_scikit_learn() {
    let mut fitter = Fitter::new(&target("smoothing = 3")).unwrap();
    assert_eq!((fitter.needs(0), fitter.target_task(0)), (false, Some("ctr")));
    let words = ["shoes", "books", "shoes", "zoo", "shoes", "books"].map(Some);
    let rows = TrainingRows {
        labels: &[1.0, 0.0, 0.0, 1.0, 1.0, 0.0],
        requests: &ints(&[1, 2, 3, 4, 5, 6]),
        times: None,
    };
    fitter.add_target(0, &texts(&words), &rows).unwrap();
    let set = fitter.finish();
    // scikit-learn 1.9, `TargetEncoder(smooth=3.0).fit(words, labels).encodings_`, as 32-bit numbers.
    let means = &set.targets["brand"];
    let names = ["books", "shoes", "zoo"].map(str::to_owned).to_vec();
    assert_eq!(means.values, VocabularyValues::Text(names));
    assert_eq!(means.means, [0.3, 0.583_333_3, 0.625]);
    assert_eq!(set.features[0].state, EncoderState::Target { prior: 0.5, size: 3 });
    assert_eq!(set.features[0].code_count(), None);
    let encoder = Encoder::new(set.clone()).unwrap();
    let asked = texts(&[Some("zoo"), Some("new"), None, Some("")]);
    let encoded = encoder.encode_column(0, &asked, 4, Strictness::Refuse).unwrap();
    assert_eq!(encoded, FeatureColumn::Numbers(vec![0.625, 0.5, 0.5, 0.5]));

    let mut other = set.clone();
    other.targets.get_mut("brand").unwrap().means[0] = 0.31;
    assert_ne!(other.fingerprint(), set.fingerprint());
    other.targets.get_mut("brand").unwrap().means[0] = f32::NAN;
    let error = Encoder::new(other).unwrap_err().to_string();
    assert!(error.contains("'brand': a mean of its target encoding is not finite"), "{error}");
    let without = EncoderSet { targets: Default::default(), ..set };
    let error = Encoder::new(without).unwrap_err().to_string();
    assert!(error.contains("'brand': there are no means of its target encoding"), "{error}");
}

#[test]
fn rows_without_what_they_need_are_refused() {
    let mut fitter = Fitter::new(&target("by = \"time\"")).unwrap();
    let rows = TrainingRows { labels: &[1.0], requests: &ints(&[1]), times: None };
    let error = fitter.add_target(0, &texts(&[Some("a")]), &rows).unwrap_err().to_string();
    assert_eq!(error, "feature 'brand': by = \"time\", but the rows have no time; use by = \"folds\"");
    let error = fitter.add_target(0, &texts(&[Some("a"), None]), &rows).unwrap_err().to_string();
    assert_eq!(error, "feature 'brand': 2 values for 1 training rows");
    let rows = TrainingRows { times: Some(&[7]), ..rows };
    let error = fitter.add_target(0, &ints(&[3]), &rows).unwrap_err().to_string();
    assert_eq!(error, "feature 'brand': values of type int, expected text");
}

/// A training row: value, label, request and time.
type Row = (Option<u8>, f32, i64, i64);

fn training_rows() -> impl Strategy<Value = Vec<Row>> {
    let label = prop_oneof![Just(0.0f32), Just(1.0), Just(f32::NAN), 0.0f32..3.0];
    prop::collection::vec((prop::option::of(0u8..4), label, 0i64..12, 1000i64..1030), 1..80)
}

const WORDS: [&str; 4] = ["", "größe", "a", "very long and still a word"];

/// Counts `rows` by one fitter for every part, merged from the last to the first.
fn fitted(features: &[Feature], rows: &[Row], part: usize) -> Fitter {
    let mut merged = Fitter::new(features).unwrap();
    for part in rows.chunks(part).rev() {
        let mut fitter = Fitter::new(features).unwrap();
        with_rows(part, |column, rows| fitter.add_target(0, column, rows).unwrap());
        merged.merge(fitter);
    }
    merged
}

fn with_rows<T>(rows: &[Row], work: impl FnOnce(&RawColumn<'_>, &TrainingRows<'_>) -> T) -> T {
    let words: Vec<Option<&str>> = rows.iter().map(|row| row.0.map(|word| WORDS[word as usize])).collect();
    let labels: Vec<f32> = rows.iter().map(|row| row.1).collect();
    let requests = ints(&rows.iter().map(|row| row.2).collect::<Vec<_>>());
    let times: Vec<i64> = rows.iter().map(|row| row.3).collect();
    let rows = TrainingRows { labels: &labels, requests: &requests, times: Some(&times) };
    work(&texts(&words), &rows)
}

/// The encoding of `row` by the rows that `knows` says, with a smoothing of 2.
fn naive(row: &Row, rows: &[Row], knows: impl Fn(&Row) -> bool) -> f32 {
    let known: Vec<&Row> = rows.iter().filter(|other| !other.1.is_nan() && knows(other)).collect();
    let sum = |rows: &[&Row]| rows.iter().map(|row| f64::from(row.1)).sum::<f64>();
    let prior = if known.is_empty() { 0.0 } else { sum(&known) / known.len() as f64 };
    let same: Vec<&Row> = known.iter().filter(|other| row.0.is_some() && other.0 == row.0).copied().collect();
    ((sum(&same) + 2.0 * prior) / (same.len() as f64 + 2.0)) as f32
}

#[track_caller]
fn check_near(found: &[f32], expected: impl Iterator<Item = f32>) {
    for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= 1e-6 * expected.abs().max(1e-3),
            "row {row}: {found}, expected {expected}"
        );
    }
}

proptest! {
    #[test]
    fn training_rows_never_learn_from_their_own_time(rows in training_rows(), part in 1usize..30, delay in 0i64..8) {
        let more = if delay == 0 { String::new() } else { format!(", delay = \"{delay}s\"") };
        let features = target(&format!("smoothing = 2, by = \"time\"{more}"));
        // Times are seconds here.
        let rows: Vec<Row> = rows.into_iter().map(|row| (row.0, row.1, row.2, row.3 * 1_000_000)).collect();
        let (set, tables) = fitted(&features, &rows, part).finish_with_targets();
        let found = with_rows(&rows, |column, given| tables[&0].training_values(column, given).unwrap());
        check_near(&found, rows.iter().map(|row| naive(row, &rows, |other| other.3 + delay * 1_000_000 < row.3)));
        let whole = fitted(&features, &rows, rows.len()).finish_with_targets();
        prop_assert_eq!(&whole.0, &set);
        prop_assert_eq!(with_rows(&rows, |column, given| whole.1[&0].training_values(column, given).unwrap()), found);
    }

    #[test]
    fn training_rows_never_learn_from_their_own_fold(rows in training_rows(), part in 1usize..30, folds in 2u32..6) {
        let features = target(&format!("smoothing = 2, folds = {folds}"));
        let (set, tables) = fitted(&features, &rows, part).finish_with_targets();
        let encode = |rows: &[Row]| with_rows(rows, |column, given| tables[&0].training_values(column, given).unwrap());
        let found = encode(&rows);
        let fold = |row: &Row| {
            gatefold_features::murmur::hash_int(row.2, u32::from_be_bytes(*b"zget")) % folds
        };
        check_near(&found, rows.iter().map(|row| naive(row, &rows, |other| fold(other) != fold(row))));
        prop_assert_eq!(&fitted(&features, &rows, rows.len()).finish(), &set);
        // What the others get is made of all rows.
        let asked: Vec<Row> = (0..4).map(|word| (Some(word), 0.0, 0, 0)).collect();
        let encoder = Encoder::new(set).unwrap();
        let all = with_rows(&asked, |column, _| encoder.encode_column(0, column, 4, Strictness::Refuse).unwrap());
        let FeatureColumn::Numbers(all) = all else { panic!() };
        check_near(&all, asked.iter().map(|row| naive(row, &rows, |_| true)));
    }

    #[test]
    fn no_order_changes_what_is_learned(
        values in prop::collection::vec(prop_oneof![-1e12f64..1e12, -1.0f64..1.0, any::<f64>()], 1..200),
        part in 1usize..60,
    ) {
        let mut features = parsed(NUMBERS);
        features[1] = Feature {
            name: "scaled".into(), encoder: gatefold_schema::Encoder::Standardize, embedding: None,
            kind: gatefold_schema::Kind::Numeric, clip: None, ..features[0].clone()
        };
        let count = |parts: &mut dyn Iterator<Item = &[f64]>| {
            let mut merged = Fitter::new(&features).unwrap();
            for part in parts {
                let mut fitter = Fitter::new(&features).unwrap();
                (0..2).for_each(|index| fitter.add(index, &floats(part)).unwrap());
                merged.merge(fitter);
            }
            serde_json::to_vec(&merged.finish()).unwrap()
        };
        let whole = count(&mut [values.as_slice()].into_iter());
        prop_assert_eq!(count(&mut values.chunks(part)), whole.clone());
        prop_assert_eq!(count(&mut values.chunks(part).rev()), whole);
    }
}

const CROSSED: &str = r#"
    [[feature]]
    name = "country_x_brand"
    side = "item"
    kind = "categorical"
    type = "text"
    cross = ["country", "brand"]
    encoder = { kind = "hash", buckets = 1000, seed = 7 }
    embedding = 2
    [[feature]]
    name = "country"
    side = "user"
    kind = "categorical"
    type = "text"
    encoder = { kind = "vocab" }
    embedding = 2
    [[feature]]
    name = "hour"
    side = "context"
    kind = "categorical"
    type = "float"
    encoder = { kind = "bucketize", edges = [6, 12] }
    embedding = 2
    [[feature]]
    name = "country_x_hour"
    side = "context"
    kind = "categorical"
    type = "text"
    cross = ["country", "hour"]
    encoder = { kind = "vocab" }
    embedding = 2
    [[feature]]
    name = "brand"
    side = "item"
    kind = "categorical"
    type = "int"
    encoder = { kind = "hash", buckets = 9 }
    embedding = 2
    [[feature]]
    name = "price"
    side = "item"
    kind = "categorical"
    type = "float"
    encoder = { kind = "quantile", buckets = 2 }
    embedding = 2
    [[feature]]
    name = "brand_x_price"
    side = "item"
    kind = "categorical"
    type = "text"
    cross = ["brand", "price"]
    encoder = { kind = "hash", buckets = 1000 }
    embedding = 2
"#;

#[test]
fn crossed_texts_are_hashed_by_their_lengths_too() {
    // Python: `sklearn.utils.murmurhash3_32(b"2:ab1:c", seed=0, positive=True)` and so on.
    let known = [
        ("2:ab1:c", 0, 2_178_717_277),
        ("1:a2:bc", 0, 1_012_705_473),
        ("2:ab1:c", 7, 3_382_788_147),
        ("2:341:x", 0, 50_000_089),
        ("2:-57:größe", 0, 2_272_977_274),
        ("0:0:", 0, 4_075_897_787),
    ];
    for (text, seed, hash) in known {
        assert_eq!(hash_text(text, seed), hash, "{text}");
    }
    let features = parsed(CROSSED);
    let cross = Cross::declared(&features, 0).unwrap().unwrap();
    assert_eq!(cross.parts().collect::<Vec<_>>(), [1, 4]);
    let (countries, brands) = (texts(&[Some("größe"), None, Some("")]), ints(&[-5, 1, 34]));
    let parts = [&countries, &brands].map(|column| CrossPart { column, rows: None });
    let values = cross.values(&parts, 3).unwrap();
    let column = values.column();
    let RawValues::Texts(found) = &column.values else { panic!() };
    assert_eq!(found, &["7:größe2:-5", "", "0:2:34"]);
    assert_eq!(column.missing.as_deref(), Some([false, true, false].as_slice()));
    let error = Cross::declared(&features, 6).unwrap_err().to_string();
    assert_eq!(error, "feature 'brand_x_price': the edges of its part 'price' are not fitted");
}

fn crossed_encoder() -> Encoder {
    let features = parsed(CROSSED);
    let mut fitter = Fitter::new(&features).unwrap();
    let (countries, hours) = (texts(&[Some("de"), Some("de"), Some("fr")]), floats(&[7.0, 8.0, 23.0]));
    fitter.add(1, &countries).unwrap();
    fitter.add(5, &floats(&[1.0, 2.0, 3.0])).unwrap();
    let cross = Cross::declared(&features, 3).unwrap().unwrap();
    let parts = [&countries, &hours].map(|column| CrossPart { column, rows: None });
    fitter.add(3, &cross.values(&parts, 3).unwrap().column()).unwrap();
    Encoder::new(fitter.finish()).unwrap()
}

#[test]
fn crossed_features_are_made_of_the_parts_that_are_sent() {
    let encoder = crossed_encoder();
    let known = &encoder.set().vocabularies["country_x_hour"].values;
    assert_eq!(known, &VocabularyValues::Text(["2:de1:1", "2:fr1:2"].map(str::to_owned).to_vec()));
    let request = r#"{"user": {"country": "fr"}, "context": {"hour": 12},
        "items": {"brand": [34, null, 5], "price": [1.5, 2.5, null]}}"#;
    let other =
        r#"{"user": {"country": null}, "context": {"hour": 7}, "items": {"brand": [1], "price": [9]}}"#;
    let requests = [request, other].map(|text| serde_json::from_str::<JsonRequest>(text).unwrap());
    let raw = RawBatch::from_json(&requests, encoder.set()).unwrap();
    assert_eq!(raw.columns.len(), 4);
    let batch = encoder.encode(&raw, Strictness::Refuse).unwrap();
    let hashed = |text: &str, seed: u32| 2 + (hash_text(text, seed) % 1000) as i32;
    assert_eq!(batch.columns[0], codes(&[hashed("2:fr2:34", 7), 1, hashed("2:fr1:5", 7), 1]));
    assert_eq!(batch.columns[3], codes(&[4, 1]));
    // The median is 2.
    assert_eq!(batch.columns[6], codes(&[hashed("2:341:0", 0), 1, 1, hashed("1:11:1", 0)]));
    let tallies = encoder.tally(&raw, &batch);
    assert_eq!(tallies[0], Tally { values: 4, missing: 2, unknown: 0 });
    assert_eq!(tallies[3], Tally { values: 2, missing: 1, unknown: 0 });

    let ids = ["r".to_owned(), "s".to_owned()];
    let back = raw.to_json(encoder.set(), &ids);
    let again =
        encoder.encode(&RawBatch::from_json(&back, encoder.set()).unwrap(), Strictness::Refuse).unwrap();
    assert_eq!(again, batch);
}

#[test]
fn a_crossed_feature_that_is_sent_is_refused() {
    let encoder = crossed_encoder();
    let sent = r#"{"user": {"country": "fr"}, "context": {"hour": 12, "country_x_hour": "fr-12"},
        "items": {"brand": [34], "price": [1.5]}}"#;
    let requests = [serde_json::from_str::<JsonRequest>(sent).unwrap()];
    let expected =
        "feature 'country_x_hour' is made of 'country' and 'hour' wherever it is needed; remove it";
    let error = RawBatch::from_json(&requests, encoder.set()).unwrap_err().to_string();
    assert_eq!(error, expected);
    let columns = vec![(Cow::Borrowed("country_x_hour"), texts(&[Some("a")]))];
    let raw = RawBatch { requests: 1, candidates: 1, request_of: vec![0], columns };
    assert_eq!(encoder.encode(&raw, Strictness::Refuse).unwrap_err().to_string(), expected);
}
