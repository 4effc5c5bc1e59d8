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

/// Features of a small shop, with this feature after them.
fn shop(feature: &str) -> Result<Vec<Feature>, String> {
    let text = format!(
        r#"
        [[feature]]
        name = "country"
        side = "user"
        kind = "categorical"
        type = "text"
        encoder = {{ kind = "vocab" }}
        embedding = 4
        [[feature]]
        name = "age"
        side = "user"
        kind = "categorical"
        type = "float"
        encoder = {{ kind = "quantile", buckets = 8 }}
        embedding = 4
        [[feature]]
        name = "price"
        side = "item"
        kind = "numeric"
        type = "float"
        encoder = {{ kind = "log1p" }}
        [[feature]]
        name = "brand"
        side = "item"
        kind = "categorical"
        type = "int"
        encoder = {{ kind = "hash", buckets = 9 }}
        embedding = 4
        [[feature]]
        name = "new"
        {feature}
        "#
    );
    #[derive(serde::Deserialize)]
    struct Features {
        feature: Vec<Feature>,
    }
    let features = from_toml::<Features>(&text, "test").map_err(|error| error.to_string())?.feature;
    check_features(&features).map_err(|error| error.to_string())?;
    Ok(features)
}

const CROSSED: &str = r#"side = "item"
    kind = "categorical"
    type = "text"
    cross = ["country", "brand"]
    encoder = { kind = "hash", buckets = 100 }
    embedding = 4"#;

#[track_caller]
fn check_crossed(from: &str, to: &str, expected: &str) {
    assert!(CROSSED.contains(from), "{from}");
    let error = shop(&CROSSED.replace(from, to)).unwrap_err();
    assert!(error.starts_with("feature 'new': ") && error.contains(expected), "{error}");
}

#[test]
fn a_crossed_feature_is_made_of_features_that_can_be_combined() {
    assert!(shop(CROSSED).unwrap()[4].is_crossed());
    shop(&CROSSED.replace("\"brand\"", "\"age\"").replace("\"item\"", "\"user\"")).unwrap();
    check_crossed("\"country\", ", "", "cross needs at least two features");
    check_crossed(
        "\"brand\"",
        "\"brandt\"",
        "cross names 'brandt', but the features are: country, age, price, brand",
    );
    check_crossed("\"brand\"", "\"country\"", "cross names 'country' twice");
    check_crossed("\"brand\"", "\"new\"", "cross names 'new', which is crossed itself");
    check_crossed("\"brand\"", "\"price\"", "cross names 'price', a float, which has too many values");
    check_crossed("\"item\"", "\"user\"", "its part 'brand' has one value a candidate; set side = \"item\"");
    check_crossed("\"brand\"", "\"age\"", "all its parts have one value a request");
    check_crossed("\"text\"", "\"int\"", "add type = \"text\"");
    check_crossed("\"brand\"]\n", "\"brand\"]\ncolumn = \"x\"\n", "remove column");
    let vocab = CROSSED.replace("hash\", buckets = 100", "vocab\"").replace("\"item\"", "\"user\"");
    let error = shop(&vocab.replace("\"brand\"", "\"age\"")).unwrap_err();
    assert!(error.contains("cross names 'age', whose edges are fitted at the same time"), "{error}");
}

#[test]
fn settings_of_encoders_that_make_no_sense_are_refused() {
    let number = |rest: &str| format!("side = \"item\"\nkind = \"numeric\"\ntype = \"float\"\n{rest}");
    let text = |rest: &str| format!("side = \"item\"\nkind = \"numeric\"\ntype = \"text\"\n{rest}");
    let coded = |rest: &str| format!("side = \"item\"\nkind = \"categorical\"\nembedding = 4\n{rest}");
    let log1p = |clip: &str| number(&format!("encoder = {{ kind = \"log1p\" }}\nclip = {clip}"));
    let target = |rest: &str| text(&format!("encoder = {{ kind = \"target\", task = \"ctr\"{rest} }}"));
    let refused = [
        (log1p("{}"), "clip needs a finite min, max or both"),
        (log1p("{ min = 2, max = 1 }"), "clip: min = 2 is above max = 1"),
        (log1p("{ min = nan }"), "clip needs a finite min, max or both"),
        (target("") + "\nclip = { min = 0 }", "only numbers have a clip"),
        (target(", smoothing = 0"), "smoothing = 0 must be above 0"),
        (target(", folds = 1"), "folds must be at least 2"),
        (target(", delay = \"9s\""), "delay belongs to by = \"time\""),
        (target(", by = \"time\", folds = 3"), "folds belong to by = \"folds\""),
        (number("encoder = { kind = \"target\", task = \"ctr\" }"), "a float has no encoder target"),
        (
            coded("type = \"float\"\nencoder = { kind = \"quantile\", buckets = 1 }"),
            "buckets = 1 must be between",
        ),
        (coded("type = \"text\"\nencoder = { kind = \"quantile\", buckets = 4 }"), "found text"),
        (
            coded("type = \"text\"\nfit = false\nencoder = { kind = \"vocab\" }"),
            "no other feature fits the table",
        ),
        (
            coded("type = \"text\"\nfit = false\nencoder = { kind = \"hash\", buckets = 4 }"),
            "for the encoder vocab",
        ),
    ];
    for (feature, expected) in refused {
        let error = shop(&feature).unwrap_err();
        assert!(error.starts_with("feature 'new': ") && error.contains(expected), "{expected}: {error}");
    }
    for good in
        [log1p("{ min = 2, max = 2 }"), target(", by = \"time\", delay = \"9s\""), target(", folds = 2")]
    {
        shop(&good).unwrap();
    }
}

#[test]
fn encoders_are_reused_for_the_same_features_alone() {
    let features = shop(CROSSED).unwrap();
    let fitted =
        |feature: &Feature| FittedFeature { feature: feature.clone(), state: EncoderState::Stateless };
    let set = EncoderSet { features: features.iter().map(fitted).collect(), ..EncoderSet::default() };
    let mut wider = features.clone();
    wider[0].embedding = Some(32);
    assert_eq!(set.clone().reuse(&wider).unwrap().features[0].feature.embedding, Some(32));

    let refused = |change: &dyn Fn(&mut Vec<Feature>), expected: &str| {
        let mut features = features.clone();
        change(&mut features);
        assert_eq!(set.clone().reuse(&features).unwrap_err().to_string(), expected);
    };
    refused(
        &|features| features[4].cross.swap(0, 1),
        "feature 'new': cross is [\"brand\",\"country\"] in the recipe and [\"country\",\"brand\"] in the encoders",
    );
    refused(
        &|features| features[2].clip = Some(gatefold_schema::Clip { min: Some(0.5), max: None }),
        "feature 'price': clip is {\"min\":0.5} in the recipe and not set in the encoders",
    );
    refused(&|features| features[2].name = "cost".into(), "feature 'cost': the encoders do not have it");
    refused(
        &|features| drop(features.pop()),
        "feature 'new': the encoders have it, but the recipe does not declare it",
    );
    refused(
        &|features| features.swap(0, 1),
        "feature 'age' is number 1 of the recipe, where the encoders have 'country'; keep their order",
    );
}
