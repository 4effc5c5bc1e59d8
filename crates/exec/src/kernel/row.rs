//! Kernels that treat a row at a time. `width` is always that of a row of the result.

use std::ops::Range;

use crate::wide;

/// Codes ahead of the one that is looked up whose rows are asked for: about as many as a core
/// waits for at a time.
const AHEAD: usize = 12;

/// Rows of a table.
#[inline(always)]
pub(super) fn lookup(out: &mut [f32], width: usize, table: &[f32], codes: &[i32]) {
    TableRows { table, width }.copy(out, width, 0, codes);
}

/// A table and the length of its rows.
#[derive(Clone, Copy)]
pub(super) struct TableRows<'a> {
    pub(super) table: &'a [f32],
    pub(super) width: usize,
}

impl TableRows<'_> {
    /// Copies a row for each code, to `start` of the result's rows.
    #[inline(always)]
    pub(super) fn copy(self, out: &mut [f32], out_width: usize, start: usize, codes: &[i32]) {
        let end = start + self.width;
        for (place, (out, code)) in out.chunks_exact_mut(out_width.max(1)).zip(codes).enumerate() {
            if let Some(code) = codes.get(place + AHEAD) {
                wide::prefetch(self.table, *code as usize * self.width, self.width);
            }
            copy(&mut out[start..end], table_row(self.table, self.width, *code));
        }
    }
}

/// Copies a row, in vectors of a fixed length where it can, which needs no call.
#[inline(always)]
fn copy(out: &mut [f32], x: &[f32]) {
    let ((out, out_rest), (x, x_rest)) = (out.as_chunks_mut::<16>(), x.as_chunks::<16>());
    out.iter_mut().zip(x).for_each(|(out, x)| *out = *x);
    out_rest.iter_mut().zip(x_rest).for_each(|(out, x)| *out = *x);
}

/// Means of rows of a table over the codes that are not 0, `codes` holding as many for each row.
#[inline(always)]
pub(super) fn lookup_mean(out: &mut [f32], width: usize, table: &[f32], codes: &[i32]) {
    let rows = out.len().checked_div(width).unwrap_or(0);
    let length = codes.len().checked_div(rows).unwrap_or(0);
    for (out, codes) in out.chunks_exact_mut(width.max(1)).zip(codes.chunks(length.max(1))) {
        out.fill(0.0);
        let mut count = 0_u32;
        for code in codes.iter().filter(|code| **code != 0) {
            add(out, table_row(table, width, *code));
            count += 1;
        }
        let share = 1.0 / count.max(1) as f32;
        out.iter_mut().for_each(|value| *value *= share);
    }
}

/// Copies `count` columns of every row of `x`, from `x_start` on, to `start` of the result's rows.
#[inline(always)]
pub(super) fn copy_columns(
    out: &mut [f32],
    width: usize,
    start: usize,
    x: &[f32],
    x_width: usize,
    x_start: usize,
    count: usize,
) {
    for (out, x) in out.chunks_exact_mut(width.max(1)).zip(x.chunks_exact(x_width.max(1))) {
        copy(&mut out[start..start + count], &x[x_start..x_start + count]);
    }
}

/// Row ranges of a matrix, in order.
#[inline(always)]
pub(super) fn slice_rows(out: &mut [f32], x: &[f32], ranges: &[(usize, usize)]) {
    let rows: usize = ranges.iter().map(|(start, end)| end - start).sum();
    let width = out.len().checked_div(rows).unwrap_or(0);
    let mut written = 0;
    for (start, end) in ranges {
        let part = &x[start * width..end * width];
        out[written..written + part.len()].copy_from_slice(part);
        written += part.len();
    }
}

/// Adds row ranges, which `x` holds in order, into zeros.
#[inline(always)]
pub(super) fn scatter_rows(out: &mut [f32], x: &[f32], ranges: &[(usize, usize)], width: usize) {
    out.fill(0.0);
    let mut read = 0;
    for (start, end) in ranges {
        let part = &mut out[start * width..end * width];
        add(part, &x[read..read + part.len()]);
        read += part.len();
    }
}

/// Softmax of every row.
#[inline(always)]
pub(super) fn softmax(out: &mut [f32], width: usize, x: &[f32]) {
    for (out, x) in out.chunks_exact_mut(width.max(1)).zip(x.chunks_exact(width.max(1))) {
        let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut total = 0.0;
        for (out, x) in out.iter_mut().zip(x) {
            *out = (x - largest).exp();
            total += *out;
        }
        out.iter_mut().for_each(|value| *value /= total);
    }
}

/// `y · (g − Σ g·y)` in every row.
#[inline(always)]
pub(super) fn softmax_gradient(out: &mut [f32], width: usize, g: &[f32], y: &[f32]) {
    let width = width.max(1);
    for ((out, g), y) in out.chunks_exact_mut(width).zip(g.chunks_exact(width)).zip(y.chunks_exact(width)) {
        let mean: f32 = g.iter().zip(y).map(|(g, y)| g * y).sum();
        for ((out, g), y) in out.iter_mut().zip(g).zip(y) {
            *out = y * (g - mean);
        }
    }
}

/// One expert's share in every row.
#[derive(Clone, Copy)]
pub(super) struct Gate<'a> {
    /// As many for each row as there are experts; a constant gate has them once.
    pub(super) shares: &'a [f32],
    pub(super) experts: usize,
    pub(super) expert: usize,
}

/// `gate[expert] · g` in every row, added to `out` or in its place.
#[inline(always)]
pub(super) fn mix_expert(out: &mut [f32], width: usize, g: &[f32], gate: Gate<'_>, accumulate: bool) {
    let rows = out.chunks_exact_mut(width.max(1)).zip(g.chunks_exact(width.max(1)));
    for ((out, g), gate_row) in rows.zip(gate.shares.chunks_exact(gate.experts.max(1)).cycle()) {
        let share = gate_row[gate.expert];
        if accumulate {
            out.iter_mut().zip(g).for_each(|(out, g)| *out += share * g);
        } else {
            out.iter_mut().zip(g).for_each(|(out, g)| *out = share * g);
        }
    }
}

/// `⟨g, x⟩` of every row, as column `expert` of the result.
#[inline(always)]
pub(super) fn mix_gate(out: &mut [f32], width: usize, expert: usize, g: &[f32], x: &[f32]) {
    let rows = out.len().checked_div(width).unwrap_or(0);
    let length = g.len().checked_div(rows).unwrap_or(0).max(1);
    for ((out, g), x) in
        out.chunks_exact_mut(width.max(1)).zip(g.chunks_exact(length)).zip(x.chunks_exact(length))
    {
        out[expert] = dot(g, x);
    }
}

/// `g / rows` in every row: what each of `rows` rows receives of the gradient of their mean.
#[inline(always)]
pub(super) fn share(out: &mut [f32], g: &[f32], rows: usize) {
    for out in out.chunks_exact_mut(g.len().max(1)) {
        out.iter_mut().zip(g).for_each(|(out, g)| *out = g / rows as f32);
    }
}

/// `g · weight / total` in every row, and 0 where `total` is 0.
#[inline(always)]
pub(super) fn weighted_share(out: &mut [f32], g: &[f32], weights: &[f32], total: &[f32]) {
    let factor = total.first().map_or(0.0, |total| if *total == 0.0 { 0.0 } else { 1.0 / total });
    for (out, weight) in out.chunks_exact_mut(g.len().max(1)).zip(weights) {
        out.iter_mut().zip(g).for_each(|(out, g)| *out = g * (weight * factor));
    }
}

/// Copies of request rows for their candidates.
#[inline(always)]
pub(super) fn expand(out: &mut [f32], width: usize, x: &[f32], request_of: &[i32]) {
    lookup(out, width, x, request_of);
}

/// For each of the given requests the sum over its candidates; `x` and `request_of` hold all
/// candidates, in the order of their requests.
#[inline(always)]
pub(super) fn sum_by_request(
    out: &mut [f32],
    width: usize,
    x: &[f32],
    request_of: &[i32],
    requests: Range<usize>,
) {
    out.fill(0.0);
    let mut candidate = request_of.partition_point(|request| (*request as usize) < requests.start);
    for (out, request) in out.chunks_exact_mut(width.max(1)).zip(requests) {
        while request_of.get(candidate).is_some_and(|found| *found as usize == request) {
            add(out, &x[candidate * width..(candidate + 1) * width]);
            candidate += 1;
        }
    }
}

/// A row of a table; codes are checked before a run, so a code is a valid row here.
#[inline(always)]
fn table_row(table: &[f32], width: usize, code: i32) -> &[f32] {
    let start = code as usize * width;
    &table[start..start + width]
}

#[inline(always)]
pub(super) fn add(out: &mut [f32], x: &[f32]) {
    out.iter_mut().zip(x).for_each(|(out, x)| *out += x);
}

/// Eight partial sums, always the same ones, so that the compiler may use vectors.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut partial = [0.0_f32; 8];
    let (a_parts, b_parts) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_parts.remainder().iter().zip(b_parts.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_parts.zip(b_parts) {
        for ((partial, a), b) in partial.iter_mut().zip(a).zip(b) {
            *partial += a * b;
        }
    }
    partial.iter().sum::<f32>() + rest
}
