//! The closed set of operations and their shape rules.
//!
//! Levels follow one rule everywhere: a result has the highest level of its inputs, and inputs of
//! an element-wise op must stand at the same level or be constant. Going from request rows to
//! candidate rows is always explicit, by [`Op::Expand`].

use crate::{
    fact::{ElementType, Fact, Level},
    gradient_op::GradientOp,
    graph::ParamId,
};

/// An operation. `[n]` below means "a row of n numbers" at any row level; a dimension list after
/// "constant" has no rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A value given at run time. No inputs.
    Input {
        /// Name of the graph input.
        name: String,
    },
    /// A parameter's value. No inputs.
    Parameter(ParamId),
    /// Rows of a table: (constant `[rows, d]`, codes `[]`) → `[d]`.
    Lookup,
    /// Mean of the rows of a table over the codes that are not padding: (constant `[rows, d]`,
    /// codes `[l]`) → `[d]`; zero where every code is padding. Row 0 of the table is zero.
    LookupMean,
    /// Joins rows end to end: any number of `[n_i]` at one level → `[Σ n_i]`. A `[]` counts as
    /// one number.
    Concat,
    /// Columns `start..end` of each row: `[n]` → `[end − start]`.
    SliceColumns {
        /// First column.
        start: usize,
        /// One past the last column.
        end: usize,
    },
    /// Row ranges of a constant, in order: constant `[n, d]` → constant `[Σ lengths, d]`.
    SliceRows {
        /// `(start, end)` pairs.
        ranges: Vec<(usize, usize)>,
    },
    /// Matrix product: (`[i]`, constant `[i, o]`) → `[o]`.
    MatMul,
    /// Element-wise sum of equal dimensions; a constant is repeated over rows.
    Add,
    /// Element-wise product of equal dimensions; a constant is repeated over rows.
    Mul,
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(−x))`.
    Sigmoid,
    /// Softmax over each row.
    Softmax,
    /// Drops a dimension of one: `[1]` → `[]`.
    Squeeze,
    /// Weighted sum of experts: (gate `[e]`, then e experts `[d]`) → `[d]`: `Σ gate_i · expert_i`.
    Mix,
    /// Repeats request rows for their candidates: (request `[..]`, `request_of` candidate `i32 []`)
    /// → candidate `[..]`.
    Expand,
    /// Mean binary cross-entropy of logits: (logits `[]`, labels `[]`, weights `[]`) → constant `[]`:
    /// `Σ w·(softplus(z) − z·y) / Σ w`, and 0 where every weight is 0.
    BceWithLogits,
    /// Mean binary cross-entropy of probabilities, each clamped to `[1e-7, 1 − 1e-7]`:
    /// (p `[]`, labels `[]`, weights `[]`) → constant `[]`, and 0 where every weight is 0.
    Bce,
    /// Mean squared error: (values `[]`, labels `[]`, weights `[]`) → constant `[]`:
    /// `Σ w·(v − y)² / Σ w`, and 0 where every weight is 0.
    SquaredError,
    /// Multiplies by a number.
    Scale(f32),
    /// An operation that only derivatives need.
    Gradient(GradientOp),
}

impl Op {
    /// Short name for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input { .. } => "input",
            Op::Parameter(_) => "parameter",
            Op::Lookup => "lookup",
            Op::LookupMean => "lookup-mean",
            Op::Concat => "concat",
            Op::SliceColumns { .. } => "slice-columns",
            Op::SliceRows { .. } => "slice-rows",
            Op::MatMul => "matmul",
            Op::Add => "add",
            Op::Mul => "mul",
            Op::Relu => "relu",
            Op::Sigmoid => "sigmoid",
            Op::Softmax => "softmax",
            Op::Squeeze => "squeeze",
            Op::Mix => "mix",
            Op::Expand => "expand",
            Op::BceWithLogits => "bce-with-logits",
            Op::Bce => "bce",
            Op::SquaredError => "squared-error",
            Op::Scale(_) => "scale",
            Op::Gradient(op) => op.name(),
        }
    }

    /// The fact of the result, given the facts of the inputs. Inputs and parameters carry their
    /// own fact and are not asked.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn infer(&self, inputs: &[&Fact]) -> Result<Fact, String> {
        let level = level_of(inputs);
        match self {
            Op::Input { .. } | Op::Parameter(_) => Err("carries its own fact".into()),
            Op::Lookup | Op::LookupMean => {
                let [table, codes] = arity(inputs)?;
                expect(table, Some(Level::Constant), ElementType::F32, Some(2))?;
                let code_dims = if *self == Op::Lookup { 0 } else { 1 };
                expect(codes, None, ElementType::I32, Some(code_dims))?;
                Ok(Fact::f32(codes.level, &table.dims[1..]))
            }
            Op::Concat => {
                let mut columns = 0;
                for fact in inputs {
                    expect(fact, Some(level), ElementType::F32, None)?;
                    if fact.dims.len() > 1 {
                        return Err(format!("joins rows of numbers, found {fact}"));
                    }
                    columns += fact.row_len();
                }
                if inputs.is_empty() || level == Level::Constant {
                    return Err("needs at least one input with rows".into());
                }
                Ok(Fact::f32(level, &[columns]))
            }
            Op::SliceColumns { start, end } => {
                let [x] = arity(inputs)?;
                expect(x, None, ElementType::F32, Some(1))?;
                if start >= end || *end > x.dims[0] {
                    return Err(format!("columns {start}..{end} of {x} do not exist"));
                }
                Ok(Fact::f32(x.level, &[end - start]))
            }
            Op::SliceRows { ranges } => {
                let [x] = arity(inputs)?;
                expect(x, Some(Level::Constant), ElementType::F32, Some(2))?;
                if let Some((start, end)) = ranges.iter().find(|(s, e)| s >= e || *e > x.dims[0]) {
                    return Err(format!("rows {start}..{end} of {x} do not exist"));
                }
                let rows = ranges.iter().map(|(start, end)| end - start).sum();
                Ok(Fact::f32(Level::Constant, &[rows, x.dims[1]]))
            }
            Op::MatMul => {
                let [x, w] = arity(inputs)?;
                expect(x, None, ElementType::F32, Some(1))?;
                expect(w, Some(Level::Constant), ElementType::F32, Some(2))?;
                if x.level == Level::Constant || x.dims[0] != w.dims[0] {
                    return Err(format!("cannot multiply {x} by {w}"));
                }
                Ok(Fact::f32(x.level, &w.dims[1..]))
            }
            Op::Add | Op::Mul => {
                let [a, b] = arity(inputs)?;
                for fact in [a, b] {
                    expect(fact, None, ElementType::F32, None)?;
                    if fact.level != level && fact.level != Level::Constant {
                        return Err(format!("{a} and {b} stand at different levels: expand first"));
                    }
                }
                if a.dims != b.dims {
                    return Err(format!("dimensions differ: {a} and {b}"));
                }
                Ok(Fact::f32(level, &a.dims))
            }
            Op::Relu | Op::Sigmoid | Op::Scale(_) => {
                let [x] = arity(inputs)?;
                expect(x, None, ElementType::F32, None)?;
                Ok(x.clone())
            }
            Op::Softmax => {
                let [x] = arity(inputs)?;
                expect(x, None, ElementType::F32, Some(1))?;
                Ok(x.clone())
            }
            Op::Squeeze => {
                let [x] = arity(inputs)?;
                expect(x, None, ElementType::F32, Some(1))?;
                if x.dims[0] != 1 {
                    return Err(format!("can drop only a dimension of one, found {x}"));
                }
                Ok(Fact::f32(x.level, &[]))
            }
            Op::Mix => {
                let (gate, experts) = inputs.split_first().ok_or("needs a gate")?;
                expect(gate, None, ElementType::F32, Some(1))?;
                let first = experts.first().ok_or("needs at least one expert")?;
                if gate.dims[0] != experts.len() {
                    return Err(format!("{} experts for the gate {gate}", experts.len()));
                }
                for expert in experts {
                    expect(expert, Some(gate.level), ElementType::F32, Some(1))?;
                    if expert.dims != first.dims {
                        return Err(format!("experts differ: {first} and {expert}"));
                    }
                }
                Ok((*first).clone())
            }
            Op::Expand => {
                let [x, request_of] = arity(inputs)?;
                expect(x, Some(Level::Request), ElementType::F32, None)?;
                expect(request_of, Some(Level::Candidate), ElementType::I32, Some(0))?;
                Ok(Fact::f32(Level::Candidate, &x.dims))
            }
            Op::BceWithLogits | Op::Bce | Op::SquaredError => {
                for fact in arity::<3>(inputs)? {
                    expect(fact, Some(level), ElementType::F32, Some(0))?;
                }
                Ok(Fact::f32(Level::Constant, &[]))
            }
            Op::Gradient(op) => op.infer(inputs),
        }
    }
}

/// The highest level of the inputs.
pub(crate) fn level_of(inputs: &[&Fact]) -> Level {
    inputs.iter().map(|fact| fact.level).max().unwrap_or(Level::Constant)
}

pub(crate) fn arity<'a, const N: usize>(inputs: &[&'a Fact]) -> Result<[&'a Fact; N], String> {
    inputs.try_into().map_err(|_| format!("takes {N} inputs, found {}", inputs.len()))
}

pub(crate) fn expect(
    fact: &Fact,
    level: Option<Level>,
    element: ElementType,
    rank: Option<usize>,
) -> Result<(), String> {
    if level.is_some_and(|level| level != fact.level) {
        return Err(format!("needs a value at {:?} level, found {fact}", level.unwrap_or(fact.level)));
    }
    if fact.element != element {
        return Err(format!("needs elements {element:?}, found {fact}"));
    }
    if rank.is_some_and(|rank| rank != fact.dims.len()) {
        return Err(format!("needs {} dimensions after the rows, found {fact}", rank.unwrap_or(0)));
    }
    Ok(())
}
