//! Kernels that treat every number alike.

/// `max(x, 0)`; NaN stays NaN.
#[inline(always)]
pub(super) fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// `f` of every number.
#[inline(always)]
pub(super) fn map(out: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = f(*x);
    }
}

/// `f` of pairs of numbers; an operand that is shorter than the result is a constant, repeated
/// for every row or for every last dimension of the rows.
#[inline(always)]
pub(super) fn zip(out: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) {
    let apply = |out: &mut [f32], a: &[f32], b: &[f32]| {
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            *out = f(*a, *b);
        }
    };
    if let ([a], true) = (a, out.len() > 1) {
        out.iter_mut().zip(b).for_each(|(out, b)| *out = f(*a, *b));
    } else if let ([b], true) = (b, out.len() > 1) {
        out.iter_mut().zip(a).for_each(|(out, a)| *out = f(*a, *b));
    } else if a.len() < out.len() && !a.is_empty() {
        out.chunks_exact_mut(a.len()).zip(b.chunks_exact(a.len())).for_each(|(out, b)| apply(out, a, b));
    } else if b.len() < out.len() && !b.is_empty() {
        out.chunks_exact_mut(b.len()).zip(a.chunks_exact(b.len())).for_each(|(out, a)| apply(out, a, b));
    } else {
        apply(out, a, b);
    }
}

/// Adds the bias to every row, then applies `Relu` if asked.
#[inline(always)]
pub(super) fn add_bias(out: &mut [f32], bias: &[f32], with_relu: bool) {
    for row in out.chunks_exact_mut(bias.len().max(1)) {
        if with_relu {
            row.iter_mut().zip(bias).for_each(|(value, bias)| *value = relu(*value + bias));
        } else {
            row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
        }
    }
}

/// `scale · x + shift` in every row.
#[inline(always)]
pub(super) fn scale_and_shift(out: &mut [f32], scale: &[f32], shift: &[f32]) {
    for row in out.chunks_exact_mut(scale.len().max(1)) {
        for ((value, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
            *value = scale * *value + shift;
        }
    }
}

/// Sets to zero where `y` is not positive.
#[inline(always)]
pub(super) fn mask(out: &mut [f32], y: &[f32]) {
    for (out, y) in out.iter_mut().zip(y) {
        *out = if *y > 0.0 { *out } else { 0.0 };
    }
}
