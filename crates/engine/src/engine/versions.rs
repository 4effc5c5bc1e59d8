//! The loaded versions of one model, and how a request chooses among them.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{Recorded, Served};
use crate::{ScoreError, VersionChoice};

/// Label of the version that takes the traffic which names neither version nor label.
pub const STABLE: &str = "stable";

/// How requests find a version of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// The version for requests that name none. `None`: the highest. Where it is not loaded, the
    /// next lower one that is.
    pub current: Option<u64>,
    /// Versions by label.
    pub labels: BTreeMap<String, u64>,
}

/// The loaded versions of one model.
pub(super) struct Versions {
    pub(super) loaded: BTreeMap<u64, Arc<Served>>,
    pub(super) routes: Routes,
    /// Goes with the last version.
    pub(super) recorded: Arc<Recorded>,
}

impl Versions {
    /// None yet; `requests` are kept for those that come later.
    pub(super) fn new(routes: Routes, requests: usize) -> Versions {
        let recorded = Arc::new(Recorded::new(requests, Instant::now()));
        Versions { loaded: BTreeMap::new(), routes, recorded }
    }

    pub(super) fn current(&self) -> Option<&Arc<Served>> {
        let ceiling = self.routes.current.unwrap_or(u64::MAX);
        self.loaded.range(..=ceiling).next_back().map(|(_, served)| served)
    }

    /// Labels of a version, in alphabetical order. The current one is `stable` even where nobody
    /// said so.
    pub(super) fn labels_of(&self, version: u64) -> Vec<String> {
        let named = self.routes.labels.iter().filter(|(_, named)| **named == version);
        let mut labels: Vec<String> = named.map(|(label, _)| label.clone()).collect();
        let is_current = self.current().is_some_and(|served| served.instance.model.version == version);
        if is_current && !self.routes.labels.contains_key(STABLE) {
            labels.push(STABLE.to_owned());
            labels.sort_unstable();
        }
        labels
    }

    /// The version that a job asks for.
    pub(super) fn choose(&self, model: &str, choice: VersionChoice<'_>) -> Result<Arc<Served>, ScoreError> {
        let unknown = |version| ScoreError::UnknownVersion {
            model: model.to_owned(),
            version,
            loaded: self.loaded.keys().map(u64::to_string).collect::<Vec<_>>().join(", "),
        };
        let version = match choice {
            VersionChoice::Version(version) => version,
            VersionChoice::Current | VersionChoice::Label(STABLE) => {
                return self.current().cloned().ok_or_else(|| unknown(self.routes.current.unwrap_or(0)));
            }
            VersionChoice::Label(label) => {
                *self.routes.labels.get(label).ok_or_else(|| self.unknown_label(model, label))?
            }
        };
        self.loaded.get(&version).cloned().ok_or_else(|| unknown(version))
    }

    fn unknown_label(&self, model: &str, label: &str) -> ScoreError {
        let known = self.loaded.keys().flat_map(|version| {
            self.labels_of(*version).into_iter().map(move |label| format!("{label} ({version})"))
        });
        let known = known.collect::<Vec<_>>().join(", ");
        ScoreError::UnknownLabel { model: model.to_owned(), label: label.to_owned(), known }
    }
}
