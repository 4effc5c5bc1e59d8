//! What can be wrong with the numbers a metric is given.

use std::fmt;

/// Why a metric has no value for this input.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// There is no row at all.
    #[error("no rows: a metric needs at least one")]
    Empty,
    /// Two slices that describe the same rows differ in length.
    #[error("{what} has {found} values but there are {expected} scores: pass one value a row")]
    LengthMismatch {
        /// The slice that differs from the scores.
        what: &'static str,
        /// Number of scores.
        expected: usize,
        /// Length of the slice.
        found: usize,
    },
    /// More rows than 30 bits can number.
    #[error(
        "{found} rows are more than the {limit} that can be ranked at once: compute the metric on a sample"
    )]
    TooManyRows {
        /// Number of rows given.
        found: usize,
        /// Largest number accepted.
        limit: usize,
    },
    /// A score is not a number.
    #[error("score of row {index} is NaN: drop the row or repair the model")]
    NanScore {
        /// Row, from 0.
        index: usize,
    },
    /// A metric of probabilities was given a score outside [0, 1].
    #[error("score of row {index} is {value}, not a probability: pass values between 0 and 1")]
    NotAProbability {
        /// Row, from 0.
        index: usize,
        /// The score found.
        value: f32,
    },
    /// A label is neither 0 nor 1, or a gain is negative or not finite.
    #[error("label of row {index} is {value}: {remedy}")]
    BadLabel {
        /// Row, from 0.
        index: usize,
        /// The label found.
        value: f32,
        /// What is accepted.
        remedy: &'static str,
    },
    /// A weight is negative or not finite.
    #[error("weight of row {index} is {value}: weights are finite and not negative")]
    BadWeight {
        /// Row, from 0.
        index: usize,
        /// The weight found.
        value: f32,
    },
    /// Every weight is zero.
    #[error("the weights add up to zero: give at least one row a positive weight")]
    ZeroWeight,
    /// Only one of the two classes occurs (with a positive weight).
    #[error("every label is {present}: the metric needs rows of both classes")]
    OneClass {
        /// The class that occurs.
        present: Class,
    },
    /// No group has rows of both classes, or none has a positive row.
    #[error("none of the {groups} groups {needs}: the grouped metric has no value")]
    NoUsableGroup {
        /// Number of groups seen.
        groups: usize,
        /// What a group needs to count.
        needs: &'static str,
    },
    /// Every bootstrap replicate drew rows of one class only.
    #[error("all {replicates} bootstrap replicates drew one class only: use more rows")]
    NoUsableReplicate {
        /// Replicates drawn.
        replicates: usize,
    },
    /// Too few independent units to estimate a variance.
    #[error("there is a {class} row in {found} of the {unit}: a variance needs at least two")]
    TooFewUnits {
        /// What is counted: rows, or groups.
        unit: &'static str,
        /// The class of which there are too few.
        class: Class,
        /// Number found.
        found: usize,
    },
    /// A setting is outside its range.
    #[error("{setting} is {found}: {remedy}")]
    BadSetting {
        /// Name of the setting.
        setting: &'static str,
        /// The value given.
        found: f64,
        /// What is accepted.
        remedy: &'static str,
    },
}

/// One of the two values of a binary label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Label 0.
    Negative,
    /// Label 1.
    Positive,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Negative => "negative",
            Class::Positive => "positive",
        })
    }
}
