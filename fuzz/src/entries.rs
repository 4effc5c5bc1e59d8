//! What is fuzzed: functions of arbitrary bytes that must neither panic nor run away, whatever they
//! are given. Used by the fuzz targets and by the tests of `gatefold-server`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use gatefold_features::{Encoder, Strictness};
use gatefold_proto::bounded::decode;
use gatefold_proto::inference;
use gatefold_proto::ranking::v1 as wire;
use gatefold_schema::{EncoderSet, EncoderState, Feature, FittedFeature};
use gatefold_server::fusion::Formulas;
use gatefold_server::settings::{Limits, Settings};
use gatefold_server::{convert, tokens};
use prost::Message;
use prost::bytes::Bytes;
use tonic::Code;

/// How far bytes came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// They are no message.
    Nothing,
    /// The message is refused.
    Message,
    /// The message was encoded for a model.
    Features,
}

/// One feature of every kind and side.
static ENCODER: LazyLock<Encoder> = LazyLock::new(|| {
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
    let features = features.into_iter().map(|feature| FittedFeature { feature, state: state.clone() });
    let set = EncoderSet { features: features.collect(), ..EncoderSet::default() };
    Encoder::new(set).expect("the features fit each other")
});

/// A request from its bytes to the features of a model.
pub fn score_request(bytes: &[u8]) -> Reached {
    let Ok(message) = decode::<wire::ScoreRequest>(Bytes::copy_from_slice(bytes)) else {
        return Reached::Nothing;
    };
    let limits = Limits::default();
    let encoder = &*ENCODER;
    let side_of = |name: &str| encoder.feature_index(name).map(|at| encoder.set().features[at].feature.side);
    let formulas = Formulas::new(&BTreeMap::new()).expect("there is none");
    let formula = formulas.wanted(&message, "demo");
    let selected = formula.is_ok_and(|formula| convert::selection(&message, formula.is_some()).is_ok());
    let Ok(batch) = convert::raw_batch(&message, side_of, &limits) else { return Reached::Message };
    match encoder.encode(&batch, Strictness::Refuse) {
        Ok(_) if selected => Reached::Features,
        _ => Reached::Message,
    }
}

/// Every message that a client sends: what the server decodes is what the message is.
pub fn messages(bytes: &[u8]) {
    decoded::<wire::ScoreRequest>(bytes);
    decoded::<wire::SetLabelRequest>(bytes);
    decoded::<inference::ModelInferRequest>(bytes);
    decoded::<inference::RepositoryModelLoadRequest>(bytes);
}

fn decoded<M: Message + Default>(bytes: &[u8]) {
    let bounded = decode::<M>(Bytes::copy_from_slice(bytes)).map_err(|status| status.code());
    let plain = M::decode(bytes).map_err(|_| Code::Internal);
    // By their lengths, as a NaN equals nothing.
    let length = |message: M| message.encoded_len();
    assert_eq!(bounded.map(length), plain.map(length));
}

/// A text as the settings file and as the tokens file.
pub fn settings(text: &str) {
    if let Ok(settings) = Settings::from_toml(text, "server.toml") {
        // Whether they can be used is not the question.
        let _ = settings.check();
    }
    let _ = tokens::Callers::from_toml(text, "line");
}
