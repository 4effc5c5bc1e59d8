//! Raw values from and to JSON requests.

use std::borrow::Cow;
use std::collections::BTreeMap;

use gatefold_schema::{EncoderSet, Feature, JsonRequest, Kind, Level, Side, ValueType};
use serde_json::Value;

use crate::{
    EncodeError, RawBatch, RawColumn, RawValues,
    encoder::{type_name, unknown_feature},
};

impl<'a> RawBatch<'a> {
    /// The values of `requests` as one batch, one column a feature of `set` that is not crossed; text
    /// is borrowed from the requests.
    ///
    /// # Errors
    /// Names that are no feature or stand on another side, features without a value (`null` is the
    /// way to say missing), item lists of different lengths, and values of another type.
    pub fn from_json(requests: &'a [JsonRequest], set: &'a EncoderSet) -> Result<Self, EncodeError> {
        let mut batch = RawBatch { requests: requests.len(), ..RawBatch::default() };
        for (row, request) in requests.iter().enumerate() {
            check_names(request, set)?;
            let candidates = request.candidates();
            batch.candidates += candidates;
            batch.request_of.extend(std::iter::repeat_n(row as u32, candidates));
        }
        for feature in set.sent() {
            let column = JsonColumn::gather(feature, requests)?.into_raw(feature)?;
            batch.columns.push((Cow::Borrowed(feature.name.as_str()), column));
        }
        Ok(batch)
    }

    /// The batch as JSON requests with these identifiers, one a request, in a form that is accepted
    /// as a request: values that are missing or not finite become `null`, and of a sequence that is
    /// too long the first `max_len` elements are kept. Columns that are no feature of `set` are
    /// left out.
    pub fn to_json(&self, set: &EncoderSet, request_ids: &[String]) -> Vec<JsonRequest> {
        let mut requests: Vec<JsonRequest> = (0..self.requests)
            .map(|row| JsonRequest {
                request_id: request_ids.get(row).cloned().unwrap_or_default(),
                ..JsonRequest::default()
            })
            .collect();
        for feature in set.sent() {
            let Some((_, column)) = self.columns.iter().find(|(name, _)| *name == feature.name) else {
                continue;
            };
            let name = &feature.name;
            match feature.side {
                Side::User => {
                    for (row, request) in requests.iter_mut().enumerate() {
                        request.user.insert(name.clone(), json_value(feature, column, row));
                    }
                }
                Side::Context => {
                    for (row, request) in requests.iter_mut().enumerate() {
                        request.context.insert(name.clone(), json_value(feature, column, row));
                    }
                }
                Side::Item => {
                    for (row, &request) in self.request_of.iter().enumerate() {
                        let items = &mut requests[request as usize].items;
                        items.entry(name.clone()).or_default().push(json_value(feature, column, row));
                    }
                }
            }
        }
        requests
    }
}

fn json_value(feature: &Feature, column: &RawColumn<'_>, row: usize) -> Value {
    if column.is_missing(row) {
        return Value::Null;
    }
    let bounds = |offsets: &[u32]| {
        let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
        start..end.min(start + feature.width())
    };
    match &column.values {
        RawValues::Ints(values) => Value::from(values[row]),
        // Becomes null where the number is not finite.
        RawValues::Floats(values) => Value::from(values[row]),
        RawValues::Texts(values) => Value::from(values[row]),
        RawValues::IntLists { values, offsets } => Value::from(&values[bounds(offsets)]),
        RawValues::TextLists { values, offsets } => Value::from(&values[bounds(offsets)]),
    }
}

/// Refuses names that the schema does not have on that side.
fn check_names(request: &JsonRequest, set: &EncoderSet) -> Result<(), EncodeError> {
    let sides: [(Side, Vec<&String>); 3] = [
        (Side::User, request.user.keys().collect()),
        (Side::Context, request.context.keys().collect()),
        (Side::Item, request.items.keys().collect()),
    ];
    let expected: BTreeMap<&str, &Feature> =
        set.features.iter().map(|fitted| (fitted.feature.name.as_str(), &fitted.feature)).collect();
    for (side, names) in sides {
        for name in names {
            match expected.get(name.as_str()) {
                None => return Err(unknown_feature(name, set)),
                Some(feature) if feature.is_crossed() => return Err(EncodeError::crossed(feature)),
                Some(feature) if feature.side != side => {
                    let found = if side == Side::Item { "items" } else { side.name() };
                    return Err(EncodeError::WrongSide {
                        feature: name.clone(),
                        expected: feature.side,
                        found,
                    });
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// The JSON values of one feature over all requests.
struct JsonColumn<'a> {
    values: Vec<&'a Value>,
}

impl<'a> JsonColumn<'a> {
    fn gather(feature: &Feature, requests: &'a [JsonRequest]) -> Result<Self, EncodeError> {
        let name = &feature.name;
        let absent = || EncodeError::MissingFeature { feature: name.clone(), side: feature.side };
        let mut values = Vec::new();
        for request in requests {
            match feature.side.level() {
                Level::Request => {
                    let side = if feature.side == Side::User { &request.user } else { &request.context };
                    values.push(side.get(name).ok_or_else(absent)?);
                }
                Level::Candidate => {
                    let list = request.items.get(name).ok_or_else(absent)?;
                    let expected = request.candidates();
                    if list.len() != expected {
                        let (feature, side, found) = (name.clone(), feature.side, list.len());
                        return Err(EncodeError::WrongRows { feature, side, expected, found });
                    }
                    values.extend(list);
                }
            }
        }
        Ok(Self { values })
    }

    fn into_raw(self, feature: &Feature) -> Result<RawColumn<'a>, EncodeError> {
        let values = match (feature.kind, feature.value_type) {
            (Kind::Sequence, ValueType::Int) => {
                let (values, offsets) = self.lists(feature, Value::as_i64)?;
                RawValues::IntLists { values: Cow::Owned(values), offsets: Cow::Owned(offsets) }
            }
            (Kind::Sequence, _) => {
                let (values, offsets) = self.lists(feature, Value::as_str)?;
                RawValues::TextLists { values, offsets: Cow::Owned(offsets) }
            }
            (_, ValueType::Int) => RawValues::Ints(Cow::Owned(self.scalars(feature, Value::as_i64)?)),
            (_, ValueType::Float) => RawValues::Floats(Cow::Owned(self.scalars(feature, Value::as_f64)?)),
            (_, ValueType::Text) => RawValues::Texts(self.scalars(feature, Value::as_str)?),
        };
        let missing: Vec<bool> = self.values.iter().map(|value| value.is_null()).collect();
        let missing = missing.contains(&true).then_some(Cow::Owned(missing));
        Ok(RawColumn { values, missing })
    }

    fn scalars<V: Default>(
        &self,
        feature: &Feature,
        read: fn(&'a Value) -> Option<V>,
    ) -> Result<Vec<V>, EncodeError> {
        let one = |value: &&'a Value| match value {
            Value::Null => Ok(V::default()),
            value => read(value).ok_or_else(|| wrong_type(feature, value)),
        };
        self.values.iter().map(one).collect()
    }

    fn lists<V>(
        &self,
        feature: &Feature,
        read: fn(&'a Value) -> Option<V>,
    ) -> Result<(Vec<V>, Vec<u32>), EncodeError> {
        let (mut values, mut offsets) = (Vec::new(), vec![0]);
        for (row, value) in self.values.iter().enumerate() {
            match value {
                Value::Null => {}
                Value::Array(list) => {
                    for (element, value) in list.iter().enumerate() {
                        if value.is_null() {
                            let feature = feature.name.clone();
                            return Err(EncodeError::NullElement { feature, row, element });
                        }
                        values.push(read(value).ok_or_else(|| wrong_type(feature, value))?);
                    }
                }
                other => return Err(wrong_type(feature, other)),
            }
            offsets.push(values.len() as u32);
        }
        Ok((values, offsets))
    }
}

fn wrong_type(feature: &Feature, value: &Value) -> EncodeError {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    let mut text = value.to_string();
    if text.chars().count() > 40 {
        text = text.chars().take(40).collect::<String>() + "…";
    }
    EncodeError::WrongType {
        feature: feature.name.clone(),
        side: feature.side,
        expected: type_name(feature),
        found: format!("{kind} ({text})"),
    }
}
