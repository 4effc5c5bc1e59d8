//! From features to rows of numbers.

use gatefold_graph::{Fact, Graph, Init, Level, NodeId, Op, Parameter};
use gatefold_schema::{FittedFeature, Kind, Level as FeatureLevel};

use crate::{NnError, net::Net};

/// Standard deviation of new embedding rows.
const EMBEDDING_SCALE: f32 = 0.05;

/// The input of a feature, at candidate level.
pub(crate) fn declare(graph: &mut Graph, fitted: &FittedFeature) -> NodeId {
    let feature = &fitted.feature;
    let fact = match feature.kind {
        Kind::Categorical => Fact::i32(Level::Candidate, &[]),
        Kind::Numeric => Fact::f32(Level::Candidate, &[]),
        Kind::Sequence => Fact::i32(Level::Candidate, &[feature.width()]),
    };
    graph.input(&feature.name, fact)
}

impl Net<'_> {
    /// The features as rows of numbers, from the tables `embedding.<table>`: the request-level
    /// features in schema order, then the candidate-level ones, end to end. A code becomes its row
    /// of the table, a sequence the mean of its codes' rows, a number stays one column.
    pub(crate) fn rows(&mut self) -> Result<NodeId, NnError> {
        self.rows_from("embedding")
    }

    /// [`rows`](Self::rows) from tables that belong to one task, `embedding.<task>.<table>`.
    pub(crate) fn rows_of(&mut self, task: &str) -> Result<NodeId, NnError> {
        self.rows_from(&format!("embedding.{task}"))
    }

    fn rows_from(&mut self, prefix: &str) -> Result<NodeId, NnError> {
        let mut request = Vec::new();
        let mut candidate = Vec::new();
        for (index, fitted) in self.features.iter().enumerate() {
            let input = self.inputs[index];
            let op = match fitted.feature.kind {
                Kind::Categorical => Some(Op::Lookup),
                Kind::Sequence => Some(Op::LookupMean),
                Kind::Numeric => None,
            };
            let value = match op {
                Some(op) => {
                    let table = self.table(prefix, fitted)?;
                    self.apply(op, &[table, input])?
                }
                None => input,
            };
            match fitted.feature.side.level() {
                FeatureLevel::Request => request.push(value),
                FeatureLevel::Candidate => candidate.push(value),
            }
        }
        request.append(&mut candidate);
        self.apply(Op::Concat, &request)
    }

    /// The table that a feature reads; features that name the same table share it.
    fn table(&mut self, prefix: &str, fitted: &FittedFeature) -> Result<NodeId, NnError> {
        let feature = &fitted.feature;
        let fail = |message: String| NnError::Feature { feature: feature.name.clone(), message };
        let rows = fitted.code_count().ok_or_else(|| {
            fail("has no codes to look up; fit its encoder, or give it vocab, hash or bucketize".into())
        })?;
        let width = feature.embedding.ok_or_else(|| fail("add embedding = <width>, such as 16".into()))?;
        let dims = vec![rows, width];
        let name = format!("{prefix}.{}", feature.table_name());
        if let Some(table) = self.parameters.get(&name) {
            let shared = &self.graph.fact(*table).dims;
            if *shared != dims {
                return Err(fail(format!(
                    "shares table '{}' of {shared:?} but needs {dims:?}; give both features the same encoder \
                     and width, or separate tables",
                    feature.table_name()
                )));
            }
            return Ok(*table);
        }
        let init = Init::Normal(EMBEDDING_SCALE);
        Ok(self.declare(Parameter { name, dims, init, table: true }))
    }
}
