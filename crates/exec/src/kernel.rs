//! The arithmetic. Steps at row level see a chunk of rows, steps on constants one row; sums over
//! rows are cut into tasks of a fixed size. No kernel knows how many threads there are.

mod activation;
mod calibrate;
mod dropout;
mod elementwise;
mod gru;
mod loss;
mod matrix;
mod normalize;
mod row;
mod sequence;
mod sum;
mod trace_norm;

use gatefold_graph::{GradientOp, Op};

use crate::{
    executor::Context,
    plan::{Part, Step, StepKind},
    wide,
};
pub(crate) use sum::{SumTask, sum_tasks};

/// Runs a step that is not a sum over rows; `out` holds the rows of its result.
pub(crate) fn run(step: &Step, context: &Context<'_>, out: &mut [f32]) {
    wide::run(StepWork { step, context, out });
}

struct StepWork<'a> {
    step: &'a Step,
    context: &'a Context<'a>,
    out: &'a mut [f32],
}

impl wide::Work for StepWork<'_> {
    #[inline(always)]
    fn run(self) {
        run_step(self.step, self.context, self.out);
    }
}

#[inline(always)]
fn run_step(step: &Step, context: &Context<'_>, out: &mut [f32]) {
    let read = |input: usize| context.f32(step.inputs[input]);
    let width = |input: usize| context.row_len(step.inputs[input]);
    let columns = |input: usize| context.columns(step.inputs[input]);
    let out_width = context.row_len(step.output);
    match &step.kind {
        StepKind::Linear { relu } => {
            matrix::multiply(out, read(0), read(1), columns(0), false);
            elementwise::add_bias(out, read(2), *relu);
        }
        StepKind::MatMulInputSum { masked } => {
            let terms = (step.inputs.len() - usize::from(*masked)) / 2;
            for term in 0..terms {
                matrix::multiply(out, read(2 * term), read(2 * term + 1), columns(2 * term), term > 0);
            }
            if *masked {
                elementwise::mask(out, read(2 * terms));
            }
        }
        StepKind::MixExpertSum { experts, masked } => {
            for (term, expert) in experts.iter().enumerate() {
                let gate =
                    row::Gate { shares: read(2 * term + 1), experts: width(2 * term + 1), expert: *expert };
                row::mix_expert(out, out_width, read(2 * term), gate, term > 0);
            }
            if *masked {
                elementwise::mask(out, read(2 * experts.len()));
            }
        }
        StepKind::Gather(parts) => {
            let (mut inputs, mut start) = (0..step.inputs.len(), 0);
            let out_width = context.columns(step.output);
            for part in parts {
                let Some(input) = inputs.next() else { break };
                let count = columns(input);
                match (part, inputs.start) {
                    (Part::Lookup, codes) => {
                        inputs.next();
                        let rows = row::TableRows { table: read(input), width: count };
                        rows.copy(out, out_width, start, context.i32(step.inputs[codes]));
                    }
                    (Part::Value, _) => {
                        row::copy_columns(out, out_width, start, read(input), count, 0, count);
                    }
                }
                start += count;
            }
        }
        StepKind::Transpose => matrix::transpose(out, read(0), columns(0)),
        StepKind::TransposeRows => matrix::transpose(out, read(0), out_width),
        StepKind::MatMulWeightTransposed => unreachable!("is a sum over rows"),
        StepKind::Single(op) => match op {
            Op::Input { .. } | Op::Parameter(_) => unreachable!("is not computed"),
            Op::Lookup | Op::LookupEach => {
                row::lookup(out, columns(0), read(0), context.i32(step.inputs[1]));
            }
            Op::LookupMean => row::lookup_mean(out, out_width, read(0), context.i32(step.inputs[1])),
            Op::RepeatRows { .. } => sequence::repeat(out, out_width, read(0), width(0)),
            Op::PoolSequence(pool) => {
                let rows =
                    sequence::Rows { x: read(0), codes: context.i32(step.inputs[1]), length: width(1) };
                sequence::pool(out, out_width, *pool, rows);
            }
            Op::WeightedSum => sequence::weighted_sum(out, out_width, read(0), read(1), width(0)),
            Op::Gru => {
                let gru = gru::Gru { state: out_width, weights: [2, 3, 4, 5].map(read) };
                gru.run(gru::Steps { x: read(0), codes: context.i32(step.inputs[1]), length: width(1) }, out);
            }
            Op::Concat => {
                let mut start = 0;
                let out_width = context.columns(step.output);
                for input in 0..step.inputs.len() {
                    row::copy_columns(out, out_width, start, read(input), columns(input), 0, columns(input));
                    start += columns(input);
                }
            }
            Op::SliceColumns { start, end } => {
                row::copy_columns(out, end - start, 0, read(0), columns(0), *start, end - start);
            }
            Op::SliceRows { ranges } => row::slice_rows(out, read(0), ranges),
            Op::MatMul => matrix::multiply(out, read(0), read(1), columns(0), false),
            Op::Add => elementwise::zip(out, read(0), read(1), |a, b| a + b),
            Op::Mul => elementwise::zip(out, read(0), read(1), |a, b| a * b),
            Op::Dot => row::mix_gate(out, 1, 0, read(0), read(1)),
            Op::Relu => elementwise::map(out, read(0), elementwise::relu),
            Op::Sigmoid => elementwise::map(out, read(0), sigmoid),
            Op::Activation(activation) => activation::apply(out, *activation, read(0)),
            Op::Exp => elementwise::map(out, read(0), f32::exp),
            Op::Softmax => row::softmax(out, out_width, read(0)),
            Op::Squeeze | Op::Detach => out.copy_from_slice(read(0)),
            Op::Mix => {
                for expert in 1..step.inputs.len() {
                    let gate = row::Gate { shares: read(0), experts: width(0), expert: expert - 1 };
                    row::mix_expert(out, out_width, read(expert), gate, expert > 1);
                }
            }
            Op::Expand => row::expand(out, out_width, read(0), context.i32(step.inputs[1])),
            Op::SumSquares => out.fill(sum_of_squares(read(0))),
            Op::TraceNorm => {
                let columns: Vec<&[f32]> = (0..step.inputs.len()).map(read).collect();
                out.fill(trace_norm::trace_norm(&columns));
            }
            Op::LayerNorm { epsilon } => {
                normalize::standardize(out, read(0), width(1), *epsilon);
                elementwise::scale_and_shift(out, read(1), read(2));
            }
            Op::BatchNorm { epsilon } => {
                let (scale, shift) = normalize::scale_and_shift([1, 2, 3, 4].map(read), *epsilon);
                out.copy_from_slice(read(0));
                elementwise::scale_and_shift(out, &scale, &shift);
            }
            Op::Dropout { rate, salt } => {
                let seed = context.i32(step.inputs[1]);
                dropout::apply(
                    out,
                    out_width,
                    read(0),
                    dropout::Key::new(seed, *salt),
                    *rate,
                    context.rows(),
                );
            }
            Op::Calibrate => elementwise::map(out, read(0), |x| calibrate::interpolate(read(1), read(2), x)),
            Op::Scale(factor) => elementwise::map(out, read(0), |x| x * factor),
            Op::BceWithLogits | Op::Bce | Op::SquaredError | Op::MeanRows => {
                unreachable!("is a sum over rows")
            }
            Op::Gradient(op) => run_gradient(op, step, context, out),
        },
    }
}

#[inline(always)]
fn run_gradient(op: &GradientOp, step: &Step, context: &Context<'_>, out: &mut [f32]) {
    let read = |input: usize| context.f32(step.inputs[input]);
    let width = |input: usize| context.row_len(step.inputs[input]);
    let out_width = context.row_len(step.output);
    match op {
        GradientOp::SumRows { .. } | GradientOp::MatMulWeight => unreachable!("is a sum over rows"),
        GradientOp::One => out.fill(1.0),
        GradientOp::SumByRequest => {
            row::sum_by_request(out, out_width, read(0), context.i32(step.inputs[1]), context.rows());
        }
        GradientOp::SumSequence => sequence::sum(out, out_width, read(0), width(0)),
        GradientOp::PoolSequence(pool) => {
            let rows = sequence::Rows { x: read(1), codes: context.i32(step.inputs[2]), length: width(2) };
            sequence::pool_gradient(out, width(0), *pool, read(0), rows);
        }
        GradientOp::WeightedSumWeights => {
            sequence::weighted_sum_weights(out, out_width, read(0), read(1), width(0));
        }
        GradientOp::WeightedSumRows => {
            sequence::weighted_sum_rows(out, width(1), read(0), read(1), width(0));
        }
        GradientOp::GruStates => {
            let gru = gru::Gru { state: context.columns(step.output), weights: [2, 3, 4, 5].map(read) };
            gru.states(gru::Steps { x: read(0), codes: context.i32(step.inputs[1]), length: width(1) }, out);
        }
        GradientOp::GruGates => {
            let gru = gru::Gru { state: width(0), weights: [4, 5, 6, 7].map(read) };
            let steps = gru::Steps { x: read(2), codes: context.i32(step.inputs[3]), length: width(3) };
            gru.gates_gradient(steps, read(0), read(1), out);
        }
        GradientOp::Unsqueeze => out.copy_from_slice(read(0)),
        GradientOp::PadColumns { start, .. } => {
            out.fill(0.0);
            let held = context.columns(step.inputs[0]);
            row::copy_columns(out, context.columns(step.output), *start, read(0), held, 0, held);
        }
        GradientOp::ScatterRows { ranges, rows } => {
            row::scatter_rows(out, read(0), ranges, out_width / rows.max(&1));
        }
        GradientOp::MatMulInput => unreachable!("is planned as a sum"),
        GradientOp::Relu => {
            out.copy_from_slice(read(0));
            elementwise::mask(out, read(1));
        }
        GradientOp::Sigmoid => elementwise::zip(out, read(0), read(1), |g, y| g * y * (1.0 - y)),
        GradientOp::Activation(activation) => {
            activation::apply_gradient(out, *activation, read(0), read(1));
        }
        GradientOp::Softmax => row::softmax_gradient(out, out_width, read(0), read(1)),
        GradientOp::Standardize { epsilon } => {
            normalize::standardize(out, read(0), context.columns(step.inputs[0]), *epsilon);
        }
        GradientOp::StandardizeInput { epsilon } => {
            normalize::standardize_gradient(out, read(0), read(1), context.columns(step.inputs[1]), *epsilon);
        }
        GradientOp::InverseDeviation { epsilon } => {
            elementwise::map(out, read(0), |variance| 1.0 / (variance + epsilon).sqrt());
        }
        GradientOp::InverseRoot => {
            let columns: Vec<&[f32]> = (0..step.inputs.len()).map(read).collect();
            trace_norm::inverse_root(out, &columns);
        }
        GradientOp::TraceNorm { column } => {
            let columns: Vec<&[f32]> = (2..step.inputs.len()).map(read).collect();
            let factors = read(1).iter().skip(*column).step_by(columns.len()).map(|root| root * read(0)[0]);
            out.fill(0.0);
            for (values, factor) in columns.iter().zip(factors) {
                out.iter_mut().zip(*values).for_each(|(out, value)| *out += factor * value);
            }
        }
        GradientOp::MixGate => {
            for expert in 0..out_width {
                row::mix_gate(out, out_width, expert, read(0), read(expert + 1));
            }
        }
        GradientOp::MixExpert { expert } => {
            let gate = row::Gate { shares: read(1), experts: width(1), expert: *expert };
            row::mix_expert(out, out_width, read(0), gate, false);
        }
        GradientOp::MeanRows if step.inputs.len() == 2 => row::share(out, read(0), context.total_rows()),
        GradientOp::MeanRows => row::weighted_share(out, read(0), read(2), read(3)),
        GradientOp::BceWithLogits => {
            loss::bce_with_logits_gradient(out, [read(0), read(4)], [read(1), read(2), read(3)]);
        }
        GradientOp::Bce => loss::bce_gradient(out, [read(0), read(4)], [read(1), read(2), read(3)]),
        GradientOp::SquaredError => {
            loss::squared_error_gradient(out, [read(0), read(4)], [read(1), read(2), read(3)]);
        }
    }
}

/// Summed up in `f64`.
fn sum_of_squares(x: &[f32]) -> f32 {
    x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() as f32
}

/// `1 / (1 + exp(−x))`, without overflow.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    let small = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) }
}
