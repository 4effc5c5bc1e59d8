//! Layer and batch normalisation. `columns` is the length of what is normalised together.

/// `(x − mean) / √(variance + epsilon)` of every `columns` numbers.
pub(super) fn standardize(out: &mut [f32], x: &[f32], columns: usize, epsilon: f32) {
    let columns = columns.max(1);
    for (out, x) in out.chunks_exact_mut(columns).zip(x.chunks_exact(columns)) {
        let (mean, inverse) = moments(x, epsilon);
        out.iter_mut().zip(x).for_each(|(out, x)| *out = (x - mean) * inverse);
    }
}

/// `(g − mean(g) − x̂ · mean(g·x̂)) / √(variance + epsilon)` of every `columns` numbers, with x̂ the
/// standardised x.
pub(super) fn standardize_gradient(out: &mut [f32], g: &[f32], x: &[f32], columns: usize, epsilon: f32) {
    let columns = columns.max(1);
    let rows = out.chunks_exact_mut(columns).zip(g.chunks_exact(columns)).zip(x.chunks_exact(columns));
    for ((out, g), x) in rows {
        let (mean, inverse) = moments(x, epsilon);
        let of_g = g.iter().sum::<f32>() / columns as f32;
        let along = g.iter().zip(x).map(|(g, x)| g * (x - mean) * inverse).sum::<f32>() / columns as f32;
        for ((out, g), x) in out.iter_mut().zip(g).zip(x) {
            *out = (g - of_g - (x - mean) * inverse * along) * inverse;
        }
    }
}

/// Mean, and `1 / √(variance + epsilon)`.
fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let mean = x.iter().sum::<f32>() / x.len() as f32;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / x.len() as f32;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// The factors and terms of batch normalisation by mean, variance, gamma and beta.
pub(super) fn scale_and_shift(statistics: [&[f32]; 4], epsilon: f32) -> (Vec<f32>, Vec<f32>) {
    let [mean, variance, gamma, beta] = statistics;
    let scale: Vec<f32> =
        gamma.iter().zip(variance).map(|(gamma, variance)| gamma / (variance + epsilon).sqrt()).collect();
    let terms = scale.iter().zip(mean).zip(beta);
    let shift = terms.map(|((scale, mean), beta)| beta - mean * scale).collect();
    (scale, shift)
}
