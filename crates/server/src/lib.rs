//! The edge of Gatefold: gRPC for callers, HTTP for probes and metrics.
//!
//! A call becomes a plain [`gatefold_engine::ScoreJob`] and its reply a message again; what a
//! feature is, how requests are queued and how a model runs is known elsewhere. Wire types, status
//! codes and ports are known only here.
//!
//! - [`settings`], [`flags`]: everything a person may decide.
//! - [`run`](mod@run): start, load, serve, drain.
//! - [`service`]: the calls of `Ranking`. [`convert`]: messages ↔ plain types.
//! - [`experiments`]: which model scores a unit of an experiment.
//! - [`fusion`]: formulas over outputs and item columns. [`unfit`]: what the settings name and no model has.
//! - [`operator`]: the calls of `Admin`.
//! - [`inference`]: the calls of the Open Inference Protocol.
//! - [`connections`], [`tls`]: who is connected. [`port`]: what each call passes: [`tokens`] (who may
//!   call), [`gate`] (how many requests are held), [`deadline`]. [`reload`]: files that are followed.
//! - [`scorer`]: the path of every scoring call. [`status`]: errors → codes.
//! - [`health`], [`readiness`], [`admin`], [`metrics`], [`statistics`], [`telemetry`]: what is seen from outside.
//! - [`refusals`]: lines about refused requests. [`traces`]: requests as spans. [`request_log`]: a sample of the requests as Parquet.
//! - [`probe`](mod@probe): asks a running server whether it is ready.
//! - [`client`]: connecting, and requests from JSON values.

pub mod admin;
pub mod client;
mod compression;
pub mod connections;
pub mod convert;
pub mod deadline;
pub mod experiments;
pub mod flags;
pub mod fusion;
pub mod gate;
pub mod health;
pub mod inference;
pub mod listen;
pub mod metrics;
pub mod operator;
pub mod port;
pub mod probe;
pub mod readiness;
pub mod refusals;
pub mod reload;
pub mod request_log;
pub mod run;
pub mod scorer;
pub mod service;
pub mod settings;
pub mod signals;
pub mod statistics;
pub mod status;
mod stream;
pub mod telemetry;
pub mod tls;
pub mod tokens;
pub mod top_k;
pub mod traces;
pub mod unfit;

pub use flags::Flags;
pub use run::{run, run_with, serve};
pub use settings::Settings;
