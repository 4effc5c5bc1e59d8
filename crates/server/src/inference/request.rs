//! `ModelInferRequest` → raw columns: which input is which feature, and which rows belong to it.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use gatefold_engine::{HIGHEST_PRIORITY, ModelInfo, VersionChoice};
use gatefold_features::{Encoder, RawBatch, RawColumn, RawValues};
use gatefold_proto::inference::infer_parameter::ParameterChoice;
use gatefold_proto::inference::{InferParameter, ModelInferRequest};
use gatefold_schema::{Feature, Kind, Level, ValueType, strict::nearest};

use super::describe;
use super::rows::{self, Rows};
use super::tensor::Tensor;
use crate::convert::{FieldError, Problem};
use crate::scorer::Question;
use crate::settings::Limits;

/// Suffix of the optional input that holds the length of each row of a sequence.
pub(super) const LENGTH: &str = ".length";
/// Suffix of the optional input that says at which rows a feature's value is missing.
pub(super) const MISSING: &str = ".missing";

/// A version as the protocol writes it: empty is the one that takes the traffic which names none, a
/// number is that version, and another text is a label.
///
/// # Errors
/// A number that no version has.
pub(super) fn version(text: &str) -> Result<VersionChoice<'_>, FieldError> {
    if text.is_empty() {
        return Ok(VersionChoice::Current);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(VersionChoice::Label(text));
    }
    let version = text
        .parse()
        .map_err(|_| FieldError::new("model_version", format!("'{text}' is beyond what a version can be")));
    version.map(VersionChoice::Version)
}

/// What `request` wants to be scored.
///
/// # Errors
/// Inputs that are not the model's features in a form that the protocol allows, and what Gatefold
/// does not offer: shared memory, classification, sequences of requests.
pub(super) fn question<'a>(
    request: &'a ModelInferRequest,
    model: &ModelInfo,
    limits: &Limits,
) -> Result<Question<'a>, FieldError> {
    let deadline = deadline(request)?;
    let outputs = request.outputs.iter().map(|output| {
        let refused = [
            (SHARED_MEMORY, "shared memory is not supported: take the output from the reply"),
            ("classification", "classification is not supported: the outputs are probabilities"),
        ];
        for (parameter, problem) in refused {
            if output.parameters.contains_key(parameter) {
                return Err(FieldError::new(format!("output '{}'", output.name), problem));
            }
        }
        Ok(output.name.clone())
    });
    let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
    let priority = priority(request)?;
    Ok(Question {
        batch: batch(request, &model.model.name, model.bundle.encoder(), limits)?,
        outputs,
        gates: false,
        deadline,
        priority,
    })
}

const SHARED_MEMORY: &str = "shared_memory_region";

/// The instant that the parameter `timeout` names.
fn deadline(request: &ModelInferRequest) -> Result<Option<Instant>, FieldError> {
    if let Some(id) = request.parameters.get("sequence_id")
        && whole_number(id) != Some(0)
    {
        let problem = "models keep nothing from one request to the next: leave it out";
        return Err(FieldError::new("parameter 'sequence_id'", problem));
    }
    let Some(timeout) = request.parameters.get("timeout") else { return Ok(None) };
    let Some(micros) = whole_number(timeout) else {
        return Err(FieldError::new("parameter 'timeout'", "is no number of microseconds from 0"));
    };
    // 0 is none; so is a time beyond what the clock can count to.
    Ok((micros > 0).then(|| Instant::now().checked_add(Duration::from_micros(micros))).flatten())
}

/// The parameter `priority`, where 1 is the highest and 0 none.
fn priority(request: &ModelInferRequest) -> Result<u8, FieldError> {
    let Some(priority) = request.parameters.get("priority") else { return Ok(0) };
    match whole_number(priority) {
        None => Err(FieldError::new("parameter 'priority'", "is no number from 0, where 1 is the highest")),
        Some(0) => Ok(0),
        Some(level) => {
            let below = u8::try_from(level - 1).unwrap_or(u8::MAX);
            Ok(HIGHEST_PRIORITY.saturating_sub(below))
        }
    }
}

fn whole_number(parameter: &InferParameter) -> Option<u64> {
    match parameter.parameter_choice.as_ref()? {
        ParameterChoice::Int64Param(number) => u64::try_from(*number).ok(),
        ParameterChoice::Uint64Param(number) => Some(*number),
        _ => None,
    }
}

/// What a request gives of one feature.
#[derive(Default)]
struct Given<'a> {
    value: Option<Tensor<'a>>,
    length: Option<Tensor<'a>>,
    missing: Option<Tensor<'a>>,
}

/// Raw values of a request's inputs, borrowed from the message; `model` is the name, for messages, of the
/// model that `encoder` belongs to.
///
/// # Errors
/// A size beyond `limits`, inputs that are no feature of the model, are given twice or are absent, and
/// elements, shapes or rows that do not fit their feature or each other.
pub fn batch<'a>(
    request: &'a ModelInferRequest,
    model: &str,
    encoder: &Encoder,
    limits: &Limits,
) -> Result<RawBatch<'a>, FieldError> {
    let features = &encoder.set().features;
    let given = given(request, model, encoder, limits)?;
    let sent = || given.iter().zip(features).filter(|(_, fitted)| !fitted.feature.is_crossed());
    let absent = sent().filter(|(given, _)| given.value.is_none());
    let absent: Vec<String> = absent.map(|(_, fitted)| format!("'{}'", fitted.feature.name)).collect();
    if !absent.is_empty() {
        let problem = format!("model '{model}' expects {}; missing: {}", sent().count(), absent.join(", "));
        return Err(FieldError::new("inputs", problem));
    }
    let mut columns = Vec::with_capacity(features.len());
    for (given, fitted) in sent() {
        let feature = &fitted.feature;
        let column = column(given, feature, model, limits)?;
        columns.push(Rows { feature, column });
    }
    rows::batch(columns)
}

/// The inputs, by feature.
fn given<'a>(
    request: &'a ModelInferRequest,
    model: &str,
    encoder: &Encoder,
    limits: &Limits,
) -> Result<Vec<Given<'a>>, FieldError> {
    let inputs = &request.inputs;
    if inputs.len() > limits.columns {
        let problem = Problem::OverLimit(format!(
            "{} inputs, at most {} are accepted (limits.columns)",
            inputs.len(),
            limits.columns
        ));
        return Err(FieldError::new("inputs", problem));
    }
    let raw = &request.raw_input_contents;
    if !raw.is_empty() && raw.len() != inputs.len() {
        let problem = format!("has {} entries for {} inputs: give one for each", raw.len(), inputs.len());
        return Err(FieldError::new("raw_input_contents", problem));
    }
    let mut all: Vec<Given<'a>> = encoder.set().features.iter().map(|_| Given::default()).collect();
    for (at, input) in inputs.iter().enumerate() {
        let fail = |problem: String| FieldError::new(place(&input.name), problem);
        if input.parameters.contains_key(SHARED_MEMORY) {
            return Err(fail("shared memory is not supported: send the elements in the request".into()));
        }
        let (index, part) =
            resolve(&input.name, encoder).ok_or_else(|| fail(unexpected(&input.name, model, encoder)))?;
        let feature = &encoder.set().features[index].feature;
        if feature.is_crossed() {
            return Err(fail(format!(
                "is made of {} wherever it is needed: leave it out",
                feature.cross.join(" and ")
            )));
        }
        let tensor = Tensor::new(input, raw.get(at).map(AsRef::as_ref)).map_err(fail)?;
        let slot = match part {
            Part::Value => &mut all[index].value,
            Part::Length => &mut all[index].length,
            Part::Missing => &mut all[index].missing,
        };
        if slot.replace(tensor).is_some() {
            return Err(fail("is given twice: keep one of them".into()));
        }
    }
    Ok(all)
}

/// Where in the request an error is.
pub(super) fn place(input: &str) -> String {
    format!("input '{input}'")
}

/// What an input says of its feature.
enum Part {
    Value,
    Length,
    Missing,
}

/// The feature that an input belongs to.
fn resolve(name: &str, encoder: &Encoder) -> Option<(usize, Part)> {
    if let Some(index) = encoder.feature_index(name) {
        return Some((index, Part::Value));
    }
    if let Some(index) = name.strip_suffix(MISSING).and_then(|name| encoder.feature_index(name)) {
        return Some((index, Part::Missing));
    }
    let index = name.strip_suffix(LENGTH).and_then(|name| encoder.feature_index(name))?;
    (encoder.set().features[index].feature.kind == Kind::Sequence).then_some((index, Part::Length))
}

fn unexpected(name: &str, model: &str, encoder: &Encoder) -> String {
    let known = encoder.set().sent().map(|feature| feature.name.as_str());
    let meant = nearest(name, known).map_or_else(String::new, |near| format!(" (did you mean '{near}'?)"));
    format!("model '{model}' expects no such input{meant}; ModelMetadata lists those it expects")
}

/// The raw column of one feature, which is given.
fn column<'a>(
    given: &Given<'a>,
    feature: &Feature,
    model: &str,
    limits: &Limits,
) -> Result<RawColumn<'a>, FieldError> {
    let fail = |problem: Problem| FieldError::new(place(&feature.name), problem);
    let Some(value) = &given.value else { return Err(fail("is missing".into())) };
    let suits = match feature.value_type {
        ValueType::Int => value.datatype.is_integer(),
        ValueType::Float => value.datatype.is_number(),
        ValueType::Text => value.datatype == super::tensor::Datatype::Bytes,
    };
    if !suits {
        let (found, expected) = (value.datatype.name(), describe::datatype(feature).name());
        let problem = format!("data-type is '{found}', but model '{model}' expects '{expected}'");
        return Err(fail(problem.into()));
    }
    let (rows, length) = shape(value, feature, limits).map_err(fail)?;
    // Neither factor is above its limit.
    let count = rows * length;
    let missing = match &given.missing {
        None => None,
        Some(flags) => {
            let fail = |problem| FieldError::new(place(&format!("{}{MISSING}", feature.name)), problem);
            if flags.datatype != super::tensor::Datatype::Bool {
                return Err(fail(format!("data-type is '{}', expected 'BOOL'", flags.datatype.name())));
            }
            check_rows(flags, rows).map_err(fail)?;
            Some(Cow::Owned(flags.flags(rows).map_err(fail)?))
        }
    };
    let text = feature.value_type == ValueType::Text;
    let values = if feature.kind == Kind::Sequence {
        let lengths = match &given.length {
            None => vec![length; rows],
            Some(tensor) => lengths(tensor, rows, length)
                .map_err(|problem| FieldError::new(place(&format!("{}{LENGTH}", feature.name)), problem))?,
        };
        if let Some(row) = lengths.iter().position(|&length| length > feature.width()) {
            let problem = format!(
                "row {row} has {} elements, at most {} are accepted: send the most relevant ones",
                lengths[row],
                feature.width()
            );
            return Err(fail(problem.into()));
        }
        let offsets = Cow::Owned(offsets(&lengths));
        if text {
            let values = value.texts(count, limits).map_err(fail)?;
            RawValues::TextLists { values: unpad(Cow::Owned(values), &lengths, length).into_owned(), offsets }
        } else {
            let values = value.integers(count).map_err(|text| fail(text.into()))?;
            RawValues::IntLists { values: unpad(values, &lengths, length), offsets }
        }
    } else if text {
        RawValues::Texts(value.texts(count, limits).map_err(fail)?)
    } else if value.datatype.is_integer() {
        RawValues::Ints(value.integers(count).map_err(|text| fail(text.into()))?)
    } else {
        RawValues::Floats(value.floats(count).map_err(|text| fail(text.into()))?)
    };
    Ok(RawColumn { values, missing })
}

/// Rows, and elements a row: 1 unless the feature is a sequence.
fn shape(tensor: &Tensor<'_>, feature: &Feature, limits: &Limits) -> Result<(usize, usize), Problem> {
    let request = feature.side.level() == Level::Request;
    let sequence = feature.kind == Kind::Sequence;
    let (rows, length) = match *tensor.shape.as_slice() {
        [rows] | [rows, 1] if !sequence => (rows, 1),
        [rows, length] if sequence => (rows, length),
        [length] if sequence && request => (1, length),
        _ => {
            let expected = match (request, sequence) {
                (true, false) => "[1], or [n] for n candidates",
                (true, true) => "[1, length], or [n, length] for n candidates",
                (false, false) => "[n] for n candidates",
                (false, true) => "[n, length] for n candidates",
            };
            return Err(format!("unexpected shape {:?}, expected {expected}", tensor.shape).into());
        }
    };
    if rows > limits.candidates {
        return Err(Problem::OverLimit(format!(
            "{rows} rows, at most {} are accepted (limits.candidates): split the request",
            limits.candidates
        )));
    }
    if length > limits.sequence_length {
        return Err(Problem::OverLimit(format!(
            "rows of {length} elements, at most {} are accepted (limits.sequence_length)",
            limits.sequence_length
        )));
    }
    Ok((rows, length))
}

fn check_rows(tensor: &Tensor<'_>, rows: usize) -> Result<(), String> {
    match *tensor.shape.as_slice() {
        [found] | [found, 1] if found == rows => Ok(()),
        _ => Err(format!("unexpected shape {:?}, expected [{rows}], as its feature has rows", tensor.shape)),
    }
}

/// Elements that count in each row.
fn lengths(tensor: &Tensor<'_>, rows: usize, most: usize) -> Result<Vec<usize>, String> {
    if !tensor.datatype.is_integer() {
        return Err(format!("data-type is '{}', expected 'INT64'", tensor.datatype.name()));
    }
    check_rows(tensor, rows)?;
    let length = |(row, &length): (usize, &i64)| {
        let fits = usize::try_from(length).ok().filter(|length| *length <= most);
        fits.ok_or_else(|| format!("row {row} is {length}: it must be between 0 and {most}"))
    };
    tensor.integers(rows)?.iter().enumerate().map(length).collect()
}

/// Where each row begins, and where the last one ends. A message holds fewer elements than `u32`
/// counts.
fn offsets(lengths: &[usize]) -> Vec<u32> {
    let mut end = 0;
    let ends = lengths.iter().map(|&length| {
        end += length as u32;
        end
    });
    std::iter::once(0).chain(ends).collect()
}

/// The elements that count, of rows of `width`.
fn unpad<'a, V: Copy>(values: Cow<'a, [V]>, lengths: &[usize], width: usize) -> Cow<'a, [V]> {
    if lengths.iter().all(|&length| length == width) {
        return values;
    }
    let rows = values.chunks_exact(width.max(1)).zip(lengths);
    Cow::Owned(rows.flat_map(|(row, &length)| &row[..length]).copied().collect())
}
