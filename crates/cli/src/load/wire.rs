//! Connections that send requests which are encoded already.

use std::time::Duration;

use gatefold_proto::ranking::v1::{ExperimentUnit, OutputScores, ScoreRequest, ScoreResponse};
use gatefold_server::client::{self, Link, Refused};
use prost::Message;
use prost::bytes::{BufMut, Bytes};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Response, Status};

use super::generator::{Failure, Outcome, Target};

/// One request, ready to be sent.
pub(super) struct Prepared {
    /// The encoded message.
    pub(super) message: Bytes,
    /// Its candidates.
    pub(super) candidates: usize,
}

/// A server, called over connections in turn.
pub(super) struct Server {
    /// What is sent, in turn.
    pub(super) prepared: Vec<Prepared>,
    /// Experiment that each request names with a unit of its own.
    pub(super) experiment: Option<String>,
    /// Open connections.
    pub(super) connections: Vec<Connection>,
    /// Deadline of each request.
    pub(super) timeout: Duration,
}

impl Target for Server {
    async fn send(&self, index: usize) -> Outcome {
        let prepared = &self.prepared[index % self.prepared.len()];
        let mut connection = self.connections[index % self.connections.len()].clone();
        let mut message = prepared.message.clone();
        if let Some(name) = &self.experiment {
            // The fields of a message may come in pieces, so what is encoded already stays as it is.
            let experiment = Some(unit(name, index));
            let rest = ScoreRequest { experiment, ..ScoreRequest::default() }.encode_to_vec();
            message = [message, rest.into()].concat().into();
        }
        match connection.score(message, self.timeout).await {
            Ok(reply) => {
                let whole = |output: &OutputScores| output.scores.len() == prepared.candidates;
                let result = match reply.outputs.iter().all(whole) {
                    true => Ok(prepared.candidates),
                    false => Err(Failure::from("WRONG_REPLY (not one score a candidate)")),
                };
                Outcome { result, arm: self.experiment.is_some().then_some(reply.arm) }
            }
            Err(status) => {
                let arm = client::arm(&status);
                let Refused { code, message } = Refused::within(self.timeout, status);
                Outcome { result: Err(Failure { word: code, message }), arm }
            }
        }
    }
}

/// The unit of the request of this number.
pub(super) fn unit(experiment: &str, index: usize) -> ExperimentUnit {
    ExperimentUnit { name: experiment.to_owned(), unit: format!("load-{index}") }
}

/// One connection to a server.
#[derive(Clone)]
pub(super) struct Connection {
    grpc: Grpc<Link>,
}

impl Connection {
    /// Calls go over `link`.
    pub(super) fn new(link: Link) -> Self {
        Self { grpc: Grpc::new(link) }
    }

    /// Sends one encoded `ScoreRequest`.
    async fn score(&mut self, message: Bytes, timeout: Duration) -> Result<ScoreResponse, Status> {
        let unreachable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
        self.grpc.ready().await.map_err(unreachable)?;
        let mut request = Request::new(message);
        request.set_timeout(timeout);
        let path = PathAndQuery::from_static("/gatefold.ranking.v1.Ranking/Score");
        self.grpc.unary(request, path, EncodedRequests).await.map(Response::into_inner)
    }
}

/// Sends bytes as they are, decodes replies.
struct EncodedRequests;

impl Codec for EncodedRequests {
    type Encode = Bytes;
    type Decode = ScoreResponse;
    type Encoder = EncodedRequests;
    type Decoder = EncodedRequests;

    fn encoder(&mut self) -> Self::Encoder {
        EncodedRequests
    }

    fn decoder(&mut self) -> Self::Decoder {
        EncodedRequests
    }
}

impl Encoder for EncodedRequests {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

impl Decoder for EncodedRequests {
    type Item = ScoreResponse;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<ScoreResponse>, Status> {
        ScoreResponse::decode(buffer).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
