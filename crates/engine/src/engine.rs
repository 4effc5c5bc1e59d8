//! The engine: models by name and version, admission, and the worker threads.

mod admit;
mod instance;
mod recorded;
mod versions;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub(crate) use instance::Instance;
pub use instance::{LoadError, Prepared};
use recorded::Recorded;
pub(crate) use recorded::Request;
use versions::Versions;
pub use versions::{Routes, STABLE};

use crate::{
    BackendError, BackendLoader, Bundle, EngineSettings, ModelState, ModelVersion, Observer, ScoreError,
    ScoreJob, ScoreReply, SettingsError, VersionChoice, pin,
    scheduler::{Limits, Scheduler},
    worker,
};

/// Scores candidates with the models that are installed in it. Cheap to clone; all clones are one
/// engine.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// A model version that takes traffic.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// Name and version.
    pub model: ModelVersion,
    /// Its bundle.
    pub bundle: Arc<Bundle>,
    /// Whether this version is the one used where a job names none.
    pub current: bool,
    /// Labels that name it.
    pub labels: Vec<String>,
    /// When it began to take traffic.
    pub since: std::time::SystemTime,
    /// Candidates waiting in its queue.
    pub waiting_rows: usize,
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Requests that had to be turned away because the time limit passed.
    pub abandoned: usize,
    /// Whether every worker has ended; otherwise a batch was still running at the time limit.
    pub complete: bool,
}

pub(crate) struct Shared {
    pub(crate) settings: EngineSettings,
    pub(crate) observer: Arc<dyn Observer>,
    loader: Arc<dyn BackendLoader>,
    /// Models by name; each has at least one version.
    models: RwLock<BTreeMap<String, Versions>>,
    /// Versions that went because they lost their last backend, with the reason, until they are
    /// installed again or forgotten.
    lost: Mutex<BTreeMap<ModelVersion, String>>,
    scheduler: Mutex<Scheduler>,
    /// Told when a worker may have something to do.
    pub(crate) work: Condvar,
    /// Told when a batch has ended or a lane has gone, where somebody waits for that.
    progress: Condvar,
    progress_waiters: AtomicUsize,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

/// A model version and its lane.
pub(crate) struct Served {
    pub(crate) instance: Arc<Instance>,
    pub(crate) lane: u64,
    /// The model's last requests, whatever version answered.
    recorded: Arc<Recorded>,
    since: std::time::SystemTime,
}

impl Engine {
    /// Starts the worker threads. Models are added with [`Engine::install`].
    ///
    /// # Errors
    /// When the settings contradict each other, there are fewer cores than workers to pin, or no thread
    /// can be started.
    pub fn start(
        settings: EngineSettings,
        loader: Arc<dyn BackendLoader>,
        observer: Arc<dyn Observer>,
    ) -> Result<Engine, SettingsError> {
        settings.check()?;
        let limits = Limits {
            workers: settings.workers,
            queue_rows: settings.queue_rows,
            batch_rows: settings.batch_rows,
            batch_delay: settings.batch_delay,
        };
        let count = settings.workers;
        let cores = if settings.pin_workers { pin::cores(count)? } else { Vec::new() };
        let shared = Arc::new(Shared {
            settings,
            observer,
            loader,
            models: RwLock::new(BTreeMap::new()),
            lost: Mutex::default(),
            scheduler: Mutex::new(Scheduler::new(limits)),
            work: Condvar::new(),
            progress: Condvar::new(),
            progress_waiters: AtomicUsize::new(0),
            workers: Mutex::new(Vec::new()),
        });
        let engine = Engine { shared: shared.clone() };
        for index in 0..count {
            let (shared, core) = (shared.clone(), cores.get(index).copied());
            let spawned = std::thread::Builder::new()
                .name(format!("score-{index}"))
                .spawn(move || {
                    if let Some(core) = core {
                        pin::pin(core);
                    }
                    worker::run(&shared);
                })
                .map_err(|error| {
                    SettingsError(format!("cannot start worker thread {index} of {count}: {error}"))
                })?;
            engine.shared.lock_workers().push(spawned);
        }
        Ok(engine)
    }

    /// The settings.
    pub fn settings(&self) -> &EngineSettings {
        &self.shared.settings
    }

    /// Opens one backend a worker for `bundle`, replays the golden rows on each, and warms it, also by
    /// the last requests to the model's other versions. The model takes no traffic yet: this may take
    /// long, and disturbs nothing.
    ///
    /// # Errors
    /// When a backend cannot be opened, does not give the golden scores, or fails on those requests.
    pub fn prepare(&self, bundle: Bundle) -> Result<Prepared, LoadError> {
        let recorded = self.shared.recorded(&bundle.manifest().name);
        Prepared::new(bundle, self.shared.loader.clone(), &self.shared.settings, &recorded)
    }

    /// Lets a prepared model take traffic; if the same version was there, that one drains.
    pub fn install(&self, prepared: Prepared) -> ModelVersion {
        self.install_routed(prepared, Routes::default())
    }

    /// As [`install`](Self::install); requests find the model's versions by `routes` where it had none
    /// loaded before.
    pub(crate) fn install_routed(&self, prepared: Prepared, routes: Routes) -> ModelVersion {
        let Prepared { instance, backends, .. } = prepared;
        let model = instance.model.clone();
        self.shared.lock_lost().remove(&model);
        self.shared.observer.installed(&model, &instance.bundle);
        let lane = self.shared.lock().add(instance.clone(), backends);
        let since = std::time::SystemTime::now();
        let replaced = {
            let mut models = self.shared.models.write().unwrap_or_else(PoisonError::into_inner);
            let versions = models.entry(model.name.to_string());
            let requests = self.shared.settings.warm_up_requests;
            let versions = versions.or_insert_with(|| Versions::new(routes, requests));
            let recorded = versions.recorded.clone();
            versions.loaded.insert(model.version, Arc::new(Served { instance, lane, recorded, since }))
        };
        if let Some(replaced) = replaced {
            self.shared.retire(replaced.lane);
        }
        self.shared.observer.model(&model, &ModelState::Serving);
        model
    }

    /// Says how requests find a version of a model from now on. Nothing happens for a model without
    /// a loaded version.
    pub fn route(&self, name: &str, routes: Routes) {
        let mut models = self.shared.models.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(versions) = models.get_mut(name) {
            versions.routes = routes;
        }
    }

    /// Takes a version out of traffic and waits until its queue is drained, `limit` at most.
    /// Whether it has drained; if not it goes on doing so.
    pub fn retire(&self, name: &str, version: u64, limit: Duration) -> bool {
        self.withdraw(name, version).is_none_or(|served| self.drain(&served, limit))
    }

    /// Takes a version out of traffic; it drains from now on.
    pub(crate) fn withdraw(&self, name: &str, version: u64) -> Option<Arc<Served>> {
        let removed = {
            let mut models = self.shared.models.write().unwrap_or_else(PoisonError::into_inner);
            let removed = models.get_mut(name).and_then(|versions| versions.loaded.remove(&version));
            models.retain(|_, versions| !versions.loaded.is_empty());
            removed
        };
        let served = removed?;
        self.shared.observer.model(&served.instance.model, &ModelState::Draining);
        self.shared.retire(served.lane);
        Some(served)
    }

    /// Waits until a version that was [withdrawn](Self::withdraw) has drained, `limit` at most.
    pub(crate) fn drain(&self, served: &Served, limit: Duration) -> bool {
        let drained = self.shared.wait_until(limit, |scheduler| !scheduler.has(served.lane));
        self.shared.observer.model(&served.instance.model, &ModelState::Unloaded);
        drained
    }

    /// Versions that take no traffic because their backends panicked and none could be opened again,
    /// each with the reason.
    pub fn lost(&self) -> BTreeMap<ModelVersion, String> {
        self.shared.lock_lost().clone()
    }

    /// Forgets that versions of a model were lost: none of them is wanted any more.
    pub(crate) fn forget_lost(&self, name: &str) {
        self.shared.lock_lost().retain(|model, _| *model.name != *name);
    }

    /// Tells the observer what the registry found.
    pub(crate) fn observe(&self, model: &ModelVersion, state: &ModelState) {
        self.shared.observer.model(model, state);
    }

    /// Every model version that takes traffic, by name and version.
    pub fn models(&self) -> Vec<ModelInfo> {
        let models = self.shared.models.read().unwrap_or_else(PoisonError::into_inner);
        let scheduler = self.shared.lock();
        let of_model = |versions: &Versions| {
            let infos = versions.loaded.values().map(|served| info(versions, served, &scheduler));
            infos.collect::<Vec<_>>()
        };
        models.values().flat_map(of_model).collect()
    }

    /// The version of a model that a job would be scored by.
    ///
    /// # Errors
    /// [`ScoreError::UnknownModel`], [`ScoreError::UnknownVersion`], [`ScoreError::UnknownLabel`] or
    /// [`ScoreError::Lost`].
    pub fn model(&self, name: &str, version: VersionChoice<'_>) -> Result<ModelInfo, ScoreError> {
        self.shared.choose(name, version, |versions, served| info(versions, &served, &self.shared.lock()))
    }

    /// Scores the candidates of one job.
    ///
    /// Dropping the future gives its place in the queue back at once.
    ///
    /// # Errors
    /// [`ScoreError`]; a refusal comes before any work is done, a full queue is refused at once.
    pub async fn score(&self, job: ScoreJob<'_>) -> Result<ScoreReply, ScoreError> {
        let result = admit::score(&self.shared, job).await;
        match &result {
            Ok((reply, candidates)) => self.shared.observer.scored(reply, *candidates),
            Err((name, error)) => self.shared.observer.failed(name, error),
        }
        result.map(|(reply, _)| reply).map_err(|(_, error)| error)
    }

    /// Takes no new work, finishes what waits within `limit`, and ends the worker threads. Blocks:
    /// call it from a blocking task.
    pub fn shutdown(&self, limit: Duration) -> Drained {
        let started = Instant::now();
        self.shared.lock().close();
        self.shared.work.notify_all();
        self.shared.wait_until(limit, Scheduler::is_idle);
        let abandoned = self.shared.lock().stop();
        self.shared.work.notify_all();
        let left = limit.saturating_sub(started.elapsed());
        let complete = self.shared.wait_until(left, Scheduler::is_idle);
        let workers = std::mem::take(&mut *self.shared.lock_workers());
        if complete {
            for worker in workers {
                // Its panics were caught and logged.
                let _ = worker.join();
            }
        }
        Drained { abandoned, complete }
    }
}

impl Shared {
    /// The scheduler. A panic while it was held cannot leave it half-changed in a way that matters
    /// more than going on.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Scheduler> {
        self.scheduler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there may be work, `timeout` at most where there is one.
    pub(crate) fn wait<'a>(
        &self,
        mut guard: MutexGuard<'a, Scheduler>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, Scheduler> {
        guard.idle_workers += 1;
        let mut guard = match timeout {
            Some(timeout) => self.work.wait_timeout(guard, timeout).unwrap_or_else(PoisonError::into_inner).0,
            None => self.work.wait(guard).unwrap_or_else(PoisonError::into_inner),
        };
        guard.idle_workers -= 1;
        guard
    }

    /// Wakes whoever waits for lanes to drain. Costs nothing where nobody does.
    pub(crate) fn progressed(&self) {
        if self.progress_waiters.load(Ordering::SeqCst) > 0 {
            self.progress.notify_all();
        }
    }

    /// Waits for `condition`, `limit` at most; whether it came.
    fn wait_until(&self, limit: Duration, condition: impl Fn(&Scheduler) -> bool) -> bool {
        // Before the lock: who changes the scheduler after this was checked sees the waiter.
        self.progress_waiters.fetch_add(1, Ordering::SeqCst);
        let guard = self.lock();
        let (guard, _) = self
            .progress
            .wait_timeout_while(guard, limit, |scheduler| !condition(scheduler))
            .unwrap_or_else(PoisonError::into_inner);
        self.progress_waiters.fetch_sub(1, Ordering::SeqCst);
        condition(&guard)
    }

    fn retire(&self, lane: u64) {
        self.lock().retire(lane);
        // A batch that was waiting to fill is ripe now.
        self.work.notify_all();
    }

    fn lock_workers(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model version a job is for, and its labels.
    pub(crate) fn find(
        &self,
        name: &str,
        version: VersionChoice<'_>,
    ) -> Result<(Arc<Served>, Vec<String>), ScoreError> {
        self.choose(name, version, |versions, served| {
            let labels = versions.labels_of(served.instance.model.version);
            (served, labels)
        })
    }

    /// What `found` makes of the model version that is asked for.
    fn choose<T>(
        &self,
        name: &str,
        version: VersionChoice<'_>,
        found: impl FnOnce(&Versions, Arc<Served>) -> T,
    ) -> Result<T, ScoreError> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let chosen = named(&models, name).and_then(|(name, versions)| {
            let served = versions.choose(name, version)?;
            Ok(found(versions, served))
        });
        chosen.map_err(|error| self.lost_or(error))
    }

    /// The last requests to a model; none where none of its versions is loaded.
    fn recorded(&self, name: &str) -> Vec<Arc<Request>> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.get(name).map_or_else(Vec::new, |versions| versions.recorded.requests())
    }

    /// That a version was lost, where `error` says that there is none of the name.
    fn lost_or(&self, error: ScoreError) -> ScoreError {
        let lost = self.lock_lost();
        let found = match &error {
            ScoreError::UnknownModel { model, .. } => lost.keys().rev().find(|lost| *lost.name == **model),
            ScoreError::UnknownVersion { model, version, .. } => {
                lost.keys().find(|lost| *lost.name == **model && lost.version == *version)
            }
            _ => None,
        };
        found.cloned().map_or(error, |model| ScoreError::Lost { model })
    }

    /// Takes a version out of traffic whose last backend is gone because of `error`.
    pub(crate) fn lose(&self, lane: u64, model: &ModelVersion, error: &BackendError) {
        let reason = format!(
            "its backends panicked and cannot be opened again ({error}): load the model again, or restart \
             the server"
        );
        {
            let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
            let Some(versions) = models.get_mut(&*model.name) else { return };
            if versions.loaded.get(&model.version).is_none_or(|served| served.lane != lane) {
                // Another has taken its place already.
                return;
            }
            versions.loaded.remove(&model.version);
            models.retain(|_, versions| !versions.loaded.is_empty());
            self.lock_lost().insert(model.clone(), reason.clone());
        }
        tracing::error!(%model, reason, "the model takes no traffic any more");
        self.observer.model(model, &ModelState::Refused { reason });
    }

    fn lock_lost(&self) -> MutexGuard<'_, BTreeMap<ModelVersion, String>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The model of that name; an empty name means the only one.
fn named<'a>(
    models: &'a BTreeMap<String, Versions>,
    name: &str,
) -> Result<(&'a str, &'a Versions), ScoreError> {
    let found = match models.get_key_value(name) {
        None if name.is_empty() && models.len() == 1 => models.first_key_value(),
        found => found,
    };
    found.map(|(name, versions)| (name.as_str(), versions)).ok_or_else(|| {
        let names: Vec<&str> = models.keys().map(String::as_str).collect();
        let known = match names.as_slice() {
            [] => "no model is loaded".to_owned(),
            names => format!("loaded: {}", names.join(", ")),
        };
        ScoreError::UnknownModel { model: name.to_owned(), known }
    })
}

fn info(versions: &Versions, served: &Arc<Served>, scheduler: &Scheduler) -> ModelInfo {
    let model = served.instance.model.clone();
    let current = versions.current().is_some_and(|current| current.instance.model.version == model.version);
    ModelInfo {
        bundle: served.instance.bundle.clone(),
        current,
        labels: versions.labels_of(model.version),
        since: served.since,
        waiting_rows: scheduler.waiting_rows(served.lane, 0),
        model,
    }
}

#[cfg(test)]
mod tests;
