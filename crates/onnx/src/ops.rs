//! The ONNX form of every op.

mod sequence;

use std::{borrow::Cow, cmp::Ordering};

use gatefold_graph::{Activation, Level, NodeId, Op};
use gatefold_proto::onnx::AttributeProto;

use crate::{
    OnnxError,
    builder::{float, int},
    export::Exporter,
};

impl Exporter<'_, '_, '_> {
    /// Writes the operators of one node.
    pub(crate) fn write(&mut self, id: NodeId) -> Result<(), OnnxError> {
        let node = self.graph.node(id);
        let refuse = |message| Err(OnnxError::Unsupported { node: id.0, op: node.op.name(), message });
        match &node.op {
            // Named by the graph, or brought in by the first node that reads it.
            Op::Input { .. } | Op::Parameter(_) => Ok(()),
            Op::Lookup | Op::LookupEach | Op::Expand => self.simple("Gather", id),
            Op::LookupMean => self.lookup_mean(id),
            Op::RepeatRows { length } => self.repeat_rows(id, *length),
            Op::PoolSequence(pool) => self.pool_sequence(id, *pool),
            Op::WeightedSum => self.weighted_sum(id),
            Op::Gru => self.gru(id),
            Op::Concat => self.concat(id),
            Op::SliceColumns { start, end } => {
                let start = self.builder.integers(&[*start as i64])?;
                let end = self.builder.integers(&[*end as i64])?;
                let last = self.builder.integers(&[-1])?;
                self.with_operands("Slice", id, &[&start, &end, &last])
            }
            Op::SliceRows { .. } => {
                if matches!(self.graph.node(node.inputs[0]).op, Op::Parameter(_) | Op::SliceRows { .. }) {
                    return Ok(());
                }
                refuse("only rows of a parameter can be taken; take them before computing with it")
            }
            Op::MatMul if self.fused.contains(&id) => Ok(()),
            Op::MatMul if node.fact.dims.len() == 1 => self.simple("Gemm", id),
            // `Gemm` takes matrices; rows of a sequence are more.
            Op::MatMul => self.simple("MatMul", id),
            Op::Add => self.add(id),
            Op::Mul => self.simple("Mul", id),
            Op::Relu => self.simple("Relu", id),
            Op::Dot => self.dot(id),
            Op::Exp => self.simple("Exp", id),
            Op::Activation(activation) => self.activation(id, *activation),
            Op::Sigmoid => self.sigmoid(id),
            // The last axis is the default.
            Op::Softmax => self.simple("Softmax", id),
            Op::Squeeze => {
                let last = self.builder.integers(&[-1])?;
                self.with_operands("Squeeze", id, &[&last])
            }
            Op::Mix if node.fact.level == Level::Constant => refuse("a mix of constants has no rows"),
            Op::Mix => self.mix(id),
            Op::Scale(factor) => {
                let factor = self.builder.number(*factor)?;
                self.with_operands("Mul", id, &[&factor])
            }
            Op::LayerNorm { epsilon } => {
                let attributes = vec![int("axis", -1), float("epsilon", *epsilon)];
                self.with_attributes("LayerNormalization", id, &[], attributes)
            }
            Op::BatchNorm { .. } => refuse("fold it into the layer before it: export what `fold` returns"),
            Op::Dropout { .. } => refuse("dropout is for training; export the forward graph"),
            Op::Detach => refuse("it is for training; export the forward graph"),
            Op::Calibrate => self.calibrate(id),
            Op::BceWithLogits | Op::Bce | Op::SquaredError | Op::SumSquares | Op::TraceNorm => {
                refuse("a loss is not served; prune the graph to its forward outputs")
            }
            Op::MeanRows => {
                refuse("a mean over rows is for training; prune the graph to its forward outputs")
            }
            Op::Gradient(_) => refuse("a derivative is not served; prune the graph to its forward outputs"),
        }
    }

    /// The logistic function. ONNX Runtime's own may exceed 1 by a rounding where the logit is
    /// large, which is no probability.
    fn sigmoid(&mut self, id: NodeId) -> Result<(), OnnxError> {
        let x = self.operand(self.graph.node(id).inputs[0])?;
        let name = self.names[id.0].clone();
        let rounded = format!("{name}/rounded");
        let (zero, one) = (self.builder.number(0.0)?, self.builder.number(1.0)?);
        self.builder.node("Sigmoid", &[&x], &rounded, Vec::new())?;
        self.builder.node("Clip", &[&rounded, &zero, &one], &name, Vec::new())
    }

    /// The sum of the products of two rows.
    fn dot(&mut self, id: NodeId) -> Result<(), OnnxError> {
        let inputs = &self.graph.node(id).inputs;
        let (a, b) = (self.operand(inputs[0])?, self.operand(inputs[1])?);
        let name = self.names[id.0].clone();
        let products = format!("{name}/products");
        let last = self.builder.integers(&[-1])?;
        self.builder.node("Mul", &[&a, &b], &products, Vec::new())?;
        self.builder.node("ReduceSum", &[&products, &last], &name, vec![int("keepdims", 0)])
    }

    /// The operators whose names and defaults are those of [`Activation`], and two that have none.
    fn activation(&mut self, id: NodeId, activation: Activation) -> Result<(), OnnxError> {
        let x = self.operand(self.graph.node(id).inputs[0])?;
        let name = self.names[id.0].clone();
        let part = |part: &str| format!("{name}/{part}");
        match activation {
            Activation::LeakyRelu(slope) => {
                self.builder.node("LeakyRelu", &[&x], &name, vec![float("alpha", slope)])
            }
            Activation::Elu => self.builder.node("Elu", &[&x], &name, Vec::new()),
            Activation::Tanh => self.builder.node("Tanh", &[&x], &name, Vec::new()),
            Activation::Silu => {
                self.builder.node("Sigmoid", &[&x], &part("share"), Vec::new())?;
                self.builder.node("Mul", &[&x, &part("share")], &name, Vec::new())
            }
            Activation::Gelu => {
                let root = self.builder.number(std::f32::consts::SQRT_2)?;
                let (half, one) = (self.builder.number(0.5)?, self.builder.number(1.0)?);
                let build = &mut self.builder;
                build.node("Div", &[&x, &root], &part("scaled"), Vec::new())?;
                build.node("Erf", &[&part("scaled")], &part("erf"), Vec::new())?;
                build.node("Add", &[&part("erf"), &one], &part("sum"), Vec::new())?;
                build.node("Mul", &[&part("sum"), &half], &part("share"), Vec::new())?;
                build.node("Mul", &[&x, &part("share")], &name, Vec::new())
            }
        }
    }

    /// One operator on the node's inputs.
    fn simple(&mut self, operator: &str, id: NodeId) -> Result<(), OnnxError> {
        self.with_operands(operator, id, &[])
    }

    /// One operator on the node's inputs and further constants.
    fn with_operands(&mut self, operator: &str, id: NodeId, more: &[&str]) -> Result<(), OnnxError> {
        self.with_attributes(operator, id, more, Vec::new())
    }

    fn with_attributes(
        &mut self,
        operator: &str,
        id: NodeId,
        more: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> Result<(), OnnxError> {
        let mut operands = Vec::new();
        for input in &self.graph.node(id).inputs {
            operands.push(self.operand(*input)?);
        }
        let operands: Vec<&str> = operands.iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.builder.node(operator, &operands, &self.names[id.0], attributes)
    }

    /// `y_0 + Σ (y_{i+1} − y_i) · clip((x − x_i) / (x_{i+1} − x_i), 0, 1)`: each piece between two
    /// knots is a ramp, and one product sums them up.
    fn calibrate(&mut self, id: NodeId) -> Result<(), OnnxError> {
        let inputs = &self.graph.node(id).inputs;
        let x = self.operand(inputs[0])?;
        let (Some(knots), Some(values)) = (self.constant(inputs[1])?, self.constant(inputs[2])?) else {
            let message = "its knots and values must be parameters";
            return Err(OnnxError::Unsupported { node: id.0, op: "calibrate", message });
        };
        if let Some(pair) =
            knots.values.windows(2).find(|pair| pair[0].partial_cmp(&pair[1]) != Some(Ordering::Less))
        {
            let (previous, next) = (pair[0], pair[1]);
            return Err(OnnxError::Knots { name: knots.name, previous, next });
        }
        let name = self.names[id.0].clone();
        let part = |part: &str| format!("{name}/{part}");
        let pieces = knots.values.len() - 1;
        let slopes = knots.values.windows(2).map(|pair| 1.0 / (pair[1] - pair[0])).collect();
        let heights = values.values.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let build = &mut self.builder;
        build.weights(&part("knots"), &[pieces], knots.values[..pieces].to_vec().into(), false)?;
        build.weights(&part("slopes"), &[pieces], Cow::Owned(slopes), false)?;
        build.weights(&part("heights"), &[pieces, 1], Cow::Owned(heights), false)?;
        build.weights(&part("first"), &[1], values.values[..1].to_vec().into(), false)?;
        let (zero, one, last) = (build.number(0.0)?, build.number(1.0)?, build.integers(&[-1])?);
        build.node("Unsqueeze", &[&x, &last], &part("column"), Vec::new())?;
        build.node("Sub", &[&part("column"), &part("knots")], &part("above"), Vec::new())?;
        build.node("Mul", &[&part("above"), &part("slopes")], &part("shares"), Vec::new())?;
        build.node("Clip", &[&part("shares"), &zero, &one], &part("ramps"), Vec::new())?;
        build.node("Gemm", &[&part("ramps"), &part("heights"), &part("first")], &part("sum"), Vec::new())?;
        build.node("Squeeze", &[&part("sum"), &last], &name, Vec::new())
    }

    /// Joins along the last axis, which single numbers get first.
    fn concat(&mut self, id: NodeId) -> Result<(), OnnxError> {
        let name = self.names[id.0].clone();
        let mut parts = Vec::new();
        for (index, input) in self.graph.node(id).inputs.iter().enumerate() {
            let operand = self.operand(*input)?;
            if !self.graph.fact(*input).dims.is_empty() {
                parts.push(operand);
                continue;
            }
            let last = self.builder.integers(&[-1])?;
            let column = format!("{name}/column.{index}");
            self.builder.node("Unsqueeze", &[&operand, &last], &column, Vec::new())?;
            parts.push(column);
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.builder.node("Concat", &parts, &name, vec![int("axis", -1)])
    }

    /// A sum, together with the product that it takes in: `x·W + C`.
    fn add(&mut self, id: NodeId) -> Result<(), OnnxError> {
        let inputs = &self.graph.node(id).inputs;
        let Some(place) = inputs.iter().position(|input| self.fused.contains(input)) else {
            return self.simple("Add", id);
        };
        let product = &self.graph.node(inputs[place]).inputs;
        let x = self.operand(product[0])?;
        let weight = self.operand(product[1])?;
        let term = self.operand(inputs[1 - place])?;
        self.builder.node("Gemm", &[&x, &weight, &term], &self.names[id.0], Vec::new())
    }

    /// `[1, e] × [e, d]` in each row; the experts are stacked once for all gates that mix them.
    fn mix(&mut self, id: NodeId) -> Result<(), OnnxError> {
        let name = self.names[id.0].clone();
        let node = self.graph.node(id);
        let (gate, experts) = (self.operand(node.inputs[0])?, &node.inputs[1..]);
        let stack = match self.stacks.get(experts) {
            Some(stack) => stack.clone(),
            None => {
                let mut rows = Vec::new();
                for expert in experts {
                    rows.push(self.operand(*expert)?);
                }
                let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
                let (joined, stack) = (format!("{name}/joined"), format!("{name}/stack"));
                let shape = self.builder.integers(&[-1, experts.len() as i64, node.fact.dims[0] as i64])?;
                self.builder.node("Concat", &rows, &joined, vec![int("axis", -1)])?;
                self.builder.node("Reshape", &[&joined, &shape], &stack, Vec::new())?;
                self.stacks.insert(experts.to_vec(), stack.clone());
                stack
            }
        };
        let middle = self.builder.integers(&[1])?;
        // A constant gate becomes one row for all candidates.
        let constant = self.graph.fact(node.inputs[0]).level == Level::Constant;
        let gate_axis = self.builder.integers(&[i64::from(!constant)])?;
        let (row, product) = (format!("{name}/gate"), format!("{name}/product"));
        self.builder.node("Unsqueeze", &[&gate, &gate_axis], &row, Vec::new())?;
        self.builder.node("MatMul", &[&row, &stack], &product, Vec::new())?;
        self.builder.node("Squeeze", &[&product, &middle], &name, Vec::new())
    }
}
