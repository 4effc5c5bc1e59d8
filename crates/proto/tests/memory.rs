//! What the worst messages of the default size take in memory, by the peak of this process, which is
//! why this file has one test.
#![cfg(target_os = "linux")]

use gatefold_proto::bounded::decode;
use gatefold_proto::inference::{ModelInferRequest, RepositoryModelLoadRequest};
use gatefold_proto::ranking::v1::ScoreRequest;
use prost::Message;
use prost::bytes::Bytes;
use prost::encoding::encode_varint;
use tonic::Code;

/// The default of `limits.message_bytes`.
const MESSAGE: usize = 4 << 20;

/// The most memory that this process has taken so far.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

/// A field of this key that holds `content`.
fn field(key: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![key];
    encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

/// As many of the two bytes of an empty entry as fill `bytes`.
fn empty(key: u8, bytes: usize) -> Vec<u8> {
    [key, 0].repeat(bytes / 2)
}

fn length_delimited(number: u8) -> u8 {
    number << 3 | 2
}

/// The code that a message gets.
fn code<M: Message + Default>(bytes: Vec<u8>) -> Code {
    assert!(bytes.len() <= MESSAGE + 64);
    decode::<M>(Bytes::from(bytes)).map_or_else(|status| status.code(), |_| Code::Ok)
}

#[test]
fn the_worst_messages_take_a_bounded_multiple_of_their_bytes() {
    // Every field of a request that is repeated, filled with empty entries.
    for number in [5, 6, 7, 4] {
        let entries = empty(length_delimited(number), MESSAGE);
        assert_eq!(code::<ModelInferRequest>(entries), Code::InvalidArgument, "field {number}");
    }
    for number in [4, 5, 6, 8] {
        let entries = empty(length_delimited(number), MESSAGE);
        assert_eq!(code::<ScoreRequest>(entries), Code::InvalidArgument, "field {number}");
    }
    let parameters = empty(length_delimited(3), MESSAGE);
    assert_eq!(code::<RepositoryModelLoadRequest>(parameters), Code::InvalidArgument);
    // As many entries as are let through, and the rest of the message in empty texts of one of them.
    let texts = empty(length_delimited(1), MESSAGE - (2 << 16) - 64);
    let column = field(length_delimited(6), &field(length_delimited(4), &texts));
    let score = [empty(length_delimited(6), (2 << 16) - 16), column].concat();
    assert_eq!(code::<ScoreRequest>(score), Code::Ok);
    let texts = empty(length_delimited(8), MESSAGE - (2 << 16) - 64);
    let input = field(length_delimited(5), &field(length_delimited(5), &texts));
    let infer = [empty(length_delimited(5), (2 << 16) - 16), input].concat();
    assert_eq!(code::<ModelInferRequest>(infer), Code::Ok);
    let peak = peak();
    assert!(peak < 32 * MESSAGE, "the process took {} MiB", peak >> 20);
}
