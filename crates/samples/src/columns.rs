//! Between data frame columns and feature columns.

use std::borrow::Cow;
use std::path::Path;

use gatefold_features::{FeatureColumn, RawColumn, RawValues};
use gatefold_schema::{Feature, Kind, ValueType};
use polars::prelude::*;

use crate::SamplesError;

/// Name of the type that a feature's column must have.
pub(crate) fn wanted_type(feature: &Feature) -> &'static str {
    match (feature.kind, feature.value_type) {
        (Kind::Sequence, ValueType::Int) => "a list of integers",
        (Kind::Sequence, _) => "a list of strings",
        (_, ValueType::Int) => "integers",
        (_, ValueType::Float) => "numbers",
        (_, ValueType::Text) => "strings",
    }
}

/// The frame type that holds a feature's raw values.
pub(crate) fn raw_type(feature: &Feature) -> DataType {
    let inner = match feature.value_type {
        ValueType::Int => DataType::Int64,
        ValueType::Float => DataType::Float64,
        ValueType::Text => DataType::String,
    };
    if feature.kind == Kind::Sequence { DataType::List(Box::new(inner)) } else { inner }
}

/// Whether a column of type `found` can hold the feature's values without loss.
pub(crate) fn fits(feature: &Feature, found: &DataType) -> bool {
    let scalar_fits = |found: &DataType| match feature.value_type {
        ValueType::Int => found.is_integer() || *found == DataType::Null,
        ValueType::Float => found.is_integer() || found.is_float() || *found == DataType::Null,
        ValueType::Text => *found == DataType::String || *found == DataType::Null,
    };
    match (feature.kind, found) {
        (Kind::Sequence, DataType::List(inner)) => scalar_fits(inner),
        (Kind::Sequence, found) => *found == DataType::Null,
        (_, found) => scalar_fits(found),
    }
}

/// The feature whose values are the elements of a sequence.
pub(crate) fn element(feature: &Feature) -> Feature {
    Feature { kind: Kind::Categorical, max_len: None, ..feature.clone() }
}

/// The error for a column that a log does not have, which `what` needs.
pub(crate) fn missing_column(log: &Path, schema: &Schema, column: &str, what: &str) -> SamplesError {
    let known: Vec<&str> = schema.iter_names().map(PlSmallStr::as_str).collect();
    let near = gatefold_schema::strict::nearest(column, known.iter().copied())
        .map_or_else(String::new, |near| format!(" (did you mean '{near}'?)"));
    SamplesError::source(
        log,
        format!(
            "there is no column '{column}'{near}, needed for {what}; its columns are: {}",
            known.join(", ")
        ),
    )
}

/// Checks that the file has the feature's column, and of a type that fits.
pub(crate) fn check_column(
    path: &Path,
    schema: &Schema,
    column: &str,
    feature: &Feature,
) -> Result<(), SamplesError> {
    let Some(found) = schema.get(column) else {
        return Err(missing_column(path, schema, column, &format!("feature '{}'", feature.name)));
    };
    if fits(feature, found) {
        return Ok(());
    }
    Err(SamplesError::source(
        path,
        format!(
            "column '{column}' has type {found}, but feature '{}' needs {}; convert the column or change the \
             feature's type",
            feature.name,
            wanted_type(feature)
        ),
    ))
}

/// One chunk of the column in the type of [`raw_type`].
pub(crate) fn normalise(column: &Column, feature: &Feature) -> PolarsResult<Series> {
    let wanted = raw_type(feature);
    let series = column.as_materialized_series();
    let series = if *series.dtype() == wanted { series.clone() } else { series.strict_cast(&wanted)? };
    Ok(series.rechunk())
}

/// The values of a series made by [`normalise`], borrowed where possible.
pub(crate) fn raw_column(series: &Series) -> PolarsResult<RawColumn<'_>> {
    let mask = series
        .has_nulls()
        .then(|| Cow::Owned(series.is_null().iter().map(|null| null == Some(true)).collect()));
    let values = match series.dtype() {
        DataType::Int64 => {
            RawValues::Ints(Cow::Borrowed(series.i64()?.downcast_as_array().values().as_slice()))
        }
        DataType::Float64 => {
            RawValues::Floats(Cow::Borrowed(series.f64()?.downcast_as_array().values().as_slice()))
        }
        DataType::String => RawValues::Texts(series.str()?.iter().map(Option::unwrap_or_default).collect()),
        DataType::List(_) => list_values(series.list()?)?,
        other => polars_bail!(ComputeError: "no feature has values of type {other}"),
    };
    Ok(RawColumn { values, missing: mask })
}

/// The arrays that hold integers and strings.
type IntArray = <Int64Type as PolarsDataType>::Array;
type TextArray = <StringType as PolarsDataType>::Array;

/// The values of a list column of one chunk.
fn list_values(lists: &ListChunked) -> PolarsResult<RawValues<'_>> {
    let array = lists.downcast_as_array();
    let bounds = array.offsets().as_slice();
    let elements = array.values().as_any();
    if let Some(ints) = elements.downcast_ref::<IntArray>() {
        let (values, offsets) = flatten(bounds, |element| ints.get(element));
        return Ok(RawValues::IntLists { values: Cow::Owned(values), offsets: Cow::Owned(offsets) });
    }
    if let Some(texts) = elements.downcast_ref::<TextArray>() {
        let (values, offsets) = flatten(bounds, |element| texts.get(element));
        return Ok(RawValues::TextLists { values, offsets: Cow::Owned(offsets) });
    }
    polars_bail!(ComputeError: "no feature has lists of type {}", lists.inner_dtype())
}

/// The elements of the lists one after another; nulls inside a list are left out.
fn flatten<V>(bounds: &[i64], get: impl Fn(usize) -> Option<V>) -> (Vec<V>, Vec<u32>) {
    let (mut values, mut offsets) = (Vec::new(), Vec::with_capacity(bounds.len()));
    offsets.push(0);
    for pair in bounds.windows(2) {
        values.extend((pair[0] as usize..pair[1] as usize).filter_map(&get));
        offsets.push(values.len() as u32);
    }
    (values, offsets)
}

/// An encoded column as a frame column; sequences lose their padding.
pub(crate) fn encoded_column(name: &str, column: FeatureColumn) -> Column {
    let name = PlSmallStr::from_str(name);
    match column {
        FeatureColumn::Numbers(data) => Float32Chunked::from_vec(name, data).into_column(),
        FeatureColumn::Codes { width: 1, data } => Int32Chunked::from_vec(name, data).into_column(),
        FeatureColumn::Codes { width, data } => {
            let mut lists = ListPrimitiveChunkedBuilder::<Int32Type>::new(
                name,
                data.len() / width,
                data.len() / 2,
                DataType::Int32,
            );
            for row in data.chunks_exact(width) {
                let valid =
                    row.iter().position(|code| *code == gatefold_schema::PADDING_CODE).unwrap_or(width);
                lists.append_slice(&row[..valid]);
            }
            lists.finish().into_series().into_column()
        }
    }
}
