//! One loaded version of a model.

use std::{fmt, sync::Arc};

use super::Request;
use crate::{
    Backend, BackendError, BackendLoader, Bundle, EngineSettings, GoldenError, GoldenReport, GraphForm,
    ModelVersion, ScoreError, WarmUp, WarmUpError,
    aside::aside,
    golden,
    warm_up::{self, Rehearsal},
};

/// A request beyond the row budget runs alone: sizes up to this one are warmed whatever the budget.
const LARGE_REQUEST: usize = 1024;

/// A loaded model version: what all of its requests share.
pub(crate) struct Instance {
    pub(crate) model: ModelVersion,
    pub(crate) bundle: Arc<Bundle>,
    form: GraphForm,
    loader: Arc<dyn BackendLoader>,
}

impl Instance {
    pub(crate) fn new(bundle: Arc<Bundle>, form: GraphForm, loader: Arc<dyn BackendLoader>) -> Instance {
        let manifest = bundle.manifest();
        let model = ModelVersion { name: manifest.name.as_str().into(), version: manifest.version };
        Instance { model, bundle, form, loader }
    }

    /// A further backend.
    pub(crate) fn open_backend(&self) -> Result<Box<dyn Backend>, BackendError> {
        self.loader.open(&self.bundle, self.form)
    }

    /// The answer to a request whose run failed.
    pub(crate) fn failed(&self, error: BackendError) -> ScoreError {
        ScoreError::Backend { model: self.model.clone(), reason: Arc::new(error) }
    }

    /// The answer to a request whose worker or last backend is gone.
    pub(crate) fn lost(&self) -> ScoreError {
        ScoreError::Lost { model: self.model.clone() }
    }
}

/// A model version that is checked and ready to take traffic.
pub struct Prepared {
    pub(crate) instance: Arc<Instance>,
    pub(crate) backends: Vec<Box<dyn Backend>>,
    report: GoldenReport,
    warm_up: WarmUp,
}

impl Prepared {
    pub(super) fn new(
        bundle: Bundle,
        loader: Arc<dyn BackendLoader>,
        settings: &EngineSettings,
        recorded: &[Arc<Request>],
    ) -> Result<Prepared, LoadError> {
        let form = bundle.form(settings.form);
        let instance = Arc::new(Instance::new(Arc::new(bundle), form, loader));
        let rehearsal = aside(|| Rehearsal::new(&instance.bundle, recorded, settings.batch_rows));
        let mut backends = Vec::new();
        let mut report = GoldenReport::default();
        for _ in 0..settings.workers {
            let mut backend = instance.open_backend()?;
            // Each one, because the first run of a backend is slow and no request should pay for it.
            let replayed = aside(|| {
                let replayed = golden::check(&instance.bundle, backend.as_mut())?;
                let rows = settings.batch_rows.max(LARGE_REQUEST).min(settings.request_rows);
                warm_up::sizes(&instance.bundle, backend.as_mut(), rows)?;
                rehearsal.run(&instance.bundle, backend.as_mut())?;
                Ok::<_, LoadError>(replayed)
            })?;
            if replayed.largest_difference >= report.largest_difference {
                report = replayed;
            }
            backends.push(backend);
        }
        Ok(Prepared { instance, backends, report, warm_up: rehearsal.report().clone() })
    }

    /// The model and its version.
    pub fn model(&self) -> &ModelVersion {
        &self.instance.model
    }

    /// What the check of the golden rows found.
    pub fn report(&self) -> GoldenReport {
        self.report
    }

    /// What warmed it beside the golden rows.
    pub fn warm_up(&self) -> &WarmUp {
        &self.warm_up
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Prepared").field("model", &self.instance.model).finish_non_exhaustive()
    }
}

/// A model version that cannot take traffic.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bundle cannot be opened.
    #[error(transparent)]
    Bundle(#[from] crate::BundleError),
    /// The backend cannot be opened.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The golden rows give other scores.
    #[error(transparent)]
    Golden(#[from] GoldenError),
    /// Requests that the model has been sent get no scores.
    #[error(transparent)]
    WarmUp(#[from] WarmUpError),
    /// The backend panicked.
    #[error("the backend panicked: {0}")]
    Panicked(String),
    /// The bundle stands in a folder of another name or number.
    #[error("{folder} holds model {found}: {}", misplaced(.folder_of, .found))]
    Misplaced {
        /// The folder.
        folder: String,
        /// Name and version by the manifest.
        found: ModelVersion,
        /// Name and version by the folder.
        folder_of: ModelVersion,
    },
}

/// What to do with a bundle that does not stand where its manifest says.
fn misplaced(folder: &ModelVersion, found: &ModelVersion) -> String {
    if folder.name == found.name {
        format!(
            "the folder of a version has the number in its manifest, here {}; what publishes a bundle gives it \
             the next number (`gatefold train`, `gatefold bundle import`, `gatefold bundle quantize`)",
            found.version
        )
    } else {
        "name the folder models/<name>/<version> as the manifest does, or publish the model under the new name"
            .to_owned()
    }
}
