//! One request's raw feature values as JSON: what `gatefold request` reads, and the form of the
//! example rows that travel with sample shards and bundles.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Raw values of one request.
///
/// ```json
/// {"request_id": "r1",
///  "user": {"age": 31, "country": "de", "recent_items": [12, 99]},
///  "context": {"hour": 12},
///  "items": {"item_id": [1, 2], "price": [9.5, null]}}
/// ```
/// A `null` is a missing value. Every list under `items` has one entry a candidate.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonRequest {
    /// Identifier echoed in logs and replies.
    #[serde(default)]
    pub request_id: String,
    /// User features by name.
    #[serde(default)]
    pub user: BTreeMap<String, Value>,
    /// Context features by name.
    #[serde(default)]
    pub context: BTreeMap<String, Value>,
    /// Item features by name, one list entry a candidate.
    pub items: BTreeMap<String, Vec<Value>>,
}

impl JsonRequest {
    /// Number of candidates: the length of the longest item column (columns of another length are
    /// refused when the request is encoded).
    pub fn candidates(&self) -> usize {
        self.items.values().map(Vec::len).max().unwrap_or(0)
    }
}
