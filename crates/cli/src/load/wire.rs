//! One connection that sends requests which are encoded already.

use gatefold_proto::ranking::v1::ScoreResponse;
use gatefold_server::client::Link;
use prost::Message;
use prost::bytes::{BufMut, Bytes};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Response, Status};

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
    pub(super) async fn score(
        &mut self,
        message: Bytes,
        timeout: std::time::Duration,
    ) -> Result<ScoreResponse, Status> {
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
