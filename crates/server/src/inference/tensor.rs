//! One input tensor: its shape, and its elements as plain values.
//!
//! Elements come as a typed list or as raw bytes. Everything is checked against what is there before
//! memory is taken for it, so a shape that promises more than the message holds costs nothing.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use gatefold_proto::inference::InferTensorContents;
use gatefold_proto::inference::model_infer_request::InferInputTensor;

use crate::convert::{self, Problem};
use crate::settings::Limits;

/// An input tensor whose datatype and shape are legal; its elements are not looked at yet.
pub(super) struct Tensor<'a> {
    pub(super) datatype: Datatype,
    pub(super) shape: Vec<usize>,
    elements: Elements<'a>,
}

enum Elements<'a> {
    Typed(&'a InferTensorContents),
    Raw(&'a [u8]),
}

/// The protocol's datatypes that a feature can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Datatype {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Fp32,
    Fp64,
    Bytes,
}

impl Datatype {
    const ALL: [(Datatype, &str); 12] = [
        (Datatype::Bool, "BOOL"),
        (Datatype::Int8, "INT8"),
        (Datatype::Int16, "INT16"),
        (Datatype::Int32, "INT32"),
        (Datatype::Int64, "INT64"),
        (Datatype::Uint8, "UINT8"),
        (Datatype::Uint16, "UINT16"),
        (Datatype::Uint32, "UINT32"),
        (Datatype::Uint64, "UINT64"),
        (Datatype::Fp32, "FP32"),
        (Datatype::Fp64, "FP64"),
        (Datatype::Bytes, "BYTES"),
    ];

    /// The name on the wire.
    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(datatype, _)| *datatype == self).map_or("", |(_, name)| name)
    }

    fn parse(name: &str) -> Option<Datatype> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(datatype, _)| *datatype)
    }

    /// Whether the elements are integers.
    pub(super) fn is_integer(self) -> bool {
        !matches!(self, Datatype::Bool | Datatype::Fp32 | Datatype::Fp64 | Datatype::Bytes)
    }

    /// Whether the elements are numbers.
    pub(super) fn is_number(self) -> bool {
        self.is_integer() || matches!(self, Datatype::Fp32 | Datatype::Fp64)
    }

    /// The typed list that holds the elements.
    fn list(self) -> &'static str {
        match self {
            Datatype::Bool => "bool_contents",
            Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => "int_contents",
            Datatype::Int64 => "int64_contents",
            Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => "uint_contents",
            Datatype::Uint64 => "uint64_contents",
            Datatype::Fp32 => "fp32_contents",
            Datatype::Fp64 => "fp64_contents",
            Datatype::Bytes => "bytes_contents",
        }
    }

    /// The integers that an element may be: those of the datatype that 64 signed bits hold.
    fn range(self) -> RangeInclusive<i128> {
        match self {
            Datatype::Int8 => i8::MIN.into()..=i8::MAX.into(),
            Datatype::Int16 => i16::MIN.into()..=i16::MAX.into(),
            Datatype::Int32 => i32::MIN.into()..=i32::MAX.into(),
            Datatype::Uint8 => 0..=u8::MAX.into(),
            Datatype::Uint16 => 0..=u16::MAX.into(),
            Datatype::Uint32 => 0..=u32::MAX.into(),
            Datatype::Uint64 => 0..=i64::MAX.into(),
            _ => i64::MIN.into()..=i64::MAX.into(),
        }
    }
}

impl<'a> Tensor<'a> {
    /// The tensor of `input`, whose elements are `raw` where the request has raw contents.
    ///
    /// # Errors
    /// A datatype that no feature has, a negative dimension, both raw and typed elements, none at
    /// all, and typed elements in a list of another datatype.
    pub(super) fn new(input: &'a InferInputTensor, raw: Option<&'a [u8]>) -> Result<Tensor<'a>, String> {
        let datatype = Datatype::parse(&input.datatype).ok_or_else(|| {
            let names = Datatype::ALL.map(|(_, name)| name).join(", ");
            format!("unsupported data-type '{}': use one of {names}", input.datatype)
        })?;
        let dimension = |&size: &i64| {
            usize::try_from(size)
                .map_err(|_| format!("unexpected shape {:?}: {size} is negative", input.shape))
        };
        let shape = input.shape.iter().map(dimension).collect::<Result<Vec<_>, _>>()?;
        let typed = input.contents.as_ref().filter(|contents| !is_empty(contents));
        let elements = match (raw, typed) {
            (Some(_), Some(_)) => {
                return Err("has typed contents beside raw_input_contents: give one of them".into());
            }
            (Some(raw), None) => Elements::Raw(raw),
            (None, Some(contents)) => {
                check_list(contents, datatype)?;
                Elements::Typed(contents)
            }
            (None, None) if shape.contains(&0) => Elements::Raw(&[]),
            (None, None) => {
                return Err("has no elements: give contents, or raw_input_contents for all inputs".into());
            }
        };
        Ok(Tensor { datatype, shape, elements })
    }

    /// The elements as integers, `count` of them.
    ///
    /// # Errors
    /// Another number of elements, and elements beyond the datatype's range or that of INT64.
    pub(super) fn integers(&self, count: usize) -> Result<Cow<'a, [i64]>, String> {
        let values = match (&self.elements, self.datatype) {
            (Elements::Typed(contents), Datatype::Int64) => {
                return Ok(Cow::Borrowed(self.whole(&contents.int64_contents, count)?));
            }
            (Elements::Typed(contents), Datatype::Uint64) => {
                self.in_range(self.whole(&contents.uint64_contents, count)?)?
            }
            (Elements::Typed(contents), Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32) => {
                self.in_range(self.whole(&contents.uint_contents, count)?)?
            }
            (Elements::Typed(contents), _) => self.in_range(self.whole(&contents.int_contents, count)?)?,
            (Elements::Raw(bytes), datatype) => match datatype {
                Datatype::Int8 => self.decode(bytes, count, |raw| i8::from_le_bytes(raw).into())?,
                Datatype::Int16 => self.decode(bytes, count, |raw| i16::from_le_bytes(raw).into())?,
                Datatype::Int32 => self.decode(bytes, count, |raw| i32::from_le_bytes(raw).into())?,
                Datatype::Uint8 => self.decode(bytes, count, |raw| u8::from_le_bytes(raw).into())?,
                Datatype::Uint16 => self.decode(bytes, count, |raw| u16::from_le_bytes(raw).into())?,
                Datatype::Uint32 => self.decode(bytes, count, |raw| u32::from_le_bytes(raw).into())?,
                Datatype::Uint64 => self.in_range(&self.decode(bytes, count, u64::from_le_bytes)?)?,
                _ => self.decode(bytes, count, i64::from_le_bytes)?,
            },
        };
        Ok(Cow::Owned(values))
    }

    /// The elements of an FP32 or FP64 tensor, `count` of them.
    ///
    /// # Errors
    /// Another number of elements.
    pub(super) fn floats(&self, count: usize) -> Result<Cow<'a, [f64]>, String> {
        Ok(match (&self.elements, self.datatype) {
            (Elements::Typed(contents), Datatype::Fp64) => {
                Cow::Borrowed(self.whole(&contents.fp64_contents, count)?)
            }
            (Elements::Typed(contents), _) => {
                let values = self.whole(&contents.fp32_contents, count)?;
                values.iter().map(|&value| value.into()).collect()
            }
            (Elements::Raw(bytes), Datatype::Fp64) => {
                Cow::Owned(self.decode(bytes, count, f64::from_le_bytes)?)
            }
            (Elements::Raw(bytes), _) => {
                Cow::Owned(self.decode(bytes, count, |raw| f32::from_le_bytes(raw).into())?)
            }
        })
    }

    /// The elements of a BOOL tensor, `count` of them.
    ///
    /// # Errors
    /// Another number of elements, and bytes that are neither 0 nor 1.
    pub(super) fn flags(&self, count: usize) -> Result<Vec<bool>, String> {
        match &self.elements {
            Elements::Typed(contents) => Ok(self.whole(&contents.bool_contents, count)?.to_vec()),
            Elements::Raw(bytes) => {
                let bytes = self.decode(bytes, count, u8::from_le_bytes)?;
                match bytes.iter().position(|&byte| byte > 1) {
                    Some(at) => Err(format!("element {at} is the byte {}: a BOOL is 0 or 1", bytes[at])),
                    None => Ok(bytes.iter().map(|&byte| byte == 1).collect()),
                }
            }
        }
    }

    /// The elements of a BYTES tensor as text, `count` of them.
    ///
    /// # Errors
    /// Another number of elements, lengths that do not fit the bytes, text that is no UTF-8 or
    /// longer than `limits` allow.
    pub(super) fn texts(&self, count: usize, limits: &Limits) -> Result<Vec<&'a str>, Problem> {
        let text = |(at, bytes): (usize, &'a [u8])| {
            convert::check_text(at, bytes.len(), limits)?;
            std::str::from_utf8(bytes).map_err(|_| format!("element {at} is not UTF-8").into())
        };
        match &self.elements {
            Elements::Typed(contents) => {
                let texts = self.whole(&contents.bytes_contents, count)?;
                texts.iter().map(Vec::as_slice).enumerate().map(text).collect()
            }
            Elements::Raw(bytes) => self.prefixed(bytes, count)?.into_iter().enumerate().map(text).collect(),
        }
    }

    /// Splits raw BYTES: each element stands after its length in four bytes.
    fn prefixed(&self, mut bytes: &'a [u8], count: usize) -> Result<Vec<&'a [u8]>, String> {
        let mut elements = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            let Some((element, rest)) = rest.split_at_checked(length) else {
                return Err(format!(
                    "element {} says it has {length} bytes, but {} are left in raw_input_contents",
                    elements.len(),
                    rest.len()
                ));
            };
            elements.push(element);
            bytes = rest;
        }
        if !bytes.is_empty() {
            return Err(format!(
                "raw_input_contents ends with {} stray bytes: each of BYTES stands after its length in four \
                 bytes",
                bytes.len()
            ));
        }
        self.whole(&elements, count)?;
        Ok(elements)
    }

    /// Little-endian elements of `SIZE` bytes each.
    fn decode<const SIZE: usize, V>(
        &self,
        bytes: &[u8],
        count: usize,
        element: impl Fn([u8; SIZE]) -> V,
    ) -> Result<Vec<V>, String> {
        if Some(bytes.len()) != count.checked_mul(SIZE) {
            return Err(format!(
                "unexpected size: {} bytes in raw_input_contents, but {} of shape {:?} has {} elements of {SIZE}",
                bytes.len(),
                self.datatype.name(),
                self.shape,
                count
            ));
        }
        Ok(bytes.as_chunks().0.iter().map(|&raw| element(raw)).collect())
    }

    /// `values`, which must be `count`.
    fn whole<'v, V>(&self, values: &'v [V], count: usize) -> Result<&'v [V], String> {
        if values.len() != count {
            let found = values.len();
            return Err(format!("unexpected size: {found} elements, but shape {:?} has {count}", self.shape));
        }
        Ok(values)
    }

    fn in_range<V: Copy + Into<i128>>(&self, values: &[V]) -> Result<Vec<i64>, String> {
        let range = self.datatype.range();
        let integer = |(at, &value): (usize, &V)| {
            let value: i128 = value.into();
            match i64::try_from(value) {
                Ok(integer) if range.contains(&value) => Ok(integer),
                _ => Err(format!(
                    "element {at} is {value}: {} are taken from {} to {}",
                    self.datatype.name(),
                    range.start(),
                    range.end()
                )),
            }
        };
        values.iter().enumerate().map(integer).collect()
    }
}

/// Number of elements in each typed list.
fn lists(contents: &InferTensorContents) -> [(&'static str, usize); 8] {
    [
        ("bool_contents", contents.bool_contents.len()),
        ("int_contents", contents.int_contents.len()),
        ("int64_contents", contents.int64_contents.len()),
        ("uint_contents", contents.uint_contents.len()),
        ("uint64_contents", contents.uint64_contents.len()),
        ("fp32_contents", contents.fp32_contents.len()),
        ("fp64_contents", contents.fp64_contents.len()),
        ("bytes_contents", contents.bytes_contents.len()),
    ]
}

fn is_empty(contents: &InferTensorContents) -> bool {
    lists(contents).iter().all(|(_, elements)| *elements == 0)
}

fn check_list(contents: &InferTensorContents, datatype: Datatype) -> Result<(), String> {
    let wrong = |(name, elements): &(&str, usize)| *elements > 0 && *name != datatype.list();
    match lists(contents).into_iter().find(wrong) {
        Some((name, _)) => Err(format!(
            "has elements in {name}, but its data-type is {}: move them to {}",
            datatype.name(),
            datatype.list()
        )),
        None => Ok(()),
    }
}
