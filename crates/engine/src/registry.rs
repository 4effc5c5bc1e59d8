//! Keeps the engine's models equal to a folder of bundles.
//!
//! The folder holds `<name>/<version>/`. Of every model the highest version that is good takes
//! traffic. A version that appears is opened, verified and replayed on the registry's own thread
//! while the old one goes on serving; then it is swapped in, and the old one drains. One that is
//! bad is refused, with the reason in its status, and looked at again only when its manifest
//! changes. Removing the served version's folder rolls back to the highest version that is left;
//! removing the model's folder unloads the model. [`Registry::unload`] takes a model out of traffic
//! while its folder stays, until [`Registry::load`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use crate::{
    Bundle, Engine, LoadError, ModelVersion, RegistrySettings,
    bundle::{MANIFEST_FILE, versions},
    worker::panic_message,
};

/// How long an old version may take to drain before the registry goes on to other models; it
/// drains further in the background.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Where a model version stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelState {
    /// It is being opened and checked.
    Loading,
    /// It takes traffic.
    Serving,
    /// It takes no new requests and finishes those it has.
    Draining,
    /// It has gone.
    Retired,
    /// It cannot be used.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

/// A model version that the registry knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelStatus {
    /// Name and version.
    pub model: ModelVersion,
    /// Where it stands.
    pub state: ModelState,
    /// Since when.
    pub since: SystemTime,
}

/// Watches a folder of models. Dropped, it stops watching; the models stay.
pub struct Registry {
    inner: Arc<Inner>,
    watcher: Option<JoinHandle<()>>,
}

struct Inner {
    settings: RegistrySettings,
    engine: Engine,
    /// Held for a whole pass over the folder, so that two never overlap.
    pass: Mutex<()>,
    known: Mutex<BTreeMap<ModelVersion, Known>>,
    /// Models that are not loaded although their folders are there.
    unloaded: Mutex<BTreeSet<Arc<str>>>,
    stopping: Mutex<bool>,
    stop: Condvar,
}

struct Known {
    state: ModelState,
    since: SystemTime,
    /// Of the manifest when the version was looked at.
    stamp: Option<Stamp>,
}

/// Tells a changed manifest.
type Stamp = (SystemTime, u64);

impl Registry {
    /// A registry that has not looked yet: call [`refresh`](Self::refresh), then
    /// [`watch`](Self::watch).
    pub fn new(settings: RegistrySettings, engine: Engine) -> Registry {
        let inner = Inner {
            settings,
            engine,
            pass: Mutex::new(()),
            known: Mutex::new(BTreeMap::new()),
            unloaded: Mutex::new(BTreeSet::new()),
            stopping: Mutex::new(false),
            stop: Condvar::new(),
        };
        Registry { inner: Arc::new(inner), watcher: None }
    }

    /// Looks at the folder once and loads what is new. Blocks until that is done: call it from a
    /// blocking task.
    ///
    /// # Errors
    /// When the folder itself cannot be read. A bad bundle is no error: its status says why.
    pub fn refresh(&self) -> Result<(), RegistryError> {
        self.inner.refresh()
    }

    /// Starts to look at the folder at the interval of the settings, on a thread of its own. Does
    /// nothing where the settings have no interval.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn watch(&mut self) -> Result<(), RegistryError> {
        let Some(interval) = self.inner.settings.poll else { return Ok(()) };
        if self.watcher.is_none() {
            let inner = self.inner.clone();
            let spawned = std::thread::Builder::new()
                .name("registry".into())
                .spawn(move || inner.watch(interval))
                .map_err(RegistryError::Thread)?;
            self.watcher = Some(spawned);
        }
        Ok(())
    }

    /// Looks at the folder as [`refresh`](Self::refresh) does, and says whether the model `name`
    /// takes traffic then. An unloaded model is loaded again.
    ///
    /// # Errors
    /// When the folder holds no such model, when none of its versions is good, and as
    /// [`refresh`](Self::refresh).
    pub fn load(&self, name: &str) -> Result<(), RegistryError> {
        self.inner.load(name)
    }

    /// Takes every version of the model `name` out of traffic until it is loaded again, and waits
    /// until what is queued has been scored, half a minute at most. Blocks, as
    /// [`refresh`](Self::refresh).
    ///
    /// # Errors
    /// When the registry knows no such model.
    pub fn unload(&self, name: &str) -> Result<(), RegistryError> {
        self.inner.unload(name)
    }

    /// Every model version that was looked at, by name and version.
    pub fn status(&self) -> Vec<ModelStatus> {
        let status = |(model, known): (&ModelVersion, &Known)| ModelStatus {
            model: model.clone(),
            state: known.state.clone(),
            since: known.since,
        };
        self.inner.known().iter().map(status).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        *self.inner.stopping.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.inner.stop.notify_all();
        // A model being loaded would be waited for; it ends by itself instead.
        drop(self.watcher.take());
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, BTreeMap<ModelVersion, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unloaded(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.unloaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> bool {
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, interval: Duration) {
        let mut last_error = None;
        loop {
            {
                let guard = self.stopping.lock().unwrap_or_else(PoisonError::into_inner);
                let waited = self.stop.wait_timeout_while(guard, interval, |stopping| !*stopping);
                if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                    return;
                }
            }
            // Said once, not at every look.
            let error = self.refresh().err().map(|error| explain(&error));
            if let Some(error) = error.as_ref().filter(|error| last_error.as_ref() != Some(*error)) {
                tracing::error!(%error, "the models are not looked at");
            }
            last_error = error;
        }
    }

    fn refresh(&self) -> Result<(), RegistryError> {
        let _pass = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = &self.settings.folder;
        let read_error = |source| RegistryError::Folder { folder: folder.clone(), source };
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(read_error)? {
            let entry = entry.map_err(read_error)?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            if !entry.path().is_dir() {
                continue;
            }
            match versions(&entry.path()) {
                Ok(versions) if versions.is_empty() => {}
                Ok(versions) => {
                    found.insert(Arc::<str>::from(name), versions);
                }
                // The folder may have gone since it was listed.
                Err(error) => tracing::warn!(%error, "a model's folder cannot be read"),
            }
        }
        self.forget_removed(&found);
        for (name, versions) in &found {
            if self.stopping() {
                break;
            }
            if !self.unloaded().contains(name) {
                self.settle(name, versions);
            }
        }
        self.unload_removed(&found);
        Ok(())
    }

    fn load(&self, name: &str) -> Result<(), RegistryError> {
        self.unloaded().remove(name);
        self.refresh()?;
        if !self.served(name).is_empty() {
            return Ok(());
        }
        let known = self.known();
        let of_model = known.iter().filter(|(model, _)| *model.name == *name);
        let reasons: Vec<String> = of_model
            .filter_map(|(model, known)| match &known.state {
                ModelState::Refused { reason } => Some(format!("version {}: {reason}", model.version)),
                _ => None,
            })
            .collect();
        match reasons.as_slice() {
            [] => Err(self.unknown(name)),
            reasons => Err(RegistryError::Refused { model: name.to_owned(), reasons: reasons.join("; ") }),
        }
    }

    fn unload(&self, name: &str) -> Result<(), RegistryError> {
        let _pass = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        let model = self.known().keys().find(|model| *model.name == *name).map(|model| model.name.clone());
        let model = model.ok_or_else(|| self.unknown(name))?;
        self.unloaded().insert(model.clone());
        for version in self.served(name) {
            self.retire(&ModelVersion { name: model.clone(), version });
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> RegistryError {
        RegistryError::UnknownModel { model: name.to_owned(), folder: self.settings.folder.clone() }
    }

    /// Lets the highest good version of one model take traffic.
    fn settle(&self, name: &Arc<str>, versions: &[u64]) {
        let served = self.served(name);
        for version in versions.iter().rev().copied() {
            let model = ModelVersion { name: name.clone(), version };
            let path = self.settings.folder.join(name.as_ref()).join(version.to_string());
            let stamp = stamp(&path);
            let unchanged = self.known().get(&model).is_some_and(|known| known.stamp == stamp);
            if served.contains(&version) && unchanged {
                self.retire_all(name, &served, version);
                return;
            }
            if unchanged
                && matches!(self.known().get(&model), Some(Known { state: ModelState::Refused { .. }, .. }))
            {
                continue;
            }
            if !served.contains(&version) {
                self.set(&model, ModelState::Loading, stamp);
            }
            let load = || self.open(&model, &path);
            let loaded = catch_unwind(AssertUnwindSafe(load))
                .unwrap_or_else(|panic| Err(LoadError::Panicked(panic_message(panic.as_ref()))));
            match loaded {
                Ok(()) => {
                    self.set(&model, ModelState::Serving, stamp);
                    self.retire_all(name, &served, version);
                    return;
                }
                Err(error) if served.contains(&version) => {
                    // Its folder was damaged while it serves from memory: keep it, say so once.
                    tracing::error!(%model, error = explain(&error), "the folder of a serving model is damaged; it goes on as it is");
                    self.set(&model, ModelState::Serving, stamp);
                    return;
                }
                Err(error) => {
                    tracing::error!(%model, error = explain(&error), "the model is refused");
                    let state = ModelState::Refused { reason: explain(&error) };
                    self.engine.observe(&model, &state);
                    self.set(&model, state, stamp);
                }
            }
        }
    }

    fn open(&self, model: &ModelVersion, path: &Path) -> Result<(), LoadError> {
        let started = std::time::Instant::now();
        let bundle = Bundle::open(path)?;
        let manifest = bundle.manifest();
        if manifest.name != *model.name || manifest.version != model.version {
            let found = ModelVersion { name: manifest.name.as_str().into(), version: manifest.version };
            return Err(LoadError::Misplaced { folder: path.display().to_string(), found });
        }
        let prepared = self.engine.prepare(bundle)?;
        let report = prepared.report();
        self.engine.install(prepared);
        tracing::info!(
            %model,
            seconds = started.elapsed().as_secs_f64(),
            golden_rows = report.candidates,
            largest_difference = report.largest_difference,
            "the model takes traffic"
        );
        Ok(())
    }

    /// Versions of a model that take traffic.
    fn served(&self, name: &str) -> Vec<u64> {
        let models = self.engine.models();
        models.iter().filter(|info| *info.model.name == *name).map(|info| info.model.version).collect()
    }

    /// Takes all served versions but `keep` out of traffic.
    fn retire_all(&self, name: &Arc<str>, served: &[u64], keep: u64) {
        for version in served.iter().copied().filter(|version| *version != keep) {
            self.retire(&ModelVersion { name: name.clone(), version });
        }
    }

    fn retire(&self, model: &ModelVersion) {
        self.set(model, ModelState::Draining, None);
        let drained = self.engine.retire(&model.name, model.version, DRAIN_LIMIT);
        tracing::info!(%model, drained, "the model no longer takes traffic");
        self.set(model, ModelState::Retired, None);
    }

    /// Unloads models whose folder is gone.
    fn unload_removed(&self, found: &BTreeMap<Arc<str>, Vec<u64>>) {
        for info in self.engine.models() {
            if !found.contains_key(&info.model.name) {
                self.retire(&info.model);
                self.known().remove(&info.model);
            }
        }
    }

    /// Drops the status of versions whose folder is gone and that do not serve.
    fn forget_removed(&self, found: &BTreeMap<Arc<str>, Vec<u64>>) {
        self.known().retain(|model, known| {
            known.state == ModelState::Serving
                || found.get(&model.name).is_some_and(|versions| versions.contains(&model.version))
        });
    }

    fn set(&self, model: &ModelVersion, state: ModelState, stamp: Option<Stamp>) {
        self.known().insert(model.clone(), Known { state, since: SystemTime::now(), stamp });
    }
}

fn stamp(bundle: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(bundle.join(MANIFEST_FILE)).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// An error with its causes, on one line.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Why the registry cannot do what it is told.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The folder cannot be read.
    #[error("cannot read the models folder {}: create it, or give another", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no such model.
    #[error(
        "no model '{model}' in {}: publish a bundle as {model}/<version>/ there first", folder.display()
    )]
    UnknownModel {
        /// The name.
        model: String,
        /// The folder.
        folder: PathBuf,
    },
    /// No version of the model is good.
    #[error("model '{model}' cannot be loaded: {reasons}")]
    Refused {
        /// The name.
        model: String,
        /// Why, version by version.
        reasons: String,
    },
    /// The thread cannot be started.
    #[error("cannot start the registry's thread")]
    Thread(#[source] std::io::Error),
}

#[cfg(test)]
mod tests;
