//! The features of the model that requests are encoded for.

use std::sync::LazyLock;

use gatefold_features::Encoder;
use gatefold_schema::{EncoderSet, EncoderState, Feature, FittedFeature};

/// One feature of every kind and side.
pub(crate) static ENCODER: LazyLock<Encoder> = LazyLock::new(|| {
    let set = EncoderSet { features: features(), ..EncoderSet::default() };
    Encoder::new(set).expect("the features fit each other")
});

/// Its features.
pub(crate) fn features() -> Vec<FittedFeature> {
    let features: Vec<Feature> = serde_json::from_value(serde_json::json!([
        {"name": "age", "side": "user", "kind": "numeric", "type": "float", "encoder": {"kind": "none"}},
        {"name": "recent", "side": "user", "kind": "sequence", "type": "int", "max_len": 3, "embedding": 2,
         "encoder": {"kind": "hash", "buckets": 50}},
        {"name": "country", "side": "context", "kind": "categorical", "type": "text", "embedding": 2,
         "encoder": {"kind": "hash", "buckets": 20}},
        {"name": "item_id", "side": "item", "kind": "categorical", "type": "int", "embedding": 2,
         "encoder": {"kind": "hash", "buckets": 100}},
        {"name": "price", "side": "item", "kind": "numeric", "type": "float", "encoder": {"kind": "none"}},
    ]))
    .expect("the features are well formed");
    let state = EncoderState::Stateless;
    features.into_iter().map(|feature| FittedFeature { feature, state: state.clone() }).collect()
}
