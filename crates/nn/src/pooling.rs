//! Sequences that become one row, and the units that weigh or read them. (The mean, which needs no
//! row a position, is a lookup of its own in `inputs`.)
//!
//! - *Target attention.* Guorui Zhou et al., "Deep Interest Network for Click-Through Rate
//!   Prediction", KDD 2018, section 4.3, equation 3: the sum of the embeddings by the weights of an
//!   activation unit that compares each with the candidate's, without softmax. The unit reads
//!   `[q, k, q − k, q ∘ k]`, as in the authors' code, through hidden layers with the model's
//!   activation (theirs: sigmoid in the code, PReLU or Dice in the paper).
//! - *GRU.* Kyunghyun Cho et al., "Learning Phrase Representations using RNN Encoder–Decoder for
//!   Statistical Machine Translation", EMNLP 2014, by PyTorch's formulas; the state is as wide as
//!   the embedding, and the last one stands for the sequence.

use gatefold_graph::{Init, NodeId, Op, Pool};
use gatefold_schema::{FittedFeature, Kind};

use crate::{NnError, net::Net};

impl Net<'_> {
    /// The sum, mean or maximum of a sequence's embeddings.
    pub(crate) fn pool(&mut self, prefix: &str, index: usize, pool: Pool) -> Result<NodeId, NnError> {
        let rows = self.row_of_each(prefix, index)?;
        self.apply(Op::PoolSequence(pool), &[rows, self.inputs[index]])
    }

    /// The feature that attention compares a sequence with.
    pub(crate) fn query_of(&self, index: usize) -> Result<usize, NnError> {
        let feature = &self.features[index].feature;
        let query = feature.query.as_deref().unwrap_or_default();
        let is_query =
            |other: &FittedFeature| other.feature.name == query && other.feature.kind == Kind::Categorical;
        self.features.iter().position(is_query).ok_or_else(|| NnError::Feature {
            feature: feature.name.clone(),
            message: format!("its query '{query}' is no categorical feature; name one of the candidate"),
        })
    }

    /// A sequence as one row, by attention to `query`, the embedding of the candidate.
    pub(crate) fn attend(&mut self, prefix: &str, index: usize, query: NodeId) -> Result<NodeId, NnError> {
        let name = self.unit_name(prefix, index);
        let keys = self.row_of_each(prefix, index)?;
        let length = self.features[index].feature.width();
        let query = self.apply(Op::RepeatRows { length }, &[query])?;
        let minus_keys = self.apply(Op::Scale(-1.0), &[keys])?;
        let difference = self.apply(Op::Add, &[query, minus_keys])?;
        let product = self.apply(Op::Mul, &[query, keys])?;
        let mut unit = self.apply(Op::Concat, &[query, keys, difference, product])?;
        for (layer, width) in self.model.attention.iter().enumerate() {
            let sum = self.linear(&format!("{name}.{layer}"), unit, *width)?;
            unit = self.activate(sum)?;
        }
        let weights = self.linear(&format!("{name}.{}", self.model.attention.len()), unit, 1)?;
        let weights = self.apply(Op::Squeeze, &[weights])?;
        self.apply(Op::WeightedSum, &[weights, keys])
    }

    /// The last state of a gated recurrent unit over a sequence.
    pub(crate) fn last_state(&mut self, prefix: &str, index: usize) -> Result<NodeId, NnError> {
        let name = self.unit_name(prefix, index);
        let rows = self.row_of_each(prefix, index)?;
        let width = self.graph.fact(rows).dims[1];
        let mut operands = vec![rows, self.inputs[index]];
        for part in ["input", "hidden"] {
            let dims = [width, 3 * width];
            operands.push(self.parameter(format!("{name}.weight_{part}"), &dims, Init::GlorotUniform));
        }
        for part in ["input", "hidden"] {
            operands.push(self.parameter(format!("{name}.bias_{part}"), &[3 * width], Init::Zeros));
        }
        self.apply(Op::Gru, &operands)
    }

    /// A row of the table for each position of a sequence.
    fn row_of_each(&mut self, prefix: &str, index: usize) -> Result<NodeId, NnError> {
        let table = self.table(prefix, &self.features[index])?;
        self.apply(Op::LookupEach, &[table, self.inputs[index]])
    }

    /// `pooling.<feature>`, or `pooling.<task>.<feature>` where the tables are a task's own.
    fn unit_name(&self, prefix: &str, index: usize) -> String {
        let owner = prefix.strip_prefix("embedding").unwrap_or_default();
        format!("pooling{owner}.{}", self.features[index].feature.name)
    }
}
