//! Kernels on sequences: `length` positions a row, each with a row of numbers of its own.

use gatefold_graph::Pool;

use super::row;

/// Sequences with their codes, of which 0 is padding.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) x: &'a [f32],
    pub(super) codes: &'a [i32],
    pub(super) length: usize,
}

impl<'a> Rows<'a> {
    /// Each row's positions, end to end, and its codes.
    fn each(self, width: usize) -> impl Iterator<Item = (&'a [f32], &'a [i32])> {
        let sequences = self.x.chunks_exact((self.length * width).max(1));
        sequences.zip(self.codes.chunks_exact(self.length.max(1)))
    }
}

/// Each row `out_width / width` times.
pub(super) fn repeat(out: &mut [f32], out_width: usize, x: &[f32], width: usize) {
    for (out, x) in out.chunks_exact_mut(out_width.max(1)).zip(x.chunks_exact(width.max(1))) {
        out.chunks_exact_mut(width.max(1)).for_each(|out| out.copy_from_slice(x));
    }
}

/// Sums over positions, `x_width / width` of them.
pub(super) fn sum(out: &mut [f32], width: usize, x: &[f32], x_width: usize) {
    for (out, x) in out.chunks_exact_mut(width.max(1)).zip(x.chunks_exact(x_width.max(1))) {
        out.fill(0.0);
        x.chunks_exact(width.max(1)).for_each(|x| row::add(out, x));
    }
}

/// One row for each sequence, from the positions that are not padding.
pub(super) fn pool(out: &mut [f32], width: usize, pool: Pool, rows: Rows<'_>) {
    for (out, (sequence, codes)) in out.chunks_exact_mut(width.max(1)).zip(rows.each(width)) {
        out.fill(0.0);
        let present = sequence.chunks_exact(width.max(1)).zip(codes).filter(|(_, code)| **code != 0);
        let mut count = 0_u32;
        for (x, _) in present {
            match pool {
                Pool::Max if count > 0 => {
                    // Written so that a NaN stays.
                    out.iter_mut().zip(x).for_each(|(out, x)| *out = if *x <= *out { *out } else { *x });
                }
                Pool::Max => out.copy_from_slice(x),
                Pool::Sum | Pool::Mean => row::add(out, x),
            }
            count += 1;
        }
        if pool == Pool::Mean {
            let share = 1.0 / count.max(1) as f32;
            out.iter_mut().for_each(|value| *value *= share);
        }
    }
}

/// What each position receives of the gradient `g` of the pooled rows.
pub(super) fn pool_gradient(out: &mut [f32], width: usize, pool: Pool, g: &[f32], rows: Rows<'_>) {
    out.fill(0.0);
    let sequences = out.chunks_exact_mut((rows.length * width).max(1)).zip(rows.each(width));
    for ((out, (sequence, codes)), g) in sequences.zip(g.chunks_exact(width.max(1))) {
        let present = || codes.iter().enumerate().filter(|(_, code)| **code != 0).map(|(at, _)| at);
        match pool {
            Pool::Sum | Pool::Mean => {
                let count = if pool == Pool::Mean { present().count().max(1) } else { 1 };
                let share = 1.0 / count as f32;
                for at in present() {
                    let out = &mut out[at * width..][..width];
                    out.iter_mut().zip(g).for_each(|(out, g)| *out = share * g);
                }
            }
            Pool::Max => {
                for (column, g) in g.iter().enumerate() {
                    let x = |at: usize| sequence[at * width + column];
                    let largest = present().reduce(|best, at| if x(at) <= x(best) { best } else { at });
                    if let Some(at) = largest {
                        out[at * width + column] = *g;
                    }
                }
            }
        }
    }
}

/// `Σ w_i · x_i` over the positions.
pub(super) fn weighted_sum(out: &mut [f32], width: usize, weights: &[f32], x: &[f32], length: usize) {
    let sequences = x.chunks_exact((length * width).max(1)).zip(weights.chunks_exact(length.max(1)));
    for (out, (x, weights)) in out.chunks_exact_mut(width.max(1)).zip(sequences) {
        out.fill(0.0);
        for (x, weight) in x.chunks_exact(width.max(1)).zip(weights) {
            out.iter_mut().zip(x).for_each(|(out, x)| *out += weight * x);
        }
    }
}

/// `⟨g, x_i⟩` of each position.
pub(super) fn weighted_sum_weights(out: &mut [f32], length: usize, g: &[f32], x: &[f32], width: usize) {
    let sequences = x.chunks_exact((length * width).max(1)).zip(g.chunks_exact(width.max(1)));
    for (out, (x, g)) in out.chunks_exact_mut(length.max(1)).zip(sequences) {
        let positions = out.iter_mut().zip(x.chunks_exact(width.max(1)));
        positions.for_each(|(out, x)| *out = row::dot(g, x));
    }
}

/// `w_i · g` of each position.
pub(super) fn weighted_sum_rows(out: &mut [f32], length: usize, g: &[f32], weights: &[f32], width: usize) {
    let sequences = g.chunks_exact(width.max(1)).zip(weights.chunks_exact(length.max(1)));
    for (out, (g, weights)) in out.chunks_exact_mut((length * width).max(1)).zip(sequences) {
        for (out, weight) in out.chunks_exact_mut(width.max(1)).zip(weights) {
            out.iter_mut().zip(g).for_each(|(out, g)| *out = weight * g);
        }
    }
}
