//! The trace norm of a tall matrix of few columns, through the eigenvalues of its Gram matrix. All in
//! `f64`, since the Gram matrix holds the squares of the singular values.

/// Singular values below this share of the largest count as 0: they are rounding.
const SMALLEST_SHARE: f64 = 1e-6;
/// Jacobi's method converges quadratically; matrices of this size need fewer than ten rounds.
const LARGEST_ROUNDS: usize = 50;

/// Sum of the singular values of the matrix of these columns.
pub(super) fn trace_norm(columns: &[&[f32]]) -> f32 {
    Singular::of(columns).values.iter().sum::<f64>() as f32
}

/// `V · diag(1/s) · Vᵀ` for the singular values s that are not 0, row-major.
pub(super) fn inverse_root(out: &mut [f32], columns: &[&[f32]]) {
    let Singular { values, vectors } = Singular::of(columns);
    let count = values.len();
    let smallest = SMALLEST_SHARE * values.iter().copied().fold(0.0, f64::max);
    for (place, out) in out.iter_mut().enumerate() {
        let (row, column) = (place / count, place % count);
        let kept = (0..count).filter(|k| values[*k] > smallest);
        let sum: f64 = kept.map(|k| vectors[row][k] * vectors[column][k] / values[k]).sum();
        *out = sum as f32;
    }
}

/// Singular values and right singular vectors (in columns).
struct Singular {
    values: Vec<f64>,
    vectors: Vec<Vec<f64>>,
}

impl Singular {
    fn of(columns: &[&[f32]]) -> Self {
        let product =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let gram = columns.iter().map(|a| columns.iter().map(|b| product(a, b)).collect()).collect();
        let (squares, vectors) = eigen(gram);
        Self {
            values: squares
                .into_iter()
                .map(|square| if square < 0.0 { 0.0 } else { square.sqrt() })
                .collect(),
            vectors,
        }
    }
}

/// Eigenvalues and eigenvectors (in columns) of a symmetric matrix, by Jacobi's cyclic method (Golub
/// and Van Loan, Matrix Computations, section 8.5).
fn eigen(mut a: Vec<Vec<f64>>) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = a.len();
    let mut vectors: Vec<Vec<f64>> =
        (0..n).map(|row| (0..n).map(|column| f64::from(u8::from(row == column))).collect()).collect();
    let total: f64 = a.iter().flatten().map(|value| value * value).sum();
    for _ in 0..LARGEST_ROUNDS {
        let outside: f64 =
            (0..n).flat_map(|p| (0..p).map(move |q| (p, q))).map(|(p, q)| a[p][q] * a[p][q]).sum();
        let is_diagonal = outside <= total * f64::EPSILON * f64::EPSILON;
        if is_diagonal || !outside.is_finite() {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q] != 0.0 {
                    rotate(&mut a, &mut vectors, p, q);
                }
            }
        }
    }
    ((0..n).map(|k| a[k][k]).collect(), vectors)
}

/// Turns rows and columns p < q so that `a[p][q]` becomes 0.
fn rotate(a: &mut [Vec<f64>], vectors: &mut [Vec<f64>], p: usize, q: usize) {
    let half = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
    let tangent = half.signum() / (half.abs() + (1.0 + half * half).sqrt());
    let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
    let sine = tangent * cosine;
    let turn = |x: f64, y: f64| (cosine * x - sine * y, sine * x + cosine * y);
    for row in a.iter_mut().chain(vectors) {
        (row[p], row[q]) = turn(row[p], row[q]);
    }
    let (above, below) = a.split_at_mut(q);
    for (x, y) in above[p].iter_mut().zip(&mut below[0]) {
        (*x, *y) = turn(*x, *y);
    }
}
