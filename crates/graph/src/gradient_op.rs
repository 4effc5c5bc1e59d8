//! The ops that only derivatives need, with their shape rules. They are ordinary nodes to the
//! passes and the executor; the ONNX export refuses them as one group.
//!
//! Notation as in [`Op`](crate::Op): `[n]` is a row of n numbers at any row level.

use crate::{
    activation::Activation,
    fact::{ElementType, Fact, Level},
    op::{
        Pool, arity, expect, expect_columns, expect_constant, expect_sequence, gru_dims, level_of, rows_of,
    },
};

/// An operation of the backward part.
#[derive(Clone, Debug, PartialEq)]
pub enum GradientOp {
    /// The constant 1: the derivative of the loss by itself. No inputs; constant `[]`.
    One,
    /// Sum over all rows and over all but the last `rank` dimensions: `[.., k..]` → constant
    /// `[k..]`.
    SumRows {
        /// Dimensions of the result.
        rank: usize,
    },
    /// A mean's gradient for every row, the gradient of `MeanRows`: (gradient constant `[..]`,
    /// x `[..]`) → `[..]`: `g` by the number of rows; or with weights, (gradient constant `[..]`,
    /// x `[..]`, weights `[]`, sum of weights constant `[]`) → `[..]`: `g · w / total`, and 0 where
    /// `total` is 0. Of x, only level and dimensions matter.
    MeanRows,
    /// Sum over the candidates of each request, the gradient of `Expand`: (candidate `[..]`,
    /// `request_of` candidate `i32 []`, non-decreasing) → request `[..]`.
    SumByRequest,
    /// Sum over the positions of a sequence, the gradient of `RepeatRows`: `[l, d]` → `[d]`.
    SumSequence,
    /// The gradient of `PoolSequence` by its rows: (gradient `[d]`, x `[l, d]`, codes `[l]`) →
    /// `[l, d]`.
    PoolSequence(Pool),
    /// `⟨g, x_i⟩` for every position, the gradient of `WeightedSum` by its weights:
    /// (gradient `[d]`, x `[l, d]`) → `[l]`.
    WeightedSumWeights,
    /// `w_i · g` for every position, the gradient of `WeightedSum` by its rows:
    /// (gradient `[d]`, weights `[l]`) → `[l, d]`.
    WeightedSumRows,
    /// The states of a GRU before each step: (the operands of `Gru`) → `[l, h]`.
    GruStates,
    /// The gradients of what a GRU adds up in each step: (gradient `[h]`, states `[l, h]`, then the
    /// operands of `Gru`) → `[l, 4h]`: by `x·W + b` for r, z and n, then by `h·U + c` for n; for r
    /// and z the two are equal. Zero where a step is not taken.
    GruGates,
    /// Adds a dimension of one, the gradient of `Squeeze`: `[..]` → `[.., 1]`.
    Unsqueeze,
    /// Puts a row between zeros, the gradient of `SliceColumns`: `[.., n]` → `[.., columns]`,
    /// where the row begins at column `start`.
    PadColumns {
        /// Column of the first number.
        start: usize,
        /// Columns of the result.
        columns: usize,
    },
    /// Adds row ranges into zeros, the gradient of `SliceRows`: constant `[Σ lengths, d]` →
    /// constant `[rows, d]`.
    ScatterRows {
        /// `(start, end)` pairs, in the order in which the input holds them.
        ranges: Vec<(usize, usize)>,
        /// Rows of the result.
        rows: usize,
    },
    /// `g · wᵀ`: (gradient `[.., o]`, constant `[i, o]`) → `[.., i]`.
    MatMulInput,
    /// `xᵀ · g`, summed over all rows: (x `[.., i]`, gradient `[.., o]`) → constant `[i, o]`.
    MatMulWeight,
    /// `g` where the result was positive, else 0: (gradient, result of `Relu`), equal dimensions.
    Relu,
    /// `g · y · (1 − y)`: (gradient, result of `Sigmoid`), equal dimensions.
    Sigmoid,
    /// `g · f′(x)`: (gradient, operand of the activation), equal dimensions.
    Activation(Activation),
    /// `y · (g − Σ g·y)` in each row: (gradient `[n]`, result of `Softmax` `[n]`) → `[n]`.
    Softmax,
    /// `(x − mean) / √(variance + epsilon)` of each row, over the last dimension: `[.., n]` →
    /// `[.., n]`.
    Standardize {
        /// Added to the variance.
        epsilon: f32,
    },
    /// The gradient of `Standardize`, `(g − mean(g) − x̂ · mean(g·x̂)) / √(variance + epsilon)`:
    /// (gradient, operand x of the op, whose result is x̂), equal dimensions.
    StandardizeInput {
        /// Added to the variance.
        epsilon: f32,
    },
    /// `1 / √(x + epsilon)` of every number of a constant.
    InverseDeviation {
        /// Added to the variance.
        epsilon: f32,
    },
    /// `(AᵀA)^(−1/2)` of the matrix A whose columns are t constants, on the space that they span:
    /// t constants `[..]` → constant `[t, t]`.
    InverseRoot,
    /// One column of the gradient of `TraceNorm`, `g · A · (AᵀA)^(−1/2)`, which is `g · U·Vᵀ` of the
    /// singular vectors: (gradient constant `[]`, inverse root constant `[t, t]`, t constants
    /// `[..]`) → constant `[..]`.
    TraceNorm {
        /// Place of the column among the constants.
        column: usize,
    },
    /// `⟨g, expert_i⟩` for every expert: (gradient `[d]`, then e experts `[d]`) → `[e]`.
    MixGate,
    /// `gate_i · g` for one expert: (gradient `[d]`, gate `[e]`) → `[d]`. The gate may be constant.
    MixExpert {
        /// The expert's place in the gate.
        expert: usize,
    },
    /// `g · w · (σ(z) − y) / total`, and 0 where `total` is 0: (gradient constant `[]`,
    /// logits `[]`, labels `[]`, weights `[]`, sum of weights constant `[]`) → `[]`.
    BceWithLogits,
    /// `g · w · (p − y) / (p (1 − p)) / total`, and 0 where `total` is 0 or `p` was clamped:
    /// (gradient constant `[]`, p `[]`, labels `[]`, weights `[]`, sum of weights constant `[]`)
    /// → `[]`.
    Bce,
    /// `g · w · 2(v − y) / total`, and 0 where `total` is 0: (gradient constant `[]`, values `[]`,
    /// labels `[]`, weights `[]`, sum of weights constant `[]`) → `[]`.
    SquaredError,
}

impl GradientOp {
    /// Short name for messages.
    pub fn name(&self) -> &'static str {
        match self {
            GradientOp::One => "one",
            GradientOp::SumRows { .. } => "sum-rows",
            GradientOp::MeanRows => "mean-rows-gradient",
            GradientOp::SumByRequest => "sum-by-request",
            GradientOp::SumSequence => "sum-sequence",
            GradientOp::PoolSequence(_) => "pool-sequence-gradient",
            GradientOp::WeightedSumWeights => "weighted-sum-weights-gradient",
            GradientOp::WeightedSumRows => "weighted-sum-rows-gradient",
            GradientOp::GruStates => "gru-states",
            GradientOp::GruGates => "gru-gates-gradient",
            GradientOp::Unsqueeze => "unsqueeze",
            GradientOp::PadColumns { .. } => "pad-columns",
            GradientOp::ScatterRows { .. } => "scatter-rows",
            GradientOp::MatMulInput => "matmul-input-gradient",
            GradientOp::MatMulWeight => "matmul-weight-gradient",
            GradientOp::Relu => "relu-gradient",
            GradientOp::Sigmoid => "sigmoid-gradient",
            GradientOp::Activation(_) => "activation-gradient",
            GradientOp::Softmax => "softmax-gradient",
            GradientOp::Standardize { .. } => "standardize",
            GradientOp::StandardizeInput { .. } => "standardize-gradient",
            GradientOp::InverseDeviation { .. } => "inverse-deviation",
            GradientOp::InverseRoot => "inverse-root",
            GradientOp::TraceNorm { .. } => "trace-norm-gradient",
            GradientOp::MixGate => "mix-gate-gradient",
            GradientOp::MixExpert { .. } => "mix-expert-gradient",
            GradientOp::BceWithLogits => "bce-with-logits-gradient",
            GradientOp::Bce => "bce-gradient",
            GradientOp::SquaredError => "squared-error-gradient",
        }
    }

    /// The fact of the result, given the facts of the inputs.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn infer(&self, inputs: &[&Fact]) -> Result<Fact, String> {
        let level = level_of(inputs);
        match self {
            GradientOp::One => {
                let [] = arity(inputs)?;
                Ok(Fact::f32(Level::Constant, &[]))
            }
            GradientOp::SumRows { rank } => {
                let [x] = arity(inputs)?;
                expect(x, None, ElementType::F32, None)?;
                if x.level == Level::Constant {
                    return Err(format!("sums rows, but {x} has none"));
                }
                let Some(first) = x.dims.len().checked_sub(*rank) else {
                    return Err(format!("cannot keep {rank} dimensions of {x}"));
                };
                Ok(Fact::f32(Level::Constant, &x.dims[first..]))
            }
            GradientOp::MeanRows => {
                let (g, x) = match inputs {
                    [g, x] => (g, x),
                    [g, x, weights, total] => {
                        expect(weights, Some(level), ElementType::F32, Some(0))?;
                        expect(total, Some(Level::Constant), ElementType::F32, Some(0))?;
                        (g, x)
                    }
                    _ => return Err(format!("takes 2 or 4 inputs, found {}", inputs.len())),
                };
                expect(g, Some(Level::Constant), ElementType::F32, None)?;
                expect(x, Some(level), ElementType::F32, None)?;
                if level == Level::Constant || g.dims != x.dims {
                    return Err(format!("cannot share {g} among the rows of {x}"));
                }
                Ok((*x).clone())
            }
            GradientOp::SumByRequest => {
                let [x, request_of] = arity(inputs)?;
                expect(x, Some(Level::Candidate), ElementType::F32, None)?;
                expect(request_of, Some(Level::Candidate), ElementType::I32, Some(0))?;
                Ok(Fact::f32(Level::Request, &x.dims))
            }
            GradientOp::SumSequence => {
                let [x] = arity(inputs)?;
                expect(x, None, ElementType::F32, Some(2))?;
                Ok(Fact::f32(x.level, &x.dims[1..]))
            }
            GradientOp::PoolSequence(_) => {
                let [g, x, codes] = arity(inputs)?;
                expect_sequence(x, codes)?;
                expect_row(g, level, x.dims[1])?;
                Ok(x.clone())
            }
            GradientOp::WeightedSumWeights => {
                let [g, x] = arity(inputs)?;
                expect(x, Some(level), ElementType::F32, Some(2))?;
                expect_row(g, level, x.dims[1])?;
                Ok(Fact::f32(level, &x.dims[..1]))
            }
            GradientOp::WeightedSumRows => {
                let [g, weights] = arity(inputs)?;
                for fact in [g, weights] {
                    expect(fact, Some(level), ElementType::F32, Some(1))?;
                }
                Ok(Fact::f32(level, &[weights.dims[0], g.dims[0]]))
            }
            GradientOp::GruStates => Ok(Fact::f32(level, &gru_dims(inputs)?)),
            GradientOp::GruGates => {
                let [g, states, operands @ ..] = inputs else {
                    return Err("needs a gradient, states and the operands of a GRU".into());
                };
                let [length, state] = gru_dims(operands)?;
                expect_row(g, level, state)?;
                if **states != Fact::f32(level, &[length, state]) {
                    return Err(format!("{states} are not the states of this GRU"));
                }
                Ok(Fact::f32(level, &[length, 4 * state]))
            }
            GradientOp::Unsqueeze => {
                let [x] = arity(inputs)?;
                expect(x, None, ElementType::F32, None)?;
                Ok(Fact::f32(x.level, &[x.dims.as_slice(), &[1]].concat()))
            }
            GradientOp::PadColumns { start, columns } => {
                let [x] = arity(inputs)?;
                expect(x, None, ElementType::F32, None)?;
                let (positions, held) = rows_of(x);
                if start + held > *columns {
                    return Err(format!("{x} from column {start} on does not fit {columns} columns"));
                }
                Ok(Fact::f32(x.level, &[positions, &[*columns]].concat()))
            }
            GradientOp::ScatterRows { ranges, rows } => {
                let [x] = arity(inputs)?;
                expect(x, Some(Level::Constant), ElementType::F32, Some(2))?;
                if let Some((start, end)) = ranges.iter().find(|(s, e)| s >= e || e > rows) {
                    return Err(format!("rows {start}..{end} of {rows} do not exist"));
                }
                let held: usize = ranges.iter().map(|(start, end)| end - start).sum();
                if held != x.dims[0] {
                    return Err(format!("ranges of {held} rows for {x}"));
                }
                Ok(Fact::f32(Level::Constant, &[*rows, x.dims[1]]))
            }
            GradientOp::MatMulInput => {
                let [g, w] = arity(inputs)?;
                expect(g, None, ElementType::F32, None)?;
                expect(w, Some(Level::Constant), ElementType::F32, Some(2))?;
                let (positions, columns) = rows_of(g);
                if g.level == Level::Constant || columns != w.dims[1] {
                    return Err(format!("cannot multiply {g} by the transpose of {w}"));
                }
                Ok(Fact::f32(g.level, &[positions, &w.dims[..1]].concat()))
            }
            GradientOp::MatMulWeight => {
                let [x, g] = arity(inputs)?;
                for fact in [x, g] {
                    expect(fact, Some(level), ElementType::F32, None)?;
                }
                let ((of_x, inner), (of_g, columns)) = (rows_of(x), rows_of(g));
                if level == Level::Constant || of_x != of_g {
                    return Err(format!("sums over rows, but {x} and {g} have not the same ones"));
                }
                Ok(Fact::f32(Level::Constant, &[inner, columns]))
            }
            GradientOp::Standardize { .. } => {
                let [x] = arity(inputs)?;
                expect(x, None, ElementType::F32, None)?;
                Ok(x.clone())
            }
            GradientOp::InverseDeviation { .. } => {
                let [x] = arity(inputs)?;
                expect(x, Some(Level::Constant), ElementType::F32, None)?;
                Ok(x.clone())
            }
            GradientOp::InverseRoot => {
                expect_columns(inputs)?;
                Ok(Fact::f32(Level::Constant, &[inputs.len(), inputs.len()]))
            }
            GradientOp::TraceNorm { column } => {
                let [g, root, columns @ ..] = inputs else {
                    return Err("needs a gradient, an inverse root and columns".into());
                };
                expect_constant(g, &[])?;
                expect_columns(columns)?;
                expect_constant(root, &[columns.len(), columns.len()])?;
                let column = columns.get(*column).ok_or_else(|| format!("there is no column {column}"))?;
                Ok((*column).clone())
            }
            GradientOp::Relu
            | GradientOp::Sigmoid
            | GradientOp::Activation(_)
            | GradientOp::StandardizeInput { .. }
            | GradientOp::Softmax => {
                let [g, y] = arity(inputs)?;
                let rank = (*self == GradientOp::Softmax).then_some(1);
                for fact in [g, y] {
                    expect(fact, Some(level), ElementType::F32, rank)?;
                }
                if g.dims != y.dims {
                    return Err(format!("dimensions differ: {g} and {y}"));
                }
                Ok(g.clone())
            }
            GradientOp::MixGate => {
                let (g, experts) = inputs.split_first().ok_or("needs a gradient")?;
                if experts.is_empty() {
                    return Err("needs at least one expert".into());
                }
                for fact in inputs {
                    expect(fact, Some(level), ElementType::F32, Some(1))?;
                    if fact.dims != g.dims {
                        return Err(format!("dimensions differ: {g} and {fact}"));
                    }
                }
                Ok(Fact::f32(level, &[experts.len()]))
            }
            GradientOp::MixExpert { expert } => {
                let [g, gate] = arity(inputs)?;
                expect(g, Some(level), ElementType::F32, Some(1))?;
                let constant = (gate.level == Level::Constant).then_some(Level::Constant);
                expect(gate, constant.or(Some(level)), ElementType::F32, Some(1))?;
                if *expert >= gate.dims[0] {
                    return Err(format!("expert {expert} has no place in the gate {gate}"));
                }
                Ok(g.clone())
            }
            GradientOp::BceWithLogits | GradientOp::Bce | GradientOp::SquaredError => {
                let [g, z, labels, weights, total] = arity(inputs)?;
                for fact in [g, total] {
                    expect(fact, Some(Level::Constant), ElementType::F32, Some(0))?;
                }
                for fact in [z, labels, weights] {
                    expect(fact, Some(level), ElementType::F32, Some(0))?;
                }
                Ok(z.clone())
            }
        }
    }
}

/// Requires rows of `columns` numbers at a level.
fn expect_row(fact: &Fact, level: Level, columns: usize) -> Result<(), String> {
    expect(fact, Some(level), ElementType::F32, Some(1))?;
    if fact.dims[0] != columns {
        return Err(format!("needs rows of {columns} numbers, found {fact}"));
    }
    Ok(())
}
