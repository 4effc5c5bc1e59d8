//! The other side of the wire: connecting to a server, and requests from raw values.
//!
//! `gatefold request`, `gatefold load` and the tests build their requests here, so that JSON becomes
//! a wire message in one place.

mod connection;

pub use connection::{Access, Bearer, ConnectError, Link, connect, connect_with};

use std::time::Duration;

use gatefold_proto::ranking::v1 as wire;
use gatefold_schema::JsonRequest;
use serde_json::Value;
use tonic::{Code, Status};
use wire::column::Values;
use wire::ranking_client::RankingClient;

use crate::convert::{self, FieldError};
use crate::metrics::code_name;
use crate::status::ARM_KEY;

/// A client of the `Ranking` service.
pub type Client = RankingClient<Link>;

/// A call that the server did not answer with a reply.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refused {
    /// Name of the status code.
    pub code: &'static str,
    /// What the server says, or the transport.
    pub message: String,
}

/// Whether the client's own timer says so, which goes off where the server's answer is not here in time.
fn timed_out(status: &Status) -> bool {
    status.code() == Code::Cancelled && status.message() == "Timeout expired"
}

/// The arm that was to answer the request, where the server's error names one.
pub fn arm(status: &Status) -> Option<String> {
    let name = status.metadata().get_bin(ARM_KEY)?.to_bytes().ok()?;
    String::from_utf8(name.to_vec()).ok()
}

impl Refused {
    /// As [`From`], of a call that was waited for `timeout` at most.
    pub fn within(timeout: Duration, status: Status) -> Self {
        if timed_out(&status) {
            let message = format!("no answer came within {timeout:?}");
            return Self { code: code_name(Code::DeadlineExceeded), message };
        }
        status.into()
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        let message = match status.code() {
            // What answers does not know the call, or does not even speak gRPC.
            Code::Unimplemented => {
                format!("{}: is this the gRPC port of a Gatefold server?", status.message())
            }
            _ => status.message().to_owned(),
        };
        Self { code: code_name(status.code()), message }
    }
}

/// The wire form of `request` for a model described by `model`.
///
/// Values take the declared types of the model's features. A column the model does not know is sent
/// in the type its values suggest, so that the server can answer which one was probably meant.
///
/// # Errors
/// A value that is not of the feature's type, with its column and row.
pub fn score_request(request: &JsonRequest, model: &wire::Model) -> Result<wire::ScoreRequest, FieldError> {
    let single = |list: &str, name: &String, value: &Value| {
        column(name, std::slice::from_ref(value), model).map_err(|problem| in_column(list, name, problem))
    };
    let user = request.user.iter().map(|(name, value)| single("user", name, value));
    let context = request.context.iter().map(|(name, value)| single("context", name, value));
    let items = request.items.iter().map(|(name, values)| {
        column(name, values, model).map_err(|problem| in_column("items", name, problem))
    });
    Ok(wire::ScoreRequest {
        model: model.name.clone(),
        request_id: request.request_id.clone(),
        user: user.collect::<Result<_, _>>()?,
        context: context.collect::<Result<_, _>>()?,
        items: items.collect::<Result<_, _>>()?,
        ..wire::ScoreRequest::default()
    })
}

fn in_column(list: &str, name: &str, problem: String) -> FieldError {
    FieldError::new(format!("{list} '{name}'"), problem)
}

fn column(name: &str, rows: &[Value], model: &wire::Model) -> Result<wire::Column, String> {
    let declared = model.features.iter().find(|feature| feature.name == name);
    let (value_type, sequence) = match declared {
        Some(feature) => (feature.r#type(), feature.sequence),
        None => suggested(rows),
    };
    let values = match (value_type, sequence) {
        (wire::ValueType::Float, false) => {
            Values::Floats(wire::Floats { values: scalars(rows, "a number", Value::as_f64)? })
        }
        (wire::ValueType::Text, false) => Values::Texts(wire::Texts { values: scalars(rows, "text", text)? }),
        (_, false) => Values::Ints(wire::Ints { values: scalars(rows, "an integer", Value::as_i64)? }),
        (wire::ValueType::Text, true) => {
            let (values, offsets) = lists(rows, "text", text)?;
            Values::TextLists(wire::TextLists { values, offsets })
        }
        (_, true) => {
            let (values, offsets) = lists(rows, "integers", Value::as_i64)?;
            Values::IntLists(wire::IntLists { values, offsets })
        }
    };
    let missing = rows.iter().enumerate().filter(|(_, value)| value.is_null());
    let missing = missing.map(|(row, _)| row as u32).collect();
    Ok(wire::Column { name: name.to_owned(), values: Some(values), missing })
}

/// The type that values of an unknown column seem to have.
fn suggested(rows: &[Value]) -> (wire::ValueType, bool) {
    let present = rows.iter().find(|value| !value.is_null());
    match present {
        Some(Value::Array(list)) => (suggested(list).0, true),
        Some(Value::String(_)) => (wire::ValueType::Text, false),
        Some(Value::Number(_)) if rows.iter().all(|value| value.is_null() || value.is_i64()) => {
            (wire::ValueType::Int, false)
        }
        Some(Value::Number(_)) => (wire::ValueType::Float, false),
        _ => (wire::ValueType::Int, false),
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn scalars<T: Default>(
    rows: &[Value],
    expected: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<T>, String> {
    let read_row = |(row, value): (usize, &Value)| match value {
        Value::Null => Ok(T::default()),
        value => read(value).ok_or_else(|| format!("row {row}: expected {expected} or null, found {value}")),
    };
    rows.iter().enumerate().map(read_row).collect()
}

fn lists<T>(
    rows: &[Value],
    expected: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<(Vec<T>, Vec<u32>), String> {
    let mut values = Vec::new();
    let mut offsets = vec![0];
    for (row, value) in rows.iter().enumerate() {
        match value {
            Value::Null => {}
            Value::Array(elements) => {
                for element in elements {
                    let wrong = || format!("row {row}: expected a list of {expected}, found {element} in it");
                    values.push(read(element).ok_or_else(wrong)?);
                }
            }
            other => return Err(format!("row {row}: expected a list of {expected} or null, found {other}")),
        }
        let end = u32::try_from(values.len()).map_err(|_| "more than 4294967295 elements".to_owned())?;
        offsets.push(end);
    }
    Ok((values, offsets))
}

/// Makes `request` one of exactly `candidates` candidates: the first ones, or all of them over and
/// over. A request without item columns gets the number alone.
pub fn with_candidates(request: &mut wire::ScoreRequest, candidates: usize) {
    if request.items.is_empty() {
        request.candidates = u32::try_from(candidates).unwrap_or(u32::MAX);
        return;
    }
    request.candidates = 0;
    for column in &mut request.items {
        cycle_rows(column, candidates);
    }
}

fn cycle_rows(column: &mut wire::Column, rows: usize) {
    let have = column.values.as_ref().map_or(0, convert::rows);
    if have == 0 {
        return;
    }
    let source = || (0..rows).map(|row| row % have);
    let missing: std::collections::BTreeSet<u32> = column.missing.iter().copied().collect();
    column.missing =
        (0..rows as u32).filter(|row| missing.contains(&((*row as usize % have) as u32))).collect();
    match &mut column.values {
        None => {}
        Some(Values::Ints(ints)) => ints.values = source().map(|row| ints.values[row]).collect(),
        Some(Values::Floats(floats)) => floats.values = source().map(|row| floats.values[row]).collect(),
        Some(Values::Texts(texts)) => texts.values = source().map(|row| texts.values[row].clone()).collect(),
        Some(Values::IntLists(lists)) => cycle_lists(&mut lists.values, &mut lists.offsets, source()),
        Some(Values::TextLists(lists)) => cycle_lists(&mut lists.values, &mut lists.offsets, source()),
    }
}

fn cycle_lists<T: Clone>(values: &mut Vec<T>, offsets: &mut Vec<u32>, source: impl Iterator<Item = usize>) {
    let mut new_values = Vec::new();
    let mut new_offsets = vec![0];
    for row in source {
        new_values.extend_from_slice(&values[offsets[row] as usize..offsets[row + 1] as usize]);
        new_offsets.push(new_values.len() as u32);
    }
    (*values, *offsets) = (new_values, new_offsets);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> wire::Model {
        let feature = |name: &str, value_type: wire::ValueType, sequence: bool| wire::Feature {
            name: name.to_owned(),
            r#type: value_type.into(),
            sequence,
            ..wire::Feature::default()
        };
        wire::Model {
            name: "demo".into(),
            features: vec![
                feature("age", wire::ValueType::Float, false),
                feature("recent", wire::ValueType::Int, true),
                feature("word", wire::ValueType::Text, false),
            ],
            ..wire::Model::default()
        }
    }

    fn parse(text: &str) -> JsonRequest {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn values_take_the_declared_types_and_null_is_missing() {
        let json = parse(
            r#"{"request_id": "r", "user": {"age": 31, "recent": null},
                "items": {"word": ["a", null, "b"], "new": [1, 2, null]}}"#,
        );
        let request = score_request(&json, &model()).unwrap();
        assert_eq!((request.model.as_str(), request.request_id.as_str()), ("demo", "r"));
        assert_eq!(request.user[0].values, Some(Values::Floats(wire::Floats { values: vec![31.0] })));
        let empty = wire::IntLists { values: vec![], offsets: vec![0, 0] };
        assert_eq!(request.user[1].values, Some(Values::IntLists(empty)));
        assert_eq!(request.user[1].missing, [0]);
        assert_eq!(request.items[0].name, "new");
        assert_eq!(request.items[0].values, Some(Values::Ints(wire::Ints { values: vec![1, 2, 0] })));
        assert_eq!(request.items[0].missing, [2]);
        let words = wire::Texts { values: vec!["a".into(), String::new(), "b".into()] };
        assert_eq!(request.items[1].values, Some(Values::Texts(words)));
    }

    #[test]
    fn the_clients_own_timer_is_a_deadline() {
        let within = |status| Refused::within(Duration::from_millis(100), status).to_string();
        let said = within(Status::cancelled("Timeout expired"));
        assert_eq!(said, "DEADLINE_EXCEEDED: no answer came within 100ms");
        assert_eq!(within(Status::cancelled("by somebody")), "CANCELLED: by somebody");
    }

    #[test]
    fn a_value_of_another_type_is_refused_with_its_place() {
        let json = parse(r#"{"items": {"word": ["a", 7]}}"#);
        let message = score_request(&json, &model()).unwrap_err().to_string();
        assert_eq!(message, "items 'word': row 1: expected text or null, found 7");
        let json = parse(r#"{"user": {"recent": [1, 2.5]}, "items": {}}"#);
        let message = score_request(&json, &model()).unwrap_err().to_string();
        assert_eq!(message, "user 'recent': row 0: expected a list of integers, found 2.5 in it");
    }

    #[test]
    fn candidates_are_cut_or_repeated_in_order() {
        let json = parse(r#"{"items": {"word": ["a", null, "c"], "recent": [[1, 2], [], [3]]}}"#);
        let mut request = score_request(&json, &model()).unwrap();
        with_candidates(&mut request, 5);
        let lists = wire::IntLists { values: vec![1, 2, 3, 1, 2], offsets: vec![0, 2, 2, 3, 5, 5] };
        assert_eq!(request.items[0].values, Some(Values::IntLists(lists)));
        let words = ["a", "", "c", "a", ""].map(str::to_owned).to_vec();
        assert_eq!(request.items[1].values, Some(Values::Texts(wire::Texts { values: words })));
        assert_eq!(request.items[1].missing, [1, 4]);
        with_candidates(&mut request, 1);
        assert_eq!(request.items[1].values, Some(Values::Texts(wire::Texts { values: vec!["a".into()] })));
        assert!(request.items[1].missing.is_empty());
    }
}
