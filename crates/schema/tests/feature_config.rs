//! What `[[feature]]` refuses of pooling and tables, and what makes two encodings the same.

use gatefold_schema::{
    EncoderSet, EncoderState, Feature, FittedFeature, Pooling, feature::check_features, strict::from_toml,
};

const FEATURES: &str = r#"
[[feature]]
name = "item"
side = "item"
kind = "categorical"
type = "int"
encoder = { kind = "hash", buckets = 8 }
embedding = 4

[[feature]]
name = "city"
side = "user"
kind = "categorical"
type = "int"
encoder = { kind = "hash", buckets = 8 }
embedding = 4

[[feature]]
name = "recent"
side = "user"
kind = "sequence"
type = "int"
encoder = { kind = "hash", buckets = 8 }
embedding = 4
table = "item"
max_len = 5
"#;

#[derive(serde::Deserialize)]
struct Features {
    feature: Vec<Feature>,
}

/// The features, with more settings of the sequence.
fn features(settings: &str) -> Result<Vec<Feature>, String> {
    let text = format!("{FEATURES}{settings}");
    let parsed = from_toml::<Features>(&text, "recipe.toml").map_err(|error| error.to_string())?;
    check_features(&parsed.feature).map_err(|error| error.to_string())?;
    Ok(parsed.feature)
}

#[track_caller]
fn check_refused(settings: &str, expected: &str) {
    let error = features(settings).unwrap_err();
    assert!(error.contains(expected), "{error}\ndoes not contain\n{expected}");
}

#[test]
fn every_pooling_is_taken() {
    assert_eq!(features("").unwrap()[2].pooling, Pooling::Mean);
    for (word, pooling) in [("sum", Pooling::Sum), ("max", Pooling::Max), ("gru", Pooling::Gru)] {
        assert_eq!(features(&format!("pooling = \"{word}\"")).unwrap()[2].pooling, pooling);
    }
    let attention = features("pooling = \"attention\"\nquery = \"item\"").unwrap();
    assert_eq!(attention[2].query.as_deref(), Some("item"));
}

#[test]
fn a_query_is_a_feature_of_the_candidate() {
    check_refused(
        "pooling = \"attention\"",
        "feature 'recent': attention compares with a feature of the candidate",
    );
    check_refused("query = \"item\"", "only pooling = \"attention\" has a query; remove it");
    let known = "is no categorical feature of side item (those are: item)";
    check_refused("pooling = \"attention\"\nquery = \"city\"", known);
    check_refused("pooling = \"attention\"\nquery = \"recent\"", known);
    check_refused("pooling = \"attention\"\nquery = \"itemm\"", known);
    check_refused("pooling = \"average\"", "unknown variant `average`");

    let mut wide = features("pooling = \"attention\"\nquery = \"item\"").unwrap();
    wide[0].embedding = Some(8);
    let error = check_features(&wide).unwrap_err().to_string();
    assert!(error.contains("one embedding width, found 4 here and 8 at query = \"item\""), "{error}");

    let mut single = features("").unwrap();
    single[1].pooling = Pooling::Sum;
    let error = check_features(&single).unwrap_err().to_string();
    assert!(error.contains("feature 'city': only a sequence is pooled; remove pooling"), "{error}");
    single[1] = Feature { pooling: Pooling::Mean, table: Some("a.b".into()), ..single[1].clone() };
    let error = check_features(&single).unwrap_err().to_string();
    assert!(error.contains("table 'a.b': a name is made of ASCII letters"), "{error}");
}

#[test]
fn what_only_a_model_reads_leaves_the_fingerprint() {
    let set = |change: &dyn Fn(&mut Feature)| {
        let mut features = features("").unwrap();
        change(&mut features[2]);
        let fitted = |feature| FittedFeature { feature, state: EncoderState::Stateless };
        EncoderSet { features: features.into_iter().map(fitted).collect(), ..EncoderSet::default() }
    };
    let before = set(&|_| {}).fingerprint();
    assert_eq!(set(&|feature| feature.embedding = Some(16)).fingerprint(), before);
    assert_eq!(set(&|feature| feature.pooling = Pooling::Gru).fingerprint(), before);
    assert_ne!(set(&|feature| feature.max_len = Some(6)).fingerprint(), before);
    assert_ne!(set(&|feature| feature.table = None).fingerprint(), before);
}
