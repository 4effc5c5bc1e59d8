//! The ONNX form of the ops on sequences.

use std::borrow::Cow;

use gatefold_graph::{NodeId, Pool};
use gatefold_proto::onnx::tensor_proto::DataType;

use crate::{
    OnnxError,
    builder::{int, ints},
    export::{Constant, Exporter},
};

impl Exporter<'_, '_, '_> {
    /// Sum of the looked-up rows (padding adds the zero row) by the number of codes above 0.
    pub(super) fn lookup_mean(&mut self, id: NodeId) -> Result<(), OnnxError> {
        let inputs = &self.graph.node(id).inputs;
        let (table, codes) = (self.operand(inputs[0])?, self.operand(inputs[1])?);
        let name = self.names[id.0].clone();
        let part = |part: &str| format!("{name}/{part}");
        // Axes from the end, so that the form holds with and without rows.
        let row_axis = self.builder.integers(&[-2])?;
        self.builder.node("Gather", &[&table, &codes], &part("rows"), Vec::new())?;
        self.builder.node(
            "ReduceSum",
            &[&part("rows"), &row_axis],
            &part("sum"),
            vec![int("keepdims", 0)],
        )?;
        self.present(&name, &codes)?;
        self.mean(&name)
    }

    /// The rows of a sequence whose codes are above 0, as one row.
    pub(super) fn pool_sequence(&mut self, id: NodeId, pool: Pool) -> Result<(), OnnxError> {
        let inputs = &self.graph.node(id).inputs;
        let (x, codes) = (self.operand(inputs[0])?, self.operand(inputs[1])?);
        let name = self.names[id.0].clone();
        let part = |part: &str| format!("{name}/{part}");
        self.present(&name, &codes)?;
        let last = self.builder.integers(&[-1])?;
        let row_axis = self.builder.integers(&[-2])?;
        let (zero, least) = (self.builder.number(0.0)?, self.builder.number(f32::MIN)?);
        self.builder.node("Unsqueeze", &[&part("present"), &last], &part("mask"), Vec::new())?;
        if pool == Pool::Max {
            let attributes = vec![ints("axes", &[-2]), int("keepdims", 0)];
            self.count(&name)?;
            let build = &mut self.builder;
            build.node("Where", &[&part("mask"), &x, &least], &part("rows"), Vec::new())?;
            build.node("ReduceMax", &[&part("rows")], &part("largest"), attributes)?;
            build.node("Greater", &[&part("count"), &zero], &part("any"), Vec::new())?;
            return build.node("Where", &[&part("any"), &part("largest"), &zero], &name, Vec::new());
        }
        let sum = if pool == Pool::Sum { name.clone() } else { part("sum") };
        self.builder.node("Where", &[&part("mask"), &x, &zero], &part("rows"), Vec::new())?;
        self.builder.node("ReduceSum", &[&part("rows"), &row_axis], &sum, vec![int("keepdims", 0)])?;
        if pool == Pool::Mean { self.mean(&name) } else { Ok(()) }
    }

    /// `<name>/present`: whether each code is above 0.
    fn present(&mut self, name: &str, codes: &str) -> Result<(), OnnxError> {
        let padding = self.builder.code(0)?;
        self.builder.node("Greater", &[codes, &padding], &format!("{name}/present"), Vec::new())
    }

    /// `<name>/count`: how many codes of `<name>/present` there are, in a dimension of one.
    fn count(&mut self, name: &str) -> Result<(), OnnxError> {
        let part = |part: &str| format!("{name}/{part}");
        let last = self.builder.integers(&[-1])?;
        let to_float = int("to", DataType::Float as i64);
        self.builder.node("Cast", &[&part("present")], &part("ones"), vec![to_float])?;
        self.builder.node("ReduceSum", &[&part("ones"), &last], &part("count"), vec![int("keepdims", 1)])
    }

    /// `<name>`: `<name>/sum` by the number of codes of `<name>/present`, by 1 where there is none.
    fn mean(&mut self, name: &str) -> Result<(), OnnxError> {
        let part = |part: &str| format!("{name}/{part}");
        self.count(name)?;
        let one = self.builder.number(1.0)?;
        self.builder.node("Max", &[&part("count"), &one], &part("divisor"), Vec::new())?;
        self.builder.node("Div", &[&part("sum"), &part("divisor")], name, Vec::new())
    }

    /// A copy of each row for each position.
    pub(super) fn repeat_rows(&mut self, id: NodeId, length: usize) -> Result<(), OnnxError> {
        let x = self.operand(self.graph.node(id).inputs[0])?;
        let name = self.names[id.0].clone();
        let row = format!("{name}/row");
        let middle = self.builder.integers(&[1])?;
        let shape = self.builder.integers(&[1, length as i64, 1])?;
        self.builder.node("Unsqueeze", &[&x, &middle], &row, Vec::new())?;
        self.builder.node("Expand", &[&row, &shape], &name, Vec::new())
    }

    /// `[1, l] × [l, d]` in each row.
    pub(super) fn weighted_sum(&mut self, id: NodeId) -> Result<(), OnnxError> {
        let inputs = &self.graph.node(id).inputs;
        let (weights, x) = (self.operand(inputs[0])?, self.operand(inputs[1])?);
        let name = self.names[id.0].clone();
        let (row, product) = (format!("{name}/weights"), format!("{name}/product"));
        let middle = self.builder.integers(&[1])?;
        self.builder.node("Unsqueeze", &[&weights, &middle], &row, Vec::new())?;
        self.builder.node("MatMul", &[&row, &x], &product, Vec::new())?;
        self.builder.node("Squeeze", &[&product, &middle], &name, Vec::new())
    }

    /// The operator `GRU`, which takes steps first, weights by rows, and gates in the order z, r, n.
    pub(super) fn gru(&mut self, id: NodeId) -> Result<(), OnnxError> {
        let inputs = &self.graph.node(id).inputs;
        let (x, codes) = (self.operand(inputs[0])?, self.operand(inputs[1])?);
        let state = self.graph.fact(id).columns();
        let [input_weights, state_weights, input_bias, state_bias] =
            [inputs[2], inputs[3], inputs[4], inputs[5]].map(|input| self.constant(input));
        let (Some(input_weights), Some(state_weights), Some(input_bias), Some(state_bias)) =
            (input_weights?, state_weights?, input_bias?, state_bias?)
        else {
            let message = "its weights and biases must be parameters";
            return Err(OnnxError::Unsupported { node: id.0, op: "gru", message });
        };
        let name = self.names[id.0].clone();
        let part = |part: &str| format!("{name}/{part}");
        // Named after the parameters, so that both files of a model share them.
        let [of_input, of_state] =
            [&input_weights, &state_weights].map(|weights| format!("{}/gru", weights.name));
        let of_biases = format!("{}+{}/gru", input_bias.name, state_bias.name);
        for (weights, name) in [(&input_weights, &of_input), (&state_weights, &of_state)] {
            let dims = [1, 3 * state, weights.dims[0]];
            self.builder.weights(name, &dims, Cow::Owned(gates_by_rows(weights, state)), false)?;
        }
        let biases = [gates_by_rows(&input_bias, state), gates_by_rows(&state_bias, state)].concat();
        self.builder.weights(&of_biases, &[1, 6 * state], Cow::Owned(biases), false)?;
        self.present(&name, &codes)?;
        self.count(&name)?;
        let (first, last) = (self.builder.integers(&[0])?, self.builder.integers(&[-1])?);
        let build = &mut self.builder;
        build.node("Squeeze", &[&part("count"), &last], &part("steps"), Vec::new())?;
        build.node("Cast", &[&part("steps")], &part("lengths"), vec![int("to", DataType::Int32 as i64)])?;
        build.node("Transpose", &[&x], &part("by_step"), vec![ints("perm", &[1, 0, 2])])?;
        let operands = [&part("by_step"), &of_input, &of_state, &of_biases, &part("lengths")];
        let attributes = vec![int("hidden_size", state as i64), int("linear_before_reset", 1)];
        build.second_result("GRU", &operands.map(String::as_str), &part("last"), attributes)?;
        build.node("Squeeze", &[&part("last"), &first], &name, Vec::new())
    }
}

/// Columns for the gates r, z, n as rows for z, r, n. A bias is one row of columns.
fn gates_by_rows(weights: &Constant<'_>, state: usize) -> Vec<f32> {
    let columns = 3 * state;
    let of_gate = |gate: usize| gate * state..(gate + 1) * state;
    let order = of_gate(1).chain(of_gate(0)).chain(of_gate(2));
    order.flat_map(|column| weights.values.iter().skip(column).step_by(columns).copied()).collect()
}
