//! Brings one model to what is wanted of it: the versions of its policy, pinned ones and those that
//! labels name are loaded, requests are routed to them, the others drain.

use std::{
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use super::{Inner, Known, ModelState, Wanted, WantedModel};
use crate::{
    Bundle, LoadError, ModelVersion, Routes, STABLE,
    aside::aside,
    bundle::{MANIFEST_FILE, versions},
    worker::panic_message,
};

/// How long an old version may take to drain before the registry goes on; it drains further in the
/// background.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Tells a changed manifest.
pub(super) type Stamp = (SystemTime, u64);

/// What a model's versions are decided by. A model is settled again when this has changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct View {
    /// Versions in the folder, each with the stamp of its manifest.
    pub(super) found: BTreeMap<u64, Option<Stamp>>,
    pub(super) wanted: WantedModel,
}

/// The right to change a model's versions: one at a time has it.
pub(super) struct Turn {
    inner: Arc<Inner>,
    name: Arc<str>,
    /// Whether somebody asked to load the model whatever its callers send.
    pub(super) asked: bool,
}

/// Whether a version that would refuse all of the last requests is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// It is refused: it would take the traffic that names no version.
    Refused,
    /// It is loaded: somebody asked, or only callers that name it get it.
    Taken,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.inner.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        self.inner.freed.notify_all();
    }
}

impl Inner {
    /// Waits for the right to change a model's versions.
    pub(super) fn turn(self: &Arc<Self>, name: &Arc<str>) -> Turn {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let mut busy =
            self.freed.wait_while(busy, |busy| busy.contains(name)).unwrap_or_else(PoisonError::into_inner);
        busy.insert(name.clone());
        Turn { inner: self.clone(), name: name.clone(), asked: false }
    }

    /// The right to change a model's versions, where nobody has it.
    pub(super) fn try_turn(self: &Arc<Self>, name: &Arc<str>) -> Option<Turn> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.insert(name.clone()).then(|| Turn { inner: self.clone(), name: name.clone(), asked: false })
    }

    /// What there is and what is wanted of a model now.
    pub(super) fn view(&self, name: &str) -> View {
        let found = match versions(&self.settings.folder.join(name)) {
            Ok(found) => {
                found.into_iter().map(|version| (version, stamp(&self.path(name, version)))).collect()
            }
            // The folder has gone.
            Err(_) => BTreeMap::new(),
        };
        View { found, wanted: self.wanted().of(name) }
    }

    /// Loads, routes and retires versions until the model is as `view` wants it. A bad version is
    /// refused, and what it should have replaced stays.
    pub(super) fn settle(&self, turn: &Turn, view: View) {
        let name = &turn.name;
        self.forgive_labelled(name, &view);
        self.note_found(name, &view);
        let mut keep = Vec::new();
        if view.wanted.unloaded || view.found.is_empty() {
            self.engine.forget_lost(name);
        }
        if !view.wanted.unloaded {
            let policy = self.settings.policy(name);
            let ceiling = view.wanted.labels.get(STABLE).copied();
            let misfit = if turn.asked { Misfit::Taken } else { Misfit::Refused };
            for version in policy.candidates(view.found.keys().copied(), ceiling) {
                if keep.len() == policy.count() || self.stopping() {
                    break;
                }
                if self.have(name, version, &view, misfit) {
                    keep.push(version);
                    self.route(&self.wanted(), name, keep.first().copied());
                }
            }
            let current = keep.first().copied();
            let labelled = view.wanted.labels.values();
            let pinned = self.settings.pinned.get(&**name).into_iter().flatten();
            for version in labelled.chain(pinned).copied().filter(|version| view.found.contains_key(version))
            {
                if !keep.contains(&version)
                    && !self.stopping()
                    && self.have(name, version, &view, Misfit::Taken)
                {
                    keep.push(version);
                }
            }
            self.route(&self.wanted(), name, current);
        }
        // Where nothing else is good, what serves goes on even without its folder.
        if !keep.is_empty() || view.wanted.unloaded || view.found.is_empty() {
            for version in self.served(name).into_iter().filter(|version| !keep.contains(version)) {
                self.retire(&ModelVersion { name: name.clone(), version }, &view);
            }
            self.note_found(name, &view);
        }
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if view.found.is_empty() {
            settled.remove(name);
        } else {
            settled.insert(name.clone(), view);
        }
    }

    /// Routes requests by the labels that are wanted now; `best` is the highest version that the
    /// policy has.
    pub(super) fn route(&self, wanted: &Wanted, name: &str, best: Option<u64>) {
        let labels = wanted.of(name).labels;
        let ceiling = labels.get(STABLE).copied();
        let current = match (best, ceiling) {
            (Some(best), Some(ceiling)) => Some(best.min(ceiling)),
            (best, ceiling) => best.or(ceiling),
        };
        self.engine.route(name, Routes { current, labels });
    }

    /// Whether a version takes traffic, loading it where it does not yet. One that was refused is
    /// tried again only when its manifest has changed.
    pub(super) fn have(&self, name: &Arc<str>, version: u64, view: &View, misfit: Misfit) -> bool {
        let model = ModelVersion { name: name.clone(), version };
        let stamp = view.found.get(&version).copied().flatten();
        let serves = self.served(name).contains(&version);
        if let Some(known) = self.known().get(&model)
            && known.stamp == stamp
        {
            match known.state {
                ModelState::Serving if serves => return true,
                ModelState::Refused { .. } => return false,
                _ => {}
            }
        }
        if !serves {
            self.set(&model, ModelState::Loading, stamp);
        }
        let load = || self.load(&model, self.first_routes(&model), misfit);
        let loaded = catch_unwind(AssertUnwindSafe(load))
            .unwrap_or_else(|panic| Err(LoadError::Panicked(panic_message(panic.as_ref()))));
        match loaded {
            Ok(()) => self.set(&model, ModelState::Serving, stamp),
            Err(error) if serves => {
                // Its folder was damaged or replaced while it serves from memory: keep it, say so once.
                tracing::error!(%model, error = explain(&error), "a serving model cannot be loaded again; it goes on as it is");
                self.set(&model, ModelState::Serving, stamp);
            }
            Err(error) => {
                tracing::error!(%model, error = explain(&error), "the model is refused");
                let state = ModelState::Refused { reason: explain(&error) };
                self.engine.observe(&model, &state);
                self.set(&model, state, stamp);
                return false;
            }
        }
        true
    }

    /// How requests find the first version of a model that is loaded: one that is loaded for its label
    /// alone takes none of those that name no version, not even until the model is settled.
    fn first_routes(&self, model: &ModelVersion) -> Routes {
        let labels = self.wanted().of(&model.name).labels;
        let ceiling = labels.get(STABLE).copied();
        let policy = self.settings.policy(&model.name);
        let best = policy.candidates([model.version].into_iter(), ceiling).first().copied();
        // No version is 0.
        Routes { current: Some(best.or(ceiling).unwrap_or(0)), labels }
    }

    fn load(&self, model: &ModelVersion, routes: Routes, misfit: Misfit) -> Result<(), LoadError> {
        let started = Instant::now();
        let path = self.path(&model.name, model.version);
        let bundle = aside(|| Bundle::open(&path))?;
        let manifest = bundle.manifest();
        if manifest.name != *model.name || manifest.version != model.version {
            let found = ModelVersion { name: manifest.name.as_str().into(), version: manifest.version };
            let folder = path.display().to_string();
            return Err(LoadError::Misplaced { folder, folder_of: model.clone(), found });
        }
        let prepared = self.engine.prepare(bundle)?;
        let (report, warm_up) = (prepared.report(), prepared.warm_up().clone());
        if misfit == Misfit::Refused {
            warm_up.check_fit(model)?;
        }
        self.engine.install_routed(prepared, routes);
        tracing::info!(
            %model,
            seconds = started.elapsed().as_secs_f64(),
            golden_rows = report.candidates,
            largest_difference = report.largest_difference,
            recorded_requests = warm_up.requests,
            recorded_rows = warm_up.candidates,
            recorded_unfit = warm_up.unfit,
            "the model is loaded"
        );
        if let Some(first) = warm_up.misfit {
            tracing::warn!(
                %model,
                recorded_requests = warm_up.requests,
                recorded_unfit = warm_up.unfit,
                first,
                "some of the last requests do not fit the version: callers that go on like this are refused by it"
            );
        }
        Ok(())
    }

    /// Versions of a model that take traffic.
    pub(super) fn served(&self, name: &str) -> Vec<u64> {
        let models = self.engine.models();
        models.iter().filter(|info| *info.model.name == *name).map(|info| info.model.version).collect()
    }

    /// Takes a version out of traffic and waits until it has drained, unless a label has been given
    /// to it since the `view`.
    fn retire(&self, model: &ModelVersion, view: &View) {
        let withdrawn = {
            // While this is held no label is given to what goes.
            let wishes = self.wanted();
            let wanted = wishes.of(&model.name);
            let labelled = wanted.labels.values().any(|version| *version == model.version);
            if labelled && !wanted.unloaded && view.found.contains_key(&model.version) {
                return;
            }
            self.engine.withdraw(&model.name, model.version)
        };
        let Some(served) = withdrawn else { return };
        self.set(model, ModelState::Draining, None);
        let drained = self.engine.drain(&served, DRAIN_LIMIT);
        tracing::info!(%model, drained, "the model no longer takes traffic");
        self.set(model, ModelState::Unloaded, None);
    }

    /// Lets versions that labels name be tried again where the labels have changed: what was refused as
    /// the next to take all traffic may do for callers that name it.
    fn forgive_labelled(&self, name: &Arc<str>, view: &View) {
        let changed = {
            let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
            settled.get(name).is_some_and(|before| before.wanted.labels != view.wanted.labels)
        };
        if changed {
            for version in view.wanted.labels.values() {
                self.forgive(name, *version);
            }
        }
    }

    /// Lets a version that was refused be tried again.
    pub(super) fn forgive(&self, name: &Arc<str>, version: u64) {
        let model = ModelVersion { name: name.clone(), version };
        let mut known = self.known();
        if known.get(&model).is_some_and(Known::is_refused) {
            known.remove(&model);
        }
    }

    /// Gives every version in the folder a status, and forgets those whose folder is gone and that
    /// do not serve.
    fn note_found(&self, name: &Arc<str>, view: &View) {
        let mut known = self.known();
        known.retain(|model, known| {
            model.name != *name
                || known.state == ModelState::Serving
                || view.found.contains_key(&model.version)
        });
        for version in view.found.keys() {
            let model = ModelVersion { name: name.clone(), version: *version };
            known.entry(model).or_insert_with(|| Known::new(ModelState::Unloaded, None));
        }
    }

    pub(super) fn set(&self, model: &ModelVersion, state: ModelState, stamp: Option<Stamp>) {
        self.known().insert(model.clone(), Known::new(state, stamp));
    }

    fn path(&self, name: &str, version: u64) -> PathBuf {
        self.settings.folder.join(name).join(version.to_string())
    }
}

fn stamp(bundle: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(bundle.join(MANIFEST_FILE)).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// An error with its causes, on one line.
pub(super) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
