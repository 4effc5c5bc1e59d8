//! Operators by what they do to columns: those that move them about, and those that treat each by
//! itself.

use gatefold_proto::onnx::NodeProto;

use super::values::{Column, Values};
use crate::foreign::{
    graph::{attribute, int_attribute, is, is_standard},
    tensor,
};

/// The columns of a node's result at `place`, whose rows come first and are followed by `dims`; `None`
/// where the node does more than move columns of its inputs.
pub(super) fn moved(
    values: &Values<'_>,
    node: &NodeProto,
    place: usize,
    dims: &[usize],
) -> Option<Vec<Column>> {
    if !is_standard(node) {
        return None;
    }
    let data = values.input(node, 0)?;
    let columns = |id: usize| values.all[id].columns.as_deref();
    let width: usize = dims.iter().product();
    let found = match node.op_type.as_str() {
        // A row keeps its numbers in their order, whatever its shape.
        "Identity" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => columns(data)?.to_vec(),
        "Dropout" if place == 0 && node.input.len() < 3 => columns(data)?.to_vec(),
        "Concat" => {
            let axis = axis(int_attribute(node, "axis", 1), dims.len() + 1)?;
            let before: usize = dims[..axis].iter().product();
            let mut parts = Vec::new();
            for input in &node.input {
                let id = values.find(input)?;
                let block: usize = values.all[id].trailing().get(axis..)?.iter().product();
                parts.push((columns(id)?, block));
            }
            let mut joined = Vec::new();
            for index in 0..before {
                for (columns, block) in &parts {
                    joined.extend_from_slice(columns.get(index * block..(index + 1) * block)?);
                }
            }
            joined
        }
        "Transpose" => {
            let order = &attribute(node, "perm")?.ints;
            let (Some(0), from) = (order.first(), values.all[data].trailing()) else { return None };
            let order = order[1..].iter().map(|axis| usize::try_from(axis - 1).ok());
            transposed(columns(data)?, from, &order.collect::<Option<Vec<_>>>()?)?
        }
        "Split" => {
            let axis = axis(int_attribute(node, "axis", 0), dims.len() + 1)?;
            let mut start = 0;
            for earlier in &node.output[..place] {
                start += values.all[values.find(earlier)?].trailing().get(axis)?;
            }
            let range: Vec<usize> = (start..start + dims.get(axis)?).collect();
            taken(columns(data)?, values.all[data].trailing(), axis, &range)?
        }
        "Gather" => {
            let from = values.all[data].trailing();
            let axis = axis(int_attribute(node, "axis", 0), from.len() + 1)?;
            let indices = integers(values, node, 1)?;
            let length = *from.get(axis)? as i64;
            let places = indices.iter().map(|index| usize::try_from(index.rem_euclid(length.max(1))).ok());
            taken(columns(data)?, from, axis, &places.collect::<Option<Vec<_>>>()?)?
        }
        "Slice" => sliced(values, node, data)?,
        _ => return None,
    };
    (found.len() == width).then_some(found)
}

/// An axis after the rows, counted from there, of a value with `rank` dimensions.
fn axis(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis - 1).ok().filter(|axis| axis + 1 < rank)
}

/// The integers that a node reads at a place.
fn integers(values: &Values<'_>, node: &NodeProto, place: usize) -> Option<Vec<i64>> {
    let tensor = values.all[values.input(node, place)?].tensor()?;
    tensor::integers(tensor, values.folder).ok()
}

/// The columns at `places` along an axis; `dims` are those after the rows.
fn taken(columns: &[Column], dims: &[usize], axis: usize, places: &[usize]) -> Option<Vec<Column>> {
    let (before, after): (usize, usize) = (dims[..axis].iter().product(), dims[axis + 1..].iter().product());
    let mut taken = Vec::with_capacity(before * places.len() * after);
    for index in 0..before {
        for place in places {
            let start = (index * dims[axis] + place) * after;
            taken.extend_from_slice(columns.get(start..start + after)?);
        }
    }
    Some(taken)
}

fn sliced(values: &Values<'_>, node: &NodeProto, data: usize) -> Option<Vec<Column>> {
    let mut dims = values.all[data].trailing().to_vec();
    let mut columns = values.all[data].columns.as_deref()?.to_vec();
    let (starts, ends) = (integers(values, node, 1)?, integers(values, node, 2)?);
    let given = |place: usize| node.input.get(place).is_some_and(|name| !name.is_empty());
    let axes = if given(3) { integers(values, node, 3)? } else { (0..starts.len() as i64).collect() };
    let steps = if given(4) { integers(values, node, 4)? } else { vec![1; starts.len()] };
    for (((start, end), along), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let along = axis(*along, dims.len() + 1)?;
        let length = dims[along] as i64;
        if *step < 1 {
            return None;
        }
        let bound = |at: i64| if at < 0 { at + length } else { at }.clamp(0, length);
        let places = (bound(*start)..bound(*end)).step_by(*step as usize).map(|place| place as usize);
        let places: Vec<usize> = places.collect();
        columns = taken(&columns, &dims, along, &places)?;
        dims[along] = places.len();
    }
    Some(columns)
}

/// The columns with the dimensions after the rows in another order.
fn transposed(columns: &[Column], dims: &[usize], order: &[usize]) -> Option<Vec<Column>> {
    let mut steps = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        steps[axis - 1] = steps[axis] * dims[axis];
    }
    let mut places = vec![0];
    for axis in order {
        let (dim, step) = (*dims.get(*axis)?, steps[*axis]);
        places = places.iter().flat_map(|place| (0..dim).map(move |index| place + index * step)).collect();
    }
    places.into_iter().map(|place| columns.get(place).copied()).collect()
}

/// Operators with one operand whose result at a place follows from what it reads there.
const UNARY: [&str; 28] = [
    "Abs",
    "Cast",
    "Ceil",
    "Clip",
    "Cos",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tanh",
];
/// Operators with two operands that do so.
const BINARY: [&str; 16] = [
    "Add",
    "And",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "Pow",
    "PRelu",
    "Sub",
];

/// How a node treats each column of one of its operands by itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Columnwise {
    /// Every column alike; the operand stands at `operand`.
    Alike { operand: usize },
    /// With a number of its own for each column: `places` of the constants at `constants` (as many
    /// dimensions as the operand's trailing ones, of these `dims`), or the same for all.
    Own { operand: usize, constants: Vec<usize>, dims: Vec<usize>, places: Vec<usize> },
    /// Looked up in a table, so that a column becomes `width` columns of these `dims`.
    Lookup { width: usize, dims: Vec<usize> },
}

impl Columnwise {
    /// Columns of the result for one column of the operand.
    pub(super) fn each(&self) -> usize {
        match self {
            Columnwise::Lookup { width, .. } => *width,
            Columnwise::Alike { .. } | Columnwise::Own { .. } => 1,
        }
    }

    /// The same for the columns at `places` alone.
    pub(super) fn of(&self, places: &[usize]) -> Columnwise {
        match self.clone() {
            Columnwise::Own { operand, constants, dims, .. } => {
                Columnwise::Own { operand, constants, dims, places: places.to_vec() }
            }
            other => other,
        }
    }
}

/// The operand of which the node that makes `result` treats each column by itself, and how.
pub(super) fn columnwise(
    values: &Values<'_>,
    node: &NodeProto,
    result: usize,
) -> Option<(usize, Columnwise)> {
    if !is_standard(node) {
        return None;
    }
    let operator = node.op_type.as_str();
    let constant = |place: usize| values.input(node, place).filter(|id| values.all[*id].tensor().is_some());
    let same_shape = |data: usize| values.all[data].dims == values.all[result].dims;
    if UNARY.contains(&operator) {
        let data = values.input(node, 0)?;
        let others = (1..node.input.len()).filter(|place| !node.input[*place].is_empty());
        let plain = others.map(constant).all(|id| id.is_some_and(|id| values.all[id].dims.is_empty()));
        return (plain && same_shape(data)).then_some((data, Columnwise::Alike { operand: 0 }));
    }
    if BINARY.contains(&operator) && node.input.len() == 2 {
        let operand = if constant(0).is_some() { 1 } else { 0 };
        let data = values.input(node, operand)?;
        let other = values.all[constant(1 - operand)?].dims.clone();
        let trailing = values.all[data].trailing();
        // The constant says nothing of rows, and its dimensions are the operand's or 1.
        let own = other.strip_prefix(&[1]).filter(|_| other.len() > trailing.len()).unwrap_or(&other);
        let fits = own.len() <= trailing.len()
            && own.iter().rev().zip(trailing.iter().rev()).all(|(own, dim)| own == dim || *own == 1);
        let how =
            Columnwise::Own { operand, constants: vec![1 - operand], dims: own.to_vec(), places: Vec::new() };
        return (fits && same_shape(data)).then_some((data, how));
    }
    if is(node, "BatchNormalization") && int_attribute(node, "training_mode", 0) == 0 {
        let data = values.input(node, 0)?;
        let width = values.all[data].width();
        let constants: Vec<usize> = (1..5).collect();
        let known =
            constants.iter().all(|place| constant(*place).is_some_and(|id| values.all[id].dims == [width]));
        let how = Columnwise::Own { operand: 0, constants, dims: vec![width], places: Vec::new() };
        return (known && values.all[data].dims.len() == 2).then_some((data, how));
    }
    if is(node, "Gather") && int_attribute(node, "axis", 0) == 0 {
        let (table, data) = (constant(0)?, values.input(node, 1)?);
        let dims = values.all[table].dims.get(1..)?.to_vec();
        return Some((data, Columnwise::Lookup { width: dims.iter().product(), dims }));
    }
    None
}

/// The place in a constant of `dims`, which are broadcast to `trailing`, that belongs to column `place`.
pub(super) fn broadcast_place(dims: &[usize], trailing: &[usize], place: usize) -> usize {
    let (mut rest, mut step, mut found) = (place, 1, 0);
    for (axis, dim) in trailing.iter().enumerate().rev() {
        let index = rest % dim.max(&1);
        rest /= dim.max(&1);
        let behind = trailing.len() - axis;
        if let Some(own) = dims.len().checked_sub(behind).and_then(|axis| dims.get(axis)) {
            found += if *own == 1 { 0 } else { index * step };
            step *= own;
        }
    }
    found
}
