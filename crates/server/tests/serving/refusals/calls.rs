//! Refused calls: messages that are none or too much, callers, and what operators ask.

use gatefold_proto::inference as oip;
use gatefold_proto::ranking::v1 as wire;
use prost::Message;
use tonic::Code;
use tonic::codec::CompressionEncoding::{Gzip, Zstd};

use super::Sent::{As, Call, Encoded, Score};
use super::{INFER, OPERATOR, Row, SCORE};

const SET_LABEL: &str = "/gatefold.ranking.v1.Admin/SetLabel";
const LOAD: &str = "/inference.GRPCInferenceService/RepositoryModelLoad";

/// One more than the fields that a message may have, all of them empty.
fn empty_fields(number: u8) -> Vec<u8> {
    [number << 3 | 2, 0].repeat((1 << 16) + 1)
}

/// Bytes that are no message, and messages that would take far more memory than they have bytes.
pub(super) const MESSAGES: &[Row] = &[
    ("no field", Call(SCORE, || vec![0xff; 40]), Code::Internal, "invalid"),
    ("a text beyond the end", Call(SCORE, || vec![0x0a, 0x7f]), Code::Internal, "buffer underflow"),
    ("a number without its value", Call(INFER, || vec![0x08]), Code::Internal, "invalid"),
    (
        "empty columns without end",
        Call(SCORE, || empty_fields(6)),
        Code::InvalidArgument,
        "the message has more than 65536 fields (the next is one of number 6), at most 65536 are accepted",
    ),
    (
        "empty inputs without end",
        Call(INFER, || empty_fields(5)),
        Code::InvalidArgument,
        "the message has more than 65536 fields (the next is one of number 5)",
    ),
    (
        "empty parameters without end",
        Call(LOAD, || empty_fields(3)),
        Code::InvalidArgument,
        "the message has more than 65536 fields (the next is one of number 3)",
    ),
    (
        "unknown fields without end",
        Call(SET_LABEL, || empty_fields(9)),
        Code::InvalidArgument,
        "the message has more than 65536 fields (the next is one of number 9)",
    ),
];

/// A server that accepts gzip alone, messages of 200 kB, and gives replies of 2 kB.
pub(super) const SIZES: &[Row] = &[
    (
        "a large message",
        Score(|request| request.request_id = "x".repeat(200_000)),
        Code::OutOfRange,
        "decoded message length too large: found 200",
    ),
    (
        "a message that is large when it is decompressed",
        Encoded(Gzip, 50_000_000),
        Code::ResourceExhausted,
        "size limit, of 200000 bytes, exceeded",
    ),
    (
        "an encoding that is not accepted",
        Encoded(Zstd, 1000),
        Code::Unimplemented,
        "compressed with `zstd` which isn't supported",
    ),
    (
        "a large reply",
        Score(|request| request.request_id = "x".repeat(10_000)),
        Code::OutOfRange,
        "encoded message length too large",
    ),
];

/// A server that knows `feed`, who may score, and `operator`, who may do everything.
pub(super) const CALLERS: &[Row] = &[
    (
        "no token",
        As(None, SCORE),
        Code::Unauthenticated,
        "this server asks for a token: send it as `authorization: Bearer <token>`",
    ),
    (
        "a token alone",
        As(Some("feed-token"), SCORE),
        Code::Unauthenticated,
        "authorization is not of the form `Bearer <token>`",
    ),
    (
        "another scheme",
        As(Some("Basic ZmVlZA=="), SCORE),
        Code::Unauthenticated,
        "authorization is not of the form `Bearer <token>`",
    ),
    (
        "an unknown token",
        As(Some("Bearer feed-tokem"), SCORE),
        Code::Unauthenticated,
        "this token is none of a caller that the server knows",
    ),
    (
        "an empty token",
        As(Some("Bearer "), INFER),
        Code::Unauthenticated,
        "this token is none of a caller that the server knows",
    ),
    (
        "a caller without the right",
        As(Some("Bearer feed-token"), SET_LABEL),
        Code::PermissionDenied,
        "caller 'feed' lacks the right \"admin\", which /gatefold.ranking.v1.Admin/SetLabel needs",
    ),
    (
        "the same by the other protocol",
        As(Some("Bearer feed-token"), LOAD),
        Code::PermissionDenied,
        "caller 'feed' lacks the right \"admin\", which /inference.GRPCInferenceService/RepositoryModelLoad needs",
    ),
    ("a method that is none", As(OPERATOR, "/gatefold.ranking.v1.Ranking/Sort"), Code::Unimplemented, ""),
];

fn label(label: &str, version: u64) -> Vec<u8> {
    wire::SetLabelRequest { model: "demo".into(), label: label.into(), version }.encode_to_vec()
}

fn load(change: impl FnOnce(&mut oip::RepositoryModelLoadRequest)) -> Vec<u8> {
    let mut request = oip::RepositoryModelLoadRequest { model_name: "demo".into(), ..Default::default() };
    change(&mut request);
    request.encode_to_vec()
}

/// A server that has version 1 of the models `demo` and `other`.
pub(super) const OPERATORS: &[Row] = &[
    (
        "a label that means a version",
        Call(SET_LABEL, || label("9", 1)),
        Code::InvalidArgument,
        "'9' is no label: use 1 to 64 letters, digits, '_', '-' and '.', and not digits alone",
    ),
    (
        "a label for a version that is not there",
        Call(SET_LABEL, || label("canary", 9)),
        Code::NotFound,
        "demo/9 is not in the folder; versions there: 1",
    ),
    (
        "removing a label that is not set",
        Call(SET_LABEL, || label("canary", 0)),
        Code::NotFound,
        "model 'demo' has no label 'canary' to remove; labels that are set: none",
    ),
    (
        "a rollback without an older version",
        Call("/gatefold.ranking.v1.Admin/Rollback", || {
            wire::RollbackRequest { model: "demo".into() }.encode_to_vec()
        }),
        Code::FailedPrecondition,
        "model 'demo' has no good version below 1, which takes traffic",
    ),
    (
        "loading an unknown model",
        Call("/gatefold.ranking.v1.Admin/LoadModel", || {
            wire::LoadModelRequest { model: "dome".into() }.encode_to_vec()
        }),
        Code::NotFound,
        "no model is named 'dome'; in the folder: demo, other",
    ),
    (
        "unloading an unknown model",
        Call("/gatefold.ranking.v1.Admin/UnloadModel", || {
            wire::UnloadModelRequest { model: "dome".into() }.encode_to_vec()
        }),
        Code::NotFound,
        "no model is named 'dome'; in the folder: demo, other",
    ),
    (
        "loading an unknown model by the other protocol",
        Call(LOAD, || load(|request| request.model_name = "dome".into())),
        Code::NotFound,
        "no model is named 'dome'; in the folder: demo, other",
    ),
    (
        "loading from another repository",
        Call(LOAD, || load(|request| request.repository_name = "elsewhere".into())),
        Code::Unimplemented,
        "elsewhere",
    ),
    (
        "loading with a changed configuration",
        Call(LOAD, || load(|request| _ = request.parameters.insert("config".into(), Default::default()))),
        Code::Unimplemented,
        "load parameter 'config'",
    ),
    (
        "describing an unknown model",
        Call("/gatefold.ranking.v1.Ranking/GetModel", || {
            wire::GetModelRequest { model: "dome".into(), ..Default::default() }.encode_to_vec()
        }),
        Code::NotFound,
        "no model is named 'dome'; loaded: demo, other",
    ),
    (
        "the metadata of an unknown model",
        Call("/inference.GRPCInferenceService/ModelMetadata", || {
            oip::ModelMetadataRequest { name: "dome".into(), ..Default::default() }.encode_to_vec()
        }),
        Code::NotFound,
        "no model is named 'dome'; loaded: demo, other",
    ),
    (
        "the configuration of an unknown version",
        Call("/inference.GRPCInferenceService/ModelConfig", || {
            oip::ModelConfigRequest { name: "demo".into(), version: "7".into() }.encode_to_vec()
        }),
        Code::NotFound,
        "model 'demo' has no version 7 loaded; loaded: 1",
    ),
    (
        "the statistics of an unknown version",
        Call("/inference.GRPCInferenceService/ModelStatistics", || {
            oip::ModelStatisticsRequest { name: "demo".into(), version: "7".into() }.encode_to_vec()
        }),
        Code::NotFound,
        "model 'demo' has no version 7 loaded; loaded: 1",
    ),
];
