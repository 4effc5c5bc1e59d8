//! Products with a constant matrix in 8-bit integers.

use std::collections::BTreeSet;

use gatefold_proto::onnx::{
    GraphProto, NodeProto, OperatorSetIdProto, ValueInfoProto, tensor_proto::DataType, type_proto,
};

use super::{Ranges, Rewriter, node, scale, scales_of, signed};
use crate::{OnnxError, foreign::graph::is_standard};

/// Products with at least so many inputs are rewritten.
const LEAST_INPUTS: usize = 32;
/// Products with at least so many outputs are rewritten.
const LEAST_OUTPUTS: usize = 8;

/// The operators that ONNX Runtime has beside the standard ones.
const RUNTIME_DOMAIN: &str = "com.microsoft";
const RUNTIME_VERSION: i64 = 1;

impl Rewriter<'_> {
    /// Computes every wide product with a constant matrix in 8-bit integers. Rows whose values are in
    /// `ranges` are quantized by them, others by the range of their batch.
    pub(super) fn products(
        &mut self,
        graph: &mut GraphProto,
        opsets: &mut Vec<OperatorSetIdProto>,
        ranges: &Ranges,
    ) -> Result<usize, OnnxError> {
        let wide = self.wide(graph);
        let mut quantized = BTreeSet::new();
        let mut nodes = Vec::with_capacity(graph.node.len());
        for (mut product, transposed) in std::mem::take(&mut graph.node).into_iter().zip(&wide) {
            let Some(transposed) = *transposed else {
                nodes.push(product);
                continue;
            };
            let (rows, output) = (product.input[0].clone(), product.output[0].clone());
            let part = |part: &str| format!("{rows}/int8/{part}");
            let (codes, step, zero) = (part("codes"), part("scale"), part("zero"));
            if quantized.insert(rows.clone()) {
                nodes.push(match ranges.get(&rows) {
                    Some(range) => {
                        self.inside(&step, &[], DataType::Float, range.step().to_le_bytes().to_vec());
                        self.inside(&zero, &[], DataType::Uint8, vec![range.zero()]);
                        node("QuantizeLinear", &[&rows, &step, &zero], &codes)
                    }
                    None => {
                        let mut node = node("DynamicQuantizeLinear", &[&rows], &codes);
                        node.output.extend([step.clone(), zero.clone()]);
                        node
                    }
                });
            }
            let columns = self.shape(&product.input[1], transposed)[1] as i64;
            let (matrix, scales) = self.weight(&product.input[1], transposed)?;
            let term = product.input.get_mut(2).map(std::mem::take).filter(|term| !term.is_empty());
            // What is the same for every row is added as the sums are scaled.
            let one_a_column =
                |term: &&String| self.known.get(*term).is_some_and(|term| term.dims == [columns]);
            let bias = term.as_ref().filter(one_a_column);
            let sum =
                if term.is_some() && bias.is_none() { format!("{output}/int8/sum") } else { output.clone() };
            let mut inputs = vec![codes.as_str(), &matrix, &step, &scales, &zero];
            inputs.extend(bias.into_iter().flat_map(|bias| ["", bias]));
            nodes.push(NodeProto {
                domain: RUNTIME_DOMAIN.to_owned(),
                ..node("MatMulIntegerToFloat", &inputs, &sum)
            });
            if let Some(term) = term.filter(|_| sum != output) {
                nodes.push(node("Add", &[&sum, &term], &output));
            }
        }
        graph.node = nodes;
        let count = wide.iter().flatten().count();
        if count > 0 && !opsets.iter().any(|set| set.domain == RUNTIME_DOMAIN) {
            opsets.push(OperatorSetIdProto { domain: RUNTIME_DOMAIN.to_owned(), version: RUNTIME_VERSION });
        }
        Ok(count)
    }

    /// The values that [`products`](Self::products) would quantize, in the order of the graph.
    pub(super) fn rows_of_products(&self, graph: &GraphProto) -> Vec<String> {
        let wide = self.wide(graph);
        let products = graph.node.iter().zip(&wide).filter(|(_, wide)| wide.is_some());
        let mut known = BTreeSet::new();
        products
            .filter_map(|(product, _)| product.input.first())
            .filter(|rows| known.insert(rows.as_str()))
            .cloned()
            .collect()
    }

    /// For each node whether its second operand is transposed, where it is a wide product with a constant
    /// matrix.
    fn wide(&self, graph: &GraphProto) -> Vec<Option<bool>> {
        let matrices: BTreeSet<String> = self.matrices().into_iter().collect();
        let mixed = mixed(graph);
        let wide = |product: &NodeProto| {
            let transposed = plain_product(product)?;
            let [inputs, outputs] = self.shape(&product.input[1], transposed);
            let is_wide = inputs >= LEAST_INPUTS && outputs >= LEAST_OUTPUTS;
            (is_wide && !mixed.contains(&product.input[0]) && matrices.contains(&product.input[1]))
                .then_some(transposed)
        };
        graph.node.iter().map(wide).collect()
    }

    /// Writes a matrix with one scale a column; the names of both.
    fn weight(&mut self, name: &str, transposed: bool) -> Result<(String, String), OnnxError> {
        let (stored, scales) = (format!("{name}/int8"), scales_of(name));
        if self.names.contains(&stored) {
            return Ok((stored, scales));
        }
        let (values, [rows, columns]) = self.matrix(name)?;
        let [inputs, outputs] = if transposed { [columns, rows] } else { [rows, columns] };
        let at = |input: usize, output: usize| match transposed {
            true => values[output * inputs + input],
            false => values[input * outputs + output],
        };
        let scale_of: Vec<f32> =
            (0..outputs).map(|output| scale((0..inputs).map(|input| at(input, output)))).collect();
        let mut bytes = Vec::with_capacity(values.len());
        for input in 0..inputs {
            bytes
                .extend(scale_of.iter().enumerate().map(|(output, scale)| signed(at(input, output), *scale)));
        }
        self.inside(&stored, &[inputs, outputs], DataType::Int8, bytes);
        let bytes = scale_of.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        self.inside(&scales, &[outputs], DataType::Float, bytes);
        Ok((stored, scales))
    }

    /// Inputs and outputs of a matrix.
    fn shape(&self, name: &str, transposed: bool) -> [usize; 2] {
        let dims = self.known.get(name).map_or([0, 0], |tensor| match *tensor.dims {
            [rows, columns] => [rows as usize, columns as usize],
            _ => [0, 0],
        });
        if transposed { [dims[1], dims[0]] } else { dims }
    }
}

/// Whether the second operand of a product is transposed; `None` where the node is no product, or
/// one that does more than `x·W + C`.
fn plain_product(node: &NodeProto) -> Option<bool> {
    if node.input.len() < 2 || node.output.len() != 1 || !is_standard(node) {
        return None;
    }
    let integer =
        |name: &str| node.attribute.iter().find(|found| found.name == name).and_then(|found| found.i);
    let one = |name: &str| {
        let found = node.attribute.iter().find(|found| found.name == name);
        found.is_none_or(|found| found.f == Some(1.0))
    };
    match node.op_type.as_str() {
        "MatMul" => Some(false),
        "Gemm" if one("alpha") && one("beta") && integer("transA").unwrap_or(0) == 0 => {
            Some(integer("transB").unwrap_or(0) != 0)
        }
        _ => None,
    }
}

/// Values that hold numbers as they were given, which have no scale in common with embeddings: those
/// would be lost beside them.
fn mixed(graph: &GraphProto) -> BTreeSet<String> {
    let is_number = |input: &&ValueInfoProto| match input.r#type.as_ref().and_then(|kind| kind.value.as_ref())
    {
        Some(type_proto::Value::TensorType(tensor)) => tensor.elem_type == DataType::Float as i32,
        _ => false,
    };
    let mut mixed: BTreeSet<String> =
        graph.input.iter().filter(is_number).map(|input| input.name.clone()).collect();
    const PASSED_ON_BY: [&str; 9] =
        ["Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Unsqueeze"];
    for node in graph.node.iter().filter(|node| PASSED_ON_BY.contains(&node.op_type.as_str())) {
        if node.input.iter().any(|input| mixed.contains(input)) {
            mixed.extend(node.output.iter().cloned());
        }
    }
    mixed
}
