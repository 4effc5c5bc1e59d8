//! Labels beside click and conversion: `[[samples.logs.label]]`.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{derived::EventKind, logs::EventLogs, sampling::WEIGHT_COLUMN};
use crate::strict::ConfigError;

/// Label of impressions that were clicked.
pub const CLICK_LABEL: &str = "click";
/// Label of clicked impressions that led to a conversion.
pub const CONVERSION_LABEL: &str = "conversion";
/// Label of impressions that led to a conversion without a click, where `view_window` is given.
pub const VIEW_LABEL: &str = "view_conversion";

/// The column that marks rows which are there again, as positives, because their outcome came.
pub const LATE_COLUMN: &str = "late";

/// A label made of a column of the event that an impression has the credit for, such as how long a
/// clicked page was read. Where there is no such event, or no value, it is 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueLabel {
    /// Name of the label.
    pub name: String,
    /// The events: the first click of an impression, or the first conversion of that click.
    pub of: EventKind,
    /// Column of their log that holds the value: numbers or truth values.
    pub column: String,
    /// The label is 1 where the value is at least this, else 0. Without it the label is the value
    /// itself, for a task with `loss = "squared-error"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
}

impl ValueLabel {
    fn place(&self) -> String {
        format!("[[samples.logs.label]] '{}'", self.name)
    }
}

pub(super) fn check_labels(logs: &EventLogs) -> Result<(), ConfigError> {
    if logs.labels.view_window.is_some() && logs.conversions.is_none() {
        return Err(ConfigError::new(
            "[samples.logs]: labels.view_window is of conversions, but there are none; add the log".into(),
        ));
    }
    let mut names: BTreeSet<&str> =
        [CLICK_LABEL, CONVERSION_LABEL, VIEW_LABEL, WEIGHT_COLUMN, LATE_COLUMN].into();
    names.extend(logs.audit_columns.iter().map(String::as_str));
    for label in &logs.value_labels {
        let fail = |text: String| Err(ConfigError::new(format!("{}: {text}", label.place())));
        if label.name.is_empty() {
            return fail("give it a name".into());
        }
        if !names.insert(&label.name) {
            return fail("there is another label or audit column of this name; give it its own".into());
        }
        match label.of {
            EventKind::Impressions => {
                return fail(
                    "of = \"impressions\" is nothing that came of one; use clicks or conversions".into(),
                );
            }
            EventKind::Conversions if logs.conversions.is_none() => {
                return fail(
                    "of = \"conversions\", but [samples.logs] has no conversions; add the log".into(),
                );
            }
            _ => {}
        }
        if label.at_least.is_some_and(|value| !value.is_finite()) {
            return fail("at_least must be a finite number".into());
        }
    }
    Ok(())
}
