//! Encodings and errors on literal values.

use std::borrow::Cow;

use gatefold_features::{
    EncodeError, Encoder, FeatureBatch, FeatureColumn, RawBatch, RawColumn, RawValues, Strictness, Tally,
    fit::Fitter, murmur,
};
use gatefold_schema::{EncoderSet, EncoderState, Feature, JsonRequest, VocabularyValues, strict::from_toml};

/// Features of a small model: one of every encoder and kind.
const FEATURES: &str = r#"
    [[feature]]
    name = "user_id"
    side = "user"
    kind = "categorical"
    type = "int"
    encoder = { kind = "vocab", min_count = 2, oov_buckets = 3 }
    embedding = 4
    [[feature]]
    name = "likes"
    side = "user"
    kind = "sequence"
    type = "text"
    max_len = 3
    encoder = { kind = "vocab" }
    embedding = 4
    table = "category"
    [[feature]]
    name = "hour"
    side = "context"
    kind = "categorical"
    type = "int"
    encoder = { kind = "bucketize", edges = [6, 12, 18] }
    embedding = 2
    [[feature]]
    name = "seen"
    side = "context"
    kind = "sequence"
    type = "int"
    max_len = 2
    encoder = { kind = "hash", buckets = 1000 }
    embedding = 2
    [[feature]]
    name = "item_id"
    side = "item"
    kind = "categorical"
    type = "int"
    encoder = { kind = "hash", buckets = 50, seed = 7 }
    embedding = 4
    [[feature]]
    name = "category"
    side = "item"
    kind = "categorical"
    type = "text"
    encoder = { kind = "vocab" }
    embedding = 4
    [[feature]]
    name = "brand"
    side = "item"
    kind = "categorical"
    type = "text"
    encoder = { kind = "hash", buckets = 9 }
    embedding = 4
    [[feature]]
    name = "price"
    side = "item"
    kind = "numeric"
    type = "float"
    encoder = { kind = "standardize" }
    [[feature]]
    name = "stock"
    side = "item"
    kind = "numeric"
    type = "int"
    encoder = { kind = "min-max" }
    [[feature]]
    name = "views"
    side = "item"
    kind = "numeric"
    type = "int"
    encoder = { kind = "log1p" }
    [[feature]]
    name = "quality"
    side = "item"
    kind = "numeric"
    type = "float"
    encoder = { kind = "none" }
"#;

fn features() -> Vec<Feature> {
    parsed(FEATURES)
}

fn parsed(text: &str) -> Vec<Feature> {
    #[derive(serde::Deserialize)]
    struct Features {
        feature: Vec<Feature>,
    }
    from_toml::<Features>(text, "test").unwrap().feature
}

fn ints(values: &[i64]) -> RawColumn<'static> {
    RawColumn { values: RawValues::Ints(Cow::Owned(values.to_vec())), missing: None }
}

fn floats(values: &[f64]) -> RawColumn<'static> {
    RawColumn { values: RawValues::Floats(Cow::Owned(values.to_vec())), missing: None }
}

fn texts<'a>(values: &[&'a str]) -> RawColumn<'a> {
    RawColumn { values: RawValues::Texts(values.to_vec()), missing: None }
}

fn text_lists<'a>(rows: &[&[&'a str]]) -> RawColumn<'a> {
    let values = rows.concat();
    let ends = rows.iter().scan(0, |end, row| {
        *end += row.len() as u32;
        Some(*end)
    });
    let offsets = std::iter::once(0).chain(ends).collect();
    RawColumn { values: RawValues::TextLists { values, offsets }, missing: None }
}

/// Encoders fitted to a few rows: `user_id` knows 7 (three times) and 5 (twice), `category` knows
/// "shoes" (three times over both its features), "books" and "zoo" (twice).
fn fitted() -> EncoderSet {
    let features = features();
    let index = |name: &str| features.iter().position(|feature| feature.name == name).unwrap();
    let mut fitter = Fitter::new(&features).unwrap();
    fitter.add(index("user_id"), &ints(&[7, 5, 9])).unwrap();
    fitter.add(index("category"), &texts(&["shoes", "books"])).unwrap();
    fitter.add(index("price"), &floats(&[1.0, f64::NAN])).unwrap();
    let mut part = Fitter::new(&features).unwrap();
    part.add(index("user_id"), &ints(&[7, 7, 5])).unwrap();
    part.add(index("likes"), &text_lists(&[&["shoes", "zoo"], &[], &["zoo", "shoes", "books"]])).unwrap();
    part.add(index("price"), &floats(&[3.0, 5.0])).unwrap();
    part.add(index("stock"), &ints(&[10, 2, 4])).unwrap();
    fitter.merge(part);
    fitter.finish()
}

const REQUEST: &str = r#"{
    "user": {"user_id": 7, "likes": ["zoo", "new", "books"]},
    "context": {"hour": 12, "seen": [34]},
    "items": {
        "item_id": [34, null, -1],
        "category": ["shoes", "new", null],
        "brand": ["foo", "", null],
        "price": [5.0, 3, null],
        "stock": [2, 100, null],
        "views": [0, -3, null],
        "quality": [0.1, -2.5, null]
    }}"#;

fn encode_json(texts: &[&str], strictness: Strictness) -> Result<FeatureBatch, EncodeError> {
    let encoder = Encoder::new(fitted()).unwrap();
    let requests: Vec<JsonRequest> = texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let raw = RawBatch::from_json(&requests, encoder.set())?;
    encoder.encode(&raw, strictness)
}

#[track_caller]
fn check(batch: &FeatureBatch, name: &str, expected: FeatureColumn) {
    let index = features().iter().position(|feature| feature.name == name).unwrap();
    assert_eq!(batch.columns[index], expected, "{name}");
}

fn codes(width: usize, data: &[i32]) -> FeatureColumn {
    FeatureColumn::Codes { width, data: data.to_vec() }
}

#[test]
fn fitting_orders_by_count_then_value() {
    let set = fitted();
    assert_eq!(set.vocabularies["user_id"].values, VocabularyValues::Int(vec![7, 5]));
    let words = ["shoes", "books", "zoo"].map(str::to_owned).to_vec();
    assert_eq!(set.vocabularies["category"].values, VocabularyValues::Text(words));
    assert_eq!(set.features[0].code_count(), Some(2 + 3 + 2));
    // Mean of 1, 3, 5 is 3 and the population variance (4 + 0 + 4) / 3.
    let std = (8.0f64 / 3.0).sqrt();
    assert_eq!(set.features[7].state, EncoderState::Standardize { mean: 3.0, std });
    assert_eq!(set.features[8].state, EncoderState::MinMax { min: 2.0, max: 10.0 });
}

#[test]
fn every_encoder_on_known_values() {
    let batch = encode_json(&[REQUEST], Strictness::Refuse).unwrap();
    assert_eq!((batch.requests, batch.candidates), (1, 3));
    assert_eq!(batch.request_of, [0, 0, 0]);
    // Three buckets stand before the vocabulary: 7 is its first value.
    check(&batch, "user_id", codes(1, &[5]));
    // One bucket (code 2), then shoes 3, books 4, zoo 5.
    check(&batch, "likes", codes(3, &[5, 2, 4]));
    // 6 and 12 are less than or equal to 12.
    check(&batch, "hour", codes(1, &[4]));
    // murmur3_x86_32 of 34 with seed 0 is 2017239379 (Iceberg specification, appendix B).
    check(&batch, "seen", codes(2, &[2 + 379, 0]));
    let item = |value: i64| 2 + (murmur::hash_int(value, 7) % 50) as i32;
    check(&batch, "item_id", codes(1, &[item(34), 1, item(-1)]));
    check(&batch, "category", codes(1, &[3, 2, 1]));
    // "foo" hashes to -156908512 = 4138058784, which is 3 modulo 9; "" to 0.
    check(&batch, "brand", codes(1, &[2 + (4_138_058_784u32 % 9) as i32, 2, 1]));
    let scaled = (2.0 / (8.0f64 / 3.0).sqrt()) as f32;
    check(&batch, "price", FeatureColumn::Numbers(vec![scaled, 0.0, 0.0]));
    check(&batch, "stock", FeatureColumn::Numbers(vec![0.0, 1.0, 0.0]));
    check(&batch, "views", FeatureColumn::Numbers(vec![0.0, -(4f64.ln() as f32), 0.0]));
    check(&batch, "quality", FeatureColumn::Numbers(vec![0.1, -2.5, 0.0]));
}

#[test]
fn missing_and_empty_sequences_differ() {
    let missing = REQUEST.replace(r#"["zoo", "new", "books"]"#, "null").replace("[34]", "null");
    let empty = REQUEST.replace(r#"["zoo", "new", "books"]"#, "[]").replace("[34]", "[]");
    let batch = encode_json(&[&missing, &empty], Strictness::Refuse).unwrap();
    assert_eq!(batch.request_of, [0, 0, 0, 1, 1, 1]);
    check(&batch, "likes", codes(3, &[1, 0, 0, 0, 0, 0]));
    check(&batch, "seen", codes(2, &[1, 0, 0, 0]));
}

#[test]
fn unseen_values_are_spread_over_the_buckets() {
    let encoder = Encoder::new(fitted()).unwrap();
    let values: Vec<i64> = (100..130).collect();
    let column = encoder.encode_column(0, &ints(&values), values.len(), Strictness::Refuse).unwrap();
    let expected: Vec<i32> =
        values.iter().map(|value| 2 + (murmur::hash_int(*value, 0) % 3) as i32).collect();
    assert_eq!(column, codes(1, &expected));
    assert!((2..=4).all(|code| expected.contains(&code)));
}

#[test]
fn memory_is_used_again_without_traces() {
    let encoder = Encoder::new(fitted()).unwrap();
    let two = [REQUEST, REQUEST].map(|text| serde_json::from_str::<JsonRequest>(text).unwrap());
    let mut batch = FeatureBatch::default();
    let raw = RawBatch::from_json(&two, encoder.set()).unwrap();
    encoder.encode_into(&raw, Strictness::Refuse, &mut batch).unwrap();
    let raw = RawBatch::from_json(&two[..1], encoder.set()).unwrap();
    encoder.encode_into(&raw, Strictness::Refuse, &mut batch).unwrap();
    assert_eq!(batch, encoder.encode(&raw, Strictness::Refuse).unwrap());
}

#[test]
fn json_survives_the_way_there_and_back() {
    let encoder = Encoder::new(fitted()).unwrap();
    let request: JsonRequest = serde_json::from_str(REQUEST).unwrap();
    let requests = [JsonRequest { request_id: "r".into(), ..request.clone() }, request];
    let raw = RawBatch::from_json(&requests, encoder.set()).unwrap();
    let back = raw.to_json(encoder.set(), &["r".to_owned()]);
    let encoded = encoder.encode(&RawBatch::from_json(&back, encoder.set()).unwrap(), Strictness::Refuse);
    assert_eq!(encoded.unwrap(), encoder.encode(&raw, Strictness::Refuse).unwrap());
    assert_eq!(back[0].user, requests[0].user);
    assert_eq!(back[0].request_id, "r");
}

#[track_caller]
fn check_json_error(from: &str, to: &str, expected: &str) {
    assert!(REQUEST.contains(from), "{from} is not in the request");
    let error = encode_json(&[&REQUEST.replacen(from, to, 1)], Strictness::Refuse).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn bad_json_values_are_named() {
    check_json_error("\"hour\"", "\"hours\"", "unknown feature 'hours' (did you mean 'hour'?); remove it");
    check_json_error(
        "\"user_id\": 7, ",
        "",
        "feature 'user_id' (user side) has no values; give it a column, in which single rows may be missing",
    );
    check_json_error(
        "\"user_id\": 7",
        "\"user_id\": 7, \"hour\": 3",
        "feature 'hour' stands under 'user'; move it to 'context'",
    );
    check_json_error(
        "[2, 100, null]",
        "[2, 100]",
        "feature 'stock' (item side) has 2 rows, expected 3; give one value for each candidate",
    );
    check_json_error(
        "\"user_id\": 7",
        "\"user_id\": 7.5",
        "feature 'user_id' (user side) has values of type float (7.5), expected int; convert them before they are sent",
    );
    check_json_error(
        "\"shoes\"",
        "3",
        "feature 'category' (item side) has values of type int (3), expected text; convert them before they are sent",
    );
    check_json_error(
        "[34]",
        "[34, null]",
        "feature 'seen', row 0: element 1 of the list is null; leave it out",
    );
    check_json_error(
        "[34]",
        "[1, 2, 3]",
        "feature 'seen' (context side), row 0: 3 elements, at most 2 are accepted; send the 2 most relevant ones",
    );
    check_json_error(
        "-2.5",
        "1e39",
        "feature 'quality' (item side), row 1: 1000000000000000000000000000000000000000 is not a finite \
         32-bit number; send null where the value is missing",
    );
}

/// A valid batch of columns for two candidates of one request.
fn raw_batch() -> RawBatch<'static> {
    let columns: Vec<(&str, RawColumn)> = vec![
        ("user_id", ints(&[7])),
        ("likes", text_lists(&[&["zoo"]])),
        ("hour", ints(&[3])),
        ("seen", RawColumn::all_missing(&features()[3], 1)),
        ("item_id", ints(&[1, 2])),
        ("category", texts(&["shoes", "zoo"])),
        ("brand", texts(&["a", "b"])),
        ("price", floats(&[1.0, 2.0])),
        ("stock", ints(&[1, 2])),
        ("views", ints(&[1, 2])),
        ("quality", floats(&[1.0, 2.0])),
    ];
    let columns = columns.into_iter().map(|(name, column)| (Cow::Borrowed(name), column)).collect();
    RawBatch { requests: 1, candidates: 2, request_of: vec![0, 0], columns }
}

#[track_caller]
fn check_error(change: impl Fn(&mut RawBatch<'static>), expected: &str) {
    let mut raw = raw_batch();
    change(&mut raw);
    let error = Encoder::new(fitted()).unwrap().encode(&raw, Strictness::Refuse).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn bad_batches_are_named() {
    assert!(Encoder::new(fitted()).unwrap().encode(&raw_batch(), Strictness::Refuse).is_ok());
    check_error(
        |raw| raw.columns[1].0 = "user_id".into(),
        "feature 'user_id' is given twice; keep one of its columns",
    );
    check_error(
        |raw| raw.columns[7].1 = floats(&[1.0, f64::NAN]),
        "feature 'price' (item side), row 1: NaN is not a finite 32-bit number; send null where the value is missing",
    );
    check_error(
        |raw| raw.columns[8].1 = floats(&[1.0, 2.0]),
        "feature 'stock' (item side) has values of type float, expected int; convert them before they are sent",
    );
    check_error(
        |raw| raw.columns[0].1 = ints(&[7, 7]),
        "feature 'user_id' (user side) has 2 rows, expected 1; give one value for each request",
    );
    check_error(
        |raw| raw.columns[0].1.missing = Some(Cow::Owned(vec![])),
        "feature 'user_id': 0 missing flags for 1 rows; give one for each row",
    );
    check_error(
        |raw| {
            let offsets = Cow::Owned(vec![0, 9]);
            raw.columns[3].1 = RawColumn {
                values: RawValues::IntLists { values: Cow::Owned(vec![1]), offsets },
                missing: None,
            };
        },
        "feature 'seen': row 0 ends at element 9, but it starts at 0 and there are 1 elements; \
         offsets must not fall and must end within the elements",
    );
    check_error(
        |raw| raw.request_of = vec![0],
        "request_of: 1 entries for 2 candidates; give one for each candidate",
    );
    check_error(
        |raw| raw.request_of = vec![0, 1],
        "request_of: candidate of request 1, but there are 1 requests, counted from 0",
    );
    check_error(
        |raw| {
            raw.requests = 2;
            raw.request_of = vec![1, 0];
        },
        "request_of: candidate 1 belongs to an earlier request than the candidate before it; \
         keep the candidates of a request together, in the order of the requests",
    );
}

#[test]
fn logs_are_read_leniently() {
    let mut raw = raw_batch();
    raw.columns[1].1 = text_lists(&[&["zoo", "books", "shoes", "zoo"]]);
    raw.columns[7].1 = floats(&[f64::NAN, f64::INFINITY]);
    raw.columns[10].1 = floats(&[1e300, -0.5]);
    let batch = Encoder::new(fitted()).unwrap().encode(&raw, Strictness::Lenient).unwrap();
    check(&batch, "likes", codes(3, &[5, 4, 3]));
    check(&batch, "price", FeatureColumn::Numbers(vec![0.0, 0.0]));
    check(&batch, "quality", FeatureColumn::Numbers(vec![0.0, -0.5]));
}

#[track_caller]
fn check_set_error(change: impl Fn(&mut EncoderSet), expected: &str) {
    let mut set = fitted();
    change(&mut set);
    let error = Encoder::new(set).unwrap_err().to_string();
    assert_eq!(error, expected);
}

#[test]
fn damaged_encoders_are_refused() {
    check_set_error(
        |set| drop(set.vocabularies.remove("user_id")),
        "feature 'user_id': there is no vocabulary 'user_id'; its file is missing",
    );
    check_set_error(
        |set| set.vocabularies.get_mut("user_id").unwrap().values = VocabularyValues::Int(vec![1]),
        "feature 'user_id': vocabulary 'user_id' has 1 values, expected 2; its file is damaged",
    );
    check_set_error(
        |set| set.vocabularies.get_mut("user_id").unwrap().values = VocabularyValues::Int(vec![1, 1]),
        "vocabulary 'user_id': the value 1 stands twice; build it again",
    );
    check_set_error(
        |set| {
            let values = VocabularyValues::Text(vec!["a".into(), "b".into()]);
            set.vocabularies.get_mut("user_id").unwrap().values = values;
        },
        "feature 'user_id': vocabulary 'user_id' holds values of another type than int; \
         give the feature a table of its own",
    );
    check_set_error(
        |set| set.features[7].state = EncoderState::Stateless,
        "feature 'price': the fitted state Stateless does not belong to the encoder Standardize",
    );
}

#[test]
fn shared_tables_must_agree() {
    let mut features = features();
    features[5].encoder = gatefold_schema::Encoder::Vocab { min_count: 9, oov_buckets: 1 };
    let error = Fitter::new(&features).unwrap_err().to_string();
    assert!(error.starts_with("features 'likes' and 'category' share the table 'category'"), "{error}");
}

#[test]
fn given_codes_pass_through_and_others_are_refused() {
    let features = parsed(
        r#"
        [[feature]]
        name = "ad"
        side = "item"
        kind = "categorical"
        type = "int"
        encoder = { kind = "given", codes = 5, missing = 4 }
        [[feature]]
        name = "seen"
        side = "user"
        kind = "sequence"
        type = "int"
        max_len = 3
        encoder = { kind = "given", codes = 9, padding = 8 }
        "#,
    );
    gatefold_schema::feature::check_features(&features).unwrap();
    let encoder = Encoder::new(Fitter::new(&features).unwrap().finish()).unwrap();
    let encode = |ads: &str, seen: &str, strictness| {
        let text = format!(r#"{{"user": {{"seen": {seen}}}, "items": {{"ad": {ads}}}}}"#);
        let request: JsonRequest = serde_json::from_str(&text).unwrap();
        let requests = [request];
        let raw = RawBatch::from_json(&requests, encoder.set()).unwrap();
        encoder.encode(&raw, strictness).map(|batch| batch.columns)
    };
    let codes = |width, data: &[i32]| FeatureColumn::Codes { width, data: data.to_vec() };
    assert_eq!(
        encode("[0, 3, null]", "[7, 0]", Strictness::Refuse).unwrap(),
        [codes(1, &[0, 3, 4]), codes(3, &[7, 0, 8])]
    );
    let refused = encode("[0, 5]", "[]", Strictness::Refuse).unwrap_err().to_string();
    assert!(refused.contains("feature 'ad' (item side), row 1: 5 is no code"), "{refused}");
    let refused = encode("[0]", "[1, -1]", Strictness::Refuse).unwrap_err().to_string();
    assert!(refused.contains("feature 'seen' (user side), row 0: -1 is no code"), "{refused}");
    assert_eq!(
        encode("[9, 1]", "[99]", Strictness::Lenient).unwrap(),
        [codes(1, &[4, 1]), codes(3, &[0, 8, 8])]
    );
}

#[test]
fn missing_and_unknown_values_are_counted() {
    let second = r#"{
        "user": {"user_id": 99, "likes": null}, "context": {"hour": null, "seen": []},
        "items": {"item_id": [1], "category": ["hats"], "brand": [null], "price": [null], "stock": [1],
                  "views": [1], "quality": [0.5]}}"#;
    let encoder = Encoder::new(fitted()).unwrap();
    let requests = [REQUEST, second].map(|text| serde_json::from_str::<JsonRequest>(text).unwrap());
    let raw = RawBatch::from_json(&requests, encoder.set()).unwrap();
    let batch = encoder.encode(&raw, Strictness::Refuse).unwrap();
    let tallies = encoder.tally(&raw, &batch);
    let names: Vec<String> = features().into_iter().map(|feature| feature.name).collect();
    let expected = [
        // Values, missing, unknown.
        ("user_id", [2, 0, 1]),
        // zoo, new, books; the other list is missing.
        ("likes", [4, 1, 1]),
        ("hour", [2, 1, 0]),
        // An empty list has no value.
        ("seen", [1, 0, 0]),
        ("item_id", [4, 1, 0]),
        ("category", [4, 1, 2]),
        ("brand", [4, 2, 0]),
        ("price", [4, 2, 0]),
        ("stock", [4, 1, 0]),
        ("views", [4, 1, 0]),
        ("quality", [4, 1, 0]),
    ];
    for ((name, [values, missing, unknown]), (found, tally)) in
        expected.into_iter().zip(names.iter().zip(tallies))
    {
        assert_eq!(name, found);
        assert_eq!(tally, Tally { values, missing, unknown }, "{name}");
    }
}
