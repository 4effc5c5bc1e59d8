//! What can be wrong with raw values, each with its place and its remedy.

use gatefold_schema::{Feature, Side};

/// Raw values that cannot be encoded.
///
/// `row` counts from 0 among the rows of the feature's level: requests for user and context
/// features, candidates of the whole batch for item features.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A column that is no feature.
    #[error("unknown feature '{feature}'{}; remove it", suggestion(.nearest))]
    UnknownFeature {
        /// Name as found.
        feature: String,
        /// The known feature most like it.
        nearest: Option<String>,
    },
    /// A feature without a column.
    #[error(
        "feature '{feature}' ({} side) has no values; give it a column, in which single rows may be missing",
        side.name()
    )]
    MissingFeature {
        /// Feature.
        feature: String,
        /// Its side.
        side: Side,
    },
    /// A column for a feature that is made of others.
    #[error("feature '{feature}' is made of {parts} wherever it is needed; remove it")]
    Crossed {
        /// Feature.
        feature: String,
        /// What it is made of.
        parts: String,
    },
    /// A feature with two columns.
    #[error("feature '{feature}' is given twice; keep one of its columns")]
    DuplicateFeature {
        /// Feature.
        feature: String,
    },
    /// A feature among those of another side.
    #[error("feature '{feature}' stands under '{found}'; move it to '{}'", expected.name())]
    WrongSide {
        /// Feature.
        feature: String,
        /// Its side.
        expected: Side,
        /// Where it was found.
        found: &'static str,
    },
    /// Columns of one level have different lengths.
    #[error(
        "feature '{feature}' ({} side) has {found} rows, expected {expected}; \
         give one value for each {}", side.name(), unit(*side)
    )]
    WrongRows {
        /// Feature.
        feature: String,
        /// Its side.
        side: Side,
        /// Rows of its level.
        expected: usize,
        /// Rows it has.
        found: usize,
    },
    /// A column of another type.
    #[error(
        "feature '{feature}' ({} side) has values of type {found}, expected {expected}; \
         convert them before they are sent", side.name()
    )]
    WrongType {
        /// Feature.
        feature: String,
        /// Its side.
        side: Side,
        /// Type the feature declares.
        expected: &'static str,
        /// Type found.
        found: String,
    },
    /// NaN, infinite, or beyond the range of 32-bit floats after encoding.
    #[error(
        "feature '{feature}' ({} side), row {row}: {value} is not a finite 32-bit number; \
         send null where the value is missing", side.name()
    )]
    NotFinite {
        /// Feature.
        feature: String,
        /// Its side.
        side: Side,
        /// Row.
        row: usize,
        /// The value.
        value: f64,
    },
    /// A given code that the model does not have.
    #[error(
        "feature '{feature}' ({} side), row {row}: {value} is no code of the model, which are 0 to {}; \
         send null where the value is missing", side.name(), codes - 1
    )]
    NoSuchCode {
        /// Feature.
        feature: String,
        /// Its side.
        side: Side,
        /// Row.
        row: usize,
        /// The value.
        value: i64,
        /// Number of codes.
        codes: u32,
    },
    /// A sequence beyond the feature's limit.
    #[error(
        "feature '{feature}' ({} side), row {row}: {found} elements, at most {limit} are accepted; \
         send the {limit} most relevant ones", side.name()
    )]
    SequenceTooLong {
        /// Feature.
        feature: String,
        /// Its side.
        side: Side,
        /// Row.
        row: usize,
        /// Elements found.
        found: usize,
        /// The feature's `max_len`.
        limit: usize,
    },
    /// Offsets of a sequence that do not fit its elements.
    #[error(
        "feature '{feature}': row {row} ends at element {end}, but it starts at {start} and there are \
         {elements} elements; offsets must not fall and must end within the elements"
    )]
    BadOffsets {
        /// Feature.
        feature: String,
        /// Row.
        row: usize,
        /// Where the row starts.
        start: usize,
        /// Where it ends.
        end: usize,
        /// Number of elements.
        elements: usize,
    },
    /// A mask of missing values of another length than the column.
    #[error("feature '{feature}': {found} missing flags for {expected} rows; give one for each row")]
    WrongMask {
        /// Feature.
        feature: String,
        /// Rows.
        expected: usize,
        /// Flags.
        found: usize,
    },
    /// `request_of` does not map candidates to requests.
    #[error("request_of: {text}")]
    BadRequestOf {
        /// What is wrong.
        text: String,
    },
    /// A null inside a sequence.
    #[error("feature '{feature}', row {row}: element {element} of the list is null; leave it out")]
    NullElement {
        /// Feature.
        feature: String,
        /// Row.
        row: usize,
        /// Position in the list.
        element: usize,
    },
}

impl EncodeError {
    /// The error without a value or its row, for others than the caller whose value it is.
    pub fn without_values(&self) -> String {
        let of = |feature: &str, side: &Side| format!("feature '{feature}' ({} side)", side.name());
        match self {
            EncodeError::NotFinite { feature, side, .. } => {
                format!("{}: a value is not a finite 32-bit number", of(feature, side))
            }
            EncodeError::NoSuchCode { feature, side, codes, .. } => {
                let last = codes - 1;
                format!("{}: a value is no code of the model, which are 0 to {last}", of(feature, side))
            }
            EncodeError::WrongType { feature, side, expected, .. } => {
                format!("{}: values are not of type {expected}", of(feature, side))
            }
            other => other.to_string(),
        }
    }

    /// The error for values of a feature that is made of others.
    pub(crate) fn crossed(feature: &Feature) -> Self {
        let parts: Vec<String> = feature.cross.iter().map(|part| format!("'{part}'")).collect();
        EncodeError::Crossed { feature: feature.name.clone(), parts: parts.join(" and ") }
    }
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!(" (did you mean '{name}'?)"))
}

fn unit(side: Side) -> &'static str {
    match side {
        Side::User | Side::Context => "request",
        Side::Item => "candidate",
    }
}
