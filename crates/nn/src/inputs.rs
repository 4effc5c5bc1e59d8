//! From features to rows of numbers.

use std::collections::BTreeMap;

use gatefold_graph::{Fact, Graph, Init, Level, NodeId, Op, Parameter, Pool};
use gatefold_schema::{FittedFeature, Kind, Level as FeatureLevel, Pooling};

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
    /// The features as rows of numbers, from the tables `embedding.<table>`: those that depend on
    /// the request alone in schema order, then the others, end to end. A code becomes its row of
    /// the table, a sequence is pooled, a number stays one column.
    pub(crate) fn rows(&mut self) -> Result<NodeId, NnError> {
        self.rows_from("embedding")
    }

    /// [`rows`](Self::rows) from tables that belong to one task, `embedding.<task>.<table>`.
    pub(crate) fn rows_of(&mut self, task: &str) -> Result<NodeId, NnError> {
        self.rows_from(&format!("embedding.{task}"))
    }

    fn rows_from(&mut self, prefix: &str) -> Result<NodeId, NnError> {
        let features = self.features;
        let depends_on_request_alone = |index: &usize| {
            let feature = &features[*index].feature;
            feature.side.level() == FeatureLevel::Request && feature.pooling != Pooling::Attention
        };
        let (request, candidate): (Vec<usize>, Vec<usize>) =
            (0..features.len()).partition(depends_on_request_alone);
        let mut values = BTreeMap::new();
        for index in 0..features.len() {
            self.value(prefix, index, &mut values)?;
        }
        let rows: Vec<NodeId> = [request, candidate].concat().iter().map(|index| values[index]).collect();
        self.apply(Op::Concat, &rows)
    }

    /// A feature as rows of numbers; those that are there already are in `values`.
    fn value(
        &mut self,
        prefix: &str,
        index: usize,
        values: &mut BTreeMap<usize, NodeId>,
    ) -> Result<NodeId, NnError> {
        if let Some(value) = values.get(&index) {
            return Ok(*value);
        }
        let (fitted, input) = (&self.features[index], self.inputs[index]);
        let value = match (fitted.feature.kind, fitted.feature.pooling) {
            (Kind::Numeric, _) => input,
            (Kind::Categorical, _) => {
                let table = self.table(prefix, fitted)?;
                self.apply(Op::Lookup, &[table, input])?
            }
            (Kind::Sequence, Pooling::Mean) => {
                let table = self.table(prefix, fitted)?;
                self.apply(Op::LookupMean, &[table, input])?
            }
            (Kind::Sequence, Pooling::Sum) => self.pool(prefix, index, Pool::Sum)?,
            (Kind::Sequence, Pooling::Max) => self.pool(prefix, index, Pool::Max)?,
            (Kind::Sequence, Pooling::Gru) => self.last_state(prefix, index)?,
            (Kind::Sequence, Pooling::Attention) => {
                let query = self.query_of(index)?;
                let query = self.value(prefix, query, values)?;
                self.attend(prefix, index, query)?
            }
        };
        values.insert(index, value);
        Ok(value)
    }

    /// The table that a feature reads; features that name the same table share it.
    pub(crate) fn table(&mut self, prefix: &str, fitted: &FittedFeature) -> Result<NodeId, NnError> {
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
