//! Products with a constant matrix in 8-bit integers.

use std::collections::BTreeSet;

use gatefold_proto::onnx::{GraphProto, NodeProto, ValueInfoProto, tensor_proto::DataType, type_proto};

use super::{Rewriter, cast, node, scale, scales_of, signed};
use crate::OnnxError;

/// Products with at least so many inputs are rewritten.
const LEAST_INPUTS: usize = 32;
/// Products with at least so many outputs are rewritten.
const LEAST_OUTPUTS: usize = 8;
impl Rewriter<'_> {
    /// Computes every wide product with a constant matrix in 8-bit integers.
    pub(super) fn products(&mut self, graph: &mut GraphProto) -> Result<usize, OnnxError> {
        let matrices: BTreeSet<String> = self.matrices().into_iter().collect();
        let mixed = mixed(graph);
        let mut quantized = BTreeSet::new();
        let mut nodes = Vec::with_capacity(graph.node.len());
        let mut count = 0;
        for product in std::mem::take(&mut graph.node) {
            let Some(transposed) = plain_product(&product) else {
                nodes.push(product);
                continue;
            };
            let (rows, weight) = (product.input[0].clone(), product.input[1].clone());
            let wide = |[inputs, outputs]: [usize; 2]| inputs >= LEAST_INPUTS && outputs >= LEAST_OUTPUTS;
            if mixed.contains(&rows) || !matrices.contains(&weight) || !wide(self.shape(&weight, transposed))
            {
                nodes.push(product);
                continue;
            }
            let part = |part: &str| format!("{rows}/int8/{part}");
            if quantized.insert(rows.clone()) {
                let mut node = node("DynamicQuantizeLinear", &[&rows], &part("codes"));
                node.output.extend([part("scale"), part("zero")]);
                nodes.push(node);
            }
            let (matrix, scales) = self.weight(&weight, transposed)?;
            let output = product.output[0].clone();
            let own = |part: &str| format!("{output}/int8/{part}");
            let term = product.input.get(2).filter(|term| !term.is_empty());
            let scaled = if term.is_some() { own("scaled") } else { output.clone() };
            let (codes, zero) = (part("codes"), part("zero"));
            nodes.push(node("MatMulInteger", &[&codes, &matrix, &zero], &own("sums")));
            nodes.push(cast(&own("sums"), &own("numbers")));
            nodes.push(node("Mul", &[&part("scale"), &scales], &own("scale")));
            nodes.push(node("Mul", &[&own("numbers"), &own("scale")], &scaled));
            if let Some(term) = term {
                nodes.push(node("Add", &[&scaled, term], &output));
            }
            count += 1;
        }
        graph.node = nodes;
        Ok(count)
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
        let dims =
            self.known.get(name).map_or([0, 0], |tensor| [tensor.dims[0] as usize, tensor.dims[1] as usize]);
        if transposed { [dims[1], dims[0]] } else { dims }
    }
}

/// Whether the second operand of a product is transposed; `None` where the node is no product, or
/// one that does more than `x·W + C`.
fn plain_product(node: &NodeProto) -> Option<bool> {
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
