//! The shape rule of each operation.

use super::Op;
use crate::fact::{ElementType, Fact, Level};

impl Op {
    /// The fact of the result, given the facts of the inputs. Inputs and parameters carry their
    /// own fact and are not asked.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn infer(&self, inputs: &[&Fact]) -> Result<Fact, String> {
        let level = level_of(inputs);
        match self {
            Op::Input { .. } | Op::Parameter(_) => Err("carries its own fact".into()),
            Op::Lookup | Op::LookupMean | Op::LookupEach => {
                let [table, codes] = arity(inputs)?;
                expect(table, Some(Level::Constant), ElementType::F32, Some(2))?;
                let code_dims = if *self == Op::Lookup { 0 } else { 1 };
                expect(codes, None, ElementType::I32, Some(code_dims))?;
                let positions = if *self == Op::LookupEach { codes.dims.as_slice() } else { &[] };
                Ok(Fact::f32(codes.level, &[positions, &table.dims[1..]].concat()))
            }
            Op::RepeatRows { length } => {
                let [x] = arity(inputs)?;
                expect(x, None, ElementType::F32, Some(1))?;
                if x.level == Level::Constant || *length == 0 {
                    return Err(format!("repeats rows at least once, found {x} and {length}"));
                }
                Ok(Fact::f32(x.level, &[*length, x.dims[0]]))
            }
            Op::PoolSequence(_) => {
                let [x, codes] = arity(inputs)?;
                expect_sequence(x, codes)?;
                Ok(Fact::f32(level, &x.dims[1..]))
            }
            Op::WeightedSum => {
                let [weights, x] = arity(inputs)?;
                for (fact, rank) in [(weights, 1), (x, 2)] {
                    expect(fact, Some(level), ElementType::F32, Some(rank))?;
                }
                if level == Level::Constant || weights.dims[0] != x.dims[0] {
                    return Err(format!("cannot weigh {x} by {weights}"));
                }
                Ok(Fact::f32(level, &x.dims[1..]))
            }
            Op::Gru => {
                let [_, state] = gru_dims(inputs)?;
                Ok(Fact::f32(level, &[state]))
            }
            Op::Concat => {
                let mut columns = 0;
                let positions = inputs.first().map_or(&[][..], |fact| rows_of(fact).0);
                for fact in inputs {
                    expect(fact, Some(level), ElementType::F32, None)?;
                    let (own, width) = rows_of(fact);
                    if own != positions {
                        return Err(format!("joins rows of equal number, found {fact} beside {}", inputs[0]));
                    }
                    columns += width;
                }
                if inputs.is_empty() || level == Level::Constant {
                    return Err("needs at least one input with rows".into());
                }
                Ok(Fact::f32(level, &[positions, &[columns]].concat()))
            }
            Op::SliceColumns { start, end } => {
                let [x] = arity(inputs)?;
                expect(x, None, ElementType::F32, None)?;
                let (positions, columns) = rows_of(x);
                if start >= end || *end > columns || x.dims.is_empty() {
                    return Err(format!("columns {start}..{end} of {x} do not exist"));
                }
                Ok(Fact::f32(x.level, &[positions, &[end - start]].concat()))
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
                expect(x, None, ElementType::F32, None)?;
                expect(w, Some(Level::Constant), ElementType::F32, Some(2))?;
                let (positions, columns) = rows_of(x);
                if x.level == Level::Constant || x.dims.is_empty() || columns != w.dims[0] {
                    return Err(format!("cannot multiply {x} by {w}"));
                }
                Ok(Fact::f32(x.level, &[positions, &w.dims[1..]].concat()))
            }
            Op::Add | Op::Mul => {
                let [a, b] = arity(inputs)?;
                for fact in [a, b] {
                    expect(fact, None, ElementType::F32, None)?;
                    if fact.level != level && fact.level != Level::Constant {
                        return Err(format!("{a} and {b} stand at different levels: expand first"));
                    }
                }
                let dims = match (repeats(a, b), repeats(b, a)) {
                    (true, _) => &b.dims,
                    (_, true) => &a.dims,
                    _ => return Err(format!("dimensions differ: {a} and {b}")),
                };
                Ok(Fact::f32(level, dims))
            }
            Op::Dot => {
                let [a, b] = arity(inputs)?;
                for fact in [a, b] {
                    expect(fact, Some(level), ElementType::F32, Some(1))?;
                }
                if a.dims != b.dims {
                    return Err(format!("dimensions differ: {a} and {b}"));
                }
                Ok(Fact::f32(level, &[]))
            }
            Op::Relu | Op::Sigmoid | Op::Activation(_) | Op::Exp | Op::Scale(_) | Op::Detach => {
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
                expect(x, None, ElementType::F32, None)?;
                let Some((1, dims)) = x.dims.split_last() else {
                    return Err(format!("can drop only a dimension of one, found {x}"));
                };
                Ok(Fact::f32(x.level, dims))
            }
            Op::Mix => {
                let (gate, experts) = inputs.split_first().ok_or("needs a gate")?;
                expect(gate, None, ElementType::F32, Some(1))?;
                let first = experts.first().ok_or("needs at least one expert")?;
                if gate.dims[0] != experts.len() {
                    return Err(format!("{} experts for the gate {gate}", experts.len()));
                }
                if gate.level != first.level && gate.level != Level::Constant {
                    return Err(format!(
                        "the gate {gate} and {first} stand at different levels: expand first"
                    ));
                }
                for expert in experts {
                    expect(expert, Some(first.level), ElementType::F32, Some(1))?;
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
            Op::MeanRows => {
                let (x, weights) = inputs.split_first().ok_or("needs a value to average")?;
                expect(x, None, ElementType::F32, None)?;
                if x.level == Level::Constant || weights.len() > 1 {
                    return Err(format!(
                        "averages rows of one value, found {} inputs, {x} first",
                        inputs.len()
                    ));
                }
                for weights in weights {
                    expect(weights, Some(x.level), ElementType::F32, Some(0))?;
                }
                Ok(Fact::f32(Level::Constant, &x.dims))
            }
            Op::SumSquares => {
                let [x] = arity(inputs)?;
                expect(x, Some(Level::Constant), ElementType::F32, None)?;
                Ok(Fact::f32(Level::Constant, &[]))
            }
            Op::TraceNorm => {
                expect_columns(inputs)?;
                Ok(Fact::f32(Level::Constant, &[]))
            }
            Op::LayerNorm { .. } => {
                let [x, gamma, beta] = arity(inputs)?;
                expect(x, None, ElementType::F32, None)?;
                let columns = x.dims.last().ok_or_else(|| format!("needs rows of numbers, found {x}"))?;
                for fact in [gamma, beta] {
                    expect_constant(fact, &[*columns])?;
                }
                Ok(x.clone())
            }
            Op::BatchNorm { .. } => {
                let [x, mean, variance, gamma, beta] = arity(inputs)?;
                expect(x, None, ElementType::F32, Some(1))?;
                for fact in [mean, variance, gamma, beta] {
                    expect_constant(fact, &x.dims)?;
                }
                Ok(x.clone())
            }
            Op::Dropout { rate, .. } => {
                let [x, seed] = arity(inputs)?;
                expect(x, None, ElementType::F32, None)?;
                expect(seed, Some(Level::Constant), ElementType::I32, Some(0))?;
                if x.level == Level::Constant || !(0.0..1.0).contains(rate) {
                    return Err(format!("zeroes rows at a rate in [0, 1), found {x} and {rate}"));
                }
                Ok(x.clone())
            }
            Op::Calibrate => {
                let [x, knots, values] = arity(inputs)?;
                expect(x, None, ElementType::F32, Some(0))?;
                expect(knots, Some(Level::Constant), ElementType::F32, Some(1))?;
                expect_constant(values, &knots.dims)?;
                if x.level == Level::Constant || knots.dims[0] < 2 {
                    return Err(format!("maps rows by at least two knots, found {x} and {knots}"));
                }
                Ok(x.clone())
            }
            Op::Gradient(op) => op.infer(inputs),
        }
    }
}

/// The highest level of the inputs.
pub(crate) fn level_of(inputs: &[&Fact]) -> Level {
    inputs.iter().map(|fact| fact.level).max().unwrap_or(Level::Constant)
}

/// Whether a value of these dimensions fits beside `whole`: equal, or a constant that lacks the
/// first of them and is repeated.
fn repeats(part: &Fact, whole: &Fact) -> bool {
    part.dims == whole.dims || (part.level == Level::Constant && whole.dims.ends_with(&part.dims))
}

/// The dimensions before the last, and the last: a `[]` is one number.
pub(crate) fn rows_of(fact: &Fact) -> (&[usize], usize) {
    fact.dims.split_last().map_or((&[], 1), |(columns, positions)| (positions, *columns))
}

/// Requires rows `[l, d]` and codes `[l]` at one level.
pub(crate) fn expect_sequence(x: &Fact, codes: &Fact) -> Result<(), String> {
    expect(x, None, ElementType::F32, Some(2))?;
    expect(codes, Some(x.level), ElementType::I32, Some(1))?;
    if x.level == Level::Constant || x.dims[0] != codes.dims[0] {
        return Err(format!("{x} is no sequence of the codes {codes}"));
    }
    Ok(())
}

/// Length and width of the state of a GRU with these operands, which must fit each other.
pub(crate) fn gru_dims(inputs: &[&Fact]) -> Result<[usize; 2], String> {
    let [x, codes, input_weights, state_weights, input_bias, state_bias] = arity(inputs)?;
    expect_sequence(x, codes)?;
    expect(state_weights, Some(Level::Constant), ElementType::F32, Some(2))?;
    let state = state_weights.dims[0];
    expect_constant(state_weights, &[state, 3 * state])?;
    expect_constant(input_weights, &[x.dims[1], 3 * state])?;
    for bias in [input_bias, state_bias] {
        expect_constant(bias, &[3 * state])?;
    }
    Ok([x.dims[0], state])
}

/// Requires at least two float constants of equal dimensions.
pub(crate) fn expect_columns(columns: &[&Fact]) -> Result<(), String> {
    let [first, _, ..] = columns else {
        return Err(format!("needs at least two constants, found {}", columns.len()));
    };
    columns.iter().try_for_each(|column| expect_constant(column, &first.dims))
}

/// Requires a float constant of these dimensions.
pub(crate) fn expect_constant(fact: &Fact, dims: &[usize]) -> Result<(), String> {
    expect(fact, Some(Level::Constant), ElementType::F32, None)?;
    if fact.dims != dims {
        return Err(format!("needs a constant of {dims:?}, found {fact}"));
    }
    Ok(())
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
