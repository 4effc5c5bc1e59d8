//! The values of a column that are not missing.

use gatefold_schema::Clip;

use crate::{RawColumn, RawValues};

pub(super) fn present<'c, V>(values: &'c [V], column: &'c RawColumn<'_>) -> impl Iterator<Item = &'c V> {
    let missing = column.missing.as_deref();
    values
        .iter()
        .enumerate()
        .filter(move |(row, _)| !missing.is_some_and(|mask| mask[*row]))
        .map(|(_, value)| value)
}

pub(super) fn present_elements<'c, V>(
    values: &'c [V],
    offsets: &'c [u32],
    column: &'c RawColumn<'_>,
) -> impl Iterator<Item = &'c V> {
    let missing = column.missing.as_deref();
    let rows = offsets.windows(2).enumerate().filter(move |(row, _)| !missing.is_some_and(|mask| mask[*row]));
    rows.flat_map(|(_, bounds)| values.get(bounds[0] as usize..bounds[1] as usize).unwrap_or_default())
}

/// Calls `each` for the present finite numbers, clipped and with one zero; `false` if the values are not
/// numbers.
pub(super) fn for_each_number(column: &RawColumn<'_>, clip: Option<Clip>, mut each: impl FnMut(f64)) -> bool {
    let mut take = |value: f64| {
        if value.is_finite() {
            // The sum with 0 makes −0 the other zero.
            each(clip.map_or(value, |clip| clip.apply(value)) + 0.0);
        }
    };
    match &column.values {
        RawValues::Ints(values) => present(values, column).for_each(|value| take(*value as f64)),
        RawValues::Floats(values) => present(values, column).for_each(|value| take(*value)),
        _ => return false,
    }
    true
}
