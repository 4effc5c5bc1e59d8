//! Serving a model: from a bundle on disk to scores, without gRPC and without ONNX Runtime.
//!
//! A model lives in a [`Bundle`], a folder that is complete in itself and verified byte for byte
//! when it is opened. A [`Backend`] runs its graph; this crate only knows the trait, so that the
//! queueing below is tested with a backend of ten lines, and another runtime can be put under it.
//!
//! ```text
//! Engine::score ─▶ admission ─▶ encode ─▶ Scheduler ─▶ worker thread ─▶ Backend::run
//!  (caller's task)  by rows    (strict)   one lane a    lends a backend    │
//!        ▲                                model version  for one batch     │
//!        └───────────────────────── oneshot reply ◀────────────────────────┘
//!
//! Registry (own threads): folder ─▶ Bundle::open ─▶ backends ─▶ golden rows ─▶ warm-up ─▶ swap, old one drains
//! ```
//!
//! - Work is counted in rows (candidates): the queue is bounded in rows, a batch is filled in rows.
//!   A full queue is an answer ([`ScoreError::Overloaded`]), never a wait and never a panic.
//! - Workers *pull*: a batch is formed at the moment a worker is free, so batches grow with load
//!   and a lone request never waits for company (unless a delay is set).
//! - All models share one set of worker threads, and take turns by rows served.
//! - A job of a higher priority goes first in its model's queue, and displaces lower ones where it is
//!   full.
//! - A failing batch answers its own requests; one bad request does not fail its neighbours.
//!
//! [`BatchScorer`] runs the same encoder and the same backends over a long table, for batch jobs.

mod aside;
pub mod backend;
pub mod batch_scorer;
pub mod bundle;
pub mod engine;
pub mod golden;
pub mod observer;
mod pin;
pub mod registry;
mod scheduler;
pub mod score;
pub mod settings;
pub mod warm_up;
mod worker;

#[cfg(test)]
mod testing;

pub use backend::{Backend, BackendError, BackendLoader, GraphForm};
pub use batch_scorer::BatchScorer;
pub use bundle::{Bundle, BundleError, BundleWriter};
pub use engine::{Drained, Engine, LoadError, ModelInfo, Prepared, Routes, STABLE};
pub use golden::{GOLDEN_TOLERANCE, GoldenError, GoldenReport};
pub use observer::{BatchEvent, NoObserver, Observer};
pub use registry::{ModelState, ModelStatus, Registry, RegistryError, Rollback, check_label};
pub use scheduler::{HIGHEST_PRIORITY, PRIORITY_LEAD};
pub use score::{
    Features, GateWeights, ModelVersion, ScoreError, ScoreJob, ScoreReply, Timings, VersionChoice,
};
pub use settings::{EngineSettings, RegistrySettings, SettingsError, VersionPolicy};
pub use warm_up::{WarmUp, WarmUpError};
