//! `skew.json` of a sample folder: where features as they were served differ from those that logs give.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::SamplesError;

/// Name of the file.
pub(crate) const SKEW_FILE: &str = "skew.json";

/// How features as they were served compare with those that the logs give.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Skew {
    /// Impressions, before any is left out of the splits.
    pub impressions: u64,
    /// Those that the server's log has.
    pub served: u64,
    /// By name, the features that the server's log has.
    pub features: BTreeMap<String, FeatureSkew>,
}

/// How one feature compares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureSkew {
    /// Values compared: one a request of users' and context features, one an impression of items'.
    pub compared: u64,
    /// Values that are not the same, a missing one being the same as a missing one alone.
    pub differing: u64,
    /// Largest difference where both are numbers.
    pub largest_difference: Option<f64>,
    /// The first differences.
    pub examples: Vec<SkewExample>,
}

/// A value that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkewExample {
    /// The request.
    pub request: String,
    /// The item; none of features of the whole request.
    pub item: Option<String>,
    /// What the logs give.
    pub computed: String,
    /// What was served, and is in the sample.
    pub served: String,
}

impl Skew {
    /// The report in a sample folder; `None` where it was built without a server's log.
    ///
    /// # Errors
    /// A file that cannot be read or is no report.
    pub fn read(folder: &Path) -> Result<Option<Self>, SamplesError> {
        let path = folder.join(SKEW_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read(&path).map_err(SamplesError::io("read", &path))?;
        let report = serde_json::from_slice(&text);
        report
            .map(Some)
            .map_err(|error| SamplesError::source(&path, format!("is no report of skew: {error}")))
    }
}
