//! Every refused input with its status and message: one table, a section for each way of asking. Each
//! row is sent to one server through a real connection; none of them may hurt it.
//!
//! What is refused for the state of the server (full queues, models that are not there) is tested with
//! that state.

mod calls;
mod score;
mod tensors;

use gatefold_proto::inference::ModelInferRequest;
use gatefold_proto::ranking::v1::ScoreRequest;
use gatefold_server::settings::{Encoding, ExperimentSettings};
use prost::Message;
use tempfile::TempDir;
use tonic::codec::CompressionEncoding;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

use crate::access::{tokens, with};
use crate::experiments::arm;
use crate::inference;
use crate::support::{Bytes, Running, publish, request};

/// What it is, what is sent, the status, and a part of the message.
type Row = (&'static str, Sent, Code, &'static str);

/// What is sent.
enum Sent {
    /// A good `Score` to which this is done.
    Score(fn(&mut ScoreRequest)),
    /// A good `ModelInfer` of typed contents to which this is done.
    Tensors(fn(&mut ModelInferRequest)),
    /// A good `ModelInfer` of raw contents to which this is done.
    RawTensors(fn(&mut ModelInferRequest)),
    /// These bytes as the message of a call.
    Call(&'static str, fn() -> Vec<u8>),
    /// A call with this `authorization`.
    As(Option<&'static str>, &'static str),
    /// A good `Score` in this encoding, with so many bytes of a request id.
    Encoded(CompressionEncoding, usize),
}

const TABLE: [(&str, &[Row]); 7] = [
    ("Ranking.Score", score::ROWS),
    ("ModelInfer of typed contents", tensors::TYPED),
    ("ModelInfer of raw contents", tensors::RAW),
    ("messages", calls::MESSAGES),
    ("sizes and encodings", calls::SIZES),
    ("callers", calls::CALLERS),
    ("what operators ask", calls::OPERATORS),
];

const SCORE: &str = "/gatefold.ranking.v1.Ranking/Score";
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const OPERATOR: Option<&str> = Some("Bearer operator-token");

/// A `Score` that is answered.
fn good() -> ScoreRequest {
    ScoreRequest { model: "demo".into(), ..request(&[10.0, 20.0]) }
}

impl Sent {
    /// The path, the caller and the message of the call, and how that is encoded.
    fn parts(&self) -> (&'static str, Option<&'static str>, Option<CompressionEncoding>, Vec<u8>) {
        let tensors = |mut request: ModelInferRequest, spoil: &fn(&mut ModelInferRequest)| {
            spoil(&mut request);
            (INFER, OPERATOR, None, request.encode_to_vec())
        };
        match self {
            Sent::Score(spoil) => {
                let mut request = good();
                spoil(&mut request);
                (SCORE, OPERATOR, None, request.encode_to_vec())
            }
            Sent::Tensors(spoil) => tensors(inference::request(&[10.0, 20.0]), spoil),
            Sent::RawTensors(spoil) => tensors(inference::raw(inference::request(&[10.0, 20.0])), spoil),
            Sent::Call(path, message) => (path, OPERATOR, None, message()),
            Sent::As(authorization, path) => (path, *authorization, None, good().encode_to_vec()),
            Sent::Encoded(encoding, id) => {
                let request = ScoreRequest { request_id: "x".repeat(*id), ..good() };
                (SCORE, OPERATOR, Some(*encoding), request.encode_to_vec())
            }
        }
    }

    async fn answer(&self, running: &Running) -> Result<(), Status> {
        let (path, authorization, encoding, message) = self.parts();
        let mut grpc = tonic::client::Grpc::new(running.channel().await);
        if let Some(encoding) = encoding {
            grpc = grpc.send_compressed(encoding);
        }
        grpc.ready().await.unwrap();
        let request: Request<Vec<u8>> = with(message, authorization);
        grpc.unary(request, PathAndQuery::from_static(path), Bytes).await.map(|_| ())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_answered_with_its_status_and_a_message_that_says_what_is_wrong() {
    let folder = TempDir::new().unwrap();
    let file = tokens(folder.path());
    let models = TempDir::new().unwrap();
    publish(models.path(), "demo", 0.0);
    publish(models.path(), "other", 0.0);
    let running = Running::start_in(models, |settings| {
        settings.limits.candidates = 8;
        settings.limits.sequence_length = 6;
        settings.limits.text_bytes = 16;
        settings.limits.columns = 12;
        settings.limits.message_bytes = 200_000;
        settings.limits.reply_bytes = 2000;
        settings.compression.accept = vec![Encoding::Gzip];
        settings.tokens = Some(file);
        let formulas = [("revenue".to_owned(), "ctcvr * bid".to_owned())].into();
        let gates = ExperimentSettings { model: "demo".into(), salt: None, arms: vec![arm("control", 1.0)] };
        settings.experiments = [("gates".to_owned(), gates)].into();
        settings.formulas = [("demo".to_owned(), formulas)].into();
    })
    .await;
    running.ready().await;
    let mut wrong = Vec::new();
    for (section, rows) in TABLE {
        for (name, sent, code, message) in rows {
            match sent.answer(&running).await {
                Err(status) if status.code() == *code && status.message().contains(message) => {}
                answer => wrong.push(format!("{section}, {name}: {answer:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // None of them has hurt the server.
    for sent in [Sent::Score(|_| ()), Sent::Tensors(|_| ()), Sent::RawTensors(|_| ())] {
        sent.answer(&running).await.unwrap();
    }
}
