//! Ties a graph's inputs and outputs to a manifest, once, when a model is opened.

use std::path::Path;

use gatefold_engine::Bundle;
use gatefold_schema::{GraphFile, Level};
use ort::{
    session::Session,
    value::{TensorElementType, ValueType},
};

use crate::OrtError;

/// Where one input of the graph gets its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A feature's column.
    Feature {
        /// Position of the feature.
        column: usize,
        /// Whether the column has one row a request and the input wants one a candidate.
        expand: bool,
        /// Second dimension of the input, where it has one.
        width: Option<usize>,
    },
    /// Request row of each candidate.
    RequestOf {
        /// Whether one row may stand for all candidates of a single request.
        one_for_all: bool,
    },
}

/// Name that an export gives the row dimension of request rows of which one may stand for all.
const ONE_OR_CANDIDATES: &str = "one_or_candidates";

/// The sources of the session's inputs, in the session's order. The whole graph must have every
/// input of the manifest, one that is cut down to some outputs (`cut`) need not.
pub(crate) fn inputs(
    file: &Path,
    session: &Session,
    bundle: &Bundle,
    graph: &GraphFile,
    cut: bool,
) -> Result<Vec<Source>, OrtError> {
    let fail = |reason: String| OrtError::Graph { file: file.to_path_buf(), reason };
    let expected: Vec<&str> =
        graph.inputs.iter().map(|input| input.name.as_str()).chain(graph.request_of.as_deref()).collect();
    for name in &expected {
        if !cut && !session.inputs().iter().any(|input| input.name() == *name) {
            return Err(fail(format!(
                "the manifest lists the input '{name}' but the graph has only [{}]: publish the model again",
                names(session.inputs().iter().map(|input| input.name()))
            )));
        }
    }
    let mut sources = Vec::new();
    for input in session.inputs() {
        let name = input.name();
        if graph.request_of.as_deref() == Some(name) {
            check_type(input.dtype(), TensorElementType::Int32, None)
                .map_err(|reason| fail(format!("input '{name}': {reason}")))?;
            sources
                .push(Source::RequestOf { one_for_all: rows_are_called(input.dtype(), ONE_OR_CANDIDATES) });
            continue;
        }
        let Some(listed) = graph.inputs.iter().find(|listed| listed.name == name) else {
            return Err(fail(format!(
                "the graph has the input '{name}', which the manifest does not list (it lists [{}]): publish the \
                 model again",
                names(expected.iter().copied())
            )));
        };
        let features = &bundle.manifest().features;
        let Some(column) = features.iter().position(|fitted| fitted.feature.name == listed.feature) else {
            return Err(fail(format!("input '{name}' carries the unknown feature '{}'", listed.feature)));
        };
        let feature = &features[column].feature;
        let (element, width) = match feature.kind {
            gatefold_schema::Kind::Numeric => (TensorElementType::Float32, None),
            gatefold_schema::Kind::Categorical => (TensorElementType::Int32, None),
            gatefold_schema::Kind::Sequence => (TensorElementType::Int32, Some(feature.width())),
        };
        check_type(input.dtype(), element, width)
            .map_err(|reason| fail(format!("input '{name}': {reason}")))?;
        let expand = feature.side.level() == Level::Request && listed.level == Level::Candidate;
        sources.push(Source::Feature { column, expand, width });
    }
    Ok(sources)
}

/// One output of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outlet {
    pub(crate) name: String,
    /// Second dimension of the output, where it has one.
    pub(crate) columns: Option<usize>,
}

impl Outlet {
    /// Values a candidate.
    pub(crate) fn width(&self) -> usize {
        self.columns.unwrap_or(1)
    }

    /// Its shape for so many rows.
    pub(crate) fn dims(&self, rows: usize) -> Vec<usize> {
        std::iter::once(rows).chain(self.columns).collect()
    }
}

/// Checks that every output and every gate of the manifest is an output of the graph's; in this order.
pub(crate) fn outputs(file: &Path, session: &Session, bundle: &Bundle) -> Result<Vec<Outlet>, OrtError> {
    let fail = |reason: String| OrtError::Graph { file: file.to_path_buf(), reason };
    let mut found = Vec::new();
    let manifest = bundle.manifest();
    let scores = manifest.outputs.iter().map(|output| (&output.name, None));
    let gates = manifest.gate_outputs.iter().map(|gate| (&gate.name, Some(gate.experts.len())));
    for (name, columns) in scores.chain(gates) {
        let Some(outlet) = session.outputs().iter().find(|outlet| outlet.name() == name) else {
            return Err(fail(format!(
                "the manifest lists the output '{name}' but the graph has only [{}]: publish the model again",
                names(session.outputs().iter().map(|outlet| outlet.name()))
            )));
        };
        check_type(outlet.dtype(), TensorElementType::Float32, columns)
            .map_err(|reason| fail(format!("output '{name}': {reason}")))?;
        found.push(Outlet { name: name.clone(), columns });
    }
    Ok(found)
}

/// Checks an element type and shape: rows, and a second dimension where `width` is given. A
/// dimension that the graph leaves open fits.
fn check_type(found: &ValueType, element: TensorElementType, width: Option<usize>) -> Result<(), String> {
    let expected = match width {
        Some(width) => format!("a tensor of {element} with shape [rows, {width}]"),
        None => format!("a tensor of {element} with shape [rows]"),
    };
    let ValueType::Tensor { ty, shape, .. } = found else {
        return Err(format!("found {found:?}, expected {expected}: publish the model again"));
    };
    let open_or = |dimension: i64, expected: usize| dimension < 0 || dimension == expected as i64;
    let fits = match (width, &shape[..]) {
        // An output may leave its rank open; its length is checked at every run.
        (None, []) | (None, [_]) => true,
        (Some(width), [_, second]) => open_or(*second, width),
        _ => false,
    };
    if *ty != element || !fits {
        return Err(format!(
            "found a tensor of {ty} with shape {shape}, expected {expected}: publish the model again"
        ));
    }
    Ok(())
}

fn rows_are_called(found: &ValueType, name: &str) -> bool {
    let ValueType::Tensor { dimension_symbols, .. } = found else { return false };
    dimension_symbols.first().is_some_and(|symbol| symbol == name)
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
