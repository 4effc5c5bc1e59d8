//! The linear layers of a graph: a product with a constant weight, and what is added or scaled after it.

use super::{
    SplitError,
    values::{Made, Values},
};
use crate::foreign::{
    graph::{attribute, int_attribute, is},
    tensor,
};
use gatefold_proto::onnx::{NodeProto, tensor_proto::DataType};

/// `x·weight + bias` for rows `x`.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    /// The value whose columns are `x`.
    pub(super) x: usize,
    /// Rows of `outputs` numbers, one a column of `x`.
    pub(super) weight: Vec<f32>,
    /// One number an output, or none.
    pub(super) bias: Vec<f32>,
    /// Numbers in a row of the result.
    pub(super) outputs: usize,
}

/// The value as a linear layer of a join of both levels; `None` where it is something else.
pub(super) fn linear(values: &Values<'_>, id: usize) -> Result<Option<Linear>, SplitError> {
    // From the value back to the product, over what can be taken into it.
    let mut after = Vec::new();
    let mut at = id;
    let product = loop {
        let Made::Node(index) = values.all[at].made else { return Ok(None) };
        let node = &values.graph.node[index];
        if is(node, "MatMul") || is(node, "Gemm") {
            break node;
        }
        let Some(before) = taken_in(values, node, at) else { return Ok(None) };
        after.push((node, at));
        at = before;
        if values.uses(at) != 1 {
            return Ok(None);
        }
    };
    let Some(mut linear) = plain(values, product, at)? else { return Ok(None) };
    for (node, result) in after.into_iter().rev() {
        if !take_in(values, node, result, &mut linear)? {
            return Ok(None);
        }
    }
    Ok(Some(linear))
}

/// The product itself.
fn plain(values: &Values<'_>, node: &NodeProto, result: usize) -> Result<Option<Linear>, SplitError> {
    let (Some(x), Some(weight)) = (values.input(node, 0), values.input(node, 1)) else { return Ok(None) };
    let rows = &values.all[x];
    let joined = rows.trailing().len().checked_sub(1).is_some_and(|last| {
        let before: usize = rows.trailing()[..last].iter().product();
        before == 1
    });
    let (Some(tensor), true) = (values.all[weight].tensor(), values.is_mixed(x) && joined) else {
        return Ok(None);
    };
    let dims = values.all[weight].dims.as_slice();
    let gemm = is(node, "Gemm");
    let number = |name, default| attribute(node, name).map_or(default, |found| found.f.unwrap_or(0.0));
    let across = gemm && int_attribute(node, "transB", 0) != 0;
    let (inputs, outputs) = match dims {
        [inputs, outputs] if !across => (*inputs, *outputs),
        [outputs, inputs] => (*inputs, *outputs),
        _ => return Ok(None),
    };
    let usable = tensor.data_type == DataType::Float as i32
        && inputs == rows.width()
        && outputs == values.all[result].width()
        && !(gemm && int_attribute(node, "transA", 0) != 0);
    if !usable {
        return Ok(None);
    }
    let found = tensor::floats(tensor, values.folder)?;
    let alpha = if gemm { number("alpha", 1.0) } else { 1.0 };
    let at = |input: usize, output: usize| {
        alpha * if across { found[output * inputs + input] } else { found[input * outputs + output] }
    };
    let weight = (0..inputs).flat_map(|input| (0..outputs).map(move |output| (input, output)));
    let weight = weight.map(|(input, output)| at(input, output)).collect();
    let mut linear = Linear { x, weight, bias: Vec::new(), outputs };
    if gemm && node.input.get(2).is_some_and(|name| !name.is_empty()) {
        let beta = number("beta", 1.0);
        let Some(bias) = per_output(values, node, 2, outputs)? else { return Ok(None) };
        linear.bias = bias.iter().map(|bias| beta * bias).collect();
    }
    Ok(Some(linear))
}

/// The value that the node adds a constant to or normalises, where the result has its shape.
fn taken_in(values: &Values<'_>, node: &NodeProto, result: usize) -> Option<usize> {
    let constant = |place| values.input(node, place).is_some_and(|id| values.all[id].tensor().is_some());
    let operand = match node.op_type.as_str() {
        "Add" if is(node, "Add") => usize::from(constant(0)),
        "BatchNormalization" if is(node, "BatchNormalization") => 0,
        _ => return None,
    };
    let before = values.input(node, operand)?;
    (values.all[before].dims == values.all[result].dims).then_some(before)
}

/// Takes a node into the product before it; whether that is possible.
fn take_in(
    values: &Values<'_>,
    node: &NodeProto,
    result: usize,
    linear: &mut Linear,
) -> Result<bool, SplitError> {
    let outputs = linear.outputs;
    if linear.bias.is_empty() {
        linear.bias = vec![0.0; outputs];
    }
    if is(node, "Add") {
        let place = usize::from(values.input(node, 0).is_none_or(|id| values.all[id].tensor().is_none()));
        let Some(added) = per_output(values, node, place, outputs)? else { return Ok(false) };
        linear.bias.iter_mut().zip(added).for_each(|(bias, added)| *bias += added);
        return Ok(true);
    }
    let plain = int_attribute(node, "training_mode", 0) == 0 && values.all[result].dims.len() == 2;
    let mut constants = Vec::new();
    for place in 1..5 {
        constants.extend(per_output(values, node, place, outputs)?);
    }
    let [scale, shift, mean, variance] = match constants.as_slice() {
        [scale, shift, mean, variance] if plain => [scale, shift, mean, variance],
        _ => return Ok(false),
    };
    let epsilon = attribute(node, "epsilon").map_or(1e-5, |found| found.f.unwrap_or(0.0));
    let factor: Vec<f32> =
        scale.iter().zip(variance).map(|(scale, variance)| scale / (variance + epsilon).sqrt()).collect();
    for row in linear.weight.chunks_mut(outputs.max(1)) {
        row.iter_mut().zip(&factor).for_each(|(weight, factor)| *weight *= factor);
    }
    for (output, bias) in linear.bias.iter_mut().enumerate() {
        *bias = (*bias - mean[output]) * factor[output] + shift[output];
    }
    Ok(true)
}

/// A float constant that a node reads at a place, as one number an output.
fn per_output(
    values: &Values<'_>,
    node: &NodeProto,
    place: usize,
    outputs: usize,
) -> Result<Option<Vec<f32>>, SplitError> {
    let Some(value) = values.input(node, place).map(|id| &values.all[id]) else { return Ok(None) };
    let Some(tensor) = value.tensor().filter(|tensor| tensor.data_type == DataType::Float as i32) else {
        return Ok(None);
    };
    let numbers = value.dims.iter().product::<usize>();
    // The same for every output, or one each in the last dimension.
    if numbers != 1 && !(numbers == outputs && value.dims.last() == Some(&outputs)) {
        return Ok(None);
    }
    let found = tensor::floats(tensor, values.folder)?;
    Ok(Some(if numbers == 1 { vec![found[0]; outputs] } else { found }))
}
