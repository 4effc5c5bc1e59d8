//! A piecewise linear function.

/// The value at `x` of the line through the points (`knots`, `values`), constant outside them.
pub(super) fn interpolate(knots: &[f32], values: &[f32], x: f32) -> f32 {
    let next = knots.partition_point(|knot| *knot <= x);
    match (next.checked_sub(1), next) {
        _ if x.is_nan() => x,
        (None, _) => values[0],
        (Some(last), next) if next == knots.len() => values[last],
        (Some(before), next) => {
            let share = (x - knots[before]) / (knots[next] - knots[before]);
            values[before] + share * (values[next] - values[before])
        }
    }
}
