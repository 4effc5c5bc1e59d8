//! Every kind of bad request, with its status and message, through a real connection.

use gatefold_proto::ranking::v1 as wire;
use tonic::Code;
use wire::column::Values;

use crate::support::{Running, column, request};

type Spoil = fn(&mut wire::ScoreRequest);

/// What is done to a good request, and the code and message that answer it.
const CASES: &[(&str, Spoil, Code, &str)] = &[
    (
        "unknown model",
        |request| request.model = "dome".into(),
        Code::NotFound,
        "no model is named 'dome'; loaded: demo",
    ),
    (
        "unknown version",
        |request| request.version = 9,
        Code::NotFound,
        "model 'demo' has no version 9 loaded; loaded: 1",
    ),
    (
        "unknown output",
        |request| request.outputs = vec!["ctvr".into()],
        Code::InvalidArgument,
        "no output 'ctvr'; it has: ctr, cvr, ctcvr",
    ),
    (
        "repeated output",
        |request| request.outputs = vec!["ctr".into(), "ctr".into()],
        Code::InvalidArgument,
        "output 'ctr' is asked for twice",
    ),
    (
        "unknown feature",
        |request| request.items.push(column("prise", ints(&[1, 2]))),
        Code::InvalidArgument,
        "unknown feature 'prise' (did you mean 'price'?)",
    ),
    (
        "missing column",
        |request| {
            request.items.pop();
        },
        Code::InvalidArgument,
        "feature 'price' (item side) has no values",
    ),
    (
        "repeated column",
        |request| request.items.push(request.items[0].clone()),
        Code::InvalidArgument,
        "feature 'item_id' is given twice",
    ),
    (
        "wrong side",
        |request| {
            let age = request.user.remove(0);
            request.context.push(age);
        },
        Code::InvalidArgument,
        "context 'age': is a user feature: move it to `user`",
    ),
    (
        "wrong type",
        |request| request.items[0].values = Some(texts(&["a", "b"])),
        Code::InvalidArgument,
        "feature 'item_id' (item side) has values of type text, expected int",
    ),
    (
        "scalar for a sequence",
        |request| request.user[1].values = Some(ints(&[1])),
        Code::InvalidArgument,
        "feature 'recent' (user side) has values of type int, expected list of int",
    ),
    (
        "no values",
        |request| request.items[1].values = None,
        Code::InvalidArgument,
        "items 'price': has no values: set one of ints",
    ),
    (
        "wrong row count",
        |request| request.items[1].values = Some(floats(&[1.0, 2.0, 3.0])),
        Code::InvalidArgument,
        "items 'price': 3 rows, but items 'item_id' has 2",
    ),
    (
        "wrong row count of a user column",
        |request| request.user[0].values = Some(floats(&[1.0, 2.0])),
        Code::InvalidArgument,
        "feature 'age' (user side) has 2 rows, expected 1",
    ),
    (
        "another number of candidates",
        |request| request.candidates = 3,
        Code::InvalidArgument,
        "items 'item_id': 2 rows, but candidates has 3",
    ),
    (
        "zero candidates",
        |request| {
            request.items[0].values = Some(ints(&[]));
            request.items[1].values = Some(floats(&[]));
        },
        Code::InvalidArgument,
        "candidates: the request has none",
    ),
    (
        "too many candidates",
        |request| {
            request.items[0].values = Some(ints(&[1; 9]));
            request.items[1].values = Some(floats(&[1.0; 9]));
        },
        Code::InvalidArgument,
        "candidates: 9 candidates, at most 8 are accepted (limits.candidates)",
    ),
    (
        "NaN",
        |request| request.items[1].values = Some(floats(&[1.0, f64::NAN])),
        Code::InvalidArgument,
        "feature 'price' (item side), row 1: NaN is not a finite",
    ),
    (
        "infinity",
        |request| request.user[0].values = Some(floats(&[f64::INFINITY])),
        Code::InvalidArgument,
        "feature 'age' (user side), row 0: inf is not a finite",
    ),
    (
        "over-long sequence",
        |request| request.user[1].values = Some(lists(&[1, 2, 3, 4], &[0, 4])),
        Code::InvalidArgument,
        "feature 'recent' (user side), row 0: 4 elements, at most 3 are accepted",
    ),
    (
        "sequence over the server's limit",
        |request| request.user[1].values = Some(lists(&[1; 7], &[0, 7])),
        Code::InvalidArgument,
        "user 'recent': row 0 has 7 elements, at most 6 are accepted (limits.sequence_length)",
    ),
    (
        "no offsets",
        |request| request.user[1].values = Some(lists(&[1], &[])),
        Code::InvalidArgument,
        "user 'recent': offsets are empty",
    ),
    (
        "offsets that do not start with 0",
        |request| request.user[1].values = Some(lists(&[1, 2], &[1, 2])),
        Code::InvalidArgument,
        "user 'recent': offsets start with 1",
    ),
    (
        "falling offsets",
        |request| request.user[1].values = Some(lists(&[1, 2], &[0, 2, 1])),
        Code::InvalidArgument,
        "user 'recent': offsets fall from 2 to 1 at row 1",
    ),
    (
        "offsets beyond the values",
        |request| request.user[1].values = Some(lists(&[1, 2], &[0, 3])),
        Code::InvalidArgument,
        "user 'recent': offsets end with 3, but there are 2 values",
    ),
    (
        "values beyond the offsets",
        |request| request.user[1].values = Some(lists(&[1, 2], &[0, 1])),
        Code::InvalidArgument,
        "user 'recent': offsets end with 1, but there are 2 values",
    ),
    (
        "missing row that is none",
        |request| request.items[0].missing = vec![2],
        Code::InvalidArgument,
        "items 'item_id': row 2 is marked missing, but the column has 2 rows",
    ),
    (
        "missing rows out of order",
        |request| request.items[0].missing = vec![1, 0],
        Code::InvalidArgument,
        "items 'item_id': missing rows must be strictly ascending",
    ),
    (
        "long text",
        |request| request.context[0].values = Some(texts(&["0123456789abcdefg"])),
        Code::InvalidArgument,
        "context 'country': value 0 has 17 bytes, at most 16 are accepted (limits.text_bytes)",
    ),
    (
        "too many columns",
        |request| (0..8).for_each(|_| request.user.push(request.user[0].clone())),
        Code::InvalidArgument,
        "columns: 13 columns, at most 12 are accepted (limits.columns)",
    ),
    (
        "top_k without an output",
        |request| request.top_k = 1,
        Code::InvalidArgument,
        "top_k_by: is empty: name the output to rank by",
    ),
    (
        "top_k_by without top_k",
        |request| request.top_k_by = "ctr".into(),
        Code::InvalidArgument,
        "top_k_by: is 'ctr' without top_k",
    ),
    (
        "top_k_by of no output",
        |request| (request.top_k, request.top_k_by) = (1, "rank".into()),
        Code::InvalidArgument,
        "top_k_by: no output 'rank'; the model has: ctr, cvr, ctcvr",
    ),
    (
        "large message",
        |request| request.request_id = "x".repeat(5000),
        Code::OutOfRange,
        "message length too large",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_is_answered_with_its_code_and_a_message_that_names_the_place() {
    let running = Running::start(|settings| {
        settings.limits.candidates = 8;
        settings.limits.sequence_length = 6;
        settings.limits.text_bytes = 16;
        settings.limits.columns = 12;
        settings.limits.message_bytes = 4096;
    })
    .await;
    let mut client = running.client().await;
    for (name, spoil, code, message) in CASES {
        let mut bad = request(&[10.0, 20.0]);
        spoil(&mut bad);
        let status = client.score(bad).await.expect_err(name);
        assert_eq!(status.code(), *code, "{name}: {}", status.message());
        assert!(status.message().contains(message), "{name}: {}", status.message());
    }
    // None of them has hurt the server.
    client.score(request(&[10.0, 20.0])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_message_are_refused() {
    use tonic::codegen::http;
    // A stream of frames that hold no message of the API, through the same connection as good ones.
    let running = Running::start(|_| {}).await;
    let channel = gatefold_server::client::connect(&format!("http://{}", running.address)).await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    for path in ["/gatefold.ranking.v1.Ranking/Score", "/inference.GRPCInferenceService/ModelInfer"] {
        for bytes in [&[0xff_u8; 40][..], &[0x0a, 0x7f], &[0x08]] {
            grpc.ready().await.unwrap();
            let path = http::uri::PathAndQuery::from_static(path);
            let request = tonic::Request::new(bytes.to_vec());
            let status = grpc.unary(request, path, Bytes).await.expect_err("no message");
            assert_eq!(status.code(), Code::Internal, "{status}");
        }
    }
    running.client().await.score(request(&[1.0])).await.unwrap();
}

/// Sends bytes as they are.
pub(crate) struct Bytes;

impl tonic::codec::Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Bytes;
    type Decoder = Bytes;

    fn encoder(&mut self) -> Bytes {
        Bytes
    }

    fn decoder(&mut self) -> Bytes {
        Bytes
    }
}

impl tonic::codec::Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn encode(
        &mut self,
        item: Vec<u8>,
        buffer: &mut tonic::codec::EncodeBuf<'_>,
    ) -> Result<(), tonic::Status> {
        prost::bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Bytes {
    type Item = ();
    type Error = tonic::Status;

    fn decode(&mut self, _buffer: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<()>, tonic::Status> {
        Ok(Some(()))
    }
}

fn ints(values: &[i64]) -> Values {
    Values::Ints(wire::Ints { values: values.to_vec() })
}

fn floats(values: &[f64]) -> Values {
    Values::Floats(wire::Floats { values: values.to_vec() })
}

fn texts(values: &[&str]) -> Values {
    Values::Texts(wire::Texts { values: values.iter().map(|text| (*text).to_owned()).collect() })
}

fn lists(values: &[i64], offsets: &[u32]) -> Values {
    Values::IntLists(wire::IntLists { values: values.to_vec(), offsets: offsets.to_vec() })
}
