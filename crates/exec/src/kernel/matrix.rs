//! Matrix products on the `gemm` crate, one thread a call: its own threads would make the order of
//! a sum depend on their number.

use gemm::Parallelism;

/// A matrix somewhere in a slice.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// All of a row-major slice.
    fn row_major(data: &'a [f32], columns: usize) -> Self {
        let rows = data.len().checked_div(columns).unwrap_or(0);
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Rows `start..start + rows`.
    fn rows_from(self, start: usize, rows: usize) -> Self {
        assert!(start + rows <= self.rows, "rows {start}..{} of {}", start + rows, self.rows);
        Self { data: self.data.get(start * self.row_stride..).unwrap_or(&[]), rows, ..self }
    }

    fn is_inside(&self) -> bool {
        let last = |count: usize, stride: usize| count.saturating_sub(1) * stride;
        let is_empty = self.rows == 0 || self.columns == 0;
        is_empty
            || last(self.rows, self.row_stride) + last(self.columns, self.column_stride) < self.data.len()
    }
}

/// `x · w`, added to `out` or in its place: x `[rows, inner]`, w `[inner, columns]`.
pub(super) fn multiply(out: &mut [f32], x: &[f32], w: &[f32], inner: usize, accumulate: bool) {
    let columns = w.len().checked_div(inner).unwrap_or(0);
    product(out, Matrix::row_major(x, inner), Matrix::row_major(w, columns), accumulate);
}

/// Rows `first..` of `xᵀ · g`, as many as fit `out`: x `[rows, inner]`, g `[rows, columns]`, out
/// `[_, columns]`.
pub(super) fn weight_gradient(
    out: &mut [f32],
    x: &[f32],
    inner: usize,
    g: &[f32],
    columns: usize,
    first: usize,
) {
    let rows = out.len().checked_div(columns).unwrap_or(0);
    let x = Matrix::row_major(x, inner).transposed().rows_from(first, rows);
    product(out, x, Matrix::row_major(g, columns), false);
}

/// Adds rows `first..` of `x · g`, as many as fit `out`: x `[_, rows]`, which is transposed
/// already, g `[rows, columns]`, out `[_, columns]`.
pub(super) fn add_weight_gradient_transposed(
    out: &mut [f32],
    x: &[f32],
    g: &[f32],
    columns: usize,
    first: usize,
) {
    let g = Matrix::row_major(g, columns);
    let rows = out.len().checked_div(columns).unwrap_or(0);
    product(out, Matrix::row_major(x, g.rows).rows_from(first, rows), g, true);
}

/// The transpose of a row-major matrix, a square of 16×16 at a time.
pub(super) fn transpose(out: &mut [f32], x: &[f32], columns: usize) {
    const SIDE: usize = 16;
    let rows = x.len().checked_div(columns).unwrap_or(0);
    for first_row in (0..rows).step_by(SIDE) {
        for first_column in (0..columns).step_by(SIDE) {
            for column in first_column..(first_column + SIDE).min(columns) {
                for row in first_row..(first_row + SIDE).min(rows) {
                    out[column * rows + row] = x[row * columns + column];
                }
            }
        }
    }
}

/// `a · b`, added to the row-major `out` or in its place.
fn product(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, accumulate: bool) {
    let (rows, columns, inner) = (a.rows, b.columns, a.columns);
    assert!(inner == b.rows && out.len() == rows * columns, "{rows}×{inner} by {}×{columns}", b.rows);
    assert!(a.is_inside() && b.is_inside());
    let stride = |stride: usize| stride as isize;
    // SAFETY: both operands lie inside their slices and the result is exactly `out`, as asserted
    // above; `out` is borrowed mutably, so it overlaps neither.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            out.as_mut_ptr(),
            1,
            stride(columns),
            accumulate,
            a.data.as_ptr(),
            stride(a.column_stride),
            stride(a.row_stride),
            b.data.as_ptr(),
            stride(b.column_stride),
            stride(b.row_stride),
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers, so that every sum is exact in any order.
    fn whole_numbers(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|index| ((index * 7 + seed * 5 + index / 3) % 9) as f32 - 4.0).collect()
    }

    fn naive(rows: usize, inner: usize, columns: usize, at: impl Fn(usize, usize, usize) -> f32) -> Vec<f32> {
        let mut out = Vec::new();
        for row in 0..rows {
            for column in 0..columns {
                out.push((0..inner).map(|k| at(row, k, column)).sum());
            }
        }
        out
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for (rows, inner, columns) in
            [(1, 1, 1), (3, 5, 2), (256, 416, 8), (7, 64, 1), (1, 300, 17), (100, 33, 130)]
        {
            let (x, w) = (whole_numbers(rows * inner, 1), whole_numbers(inner * columns, 2));
            let g = whole_numbers(rows * columns, 3);
            let mut out = vec![9.0; rows * columns];
            multiply(&mut out, &x, &w, inner, false);
            let expected = naive(rows, inner, columns, |r, k, c| x[r * inner + k] * w[k * columns + c]);
            assert_eq!(out, expected);
            multiply(&mut out, &x, &w, inner, true);
            assert_eq!(out, expected.iter().map(|value| 2.0 * value).collect::<Vec<_>>());

            let (mut transposed, mut out) = (vec![9.0; w.len()], vec![9.0; rows * inner]);
            transpose(&mut transposed, &w, columns);
            multiply(&mut out, &g, &transposed, columns, false);
            assert_eq!(out, naive(rows, columns, inner, |r, c, k| g[r * columns + c] * w[k * columns + c]));

            let first = inner / 3;
            let mut out = vec![9.0; (inner - first) * columns];
            weight_gradient(&mut out, &x, inner, &g, columns, first);
            let expected =
                naive(inner - first, rows, columns, |k, r, c| x[r * inner + first + k] * g[r * columns + c]);
            assert_eq!(out, expected);
            let mut transposed = vec![9.0; x.len()];
            transpose(&mut transposed, &x, inner);
            add_weight_gradient_transposed(&mut out, &transposed, &g, columns, first);
            assert_eq!(out, expected.iter().map(|value| 2.0 * value).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_rows_give_zero_gradients() {
        let mut out = [5.0; 6];
        weight_gradient(&mut out, &[], 3, &[], 2, 0);
        assert_eq!(out, [0.0; 6]);
    }
}
