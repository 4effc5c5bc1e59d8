//! What is fuzzed: functions of arbitrary bytes that must neither panic nor run away, whatever they
//! are given. Used by the fuzz targets and by the tests of `gatefold-server`.

mod bundle;
mod encoder;
mod onnx;
pub mod seeds;

use gatefold_features::{RawBatch, Strictness};
use gatefold_formula::Formula;
use gatefold_proto::bounded::decode;
use gatefold_proto::inference;
use gatefold_proto::ranking::v1 as wire;
use gatefold_schema::{ImportMap, Recipe};
use gatefold_server::fusion::Formulas;
use gatefold_server::settings::{Limits, Settings};
use gatefold_server::traces::Context;
use gatefold_server::{convert, tokens};
use prost::Message;
use prost::bytes::Bytes;
use tonic::Code;

use encoder::ENCODER;

/// How far bytes came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// They are not of the form at all: no message, no text, no file.
    Nothing,
    /// They are of the form, and refused.
    Refused,
    /// They are taken, to the end of what the entry does.
    Taken,
}

/// An entry.
pub struct Target {
    /// The fuzz target's name.
    pub name: &'static str,
    /// The entry.
    pub run: fn(&[u8]) -> Reached,
    /// Inputs that are taken, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every entry.
pub const TARGETS: [Target; 9] = [
    // What a client sends.
    Target { name: "score_request", run: score_request, seeds: seeds::score_requests },
    Target { name: "infer_request", run: infer_request, seeds: seeds::infer_requests },
    Target { name: "messages", run: messages, seeds: seeds::messages },
    Target { name: "formula", run: |bytes| text(bytes, formula), seeds: seeds::formulas },
    Target { name: "traceparent", run: |bytes| text(bytes, traceparent), seeds: seeds::traceparents },
    // What a file holds.
    Target { name: "settings", run: |bytes| text(bytes, settings), seeds: seeds::settings },
    Target { name: "recipe", run: |bytes| text(bytes, recipe), seeds: seeds::recipes },
    Target { name: "bundle", run: bundle::open, seeds: seeds::manifests },
    Target { name: "onnx", run: onnx::import, seeds: seeds::onnx_files },
];

/// The entry of that name.
///
/// # Panics
/// When there is none.
pub fn target(name: &str) -> &'static Target {
    let target = TARGETS.iter().find(|target| target.name == name);
    target.unwrap_or_else(|| panic!("TARGETS has no '{name}'"))
}

fn text(bytes: &[u8], run: fn(&str) -> Reached) -> Reached {
    std::str::from_utf8(bytes).map_or(Reached::Nothing, run)
}

fn taken(is_taken: bool) -> Reached {
    if is_taken { Reached::Taken } else { Reached::Refused }
}

/// A request from its bytes to the features of a model.
fn score_request(bytes: &[u8]) -> Reached {
    let Ok(message) = decode::<wire::ScoreRequest>(Bytes::copy_from_slice(bytes)) else {
        return Reached::Nothing;
    };
    let side_of = |name: &str| ENCODER.feature_index(name).map(|at| ENCODER.set().features[at].feature.side);
    let formulas = Formulas::new(&Default::default()).expect("there is none");
    let formula = formulas.wanted(&message, "demo");
    let selected = formula.is_ok_and(|formula| convert::selection(&message, formula.is_some()).is_ok());
    let Ok(batch) = convert::raw_batch(&message, side_of, &Limits::default()) else {
        return Reached::Refused;
    };
    taken(is_encoded(&batch) && selected)
}

/// A request of tensors from its bytes to the features of a model.
fn infer_request(bytes: &[u8]) -> Reached {
    let Ok(message) = decode::<inference::ModelInferRequest>(Bytes::copy_from_slice(bytes)) else {
        return Reached::Nothing;
    };
    let batch = gatefold_server::inference::raw_batch(&message, "demo", &ENCODER, &Limits::default());
    taken(batch.is_ok_and(|batch| is_encoded(&batch)))
}

/// Whether the batch fits the model. As served and as logged it must not panic either.
fn is_encoded(batch: &RawBatch<'_>) -> bool {
    let encoded = ENCODER.encode(batch, Strictness::Refuse);
    if let Ok(features) = &encoded {
        assert_eq!((features.requests, features.candidates), (batch.requests, batch.candidates));
        // As a golden row would hold it: the same numbers come out of it.
        let json = batch.to_json(ENCODER.set(), &[]);
        let again = RawBatch::from_json(&json, ENCODER.set()).expect("what is written can be read");
        let again = ENCODER.encode(&again, Strictness::Refuse).expect("what was encoded is again");
        assert_eq!(format!("{features:?}"), format!("{again:?}"));
    }
    encoded.is_ok()
}

/// Every message that a client sends: what the server decodes is what the message is.
fn messages(bytes: &[u8]) -> Reached {
    let decoded = [
        decoded::<wire::ScoreRequest>(bytes),
        decoded::<wire::SetLabelRequest>(bytes),
        decoded::<inference::ModelInferRequest>(bytes),
        decoded::<inference::RepositoryModelLoadRequest>(bytes),
    ];
    if decoded.contains(&true) { Reached::Taken } else { Reached::Nothing }
}

fn decoded<M: Message + Default>(bytes: &[u8]) -> bool {
    let bounded = decode::<M>(Bytes::copy_from_slice(bytes)).map_err(|status| status.code());
    if bounded.as_ref().is_err_and(|code| *code == Code::InvalidArgument) {
        // Too many fields, whatever else it is.
        return false;
    }
    let plain = M::decode(bytes).map_err(|_| Code::Internal);
    // By their lengths, as a NaN equals nothing.
    let length = |message: M| message.encoded_len();
    let (bounded, plain) = (bounded.map(length), plain.map(length));
    assert_eq!(bounded, plain);
    plain.is_ok()
}

/// A formula, and its results for rows of all kinds of numbers.
fn formula(text: &str) -> Reached {
    const NUMBERS: [f64; 7] = [0.5, -1.0, 0.0, 3.0, f64::NAN, f64::INFINITY, 1e308];
    let Ok(formula) = Formula::parse(text) else { return Reached::Refused };
    let columns: Vec<[f64; 1]> = NUMBERS.into_iter().map(|number| [number]).collect();
    for first in 0..NUMBERS.len() {
        let given = (0..formula.names().len()).map(|at| &columns[(first + at) % columns.len()][..]);
        if let Ok(results) = formula.evaluate(1, &given.collect::<Vec<_>>()) {
            assert!(results.len() == 1 && results[0].is_finite(), "{results:?}");
        }
    }
    Reached::Taken
}

/// The header of that name: what is taken of it says the same when it is written again.
fn traceparent(text: &str) -> Reached {
    let Some(context) = Context::parse(text) else { return Reached::Refused };
    let Context { trace, span, sampled } = context;
    let written = format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(sampled));
    assert_eq!(Context::parse(&written), Some(context));
    Reached::Taken
}

/// The server's settings, and its tokens file.
fn settings(text: &str) -> Reached {
    let settings = Settings::from_toml(text, "server.toml");
    let checked = settings.as_ref().is_ok_and(|settings| settings.check().is_ok());
    taken(checked | tokens::Callers::from_toml(text, "line").is_ok())
}

/// A recipe, and the map of an import.
fn recipe(text: &str) -> Reached {
    taken(Recipe::parse(text, "recipe.toml").is_ok() | ImportMap::parse(text, "map.toml").is_ok())
}
