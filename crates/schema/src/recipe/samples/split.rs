//! How rows are divided into train, valid and test.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    span::{Instant, Span},
    strict::ConfigError,
};

/// How rows are divided: by shares or at given times, by user, or both. A request is never torn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// What decides.
    #[serde(default, skip_serializing_if = "SplitBy::is_time")]
    pub by: SplitBy,
    /// Share of the rows (the latest before the test rows, or by hash where there is no time)
    /// used for validation. Not read where `valid_from` is given. With `by = "user"` the share of
    /// the users.
    #[serde(default = "default_share")]
    pub valid: f64,
    /// Share of the latest rows, or by hash, used for the test; ignored where the source has a test
    /// file. Not read where `test_from` is given. With `by = "user"` the share of the users.
    #[serde(default = "default_share")]
    pub test: f64,
    /// Requests at this time and later are for validation (and those from `test_from` for the test).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Instant>,
    /// Requests at this time and later are for the test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_from: Option<Instant>,
    /// Requests less long than this before the next split begins are left out, so that no label of
    /// the earlier split looks into the later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Span>,
    /// With `by = "both"`: the share of the users who are not trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<f64>,
}

/// What divides rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SplitBy {
    /// The time of the request: how well a model does tomorrow.
    #[default]
    Time,
    /// The user, by a stable hash of their id: how well it does for people it has never seen.
    User,
    /// Both: validation and test are later, and of users that training has not seen. Rows of other
    /// users at those times, and of these users before, are left out.
    Both,
}

impl SplitBy {
    fn is_time(&self) -> bool {
        *self == SplitBy::Time
    }
}

fn default_share() -> f64 {
    0.1
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self {
            by: SplitBy::Time,
            valid: 0.1,
            test: 0.1,
            valid_from: None,
            test_from: None,
            gap: None,
            users: None,
        }
    }
}

impl SplitConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fail = |text: String| Err(ConfigError::new(format!("[samples.split]: {text}")));
        let shares = [("valid", self.valid), ("test", self.test), ("valid + test", self.valid + self.test)];
        if let Some((name, value)) = shares.into_iter().find(|(_, share)| !(0.0..1.0).contains(share)) {
            return fail(format!("{name} must be at least 0 and below 1, found {value}"));
        }
        match (self.by, self.users) {
            (SplitBy::Both, None) => {
                return fail(
                    "by = \"both\" needs users, the share of them that is not trained on, such as 0.2".into(),
                );
            }
            (SplitBy::Both, Some(share)) if !(share > 0.0 && share < 1.0) => {
                return fail(format!("users must be above 0 and below 1, found {share}"));
            }
            (SplitBy::Time | SplitBy::User, Some(share)) => {
                return fail(format!("users = {share} is read with by = \"both\" alone; leave it out"));
            }
            _ => {}
        }
        if self.by == SplitBy::User
            && (self.valid_from.is_some() || self.test_from.is_some() || self.gap.is_some())
        {
            return fail(
                "by = \"user\" reads no times; leave out valid_from, test_from and gap, or use by = \"both\""
                    .into(),
            );
        }
        match (self.valid_from, self.test_from) {
            (Some(valid), Some(test)) if valid > test => fail(format!(
                "valid_from ({valid}) is later than test_from ({test}); validation comes before the test"
            )),
            (Some(_), Some(_)) | (None, None) => Ok(()),
            _ => fail(
                "give both valid_from and test_from, or neither; a split may be empty if they are equal"
                    .into(),
            ),
        }
    }
}
