//! The columns of a model version's files.

use std::collections::BTreeSet;
use std::sync::Arc;

use gatefold_schema::{BundleManifest, Kind, Side, ValueType};
use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::errors::Result;
use parquet::schema::types::{Type, TypePtr};

/// A column: its name, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) source: Source,
    pub(super) element: Element,
    pub(super) shape: Shape,
}

/// Where a column's values come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    RequestId,
    Time,
    Model,
    Version,
    Labels,
    Experiment,
    Arm,
    Candidate,
    /// A feature, which has a value for each candidate or for each request.
    Feature {
        name: String,
        item: bool,
    },
    /// The output of that name.
    Output(String),
    Fused,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Int,
    Float,
    Double,
    Text,
    Time,
}

/// How many values a row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    OneOrNull,
    ListOrNull,
}

/// The columns for a model of this manifest.
pub(super) fn columns(manifest: &BundleManifest) -> Vec<Spec> {
    let spec = |name: &str, source, element, shape| Spec { name: name.to_owned(), source, element, shape };
    let mut specs = vec![
        spec("request_id", Source::RequestId, Element::Text, Shape::One),
        spec("time", Source::Time, Element::Time, Shape::One),
        spec("model", Source::Model, Element::Text, Shape::One),
        spec("version", Source::Version, Element::Int, Shape::One),
        spec("labels", Source::Labels, Element::Text, Shape::ListOrNull),
        spec("experiment", Source::Experiment, Element::Text, Shape::OneOrNull),
        spec("arm", Source::Arm, Element::Text, Shape::OneOrNull),
        spec("candidate", Source::Candidate, Element::Int, Shape::One),
    ];
    let scores: Vec<Spec> = manifest
        .outputs
        .iter()
        .map(|output| {
            let source = Source::Output(output.name.clone());
            spec(&format!("score_{}", output.name), source, Element::Float, Shape::OneOrNull)
        })
        .chain([spec("fused", Source::Fused, Element::Double, Shape::OneOrNull)])
        .collect();
    let mut taken: BTreeSet<String> = specs.iter().chain(&scores).map(|spec| spec.name.clone()).collect();
    // A crossed feature has no values of its own.
    for feature in manifest.features.iter().map(|fitted| &fitted.feature).filter(|own| !own.is_crossed()) {
        let element = match feature.value_type {
            ValueType::Int => Element::Int,
            ValueType::Float => Element::Double,
            ValueType::Text => Element::Text,
        };
        let shape = if feature.kind == Kind::Sequence { Shape::ListOrNull } else { Shape::OneOrNull };
        let mut name = feature.name.clone();
        while !taken.insert(name.clone()) {
            name = format!("feature_{name}");
        }
        let item = feature.side == Side::Item;
        specs.push(spec(&name, Source::Feature { name: feature.name.clone(), item }, element, shape));
    }
    specs.extend(scores);
    specs
}

/// The Parquet schema of these columns.
///
/// # Errors
/// None for the columns of a manifest.
pub(super) fn schema(specs: &[Spec]) -> Result<TypePtr> {
    let fields = specs.iter().map(field).collect::<Result<_>>()?;
    Ok(Arc::new(Type::group_type_builder("request_log").with_fields(fields).build()?))
}

fn field(spec: &Spec) -> Result<TypePtr> {
    let physical = match spec.element {
        Element::Int | Element::Time => Physical::INT64,
        Element::Float => Physical::FLOAT,
        Element::Double => Physical::DOUBLE,
        Element::Text => Physical::BYTE_ARRAY,
    };
    let logical = match spec.element {
        Element::Text => Some(LogicalType::String),
        Element::Time => Some(LogicalType::timestamp(true, TimeUnit::MILLIS)),
        _ => None,
    };
    let leaf = |name: &str, repetition| {
        let builder = Type::primitive_type_builder(name, physical);
        builder.with_repetition(repetition).with_logical_type(logical.clone()).build().map(Arc::new)
    };
    match spec.shape {
        Shape::One => leaf(&spec.name, Repetition::REQUIRED),
        Shape::OneOrNull => leaf(&spec.name, Repetition::OPTIONAL),
        // The three levels of the format's specification; no element is null.
        Shape::ListOrNull => {
            let list = Type::group_type_builder("list")
                .with_repetition(Repetition::REPEATED)
                .with_fields(vec![leaf("element", Repetition::REQUIRED)?])
                .build()?;
            let outer = Type::group_type_builder(&spec.name)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(Some(LogicalType::List))
                .with_fields(vec![Arc::new(list)])
                .build()?;
            Ok(Arc::new(outer))
        }
    }
}
