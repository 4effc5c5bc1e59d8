//! The range of the values that products read, as seen on rows of real data.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use gatefold_proto::onnx::{GraphProto, NodeProto, tensor_proto::DataType};
use prost::Message as _;

use super::{Rewriter, node};
use crate::{
    CANDIDATES, ExternalWeights, OnnxError,
    builder::{int, value_info},
};

/// Name of the output that a graph made by [`observe_ranges`] has beside its own.
pub const OBSERVED: &str = "observed ranges";

/// The range of each value, by its name in a graph.
pub type Ranges = BTreeMap<String, Range>;

/// The least and the largest of some values, and zero between them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    least: f32,
    largest: f32,
}

impl Range {
    /// Widens the range to a value. A NaN is passed over; infinity makes the range one that is not used.
    pub fn include(&mut self, value: f32) {
        self.least = self.least.min(value);
        self.largest = self.largest.max(value);
    }

    /// Whether codes of the range differ: it is neither empty nor endless.
    pub fn is_usable(&self) -> bool {
        (self.largest - self.least).is_finite() && self.largest > self.least
    }

    /// The step between two of the 256 codes.
    pub(super) fn step(&self) -> f32 {
        (self.largest - self.least) / f32::from(u8::MAX)
    }

    /// The code of zero.
    pub(super) fn zero(&self) -> u8 {
        // A float beyond 255 becomes 255.
        (-self.least / self.step()).round_ties_even() as u8
    }
}

/// A graph that says what it computes with.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// The file's bytes.
    pub model: Vec<u8>,
    /// The values whose ranges [`OBSERVED`] gives: for each candidate (all alike) the least of each in
    /// the batch, then the largest of each.
    pub values: Vec<String>,
    /// As of [`super::Quantized`].
    pub read: BTreeSet<String>,
}

/// Adds an output to the ONNX file at `path`: the range in each batch of every value that
/// [`super::quantize`] would quantize. The file's own outputs stay; the first has a row a candidate.
///
/// # Errors
/// As of [`super::quantize`].
pub fn observe_ranges(path: &Path, external: &mut ExternalWeights<'static>) -> Result<Observed, OnnxError> {
    let (mut model, mut rewriter, read) = Rewriter::open(path, external)?;
    let graph = model.graph.get_or_insert_default();
    let values = rewriter.rows_of_products(graph);
    if !values.is_empty() {
        rewriter.observe(graph, &values);
    }
    rewriter.keep_the_others(graph)?;
    graph.initializer = rewriter.written;
    Ok(Observed { model: model.encode_to_vec(), values, read })
}

impl Rewriter<'_> {
    fn observe(&mut self, graph: &mut GraphProto, values: &[String]) {
        let own = |part: &str| format!("{OBSERVED}/{part}");
        let (zero, one, width) = (own("zero"), own("one"), own("width"));
        let count = 2 * values.len();
        for (name, number) in [(&zero, 0), (&one, 1), (&width, count as i64)] {
            self.inside(name, &[1], DataType::Int64, number.to_le_bytes().to_vec());
        }
        let mut parts = Vec::with_capacity(count);
        for (operator, name) in [("ReduceMin", "least"), ("ReduceMax", "largest")] {
            for value in values {
                let (scalar, part) =
                    (own(&format!("{value}/{name}/scalar")), own(&format!("{value}/{name}")));
                let reduce = node(operator, &[value], &scalar);
                graph.node.push(NodeProto { attribute: vec![int("keepdims", 0)], ..reduce });
                graph.node.push(node("Reshape", &[&scalar, &one], &part));
                parts.push(part);
            }
        }
        let along = |inputs: &[&str], output: &str| NodeProto {
            attribute: vec![int("axis", 0)],
            ..node("Concat", inputs, output)
        };
        let rows = graph.output.first().map(|output| output.name.clone()).unwrap_or_default();
        let (all, dims, count_of_rows, shape) = (own("all"), own("dims"), own("rows"), own("shape"));
        graph.node.push(along(&parts.iter().map(String::as_str).collect::<Vec<_>>(), &all));
        graph.node.push(node("Shape", &[&rows], &dims));
        graph.node.push(node("Gather", &[&dims, &zero], &count_of_rows));
        graph.node.push(along(&[&count_of_rows, &width], &shape));
        graph.node.push(node("Expand", &[&all, &shape], OBSERVED));
        graph.output.push(value_info(OBSERVED, DataType::Float, Some(CANDIDATES), &[count]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(values: &[f32]) -> Range {
        let mut range = Range::default();
        values.iter().for_each(|value| range.include(*value));
        range
    }

    #[test]
    fn zero_is_a_code_of_every_range() {
        let found = [&[-1.0, 3.0][..], &[0.5, 2.0], &[-4.0, -1.0]].map(|values| {
            let range = range(values);
            (range.step(), range.zero())
        });
        assert_eq!(found, [(4.0 / 255.0, 64), (2.0 / 255.0, 0), (4.0 / 255.0, 255)]);
    }

    #[test]
    fn a_range_of_nothing_or_without_end_is_not_used() {
        assert!(range(&[1.0]).is_usable());
        assert!(!range(&[]).is_usable());
        assert!(!range(&[0.0, 0.0]).is_usable());
        assert!(!range(&[1.0, f32::INFINITY]).is_usable());
        assert!(!range(&[f32::MIN, f32::MAX]).is_usable());
    }
}
