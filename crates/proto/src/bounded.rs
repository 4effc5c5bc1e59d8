//! The codec of the public services: a message is walked before it is decoded, because what it takes
//! in memory follows from the number of its entries more than from its bytes. An empty input of a
//! tensor request is two bytes on the wire and more than three hundred when decoded.
//!
//! Only the fields of the message itself are walked, each skipped by its length: columns and tensors
//! cost one step, whatever they hold. What is repeated further in (the values of a column, the
//! parameters of an input) takes at most some twenty times its bytes.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::{Buf, Bytes};
use prost::encoding::{WireType, decode_key, decode_varint};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

/// Fields that a message may have, each element of a repeated one counted.
pub const MOST_FIELDS: usize = 1 << 16;

/// Encodes `T`, and decodes `U` where it has no more than [`MOST_FIELDS`].
#[derive(Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> BoundedDecoder<U> {
        BoundedDecoder(PhantomData)
    }
}

/// Decodes as [`decode`] does.
#[derive(Debug)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // Taken out of the transport's buffer, not copied.
        decode(buffer.copy_to_bytes(buffer.remaining())).map(Some)
    }
}

/// The message in `bytes`.
///
/// # Errors
/// INVALID_ARGUMENT for more than [`MOST_FIELDS`]; INTERNAL, as the gRPC specification has it, for
/// bytes that are no such message.
pub fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, Status> {
    if let Some(number) = field_beyond(&bytes, MOST_FIELDS) {
        return Err(Status::invalid_argument(format!(
            "the message has more than {MOST_FIELDS} fields (the next is one of number {number}), at most \
             {MOST_FIELDS} are accepted: give all values of a column or tensor in one entry"
        )));
    }
    M::decode(bytes).map_err(|error| Status::internal(error.to_string()))
}

/// The number of the field that comes after the first `most` in a message. `None` where there are no
/// more, or where the bytes are no message any further: decoding them stops there, too.
fn field_beyond(mut bytes: &[u8], most: usize) -> Option<u32> {
    for _ in 0..most {
        skip_field(&mut bytes)?;
    }
    decode_key(&mut bytes).ok().map(|(number, _)| number)
}

/// Skips a key and its value. Those of a group count as fields of the message that it stands in.
fn skip_field(bytes: &mut &[u8]) -> Option<()> {
    let (_, wire_type) = decode_key(bytes).ok()?;
    let length = match wire_type {
        WireType::Varint => decode_varint(bytes).map(|_| 0).ok()?,
        WireType::ThirtyTwoBit => 4,
        WireType::SixtyFourBit => 8,
        WireType::LengthDelimited => usize::try_from(decode_varint(bytes).ok()?).ok()?,
        WireType::StartGroup | WireType::EndGroup => 0,
    };
    *bytes = bytes.get(length..)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::ModelInferRequest;

    #[test]
    fn fields_are_counted_and_their_content_is_skipped() {
        // A varint, four bytes, eight bytes, an empty entry, and one whose content looks like fields.
        let fields: [&[u8]; 5] = [
            &[0x08, 0x96, 0x01],
            &[0x15, 1, 2, 3, 4],
            &[0x19, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x2a, 0],
            &[0x3a, 4, 0x2a, 0, 0x2a, 0],
        ];
        let bytes = fields.concat();
        let numbers: Vec<_> = (0..6).map(|most| field_beyond(&bytes, most)).collect();
        assert_eq!(numbers, [Some(1), Some(2), Some(3), Some(5), Some(7), None]);
        // A group and what is in it are fields.
        assert_eq!(field_beyond(&[0x0b, 0x10, 1, 0x0c, 0x18, 1], 3), Some(3));
        assert_eq!(field_beyond(&[0x2a, 9, 1], 1), None, "cut off");
        assert_eq!(field_beyond(&[0xff; 20], 0), None, "no key");
    }

    #[test]
    fn the_bound_itself_is_accepted() {
        let request = |entries: usize| Bytes::from([0x2a, 0].repeat(entries));
        let inputs = decode::<ModelInferRequest>(request(MOST_FIELDS)).unwrap().inputs;
        assert_eq!(inputs.len(), MOST_FIELDS);
        let status = decode::<ModelInferRequest>(request(MOST_FIELDS + 1)).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        let message = "the message has more than 65536 fields (the next is one of number 5), at most 65536 are \
                       accepted: give all values of a column or tensor in one entry";
        assert_eq!(status.message(), message);
    }
}
