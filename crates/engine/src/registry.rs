//! Keeps the engine's models equal to a folder of bundles and to what was asked of them.
//!
//! The folder holds `<name>/<version>/`. Which versions of a model are loaded is said by its
//! [`VersionPolicy`](crate::VersionPolicy) and by its labels; the highest good version up to the
//! label `stable` takes the traffic that names none. A version that appears is opened, verified,
//! replayed and warmed, also by the last requests to its model, on a thread of its model while the old
//! one goes on serving; then it is swapped in, and the old one drains. One that is bad, or would refuse
//! all of those requests, is refused, with the reason in its status, and looked at again only when its
//! manifest changes or somebody asks. Removing the served version's folder goes back to the highest
//! version that is left; removing the model's folder unloads the model.
//!
//! Labels and unloaded models are kept in [`STATE_FILE`], so that a restart keeps them.

mod settle;
mod wanted;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use gatefold_schema::ConfigError;

use self::{
    settle::{Misfit, Stamp, View, explain},
    wanted::{Moved, Wanted, WantedModel},
};
use crate::{Engine, ModelVersion, RegistrySettings, STABLE, VersionChoice, bundle::versions};

pub use wanted::{STATE_FILE, check_label};

/// Where a model version stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelState {
    /// It is being opened, checked and warmed.
    Loading,
    /// It takes traffic.
    Serving,
    /// It takes no new requests and finishes those it has.
    Draining,
    /// It takes no traffic.
    Unloaded,
    /// It cannot be used.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

/// A model version in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelStatus {
    /// Name and version.
    pub model: ModelVersion,
    /// Where it stands.
    pub state: ModelState,
    /// Since when.
    pub since: SystemTime,
    /// Labels that name it, in alphabetical order; [`STABLE`] stands for the version that takes the
    /// traffic which names none, whether or not it was set.
    pub labels: Vec<String>,
}

/// The traffic that names no version has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// The version that took it before.
    pub from: u64,
    /// The version that takes it now.
    pub to: u64,
}

/// Watches a folder of models and does what is asked of them. Dropped, it stops watching; the
/// models stay.
///
/// Its calls block, for as long as a model takes to load: make them from a blocking task.
pub struct Registry {
    inner: Arc<Inner>,
    watcher: Option<JoinHandle<()>>,
}

struct Inner {
    settings: RegistrySettings,
    engine: Engine,
    /// Held while routes are changed, so that they are always those of the latest wish.
    wanted: Mutex<Wanted>,
    known: Mutex<BTreeMap<ModelVersion, Known>>,
    /// What each model was last brought to.
    settled: Mutex<BTreeMap<Arc<str>, View>>,
    /// Models whose versions are being changed.
    busy: Mutex<BTreeSet<Arc<str>>>,
    freed: Condvar,
    stopping: Mutex<bool>,
    stop: Condvar,
}

struct Known {
    state: ModelState,
    since: SystemTime,
    /// Of the manifest when the version was looked at.
    stamp: Option<Stamp>,
}

impl Known {
    fn new(state: ModelState, stamp: Option<Stamp>) -> Known {
        Known { state, since: SystemTime::now(), stamp }
    }
}

impl Registry {
    /// A registry that has not looked yet: call [`refresh`](Self::refresh), then
    /// [`watch`](Self::watch).
    pub fn new(settings: RegistrySettings, engine: Engine) -> Registry {
        let wanted = Wanted::new(&settings.folder);
        let inner = Inner {
            settings,
            engine,
            wanted: Mutex::new(wanted),
            known: Mutex::default(),
            settled: Mutex::default(),
            busy: Mutex::default(),
            freed: Condvar::new(),
            stopping: Mutex::new(false),
            stop: Condvar::new(),
        };
        Registry { inner: Arc::new(inner), watcher: None }
    }

    /// Looks at the folder once and brings every model to what is wanted of it.
    ///
    /// # Errors
    /// When the folder or its [`STATE_FILE`] cannot be read. A bad bundle is no error: its status
    /// says why.
    pub fn refresh(&self) -> Result<(), RegistryError> {
        for name in self.inner.names()? {
            if self.inner.stopping() {
                break;
            }
            let turn = self.inner.turn(&name);
            let view = self.inner.view(&name);
            if !self.inner.is_settled(&name, &view) {
                self.inner.settle(&turn, view);
            }
        }
        Ok(())
    }

    /// Starts to look at the folder at the interval of the settings, on a thread of its own; each
    /// model that has changed is loaded on a further one. Does nothing where the settings have no
    /// interval.
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

    /// Every model version in the folder, by name and version.
    pub fn status(&self) -> Vec<ModelStatus> {
        let loaded = self.inner.engine.models();
        let status = |(model, known): (&ModelVersion, &Known)| ModelStatus {
            model: model.clone(),
            state: known.state.clone(),
            since: known.since,
            labels: loaded
                .iter()
                .find(|info| info.model == *model)
                .map_or_else(Vec::new, |info| info.labels.clone()),
        };
        self.inner.known().iter().map(status).collect()
    }

    /// Looks at one model's folder now, tries again what was refused, and undoes an
    /// [`unload`](Self::unload). A version that would refuse all of the last requests is taken.
    ///
    /// # Errors
    /// When there is no such model, the wish cannot be kept, or the version that should take
    /// traffic is refused; what served before goes on.
    pub fn load(&self, model: &str) -> Result<(), RegistryError> {
        let inner = &self.inner;
        let (name, mut turn) = self.begin(model)?;
        turn.asked = true;
        inner.wanted().change(model, |wanted| wanted.unloaded = false)?;
        inner.known().retain(|known, entry| *known.name != *model || !entry.is_refused());
        let view = inner.view(&name);
        inner.settle(&turn, view.clone());
        let ceiling = view.wanted.labels.get(STABLE).copied();
        let policy = inner.settings.policy(model);
        match policy.candidates(view.found.keys().copied(), ceiling).first() {
            Some(best) => inner.refusal(&name, *best),
            None => Err(inner.unknown_version(&name, ceiling.unwrap_or_default(), &view)),
        }
    }

    /// Takes all versions of a model out of traffic, waits until they have drained, and loads none
    /// until [`load`](Self::load) is called.
    ///
    /// # Errors
    /// When there is no such model, or the wish cannot be kept.
    pub fn unload(&self, model: &str) -> Result<(), RegistryError> {
        let (name, turn) = self.begin(model)?;
        self.inner.wanted().change(model, |wanted| wanted.unloaded = true)?;
        self.inner.settle(&turn, self.inner.view(&name));
        Ok(())
    }

    /// Lets a label name a version, which is loaded first if it is not yet; `None` removes the
    /// label. The label [`STABLE`] moves the traffic that names no version, at once where the
    /// version is loaded; without it the newest version takes that traffic.
    ///
    /// # Errors
    /// When the label is none, there is no such model or version, no such label to remove, the version is
    /// refused, or the wish cannot be kept. Nothing has changed then.
    pub fn set_label(&self, model: &str, label: &str, version: Option<u64>) -> Result<(), RegistryError> {
        check_label(label)?;
        let inner = &self.inner;
        let name = self.find(model)?;
        let mut wanted = inner.wanted();
        let labels = wanted.of(model).labels;
        if version.is_none() && !labels.contains_key(label) {
            return Err(RegistryError::NoLabel {
                model: model.to_owned(),
                label: label.to_owned(),
                known: labels
                    .iter()
                    .map(|(label, version)| format!("{label} ({version})"))
                    .collect::<Vec<_>>()
                    .join(", "),
            });
        }
        // What is loaded already need not wait for what is being loaded.
        let turn = match version.filter(|version| !inner.served(model).contains(version)) {
            None => None,
            Some(version) => {
                drop(wanted);
                let turn = self.load_for_label(&name, label, version)?;
                wanted = inner.wanted();
                Some(turn)
            }
        };
        let current = inner.engine.model(model, VersionChoice::Current).ok().map(|info| info.model.version);
        wanted.change(model, |wanted| {
            match version {
                Some(version) => _ = wanted.labels.insert(label.to_owned(), version),
                None => _ = wanted.labels.remove(label),
            }
            if label == STABLE && version != current {
                wanted.moved = current.zip(version).map(|(from, to)| Moved { from, to });
            }
        })?;
        let best = if label == STABLE { version.or(current) } else { current };
        inner.route(&wanted, model, best);
        drop(wanted);
        match version {
            Some(version) => tracing::info!(model, label, version, "the label is set"),
            None => tracing::info!(model, label, "the label is removed"),
        }
        drop(turn);
        // What is no longer wanted drains without the caller.
        let inner = inner.clone();
        let settle = move || {
            let turn = inner.turn(&name);
            let view = inner.view(&name);
            inner.settle(&turn, view);
        };
        std::thread::Builder::new()
            .name("registry-settle".into())
            .spawn(settle)
            .map_err(RegistryError::Thread)?;
        Ok(())
    }

    /// Moves [`STABLE`] to a version below the one that takes traffic: back to the one that took it before
    /// the label moved it there, where that is still good, or else to the highest good one. Newer versions
    /// take no traffic until the label is moved or removed.
    ///
    /// # Errors
    /// When there is no such model, no good version below, or the wish cannot be kept. Nothing has
    /// changed then.
    pub fn rollback(&self, model: &str) -> Result<Rollback, RegistryError> {
        let inner = &self.inner;
        let name = self.find(model)?;
        let Ok(current) = inner.engine.model(model, VersionChoice::Current) else {
            return Err(RegistryError::Unloaded { model: model.to_owned() });
        };
        let current = current.model.version;
        let view = inner.view(&name);
        let before = view.wanted.moved.filter(|moved| moved.to == current && moved.from < current);
        let before = before.map(|moved| moved.from).filter(|from| view.found.contains_key(from));
        let below = inner.settings.policy(model).candidates(view.found.keys().copied(), Some(current - 1));
        for version in before.into_iter().chain(below) {
            if inner.refusal(&name, version).is_err() {
                continue;
            }
            match self.set_label(model, STABLE, Some(version)) {
                Err(RegistryError::Refused { .. }) => {}
                result => return result.map(|()| Rollback { from: current, to: version }),
            }
        }
        Err(RegistryError::NothingBelow { model: model.to_owned(), current })
    }

    /// Loads a version that a label is to name. While the turn is held it is not retired again.
    fn load_for_label(
        &self,
        name: &Arc<str>,
        label: &str,
        version: u64,
    ) -> Result<settle::Turn, RegistryError> {
        let inner = &self.inner;
        let turn = inner.turn(name);
        let view = inner.view(name);
        if view.wanted.unloaded {
            return Err(RegistryError::Unloaded { model: name.to_string() });
        }
        if !view.found.contains_key(&version) {
            return Err(inner.unknown_version(name, version, &view));
        }
        // Somebody asks: what was refused is tried again.
        inner.forgive(name, version);
        let misfit =
            if inner.would_lead(name, label, version, &view) { Misfit::Refused } else { Misfit::Taken };
        inner.have(name, version, &view, misfit);
        inner.refusal(name, version)?;
        Ok(turn)
    }

    /// The name of a model in the folder, and the right to change its versions.
    fn begin(&self, model: &str) -> Result<(Arc<str>, settle::Turn), RegistryError> {
        let name = self.find(model)?;
        let turn = self.inner.turn(&name);
        Ok((name, turn))
    }

    /// The name of a model that is in the folder or serves.
    fn find(&self, model: &str) -> Result<Arc<str>, RegistryError> {
        let names = self.inner.names()?;
        names.get(model).cloned().ok_or_else(|| {
            let known = names.iter().map(|name| name.to_string()).collect::<Vec<_>>().join(", ");
            RegistryError::UnknownModel { model: model.to_owned(), known }
        })
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
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of each version, with what the engine has lost since the last look: it is refused,
    /// and its model settled again, so that a lower version may take its place.
    fn known(&self) -> MutexGuard<'_, BTreeMap<ModelVersion, Known>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (model, reason) in self.engine.lost() {
            if let Some(entry) = known.get_mut(&model).filter(|entry| entry.state == ModelState::Serving) {
                *entry = Known::new(ModelState::Refused { reason }, entry.stamp);
                self.settled.lock().unwrap_or_else(PoisonError::into_inner).remove(&model.name);
            }
        }
        known
    }

    fn stopping(&self) -> bool {
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(self: Arc<Self>, interval: Duration) {
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
            let error = self.look().err().map(|error| explain(&error));
            if let Some(error) = error.as_ref().filter(|error| last_error.as_ref() != Some(*error)) {
                tracing::error!(%error, "the models are not looked at");
            }
            last_error = error;
        }
    }

    /// Looks at the folder once; each model that has changed is settled on a thread of its own.
    fn look(self: &Arc<Self>) -> Result<(), RegistryError> {
        for name in self.names()? {
            let Some(turn) = self.try_turn(&name) else { continue };
            // Seen with the turn held: a wish that has been fulfilled in between is not undone.
            let view = self.view(&name);
            if self.is_settled(&name, &view) {
                continue;
            }
            let inner = self.clone();
            let settle = move || inner.settle(&turn, view);
            std::thread::Builder::new()
                .name(format!("load-{name}"))
                .spawn(settle)
                .map_err(RegistryError::Thread)?;
        }
        Ok(())
    }

    /// Models that are in the folder or serve, after a look at what is wanted of them.
    fn names(&self) -> Result<BTreeSet<Arc<str>>, RegistryError> {
        let folder = &self.settings.folder;
        let read_error = |source| RegistryError::Folder { folder: folder.clone(), source };
        let mut names: BTreeSet<Arc<str>> =
            self.engine.models().into_iter().map(|info| info.model.name).collect();
        names.extend(self.known().keys().map(|model| model.name.clone()));
        for entry in fs::read_dir(folder).map_err(read_error)? {
            let entry = entry.map_err(read_error)?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            if versions(&entry.path()).is_ok_and(|versions| !versions.is_empty()) {
                names.insert(name.into());
            }
        }
        self.wanted().read()?;
        Ok(names)
    }

    /// Whether a version that a label is to name would take the traffic that names none.
    fn would_lead(&self, name: &str, label: &str, version: u64, view: &View) -> bool {
        let ceiling = view.wanted.labels.get(STABLE).copied();
        let candidates = self.settings.policy(name).candidates(view.found.keys().copied(), ceiling);
        let current = self.engine.model(name, VersionChoice::Current).map_or(0, |info| info.model.version);
        label == STABLE || version > current && candidates.contains(&version)
    }

    fn is_settled(&self, name: &Arc<str>, view: &View) -> bool {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).get(name) == Some(view)
    }

    /// The reason why a version was refused, as an error.
    fn refusal(&self, name: &Arc<str>, version: u64) -> Result<(), RegistryError> {
        let model = ModelVersion { name: name.clone(), version };
        match self.known().get(&model) {
            Some(Known { state: ModelState::Refused { reason }, .. }) => {
                Err(RegistryError::Refused { model, reason: reason.clone() })
            }
            _ => Ok(()),
        }
    }

    fn unknown_version(&self, name: &Arc<str>, version: u64, view: &View) -> RegistryError {
        let found = view.found.keys().map(u64::to_string).collect::<Vec<_>>().join(", ");
        RegistryError::UnknownVersion { model: ModelVersion { name: name.clone(), version }, found }
    }
}

impl Known {
    fn is_refused(&self) -> bool {
        matches!(self.state, ModelState::Refused { .. })
    }
}

/// A folder of models that cannot be watched, or a wish that cannot be fulfilled.
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
    /// A thread cannot be started.
    #[error("cannot start the registry's thread")]
    Thread(#[source] std::io::Error),
    /// The file of labels cannot be read.
    #[error("cannot read {}", path.display())]
    ReadState {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of labels holds what is not known.
    #[error(transparent)]
    State(#[from] ConfigError),
    /// The file of labels cannot be written.
    #[error("cannot write {}: without it a restart would undo this; let the server write there", path.display())]
    WriteState {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a label.
    #[error(
        "'{label}' is no label: use 1 to 64 letters, digits, '_', '-' and '.', and not digits alone, which \
         mean a version"
    )]
    BadLabel {
        /// What was given.
        label: String,
    },
    /// No such label to remove.
    #[error(
        "model '{model}' has no label '{label}' to remove; labels that are set: {}",
        if .known.is_empty() { "none" } else { .known }
    )]
    NoLabel {
        /// The model.
        model: String,
        /// The label.
        label: String,
        /// The labels there are, each with its version.
        known: String,
    },
    /// No such model.
    #[error("no model is named '{model}'; in the folder: {known}")]
    UnknownModel {
        /// The name asked for.
        model: String,
        /// The models there are.
        known: String,
    },
    /// No such version.
    #[error("{model} is not in the folder; versions there: {found}")]
    UnknownVersion {
        /// Name and version asked for.
        model: ModelVersion,
        /// The versions there are.
        found: String,
    },
    /// The version cannot take traffic.
    #[error("{model} is refused: {reason}")]
    Refused {
        /// The version.
        model: ModelVersion,
        /// Why, and what to do.
        reason: String,
    },
    /// The model takes no traffic.
    #[error("model '{model}' is not loaded: load it first")]
    Unloaded {
        /// The model.
        model: String,
    },
    /// There is nothing to roll back to.
    #[error(
        "model '{model}' has no good version below {current}, which takes traffic: publish one, or set the label 'stable'"
    )]
    NothingBelow {
        /// The model.
        model: String,
        /// The version that takes traffic.
        current: u64,
    },
}

#[cfg(test)]
mod tests;
