//! Formulas that cannot be used.

/// A formula that cannot be parsed, or has no result for a row.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FormulaError {
    /// The text is no formula.
    #[error("{problem}, at character {at} of '{}'", shown(text))]
    Text {
        /// The text.
        text: String,
        /// Where, counted from 1.
        at: usize,
        /// What is wrong there.
        problem: String,
    },
    /// The text is too long.
    #[error("the formula has {bytes} bytes, at most {} are accepted", crate::LONGEST)]
    Long {
        /// Its length.
        bytes: usize,
    },
    /// The result of a row is missing or not finite.
    #[error("row {row}: '{}' is {}{}", shown(text), result(*value), given(values))]
    NotFinite {
        /// The formula.
        text: String,
        /// The row, counted from 0.
        row: usize,
        /// The result.
        value: f64,
        /// The columns' values there; NaN is a missing value.
        values: Vec<(String, f64)>,
    },
}

impl FormulaError {
    pub(crate) fn not_finite(text: &str, row: usize, value: f64, values: Vec<(String, f64)>) -> Self {
        Self::NotFinite { text: text.to_owned(), row, value, values }
    }
}

/// The beginning of a long text.
fn shown(text: &str) -> String {
    match text.char_indices().nth(80) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn result(value: f64) -> &'static str {
    if value.is_nan() { "not a number" } else { "infinite" }
}

fn given(values: &[(String, f64)]) -> String {
    let value = |(name, value): &(String, f64)| match value.is_nan() {
        true => format!("{name} is missing (coalesce({name}, 0) would take 0 for it)"),
        false => format!("{name} is {value}"),
    };
    let values: Vec<String> = values.iter().map(value).collect();
    if values.is_empty() { String::new() } else { format!(" where {}", values.join(", ")) }
}
