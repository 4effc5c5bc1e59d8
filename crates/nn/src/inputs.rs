//! From features to rows of numbers.

use std::collections::BTreeMap;

use gatefold_graph::{Fact, Graph, Init, Level, NodeId, Op, Parameter};
use gatefold_schema::{FittedFeature, Kind, Level as FeatureLevel};

use crate::NnError;

/// Standard deviation of new embedding rows.
const EMBEDDING_SCALE: f32 = 0.05;

/// Declares an input for every feature and joins what they become: the request-level features in
/// schema order, then the candidate-level ones. A code becomes its row of the table, a sequence
/// the mean of its codes' rows, a number stays one column.
pub(crate) fn rows(graph: &mut Graph, features: &[FittedFeature]) -> Result<NodeId, NnError> {
    if features.is_empty() {
        return Err(NnError::NoFeature);
    }
    let inputs: Vec<NodeId> = features.iter().map(|fitted| declare(graph, fitted)).collect();
    let mut tables = BTreeMap::new();
    let mut request = Vec::new();
    let mut candidate = Vec::new();
    for (fitted, input) in features.iter().zip(inputs) {
        let op = match fitted.feature.kind {
            Kind::Categorical => Some(Op::Lookup),
            Kind::Sequence => Some(Op::LookupMean),
            Kind::Numeric => None,
        };
        let value = match op {
            Some(op) => {
                let table = table(graph, &mut tables, fitted)?;
                graph.apply(op, &[table, input])?
            }
            None => input,
        };
        match fitted.feature.side.level() {
            FeatureLevel::Request => request.push(value),
            FeatureLevel::Candidate => candidate.push(value),
        }
    }
    request.append(&mut candidate);
    Ok(graph.apply(Op::Concat, &request)?)
}

fn declare(graph: &mut Graph, fitted: &FittedFeature) -> NodeId {
    let feature = &fitted.feature;
    let fact = match feature.kind {
        Kind::Categorical => Fact::i32(Level::Candidate, &[]),
        Kind::Numeric => Fact::f32(Level::Candidate, &[]),
        Kind::Sequence => Fact::i32(Level::Candidate, &[feature.width()]),
    };
    graph.input(&feature.name, fact)
}

/// The table that a feature reads; features that name the same table share it.
fn table(
    graph: &mut Graph,
    tables: &mut BTreeMap<String, NodeId>,
    fitted: &FittedFeature,
) -> Result<NodeId, NnError> {
    let feature = &fitted.feature;
    let fail = |message: String| NnError::Feature { feature: feature.name.clone(), message };
    let rows = fitted.code_count().ok_or_else(|| {
        fail("has no codes to look up; fit its encoder, or give it vocab, hash or bucketize".into())
    })?;
    let width = feature.embedding.ok_or_else(|| fail("add embedding = <width>, such as 16".into()))?;
    let dims = vec![rows, width];
    let name = feature.table_name();
    if let Some(table) = tables.get(name) {
        let shared = &graph.fact(*table).dims;
        if *shared != dims {
            return Err(fail(format!(
                "shares table '{name}' of {shared:?} but needs {dims:?}; give both features the same encoder \
                 and width, or separate tables"
            )));
        }
        return Ok(*table);
    }
    let init = Init::Normal(EMBEDDING_SCALE);
    let table = graph.parameter(Parameter { name: format!("embedding.{name}"), dims, init, table: true });
    tables.insert(name.to_owned(), table);
    Ok(table)
}
