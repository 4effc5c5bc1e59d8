//! Sums over all rows of a batch: gradients of weights and biases, and losses. Each is cut into
//! tasks by what it writes, so that every number is summed up by one task, in one order.

use gatefold_graph::{GradientOp, Op};

use super::{loss, matrix};
use crate::{
    executor::Environment,
    plan::{CHUNK_ROWS, Step, StepKind},
    wide,
};

/// Rows of a weight gradient that one task computes.
const TILE_ROWS: usize = 512;
/// Rows summed up in `f32` before they are added to an `f64` total.
const BLOCK_ROWS: usize = 256;

/// A part of a sum over rows, with the memory that it alone writes.
pub(crate) struct SumTask<'a> {
    out: &'a mut [f32],
    work: Work<'a>,
}

enum Work<'a> {
    /// Rows `first..` of `xᵀ · g`.
    WeightGradient {
        x: &'a [f32],
        /// Each chunk of rows by itself.
        is_transposed: bool,
        inner: usize,
        g: &'a [f32],
        columns: usize,
        first: usize,
    },
    Rows {
        x: &'a [f32],
    },
    /// The mean of all rows, each as often as its weight says where there are weights.
    Mean {
        x: &'a [f32],
        weights: Option<&'a [f32]>,
    },
    /// A loss of values, labels and weights.
    Loss(Loss, [&'a [f32]; 3]),
}

type Loss = fn(&[f32], &[f32], &[f32]) -> f32;

/// The tasks of one step that [is a reduction](Step::is_reduction).
pub(crate) fn sum_tasks<'a>(
    environment: &'a Environment<'a>,
    step: &Step,
    out: &'a mut [f32],
) -> Vec<SumTask<'a>> {
    let read = |input: usize| environment.f32(step.inputs[input]);
    let width = |input: usize| environment.value(step.inputs[input]).fact.columns();
    let out = &mut out[..environment.value(step.output).row_len];
    match &step.kind {
        StepKind::Single(Op::Gradient(GradientOp::MatMulWeight)) | StepKind::MatMulWeightTransposed => {
            let is_transposed = step.kind == StepKind::MatMulWeightTransposed;
            let (inner, columns) = (width(0), width(1));
            let tiles = inner.div_ceil(TILE_ROWS).max(1);
            let tile_rows = inner.div_ceil(tiles).max(1);
            let tiles = out.chunks_mut((tile_rows * columns).max(1)).enumerate();
            let task = |(tile, out)| SumTask {
                out,
                work: Work::WeightGradient {
                    x: read(0),
                    is_transposed,
                    inner,
                    g: read(1),
                    columns,
                    first: tile * tile_rows,
                },
            };
            tiles.map(task).collect()
        }
        StepKind::Single(Op::Gradient(GradientOp::SumRows { .. })) => {
            vec![SumTask { out, work: Work::Rows { x: read(0) } }]
        }
        StepKind::Single(op @ (Op::BceWithLogits | Op::Bce | Op::SquaredError)) => {
            let loss = match op {
                Op::Bce => loss::bce,
                Op::SquaredError => loss::squared_error,
                _ => loss::bce_with_logits,
            };
            vec![SumTask { out, work: Work::Loss(loss, [read(0), read(1), read(2)]) }]
        }
        StepKind::Single(Op::MeanRows) => {
            let weights = (step.inputs.len() > 1).then(|| read(1));
            vec![SumTask { out, work: Work::Mean { x: read(0), weights } }]
        }
        _ => unreachable!("is not a sum over rows"),
    }
}

impl SumTask<'_> {
    /// Computes the part.
    pub(crate) fn run(self) {
        wide::run(self);
    }
}

impl wide::Work for SumTask<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { out, work } = self;
        match work {
            Work::WeightGradient { x, is_transposed: false, inner, g, columns, first } => {
                matrix::weight_gradient(out, x, inner, g, columns, first);
            }
            Work::WeightGradient { x, is_transposed: true, inner, g, columns, first } => {
                let chunks = (x.chunks(CHUNK_ROWS * inner.max(1)), g.chunks(CHUNK_ROWS * columns.max(1)));
                out.fill(0.0);
                for (x, g) in chunks.0.zip(chunks.1) {
                    matrix::add_weight_gradient_transposed(out, x, g, columns, first);
                }
            }
            Work::Rows { x } => sum_rows(out, x),
            Work::Mean { x, weights: None } => {
                sum_rows(out, x);
                let rows = (x.len() / out.len().max(1)).max(1);
                out.iter_mut().for_each(|sum| *sum /= rows as f32);
            }
            Work::Mean { x, weights: Some(weights) } => weighted_mean(out, x, weights),
            Work::Loss(loss, [values, labels, weights]) => out.fill(loss(values, labels, weights)),
        }
    }
}

/// The sum of all rows of `x`, each as long as `out`.
#[inline(always)]
fn sum_rows(out: &mut [f32], x: &[f32]) {
    let width = out.len().max(1);
    let mut total = vec![0.0_f64; out.len()];
    for block in x.chunks(BLOCK_ROWS * width) {
        out.fill(0.0);
        for row in block.chunks_exact(width) {
            out.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        total.iter_mut().zip(out.iter()).for_each(|(total, sum)| *total += f64::from(*sum));
    }
    out.iter_mut().zip(&total).for_each(|(out, total)| *out = *total as f32);
}

/// `Σ w·x / Σ w` of all rows of `x`, and 0 where every weight is 0.
fn weighted_mean(out: &mut [f32], x: &[f32], weights: &[f32]) {
    let (mut sum, mut total) = (vec![0.0_f64; out.len()], 0.0_f64);
    for (row, weight) in x.chunks_exact(out.len().max(1)).zip(weights) {
        let weight = f64::from(*weight);
        // A row without weight adds nothing, even where it is not finite.
        if weight != 0.0 {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * f64::from(*value));
            total += weight;
        }
    }
    let mean = |sum: f64| if total == 0.0 { 0.0 } else { (sum / total) as f32 };
    out.iter_mut().zip(&sum).for_each(|(out, sum)| *out = mean(*sum));
}
